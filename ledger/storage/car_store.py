"""Read a bundle, whoever wrote it: nothing in it is believed before it is hashed.

Memory grows with the number of its blocks, not with their bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ledger.cid import CHUNK, DAG_PB, MAX_LINKS, RAW, Cid, Node, leaf, parent
from ledger.errors import (
    BlobMismatchedError,
    BlobMissingError,
    BlobTooLargeError,
    FedledgerError,
    UnavailableError,
    UsageError,
    ViolationError,
)
from ledger.storage import read
from ledger.storage.car import BLOBS, CID_SIZE, HEADER
from ledger.storage.dag_pb import read_directory, read_file_node, read_varint
from ledger.storage.folder import open_regular, read_into

HEADER_SIZE = len(HEADER[0]) + 32 + len(HEADER[1])
MAX_SECTION = (2 << 20) + 128  # the largest block that IPFS nodes exchange, with its CID
NODES_KEPT = 16  # of a tree that is being read, each with at most 1,024 links


class CarStore:
    """The blobs and files of a bundle, read from where they stand in it.

    Its blocks may have any order, stand there twice, or belong to something else.

    Attributes:
        path: The file.
        files: The CIDs of the folder's files beside its blobs, by name.
        cut_short: How much of the file can be read, where that is not all; blocks in the rest are missing.
    """

    def __init__(self, path: Path) -> None:
        """Find the blocks in the file; their data is not read.

        Raises:
            UsageError: If there is no such file, or it is no bundle.
            UnavailableError: If its root is missing.
            ViolationError: If its root was altered.
        """
        self.path = path
        try:
            with open_regular(path) as file:
                root = self._root(file.fileno())
                self._blocks, self.cut_short = _index(file.fileno())
                block = self._read(file.fileno(), root, root)
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror}): give the file that an export wrote") from None
        if hashlib.sha256(block).digest() != root.digest:
            raise ViolationError(f"the root of {path} is not what its CID says: it was altered; get the file again")
        try:
            self.files = {name: cid for name, cid in read_directory(block).items() if name != BLOBS}
        except ValueError as error:
            raise self._no_bundle(f"its root is {error}") from None

    def file(self, name: str, limit: int) -> bytes:
        """A file of the folder, verified.

        Args:
            name: Its name.
            limit: The most bytes to take into memory.

        Raises:
            UnavailableError: If it is not there, or not whole.
            ViolationError: If it was altered, or is larger than `limit`.
        """
        if name not in self.files:
            raise UnavailableError(f"{self.path} holds no {name}: export the history again")
        try:
            return self.get(self.files[name], limit)
        except FedledgerError as error:
            kind = UnavailableError if isinstance(error, UnavailableError) else ViolationError
            raise kind(f"{name} in {self.path}: {error}") from None

    @contextmanager
    def open(self, cid: Cid) -> Iterator[_CarBlob]:
        """See `Blobs.open`."""
        try:
            file = open_regular(self.path)
        except OSError as error:
            raise BlobMissingError(cid, str(error.strerror)) from None
        with file:
            yield _CarBlob(self, file.fileno(), cid)

    def get(self, cid: Cid, limit: int | None = None) -> bytes:
        """See `Blobs.get`."""
        with self.open(cid) as blob:
            if limit is not None and blob.size > limit:
                blob.verify()
                raise BlobTooLargeError(cid, blob.size, limit)
            return read(blob, cid, limit)

    def verify(self, cid: Cid) -> None:
        """See `Blobs.verify`."""
        with self.open(cid) as blob:
            blob.verify()

    def size(self, cid: Cid) -> int | None:
        """See `Blobs.size`."""
        try:
            with self.open(cid) as blob:
                return blob.size
        except FedledgerError:
            return None

    def _root(self, descriptor: int) -> Cid:
        before, after = HEADER
        header = os.pread(descriptor, HEADER_SIZE, 0)
        if len(header) < HEADER_SIZE or not header.startswith(before) or not header.endswith(after):
            raise self._no_bundle("it does not start like a CAR file of version 1 with one root")
        return Cid(header[len(before) : -len(after)], DAG_PB)

    def _no_bundle(self, why: str) -> UsageError:
        return UsageError(f"{self.path} is no bundle ({why}): give the file that an export wrote")

    def _find(self, cid: Cid, blob: Cid) -> tuple[int, int]:
        """Where the data of a block starts that belongs to `blob`, and its size."""
        try:
            return self._blocks[bytes(cid)]
        except KeyError:
            rest = f"; {self.cut_short}" if self.cut_short else ""
            raise BlobMissingError(blob, f"its block {cid} is not in {self.path}{rest}") from None

    def _read(self, descriptor: int, cid: Cid, blob: Cid) -> bytes:
        """The data of a block that belongs to `blob`; nothing of it is verified."""
        start, size = self._find(cid, blob)
        return os.pread(descriptor, size, start)


class _CarBlob:
    """A blob in a bundle. A node of its tree is hashed before it is used; leaves are for the reader to hash."""

    def __init__(self, store: CarStore, descriptor: int, cid: Cid) -> None:
        self._store, self._descriptor, self._cid = store, descriptor, cid
        self._children = lru_cache(NODES_KEPT)(lambda node: self._node(node)[1])
        self._depth = 0
        if cid.codec == RAW:
            _, self.size = store._find(cid, cid)
        else:
            self.size, _ = self._node(cid)
            while CHUNK * MAX_LINKS**self._depth < self.size:
                self._depth += 1

    def leaf(self, number: int, into: bytearray | memoryview) -> memoryview:
        """See `Blob.leaf`."""
        cid = self._cid
        for level in reversed(range(self._depth)):
            children, at = self._children(cid), number // MAX_LINKS**level % MAX_LINKS
            if at >= len(children):
                raise BlobMismatchedError(self._cid)
            cid = children[at]
        start, size = self._store._find(cid, self._cid)
        if size != min(CHUNK, self.size - number * CHUNK):
            raise BlobMismatchedError(self._cid)
        return read_into(self._descriptor, start, size, into, self._cid)

    def verify(self) -> None:
        """See `Blobs.verify`.

        Few blocks can make a tree of any size: each is hashed once, however often the tree names it.
        """
        if (self._cid.codec == RAW) != (self.size <= CHUNK):
            raise BlobMismatchedError(self._cid)
        self._rebuild(self._cid, self._depth, {})

    def _rebuild(self, cid: Cid, depth: int, known: dict[tuple[Cid, int], Node]) -> Node:
        if (cid, depth) not in known:
            if depth == 0:
                node = leaf(self._data(cid))
            else:
                children = [self._rebuild(child, depth - 1, known) for child in self._children(cid)]
                full = CHUNK * MAX_LINKS ** (depth - 1)
                if any(child.file_size != full for child in children[:-1]) or not 0 < children[-1].file_size <= full:
                    raise BlobMismatchedError(self._cid)
                node = parent(children)
            if node.cid != cid:
                raise BlobMismatchedError(self._cid)
            known[cid, depth] = replace(node, block=b"")
        return known[cid, depth]

    def _node(self, cid: Cid) -> tuple[int, list[Cid]]:
        block = self._data(cid)
        if hashlib.sha256(block).digest() != cid.digest:
            raise BlobMismatchedError(self._cid)
        try:
            size, children = read_file_node(block)
        except ValueError:
            raise BlobMismatchedError(self._cid) from None
        if not 0 < len(children) <= MAX_LINKS:
            raise BlobMismatchedError(self._cid)
        return size, children

    def _data(self, cid: Cid) -> bytes:
        return self._store._read(self._descriptor, cid, self._cid)


def _index(descriptor: int) -> tuple[dict[bytes, tuple[int, int]], str | None]:
    """Where the data of each block starts, and its size, by CID; and a remark if they end before the file does."""
    blocks: dict[bytes, tuple[int, int]] = {}
    at, end = HEADER_SIZE, os.fstat(descriptor).st_size
    while at < end:
        section = os.pread(descriptor, 9 + CID_SIZE, at)
        try:
            length, start = read_varint(section, 0)
        except ValueError:
            break
        if not 0 < length <= min(MAX_SECTION, end - at - start):
            break
        if length >= CID_SIZE:  # other kinds of CIDs are shorter or longer; nothing looks for what they become here
            blocks.setdefault(section[start : start + CID_SIZE], (at + start + CID_SIZE, length - CID_SIZE))
        at += start + length
    return blocks, None if at == end else f"only the first {at:,} of {end:,} bytes can be read"
