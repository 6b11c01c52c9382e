"""The HTTP connection to an IPFS node under ipfshttpclient, which bounds neither an answer's time nor its bytes.

Its timeout is that of one read: a byte now and then keeps it waiting for ever. This connection is cut off by a timer,
takes no more bytes than asked for, follows no redirect, and unpacks nothing.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from threading import Timer
from typing import Any

import ipfshttpclient
import requests
import urllib3
from ipfshttpclient.http_common import ReadableStreamWrapper
from ipfshttpclient.multipart import stream_files
from requests.adapters import HTTPAdapter

from ledger.cid import CHUNK, Bytes
from ledger.storage.ipfs_address import Address

CONNECTS_WITHIN = 5.0  # seconds
_MOST_OF_AN_ERROR = 2 << 10  # bytes
_PIECE = 64 << 10


class Connection(requests.Session):
    """One connection, which carries one call at a time.

    Attributes:
        late: Whether the last call was cut off because its time was over.
    """

    def __init__(self, address: Address, token: str | None) -> None:
        super().__init__()
        self.late = False
        self._most = 0
        self._socket: socket.socket | None = None
        self._local = address.local
        self.headers["Accept-Encoding"] = "identity"
        self.auth = _keep_headers  # or else ~/.netrc puts its own there
        if token is not None:
            self.headers["Authorization"] = f"Bearer {token}"
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(self, address.socket))
        self._client = ipfshttpclient.Client()._client
        self._client._session, self._client._base_url = self, address.base  # its own addresses know fewer hosts

    def call(
        self,
        command: str,
        arguments: Iterable[str],
        options: dict[str, str],
        seconds: float,
        most: int,
        upload: Iterator[Bytes] | None,
    ) -> bytes:
        """Call a command; what goes wrong is raised as by ipfshttpclient, requests or urllib3.

        Args:
            command: Such as ``block/get``.
            arguments: What it is about.
            options: More of what it is told.
            seconds: The time that it may take; `late` tells whether that is why it failed.
            most: The bytes that the answer may have.
            upload: What to upload, as one file.

        Returns:
            The answer, or its first ``most + 1`` bytes if it has more.
        """
        data: dict[str, Any] = {}
        if upload is not None:
            file = ReadableStreamWrapper(upload)
            file.name = "blob.car"
            data["data"], data["headers"] = stream_files(file, chunk_size=CHUNK)
        self._most, self.late, ends = most, False, time.monotonic() + seconds
        timer = Timer(seconds, self._cut_off)
        timer.daemon = True
        timer.start()
        try:
            timeout = (min(CONNECTS_WITHIN, seconds), seconds)
            answer: bytes = self._client.request(f"/{command}", arguments, opts=options, timeout=timeout, **data)
        finally:
            timer.cancel()
            self.late |= time.monotonic() >= ends
        if self.late:  # what ends with the connection looks whole when that is cut off
            raise urllib3.exceptions.TimeoutError
        return answer

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """See `requests.Session.send`; a redirect is refused, and no proxy stands between parts of one machine."""
        if self._local:
            options["proxies"] = {}
        answer = super().send(request, **options)
        if 300 <= answer.status_code < 400:
            answer.close()
            raise requests.TooManyRedirects(response=answer)
        return answer

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: following would read all of the answer first."""
        return None

    def bounded(self, status: int, raw: urllib3.BaseHTTPResponse) -> _Body:
        """The body of an answer, as much of it as may be taken."""
        return _Body(raw, self._most + 1 if status < 400 else _MOST_OF_AN_ERROR)

    def connected(self, opened: socket.socket) -> None:
        """Tell what to cut off."""
        self._socket = opened
        if self.late:
            self._cut_off()

    def _cut_off(self) -> None:
        self.late = True
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _keep_headers(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Body:
    """An answer's body as requests reads it: a file."""

    def __init__(self, raw: urllib3.BaseHTTPResponse, left: int) -> None:
        self._raw, self._left = raw, left

    def read(self, _: int | None = None) -> bytes:
        """What comes next, with one read of the socket; nothing at the end, or where no more may be taken."""
        if self._left == 0:
            self._raw.close()
            return b""
        piece = self._raw.read1(min(_PIECE, self._left), decode_content=False)
        self._left -= len(piece)
        return piece

    def close(self) -> None:
        self._raw.close()

    def release_conn(self) -> None:
        self._raw.release_conn()


class _Adapter(HTTPAdapter):
    def __init__(self, connection: Connection, path: str | None) -> None:
        self._connection, self._path = connection, path
        super().__init__(pool_connections=1, pool_maxsize=1)

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> urllib3.HTTPConnectionPool:
        pool = super().get_connection_with_tls_context(*arguments, **options)
        pool.ConnectionCls = _Https if isinstance(pool, urllib3.HTTPSConnectionPool) else _Http
        pool.conn_kw |= {"connection": self._connection, "path": self._path}
        return pool

    def build_response(self, req: requests.PreparedRequest, resp: urllib3.BaseHTTPResponse) -> requests.Response:
        response = super().build_response(req, resp)
        response.raw = self._connection.bounded(resp.status, resp)
        return response


class _Http(urllib3.connection.HTTPConnection):
    def __init__(self, *arguments: Any, connection: Connection, path: str | None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connection, self._path = connection, path

    def connect(self) -> None:
        super().connect()
        self._connection.connected(self.sock)

    def _new_conn(self) -> socket.socket:
        if self._path is None:
            return super()._new_conn()
        opened = socket.socket(socket.AF_UNIX)
        opened.settimeout(CONNECTS_WITHIN)
        try:
            opened.connect(self._path)
        except OSError as error:
            opened.close()
            raise urllib3.exceptions.NewConnectionError(self, str(error)) from error
        return opened


class _Https(urllib3.connection.HTTPSConnection):
    def __init__(self, *arguments: Any, connection: Connection, path: str | None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connection = connection

    def connect(self) -> None:
        super().connect()
        self._connection.connected(self.sock)
