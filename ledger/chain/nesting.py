"""RLP that strangers wrote, read only if it is as flat as what a chain writes. Pure."""

from __future__ import annotations

from typing import Any

import rlp

_DEEPEST = 8  # an access list has 4 levels, a node of a trie fewer


def read_rlp(raw: bytes) -> Any:
    """Decode RLP; unlike the library alone, in a time that grows with its length, however deep it is nested.

    Raises:
        ValueError: If it is nested deeper than any transaction, header or node.
        RLPException: If it is no RLP.
    """
    at, ends = 0, list[int]()
    while at < len(raw):
        while ends and at >= ends[-1]:
            ends.pop()
        kind, at = raw[at], at + 1
        if kind < 0x80:
            continue
        base = 0x80 if kind < 0xC0 else 0xC0
        size = kind - base
        if size > 55:
            digits = size - 55
            size, at = int.from_bytes(raw[at : at + digits], "big"), at + digits
        if base == 0x80:
            at += size
            continue
        ends.append(at + size)
        if len(ends) > _DEEPEST:
            raise ValueError("RLP that is nested too deep")
    return rlp.decode(raw)
