"""Read a bundle, whoever wrote it: nothing in it is believed before it is hashed.

Memory grows with the number of its blocks, not with their bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.cid import DAG_PB, Cid
from ledger.errors import (
    BlobMissingError,
    FedledgerError,
    UnavailableError,
    UsageError,
    ViolationError,
)
from ledger.storage.block_tree import MAX_BLOCK, TreeBlob
from ledger.storage.car import BLOBS, CID_SIZE, DIGEST, HEADER_SIZE, header
from ledger.storage.dag_pb import read_directory, read_varint
from ledger.storage.folder import open_regular, read_into

MAX_SECTION = MAX_BLOCK + 128  # with its CID


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
    def open(self, cid: Cid) -> Iterator[TreeBlob]:
        """See `Blobs.open`."""
        try:
            file = open_regular(self.path)
        except OSError as error:
            raise BlobMissingError(cid, str(error.strerror)) from None
        with file:
            yield TreeBlob(cid, _CarBlocks(self, file.fileno(), cid))

    def get(self, cid: Cid, limit: int | None = None) -> bytes:
        """See `Blobs.get`."""
        with self.open(cid) as blob:
            return blob.get(limit)

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
        start = os.pread(descriptor, HEADER_SIZE, 0)
        if len(start) == HEADER_SIZE:
            root = Cid(start[DIGEST], DAG_PB)
            if start == header(root):
                return root
        raise self._no_bundle("it does not start like a CAR file of version 1 with one root")

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


class _CarBlocks:
    """The blocks of a blob in a bundle; see `Blocks`."""

    def __init__(self, store: CarStore, descriptor: int, blob: Cid) -> None:
        self._store, self._descriptor, self._blob = store, descriptor, blob

    def size(self, cid: Cid) -> int:
        """See `Blocks.size`."""
        return self._store._find(cid, self._blob)[1]

    def block(self, cid: Cid) -> bytes:
        """See `Blocks.block`."""
        return self._store._read(self._descriptor, cid, self._blob)

    def leaf(self, cid: Cid, room: memoryview) -> int:
        """See `Blocks.leaf`."""
        start, size = self._store._find(cid, self._blob)
        return size if size != len(room) else len(read_into(self._descriptor, start, size, room, self._blob))


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
