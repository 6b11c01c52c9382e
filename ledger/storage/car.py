"""The bundle: the folder that an audit reads, as one UnixFS directory in one CAR file of version 1.

The directory holds the folder's files, and ``blobs/<last two letters of the CID>/<CID>`` for every blob. Whatever
speaks IPFS can import the file, pin all of it by its one root, and hand the folder out again (``ipfs get ROOT``).

Layout: a header that names the root, then blocks, each as varint(length of CID and data), CID, data. We write the
root and the folder's files first, so that what is left of a file that was cut short can still be audited.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ledger.cid import CHUNK, Bytes, Cid, Node, directory, leaf, tree, varint
from ledger.errors import BlobMismatchedError, BlobMissingError
from ledger.storage import Blobs, chunks_of
from ledger.storage.folder import replacing, shard

BLOBS = "blobs"
CID_SIZE = 36

_BEFORE, _AFTER = b"\x3a\xa2\x65roots\x81\xd8\x2a\x58\x25\x00", b"\x67version\x01"
HEADER_SIZE = len(_BEFORE) + CID_SIZE + len(_AFTER)
DIGEST = slice(len(_BEFORE) + CID_SIZE - 32, len(_BEFORE) + CID_SIZE)  # of the root's CID, in the header


def header(root: Cid) -> bytes:
    """``{"roots": [root], "version": 1}`` in DAG-CBOR, after its length; it has no other form."""
    return _BEFORE + bytes(root) + _AFTER


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
    root = directory({BLOBS: top} | {name: _root(cut(file)) for name, file in files.items()})
    with replacing(path) as file:
        file.writelines(_bundle(root, files, [top, *directories.values()], shards, store))
    return Written(root.cid, tuple(missing), tuple(mismatched))


def _bundle(
    root: Node,
    files: Mapping[str, bytes],
    directories: list[Node],
    shards: Mapping[str, Mapping[str, Node]],
    store: Blobs,
) -> Iterator[Bytes]:
    sections = _Sections()
    yield header(root.cid)
    yield from sections.block(root.cid, root.block)
    for name in sorted(files):
        yield from sections.blob(cut(files[name]))
    for node in directories:
        yield from sections.block(node.cid, node.block)
    for name in sorted(shards):
        for node in shards[name].values():
            yield from _verified(sections, node.cid, _read(node.cid, store))


def car_of(cid: Cid, chunks: Iterable[Bytes]) -> Iterator[Bytes]:
    """A CAR file of one blob, whose root is the blob's, in pieces of at most ``CHUNK`` bytes.

    Raises:
        BlobMismatchedError: At its end, if the chunks are not what `cid` names.
    """
    yield header(cid)
    yield from _verified(_Sections(), cid, chunks)


def _verified(sections: _Sections, cid: Cid, chunks: Iterable[Bytes]) -> Iterator[Bytes]:
    if (yield from sections.blob(chunks)) != cid:
        raise BlobMismatchedError(cid)


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


def cut(file: Bytes) -> Iterator[memoryview]:
    """What is in memory, leaf by leaf."""
    return (memoryview(file)[at : at + CHUNK] for at in range(0, max(1, len(file)), CHUNK))


class _Sections:
    """The sections of a CAR file that is being written; no block stands in it twice."""

    def __init__(self) -> None:
        self._written: set[Cid] = set()

    def block(self, cid: Cid, data: Bytes) -> Iterator[Bytes]:
        if cid not in self._written:
            self._written.add(cid)
            yield varint(CID_SIZE + len(data)) + bytes(cid)
            yield data

    def blob(self, chunks: Iterable[Bytes]) -> Generator[Bytes, None, Cid]:
        """Leaf by leaf, then the tree above; returns its root."""
        leaves = []
        for chunk in chunks:
            leaves.append(leaf(chunk))
            yield from self.block(leaves[-1].cid, chunk)
        nodes = tree(leaves)
        for node in nodes:
            if node.block:
                yield from self.block(node.cid, node.block)
        return nodes[-1].cid
