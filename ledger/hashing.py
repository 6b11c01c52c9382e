"""Blobs hashed on other threads, leaf by leaf, while the caller goes on with the same leaves."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol

from ledger.cid import CHUNK, Bytes, Cid, Node, leaf, tree
from ledger.errors import BlobMismatchedError

_SMALL = 1 << 16  # bytes; fewer are hashed sooner than handed over

# glibc hands leaves that are freed back to the system and takes each anew, page by page, which costs a fifth of all
# time; but not once it has seen a block of this size freed. (No page of it is touched.)
bytes(31 << 20)


class Blob(Protocol):
    """A blob that is open to be read; see `ledger.storage.Blob`."""

    @property
    def size(self) -> int:
        """Bytes that are stored."""

    def leaf(self, number: int) -> bytes:
        """Those from ``number * CHUNK``: ``CHUNK`` of them, or what is left."""


class Hasher:
    """Hashes blobs; within ``with``, at whose end every blob that was read is what its CID names.

    A few leaves are in memory at a time. What comes out does not depend on the number of threads.

    Args:
        threads: How many hash beside the caller; None for one on each processor.
    """

    def __init__(self, threads: int | None = None) -> None:
        threads = threads or os.cpu_count() or 1
        self._pool = ThreadPoolExecutor(threads)
        self._ahead = 2 * threads
        self._running: deque[Future[Node]] = deque()
        self._unverified: deque[tuple[Cid, list[Callable[[], Node]]]] = deque()

    def __enter__(self) -> Hasher:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Verify what is left, after an error too: of several errors the first blob's is raised."""
        try:
            self.verify()
        finally:
            self._pool.shutdown()

    def read(self, cid: Cid, blob: Blob) -> Iterator[bytes]:
        """The leaves of a blob, in order; whether `cid` names them is found out later.

        Raises:
            BlobMismatchedError: If a leaf has another length, or another blob that was read is not what its CID names.
        """
        nodes, size = [], blob.size
        for start in range(0, size, CHUNK):
            chunk = blob.leaf(start // CHUNK)
            if len(chunk) != min(CHUNK, size - start):
                raise BlobMismatchedError(cid)
            nodes.append(self._hash(chunk))
            yield chunk
        self._unverified.append((cid, nodes))
        self.verify(self._ahead)

    def cid(self, leaves: Iterable[Bytes]) -> Cid:
        """The CID of a blob."""
        return _root([self._hash(chunk) for chunk in leaves])

    def verify(self, leave: int = 0) -> None:
        """Compare the blobs that were read with their CIDs, in order, but the last `leave` ones.

        Raises:
            BlobMismatchedError: At the first that differs.
        """
        while len(self._unverified) > leave:
            cid, nodes = self._unverified.popleft()
            if _root(nodes) != cid:
                raise BlobMismatchedError(cid)

    def _hash(self, chunk: Bytes) -> Callable[[], Node]:
        if len(chunk) < _SMALL:
            node = leaf(chunk)
            return lambda: node
        if len(self._running) == self._ahead:
            self._running.popleft().result()
        self._running.append(self._pool.submit(leaf, chunk))
        return self._running[-1].result


def _root(nodes: list[Callable[[], Node]]) -> Cid:
    return tree([node() for node in nodes])[-1].cid
