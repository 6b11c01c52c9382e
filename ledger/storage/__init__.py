"""Where blobs live. Every store verifies what it returns."""

from __future__ import annotations

from typing import Protocol

from ledger.cid import Cid


class Store(Protocol):
    """Blobs by CID."""

    def put(self, blob: bytes) -> Cid:
        """Keep a blob and return its CID, computed from its bytes."""

    def get(self, cid: Cid, limit: int | None = None) -> bytes:
        """The blob that `cid` names, verified.

        Args:
            cid: Its CID.
            limit: The most bytes to take into memory; None for no limit.

        Raises:
            BlobMissingError: If it is not there.
            BlobMismatchedError: If what is there is something else.
            BlobTooLargeError: If it is what the CID names, and larger than `limit`.
        """

    def verify(self, cid: Cid) -> None:
        """Check a blob of any size without taking it into memory.

        Raises:
            BlobMissingError: If it is not there.
            BlobMismatchedError: If what is there is something else.
        """

    def has(self, cid: Cid) -> bool:
        """Whether something is stored under `cid`; only `get` and `verify` look at it."""
