"""The bundle: the folder that an audit reads, as one UnixFS directory in one CAR file of version 1.

The directory holds the folder's files, and ``blobs/<last two letters of the CID>/<CID>`` for every blob. Whatever
speaks IPFS can import the file, pin all of it by its one root, and hand the folder out again (``ipfs get ROOT``).

Layout: a header that names the root, then blocks, each as varint(length of CID and data), CID, data. We write the
root and the folder's files first, so that what is left of a file that was cut short can still be audited.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ledger.cid import CHUNK, Bytes, Cid, Node, directory, leaf, tree, varint
from ledger.errors import BlobMismatchedError, BlobMissingError
from ledger.storage import Blobs, chunks_of
from ledger.storage.folder import replacing, shard

BLOBS = "blobs"
CID_SIZE = 36

# {"roots": [CID], "version": 1} in DAG-CBOR, before and after the CID's digest; it has no other form
HEADER = (b"\x3a\xa2\x65roots\x81\xd8\x2a\x58\x25\x00\x01\x70\x12\x20", b"\x67version\x01")


@dataclass(frozen=True)
class Written:
    """What became of a bundle.

    Attributes:
        root: The CID of its directory.
        missing: The blobs that are not in it because they were not to be had.
        mismatched: The blobs that are not in it because what is stored under their CIDs is something else.
    """

    root: Cid
    missing: tuple[Cid, ...]
    mismatched: tuple[Cid, ...]


def write_car(path: Path, files: Mapping[str, bytes], blobs: Iterable[Cid], store: Blobs) -> Written:
    """Write a bundle; the same files and blobs give the same bytes.

    Every blob is read twice: to plan the directories, which come first, and to write it.

    Args:
        path: The file to write; it appears, or replaces what was there, when it is whole.
        files: The folder's files beside its blobs.
        blobs: The blobs to take along; one that is missing or altered is left out.
        store: Where they are.

    Raises:
        BlobMissingError: If a blob vanishes while this runs.
        BlobMismatchedError: If a blob changes while this runs.
        OSError: If the file cannot be written.
    """
    shards: dict[str, dict[str, Node]] = {}
    missing, mismatched = [], []
    for cid in sorted(set(blobs), key=str):
        try:
            node = _plan(cid, store)
        except BlobMissingError:
            missing.append(cid)
        except BlobMismatchedError:
            mismatched.append(cid)
        else:
            shards.setdefault(shard(cid), {})[str(cid)] = node
    directories = {name: directory(nodes) for name, nodes in sorted(shards.items())}
    top = directory(directories)
    root = directory({BLOBS: top} | {name: _root(_cut(file)) for name, file in files.items()})
    with replacing(path) as file:
        writer = _Writer(file, root.cid)
        writer.block(root.cid, root.block)
        for name in sorted(files):
            writer.blob(_cut(files[name]))
        for node in (top, *directories.values()):
            writer.block(node.cid, node.block)
        for name in directories:
            for node in shards[name].values():
                if writer.blob(_read(node.cid, store)) != node.cid:
                    raise BlobMismatchedError(node.cid)
    return Written(root.cid, tuple(missing), tuple(mismatched))


def _plan(cid: Cid, store: Blobs) -> Node:
    root = _root(_read(cid, store))
    if root.cid != cid:
        raise BlobMismatchedError(cid)
    return replace(root, block=b"")


def _root(chunks: Iterable[Bytes]) -> Node:
    return tree([leaf(chunk) for chunk in chunks])[-1]


def _read(cid: Cid, store: Blobs) -> Iterator[bytes]:
    # Leaves are written outside of this function: a store takes an OSError that it sees for its own.
    with store.open(cid) as blob:
        yield from chunks_of(blob, cid)


def _cut(file: bytes) -> Iterator[memoryview]:
    return (memoryview(file)[at : at + CHUNK] for at in range(0, max(1, len(file)), CHUNK))


class _Writer:
    """A CAR file that is being written; no block stands in it twice."""

    def __init__(self, file: BinaryIO, root: Cid) -> None:
        self._file = file
        self._written: set[Cid] = set()
        file.write(HEADER[0] + root.digest + HEADER[1])

    def block(self, cid: Cid, data: Bytes) -> None:
        if cid not in self._written:
            self._written.add(cid)
            self._file.write(varint(CID_SIZE + len(data)) + bytes(cid))
            self._file.write(data)

    def blob(self, chunks: Iterable[Bytes]) -> Cid:
        """Write leaf by leaf, then the tree above; returns its root."""
        leaves = []
        for chunk in chunks:
            leaves.append(leaf(chunk))
            self.block(leaves[-1].cid, chunk)
        nodes = tree(leaves)
        for node in nodes:
            if node.block:
                self.block(node.cid, node.block)
        return nodes[-1].cid
