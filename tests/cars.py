"""Bundles for tests: a small one, and the parts to make others of that our own writer would not write."""

from __future__ import annotations

from pathlib import Path

from ledger.cid import Cid, Node, directory, varint
from ledger.storage.car_store import CarStore

FILES = {"ledger.json": b'{"chain_id": 1}\n', "entries.jsonl": b"{}\n" * 20}
BLOBS = [b"", b"charter", b"plan" * 30]
LIMIT = 1 << 30

Block = tuple[bytes, bytes]
"""A CID and its data."""


def sections(car: bytes) -> list[tuple[int, int, Block]]:
    """Where each block starts and ends, its CID, its data."""
    found, at = [], 59
    while at < len(car):
        length, start = car[at] & 0x7F, at + 1
        while car[start - 1] & 0x80:
            length |= (car[start] & 0x7F) << 7 * (start - at)
            start += 1
        found.append((at, start + length, (car[start : start + 36], car[start + 36 : start + length])))
        at = start + length
    return found


def section(block: Block) -> bytes:
    return varint(len(block[0]) + len(block[1])) + block[0] + block[1]


def header(*roots: Cid) -> bytes:
    links = b"".join(b"\xd8\x2a\x58\x25\x00" + bytes(root) for root in roots)
    cbor = b"\xa2\x65roots" + bytes((0x80 + len(roots),)) + links + b"\x67version\x01"
    return varint(len(cbor)) + cbor


def bundle(path: Path, nodes: list[Node], blocks: list[Block]) -> CarStore:
    """A file with an empty root directory, these nodes, and these blocks."""
    root = directory({})
    all_blocks = [(bytes(node.cid), node.block) for node in (root, *nodes)] + blocks
    path.write_bytes(header(root.cid) + b"".join(map(section, all_blocks)))
    return CarStore(path)
