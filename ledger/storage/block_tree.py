"""A blob as the tree of blocks that IPFS makes of it, read from wherever its blocks are."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

from ledger.cid import CHUNK, MAX_LINKS, RAW, Cid, Node, leaf, parent
from ledger.errors import BlobMismatchedError, BlobMissingError, BlobTooLargeError, FedledgerError
from ledger.storage import read
from ledger.storage.dag_pb import read_file_node
from ledger.threads import shared

MAX_BLOCK = 2 << 20  # bytes, of the largest block that IPFS nodes exchange
_NODES_KEPT = 16  # of a tree that is being read, each with at most 1,024 links


class Blocks(Protocol):
    """The blocks of one blob; nothing that comes from here is verified.

    Each method is safe to call from several threads, and raises that blob's BlobMissingError if a block is not there.
    """

    def size(self, cid: Cid) -> int:
        """The bytes that a block has, as far as its keeper can tell."""

    def block(self, cid: Cid) -> bytes:
        """A block's bytes, as many as have come, and no more than a few above ``MAX_BLOCK``."""

    def leaf(self, cid: Cid, room: memoryview) -> int:
        """Read a block into `room`; returns how many of its bytes came, or more than `room` has if it does not fit."""


class TreeBlob:
    """A blob that is open; see `Blob`. A node of its tree is hashed before it is used; leaves are the reader's to hash.

    Attributes:
        size: Bytes of the blob, as its root says.
    """

    def __init__(self, cid: Cid, blocks: Blocks, threads: int = 1) -> None:
        """Read the root.

        Args:
            cid: The blob's CID.
            blocks: Its blocks.
            threads: How many leaves `verify` asks for at once.

        Raises:
            BlobMissingError: If the root is not there.
            BlobMismatchedError: If what is there is something else.
        """
        self._cid, self._blocks, self._threads = cid, blocks, threads
        self._children = lru_cache(_NODES_KEPT)(lambda node: self._node(node)[1])
        self._depth = 0
        if cid.codec == RAW:
            self.size = blocks.size(cid)
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
        room = memoryview(into)[: max(0, min(CHUNK, self.size - number * CHUNK))]
        if (found := self._blocks.leaf(cid, room)) != len(room):
            raise self._wrong(cid, found)
        return room

    def get(self, limit: int | None) -> bytes:
        """See `Blobs.get`; the limit holds before any leaf is read into memory."""
        if limit is not None and self.size > limit:
            self.verify()
            raise BlobTooLargeError(self._cid, self.size, limit)
        return read(self, self._cid, limit)

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
                self._hash_leaves([cid], known)
                return known[cid, 0]
            if depth == 1:
                self._hash_leaves(self._children(cid), known)
            children = [self._rebuild(child, depth - 1, known) for child in self._children(cid)]
            full = CHUNK * MAX_LINKS ** (depth - 1)
            if any(child.file_size != full for child in children[:-1]) or not 0 < children[-1].file_size <= full:
                raise BlobMismatchedError(self._cid)
            node = parent(children)
            if node.cid != cid:
                raise BlobMismatchedError(self._cid)
            known[cid, depth] = replace(node, block=b"")
        return known[cid, depth]

    def _hash_leaves(self, cids: list[Cid], known: dict[tuple[Cid, int], Node]) -> None:
        new = [cid for cid in dict.fromkeys(cids) if (cid, 0) not in known]

        def hash_part(numbers: range) -> list[Node]:
            return [self._leaf(new[number]) for number in numbers]

        for node in shared(hash_part, len(new), self._threads):
            known[node.cid, 0] = node

    def _leaf(self, cid: Cid) -> Node:
        node = leaf(self._blocks.block(cid))
        if node.cid != cid:
            raise self._wrong(cid, node.file_size)
        return node

    def _node(self, cid: Cid) -> tuple[int, list[Cid]]:
        block = self._blocks.block(cid)
        if hashlib.sha256(block).digest() != cid.digest:
            raise self._wrong(cid, len(block))
        try:
            size, children = read_file_node(block)
        except ValueError:
            raise BlobMismatchedError(self._cid) from None
        if not 0 < len(children) <= MAX_LINKS:
            raise BlobMismatchedError(self._cid)
        return size, children

    def _wrong(self, cid: Cid, found: int) -> FedledgerError:
        """What to say of a block of which `found` bytes came, and not those that its CID names."""
        if found < self._blocks.size(cid):
            return BlobMissingError(self._cid, f"its block {cid} was cut short after {found:,} bytes")
        return BlobMismatchedError(self._cid)
