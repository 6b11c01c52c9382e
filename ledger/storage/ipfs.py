"""An IPFS node as a store, through its RPC; nothing that it says is believed before it is hashed.

Blobs are uploaded as CAR files, so that their CIDs are ours and no setting of the node's, and read block by block. Two
failures are kept apart: that a blob is not to be had (BlobMissingError), and that the node is not (another
UnavailableError), of which nothing follows for the blob.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from ledger.cid import RAW, Bytes, Cid, cid_of
from ledger.errors import BlobMismatchedError, BlobMissingError, UnavailableError
from ledger.storage import Blob, Blobs, chunks_of, require_at_most
from ledger.storage.block_tree import MAX_BLOCK, TreeBlob
from ledger.storage.car import car_of, cut
from ledger.storage.ipfs_address import Address
from ledger.storage.ipfs_rpc import NoAnswerError, RefusalError, Rpc

Answer = TypeVar("Answer")

ANSWERS_WITHIN = 5.0
"""Seconds for a node to show that it is there."""

REMOVES_WITHIN = 60.0
"""Seconds for a node to remove a blob: it waits for uploads and pins of others, however small the blob is."""

_DAY = 86_400.0  # seconds
_ABSENT = re.compile(r"not found|could not find|deadline exceeded|timed? ?out", re.IGNORECASE)


@dataclass(frozen=True)
class Deadline:
    """How long a blob may take.

    Attributes:
        seconds: For any blob, and for any one block of it.
        rate: Bytes per second: the slowest transfer that is waited for beyond that.
    """

    seconds: float = 30.0
    rate: float = 128 * 1024

    def of(self, size: int) -> float:
        """Seconds for a blob of `size` bytes, a day at most: a size may be no more than a claim."""
        return min(_DAY, self.seconds + size / self.rate)


class IpfsStore:
    """The blobs that an IPFS node has, or gets from other nodes. Safe to use from several threads."""

    def __init__(
        self, url: str, *, token: str | None = None, plain_http: bool = False, deadline: Deadline | None = None
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: Its RPC, such as ``http://127.0.0.1:5001``, ``https://ipfs.example.org`` or ``unix:///run/ipfs.sock``.
            token: What it wants as ``Authorization: Bearer``, if anything.
            plain_http: Whether another machine may be spoken to without encryption.
            deadline: How long a blob may take.

        Raises:
            UsageError: If the URL or the token is none, or names another machine without encryption.
        """
        self.url, self._deadline = url, deadline or Deadline()
        self._rpc = Rpc(Address.parse(url, plain_http), token)

    def put(self, blob: Bytes) -> Cid:
        """See `Store.put`: uploaded and pinned, and the pin looked for."""
        cid = cid_of(blob)
        if not self._is_pinned(cid):
            self._upload(cid, len(blob), lambda: car_of(cid, cut(blob)))
        return cid

    def copy(self, cid: Cid, source: Blobs) -> None:
        """See `Store.copy`: uploaded and pinned, and the pin looked for."""
        if not self._is_pinned(cid):
            with source.open(cid) as blob:
                self._upload(cid, blob.size, lambda: car_of(cid, chunks_of(blob, cid)))

    def pin(self, cid: Cid, limit: int | None = None) -> None:
        """See `Store.pin`: read from other nodes if need be, pinned only when all of it is verified."""
        blob = self._open(cid)
        require_at_most(limit, blob.size, cid)
        blob.verify()
        if not self._is_pinned(cid):
            self._rpc.call("pin/add", str(cid), seconds=self._deadline.of(blob.size), recursive="true")
            self._check_pin(cid)

    def remove(self, cid: Cid, only: Callable[[Blob], bool] | None = None) -> bool:
        """See `Store.remove`: unpinned, and the block deleted; of several blocks, only with the next collection."""
        pinned = self._is_pinned(cid)
        if pinned and only is not None and not only(self._open(cid)):
            return False
        if pinned:
            self._rpc.call("pin/rm", str(cid), seconds=REMOVES_WITHIN, recursive="true")
        if cid.codec == RAW:  # also what is unpinned: an earlier removal may have got no further
            self._rpc.call("block/rm", str(cid), seconds=REMOVES_WITHIN, force="true")
        return pinned

    @contextmanager
    def open(self, cid: Cid) -> Iterator[TreeBlob]:
        """See `Blobs.open`."""
        yield self._open(cid)

    def get(self, cid: Cid, limit: int | None = None) -> bytes:
        """See `Blobs.get`; what is larger than `limit` gets no more time than that, and is missing if it takes more."""
        return self._open(cid, limit).get(limit)

    def verify(self, cid: Cid) -> None:
        """See `Blobs.verify`."""
        self._open(cid).verify()

    def size(self, cid: Cid) -> int | None:
        """See `Blobs.size`."""
        try:
            return self._open(cid).size
        except (BlobMissingError, BlobMismatchedError):
            return None

    def _open(self, cid: Cid, limit: int | None = None) -> TreeBlob:
        blocks = _IpfsBlocks(self._rpc, cid, self._deadline)
        blob = TreeBlob(cid, blocks, os.cpu_count() or 1)
        blocks.extend(blob.size if limit is None else min(blob.size, limit))
        return blob

    def _upload(self, cid: Cid, size: int, car: Callable[[], Iterator[Bytes]]) -> None:
        self._rpc.call("dag/import", seconds=self._deadline.of(size), upload=car, pin_roots="true")
        self._check_pin(cid)

    def _check_pin(self, cid: Cid) -> None:
        if not self._is_pinned(cid):
            raise UnavailableError(
                f"the IPFS node at {self.url} took {cid} and did not pin it: look at its log and disk"
            )

    def _is_pinned(self, cid: Cid) -> bool:
        try:
            answer = self._rpc.ask(
                "pin/ls", str(cid), seconds=self._deadline.seconds, type="recursive", cid_base="base32"
            )
        except RefusalError as error:
            if "not pinned" in error.said:
                return False
            raise
        keys = answer.get("Keys")
        if not isinstance(keys, dict):
            raise self._rpc.no_rpc()
        return str(cid) in keys


