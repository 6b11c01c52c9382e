"""Which store a place is: an IPFS node or a folder."""

from __future__ import annotations

from pathlib import Path

from ledger.storage import Store
from ledger.storage.folder import FolderStore


def open_store(
    where: str, *, token: str | None = None, plain_http: bool = False, patience: float | None = None
) -> Store:
    """The store at a place; nothing is read or sent yet.

    Args:
        where: The URL of an IPFS node's RPC (``http://``, ``https://`` or ``unix://``), or a folder's path.
        token: What the node wants as ``Authorization: Bearer``, if anything.
        plain_http: Whether another machine's node may be spoken to without encryption.
        patience: Seconds that a node has for a small blob, if not as many as usual.

    Raises:
        UsageError: If a URL or a token is none, or names another machine without encryption.
    """
    if "://" in where:
        from ledger.storage.ipfs import Deadline, IpfsStore  # not at the top: its library is slow to import

        deadline = None if patience is None else Deadline(patience)
        return IpfsStore(where, token=token, plain_http=plain_http, deadline=deadline)
    return FolderStore(Path(where).expanduser())
