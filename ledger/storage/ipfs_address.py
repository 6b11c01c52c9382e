"""Where an IPFS node's RPC may be: whoever reaches it commands the node, so that it is not for open networks."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ledger.errors import UsageError

_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


@dataclass(frozen=True)
class Address:
    """Where a node's RPC is.

    Attributes:
        url: As it was given.
        base: What the paths of commands are appended to.
        local: Whether it is on this machine.
        socket: The path of its unix socket, where that is what it has.
    """

    url: str
    base: str
    local: bool
    socket: str | None = None

    @classmethod
    def parse(cls, url: str, plain_http: bool) -> Address:
        """Read a URL.

        Args:
            url: Such as ``http://127.0.0.1:5001``, ``https://ipfs.example.org`` or ``unix:///run/ipfs.sock``.
            plain_http: Whether another machine may be spoken to without encryption.

        Raises:
            UsageError: If it is no such URL, or another machine's without encryption.
        """
        if url.startswith("unix:///"):
            return cls(url, "http://localhost/api/v0/", True, url.removeprefix("unix://"))
        scheme, host = _scheme_and_host(url)
        try:
            local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            local = host == "localhost"
        if scheme == "http" and not local and not plain_http:
            raise UsageError(
                f"{url} is another machine's, and plain HTTP lets anyone on the way read and change what is said: "
                "use https://, or allow plain HTTP where the network is your own"
            )
        return cls(url, url.removesuffix("/") + "/api/v0/", local)


def _scheme_and_host(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        bare = url.removesuffix("/").lower() == f"{parts.scheme}://{parts.netloc}".lower()
        if bare and port != 0 and parts.scheme in ("http", "https") and "@" not in url and _HOST.fullmatch(host):
            return parts.scheme, host
    except ValueError:
        pass
    named = "a URL with a password in it" if "@" in url else repr(url)
    raise UsageError(
        f"{named} is not where an IPFS node's RPC can be: give a URL like http://127.0.0.1:5001, "
        "https://ipfs.example.org:5001 or unix:///run/ipfs.sock"
    )
