"""Where blobs live. Every store verifies what it returns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from ledger.cid import CHUNK, RAW, Bytes, Cid, Node, leaf, tree
from ledger.errors import BlobMismatchedError, BlobTooLargeError
from ledger.threads import shared

_MANY = 16  # leaves


class Blob(Protocol):
    """A stored blob that is open to be read; nothing of it is verified yet."""

    @property
    def size(self) -> int:
        """Bytes that are stored, as far as the store can tell."""

    def leaf(self, number: int, into: bytearray | memoryview) -> memoryview:
        """The bytes from ``number * CHUNK``: ``CHUNK`` of them, or what is left. Safe to call from several threads.

        Args:
            number: Which leaf.
            into: Room for them; what is returned is a view of it.

        Raises:
            BlobMissingError: If they are not there, or cannot be read.
            BlobMismatchedError: If what is there is something else.
        """


class Blobs(Protocol):
    """Blobs by CID, to be read."""

    def open(self, cid: Cid) -> AbstractContextManager[Blob]:
        """A blob's bytes as they are stored, for readers that verify for themselves.

        Raises:
            BlobMissingError: If it is not there; also where a part of it turns out to be missing.
            UnavailableError: If the store cannot be reached, so that nothing is known of the blob; so with each call.
        """

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

    def size(self, cid: Cid) -> int | None:
        """The bytes that are stored under `cid`, None where nothing is; only `get` and `verify` look at them."""


class Store(Blobs, Protocol):
    """Blobs by CID, to be read and kept."""

    def put(self, blob: Bytes) -> Cid:
        """Keep a blob and return its CID, computed from its bytes; one that is there already is kept as it is.

        Raises:
            UnavailableError: If this store cannot keep it, or cannot be reached.
        """

    def copy(self, cid: Cid, source: Blobs) -> None:
        """Keep a blob that another store has, leaf by leaf, verified on the way; one that is there already stays.

        Raises:
            BlobMissingError: If `source` does not have it.
            BlobMismatchedError: If what `source` has is something else.
            UnavailableError: If this store cannot keep it, or one of the two cannot be reached.
        """

    def pin(self, cid: Cid, limit: int | None = None) -> None:
        """Have a blob here from now on: fetched if need be from wherever this store gets blobs, verified, and kept.

        Args:
            cid: Its CID.
            limit: The most bytes that it may have; None for no limit.

        Raises:
            BlobMissingError: If it is not there, nor to be had.
            BlobMismatchedError: If what is there is something else.
            BlobTooLargeError: If it says itself that it is larger than `limit`; nothing more of it is read then.
            UnavailableError: If this store cannot keep it, or cannot be reached.
        """

    def remove(self, cid: Cid, only: Callable[[Blob], bool] | None = None) -> bool:
        """Destroy a blob that is kept here.

        Args:
            cid: Its CID.
            only: Says of what is stored whether it may go; None if it may in any case.

        Returns:
            Whether it was here, and is gone.

        Raises:
            UnavailableError: If that cannot be done, or this store cannot be reached.
        """


def require_at_most(limit: int | None, size: int, cid: Cid) -> None:
    """Whether a blob that says to have `size` bytes may be taken; raises `BlobTooLargeError` if not."""
    if limit is not None and size > limit:
        raise BlobTooLargeError(cid, size, limit)


def read(blob: Blob, cid: Cid, limit: int | None) -> bytes:
    """The bytes of an open blob, verified; see `Blobs.get`."""
    if limit is not None and blob.size > limit:
        verify(blob, cid)
        raise BlobTooLargeError(cid, blob.size, limit)
    room = memoryview(bytearray(blob.size))
    _compare(blob, cid, lambda number: room[number * CHUNK : (number + 1) * CHUNK])
    return bytes(room)


def verify(blob: Blob, cid: Cid) -> None:
    """Check the bytes of an open blob; see `Blobs.verify`."""
    _compare(blob, cid, lambda _: bytearray(CHUNK))


def chunks_of(blob: Blob, cid: Cid) -> Iterator[bytes]:
    """The bytes of an open blob, leaf by leaf, for readers that compare with the CID at the end.

    Raises:
        BlobMismatchedError: If no blob of that size has such a CID.
    """
    for number in range(_leaves(blob, cid)):
        yield bytes(blob.leaf(number, bytearray(CHUNK)))


def verified_chunks(blob: Blob, cid: Cid) -> Iterator[bytes]:
    """The bytes of an open blob, leaf by leaf, for readers that undo what they did with them if this ends in an error.

    Raises:
        BlobMismatchedError: At its end, if they are not what `cid` names.
    """
    leaves = []
    for chunk in chunks_of(blob, cid):
        leaves.append(leaf(chunk))
        yield chunk
    if tree(leaves)[-1].cid != cid:
        raise BlobMismatchedError(cid)


def _leaves(blob: Blob, cid: Cid) -> int:
    if cid.codec == RAW and blob.size > CHUNK:
        raise BlobMismatchedError(cid)  # what is there need not be read
    return max(1, -(-blob.size // CHUNK))


def _compare(blob: Blob, cid: Cid, room: Callable[[int], bytearray | memoryview]) -> None:
    """Read all leaves, each into its room, on all processors where there are many; compare with the CID."""
    count = _leaves(blob, cid)

    def read_part(numbers: range) -> list[Node]:
        return [leaf(blob.leaf(number, room(number))) for number in numbers]

    if tree(shared(read_part, count, 1 if count < _MANY else os.cpu_count() or 1))[-1].cid != cid:
        raise BlobMismatchedError(cid)
