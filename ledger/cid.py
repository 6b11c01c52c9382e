"""Content identifiers: the name of a blob is computed from its bytes, here, and never believed from elsewhere.

The parameters are IPFS' profile ``unixfs-v1-2025`` (IPIP-499): CIDv1, sha2-256, raw leaves of 1 MiB, a balanced
tree of dag-pb nodes with at most 1,024 links. Any IPFS node that adds the file with this profile gives the same CID.
A blob of at most 1 MiB is one raw block, and its digest is the sha2-256 of its bytes; above that the digest is that
of the tree's root node, not of the file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

CHUNK = 1 << 20
MAX_LINKS = 1024
RAW = 0x55
DAG_PB = 0x70

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, order=True)
class Cid:
    """A CIDv1 with sha2-256; ``Cid.parse(str(cid)) == cid``.

    Attributes:
        digest: 32 bytes.
        codec: ``RAW`` or ``DAG_PB``.
    """

    digest: bytes
    codec: int

    def __post_init__(self) -> None:
        if len(self.digest) != 32 or self.codec not in (RAW, DAG_PB):
            raise ValueError(f"not a raw or dag-pb sha2-256 CID: codec {self.codec:#x}, {len(self.digest)} bytes")

    def __bytes__(self) -> bytes:
        return bytes((1, self.codec, 0x12, 32)) + self.digest

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        return "b" + base64.b32encode(bytes(self)).decode().rstrip("=").lower()

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Read a CID in its usual form (base32, lower case).

        Raises:
            ValueError: If it is anything else.
        """
        try:
            raw = base64.b32decode(text[1:].upper() + "=" * (-(len(text) - 1) % 8))
            cid = cls(raw[4:], raw[1])
        except (binascii.Error, ValueError, IndexError):
            raise ValueError(f"not a CIDv1 with sha2-256: {text!r}") from None
        if str(cid) != text:
            raise ValueError(f"not a CIDv1 with sha2-256 in base32: {text!r}")
        return cid


def cid_of(blob: Bytes) -> Cid:
    """The CID of a blob in memory."""
    view = memoryview(blob)
    return cid_of_chunks(view[at : at + CHUNK] for at in range(0, len(view), CHUNK))


def cid_of_chunks(chunks: Iterable[Bytes]) -> Cid:
    """The CID of a blob that arrives in chunks: each of exactly ``CHUNK`` bytes, only the last may be shorter."""
    return tree([leaf(chunk) for chunk in chunks])[-1].cid


@dataclass(frozen=True)
class Node:
    """A node of a blob's tree, or of a directory.

    Attributes:
        file_size: Bytes of the blob below this node; 0 for a directory.
        dag_size: Bytes of all blocks below and including this node.
        block: The node's own block; empty for a leaf, whose block is its chunk.
    """

    cid: Cid
    file_size: int
    dag_size: int
    block: bytes = b""


def leaf(chunk: Bytes) -> Node:
    """The leaf of one chunk."""
    return Node(Cid(hashlib.sha256(chunk).digest(), RAW), len(chunk), len(chunk))


def tree(leaves: Sequence[Node]) -> list[Node]:
    """All nodes above `leaves`, level by level, the blob's root last; a blob of one leaf is that leaf."""
    level = list(leaves) or [leaf(b"")]
    nodes = [] if len(level) > 1 else level
    while len(level) > 1:
        level = [parent(level[at : at + MAX_LINKS]) for at in range(0, len(level), MAX_LINKS)]
        nodes += level
    return nodes


def parent(children: Sequence[Node]) -> Node:
    """The UnixFS file node over `children`; a single child is wrapped too, so all leaves lie at one depth."""
    file_size = sum(child.file_size for child in children)
    unixfs = b"\x08\x02\x18" + varint(file_size)
    unixfs += b"".join(b"\x20" + varint(child.file_size) for child in children)
    return _node([(b"", child) for child in children], unixfs, file_size)


def directory(links: Mapping[str, Node]) -> Node:
    """The UnixFS directory of files and directories by their names."""
    return _node([(name.encode(), links[name]) for name in sorted(links, key=str.encode)], b"\x08\x01", 0)


def _node(links: Sequence[tuple[bytes, Node]], unixfs: bytes, file_size: int) -> Node:
    block = b"".join(
        _field(0x12, _field(0x0A, bytes(child.cid)) + _field(0x12, name) + b"\x18" + varint(child.dag_size))
        for name, child in links
    )
    block += _field(0x0A, unixfs)
    dag_size = len(block) + sum(child.dag_size for _, child in links)
    return Node(Cid(hashlib.sha256(block).digest(), DAG_PB), file_size, dag_size, block)


def _field(tag: int, value: bytes) -> bytes:
    return bytes((tag,)) + varint(len(value)) + value


def varint(number: int) -> bytes:
    """A number in seven bits a byte, the lowest first, as protobuf and CAR write it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes((number,))