class _IpfsBlocks:
    """The blocks of one blob, asked for one by one; see `Blocks`.

    What is limited is the time spent on waiting for the node, not that on the clock: whoever reads may do so in turns
    with other blobs.
    """

    def __init__(self, rpc: Rpc, blob: Cid, deadline: Deadline) -> None:
        self._rpc, self._blob, self._deadline = rpc, blob, deadline
        self._left, self._lock = deadline.seconds, Lock()

    def extend(self, size: int) -> None:
        """Give the blob the time that its size allows."""
        self._left += size / self._deadline.rate

    def size(self, cid: Cid) -> int:
        """See `Blocks.size`."""
        size = self._timed(lambda seconds: self._rpc.ask("block/stat", str(cid), seconds=seconds)).get("Size")
        if not isinstance(size, int) or size < 0:
            raise self._rpc.no_rpc()
        return size

    def block(self, cid: Cid) -> bytes:
        """See `Blocks.block`."""
        return self._block(cid, MAX_BLOCK)

    def leaf(self, cid: Cid, room: memoryview) -> int:
        """See `Blocks.leaf`."""
        block = self._block(cid, len(room))
        if len(block) <= len(room):
            room[: len(block)] = block
        return len(block)

    def _block(self, cid: Cid, most: int) -> bytes:
        return self._timed(lambda seconds: self._rpc.call("block/get", str(cid), seconds=seconds, most=most))

    def _timed(self, ask: Callable[[float], Answer]) -> Answer:
        """Ask within the time that is left."""
        started = time.monotonic()
        try:
            if self._left <= 0:
                raise BlobMissingError(self._blob, f"not all of it came in time from the IPFS node at {self._rpc.url}")
            return ask(min(self._left, self._deadline.seconds))
        except RefusalError as error:
            if _ABSENT.search(error.said):
                raise BlobMissingError(self._blob, f"the IPFS node at {self._rpc.url} says: {error.said}") from None
            raise
        except NoAnswerError as error:
            self._rpc.ask("version", seconds=ANSWERS_WITHIN)  # or it is the node that is not to be had
            raise BlobMissingError(self._blob, f"{error.why}, at the IPFS node at {self._rpc.url}") from None
        finally:
            with self._lock:
                self._left -= time.monotonic() - started
