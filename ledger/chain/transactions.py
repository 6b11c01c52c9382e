"""Signed transactions as they went to the chain: who signed them, and what they ask of which contract. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import rlp
from eth_hash.auto import keccak
from rlp.exceptions import RLPException

from ledger.chain.nesting import read_rlp
from ledger.chain.signing import recover
from ledger.facts import Address

_TYPES = {1: (11, (7,), 4), 2: (12, (8,), 5), 3: (14, (8, 10), 5), 4: (13, (8, 9), 5)}
"""By type (EIP-2718): how many fields there are, which are lists, and where the receiver stands."""


@dataclass(frozen=True)
class SignedTransaction:
    """What one signed transaction says.

    Attributes:
        hash: ``0x`` and 64 hex digits: the keccak256 of its bytes.
        chain_id: The chain that it was signed for, None where it says none (before EIP-155).
        nonce: How many transactions its sender sent before.
        to: The contract that it calls, None if it deploys one.
        value: The ether that it carries, in wei.
        data: The call.
        sender: The account that signed it.
    """

    hash: str
    chain_id: int | None
    nonce: int
    to: Address | None
    value: int
    data: bytes
    sender: Address

    @classmethod
    def parse(cls, raw: bytes) -> SignedTransaction:
        """Read the bytes that were sent: RLP, legacy or of a type of EIP-2718.

        Raises:
            ValueError: If they are no signed transaction.
        """
        try:
            return cls._typed(raw) if raw and raw[0] < 0x80 else cls._legacy(raw)
        except (RLPException, IndexError, TypeError, RecursionError, OverflowError) as error:
            raise ValueError(f"not a signed transaction: {error}") from None

    @classmethod
    def _legacy(cls, raw: bytes) -> SignedTransaction:
        fields = _flat(read_rlp(raw), 9, ())
        v = _number(fields[6])
        chain_id = (v - 35) // 2 if v >= 35 else None
        signed = fields[:6] if chain_id is None else [*fields[:6], _integer(chain_id), b"", b""]
        parity = v - 27 if chain_id is None else (v - 35) % 2
        call = fields[0], fields[3], fields[4], fields[5]
        return cls._of(raw, chain_id, call, rlp.encode(signed), parity, fields[7:])

    @classmethod
    def _typed(cls, raw: bytes) -> SignedTransaction:
        if raw[0] not in _TYPES:
            raise ValueError(f"a transaction of type {raw[0]} is not known")
        count, lists, to = _TYPES[raw[0]]
        fields = _flat(read_rlp(raw[1:]), count, lists)
        signed = raw[:1] + _without_signature(raw[1:], fields[-3:])
        call = fields[1], fields[to], fields[to + 1], fields[to + 2]
        return cls._of(raw, _number(fields[0]), call, signed, _number(fields[-3]), fields[-2:])

    @classmethod
    def _of(
        cls,
        raw: bytes,
        chain_id: int | None,
        call: tuple[bytes, bytes, bytes, bytes],
        signed: bytes,
        parity: int,
        signature: list[bytes],
    ) -> SignedTransaction:
        nonce, to, value, data = call
        r, s = (part.rjust(32, b"\0") for part in signature)
        sender = recover(keccak(signed), parity, r, s) if len(r) == len(s) == 32 else None
        if sender is None:
            raise ValueError("its signature is nobody's")
        if len(to) not in (0, 20):
            raise ValueError(f"it is sent to {len(to)} bytes, not to an account")
        receiver = Address("0x" + to.hex()) if to else None
        name = "0x" + keccak(raw).hex()
        return cls(name, chain_id, _number(nonce), receiver, _number(value), bytes(data), sender)


def _flat(fields: Any, count: int, lists: tuple[int, ...]) -> list[bytes]:
    """The fields of a transaction, so many, all of them bytes but those that are lists."""
    if not isinstance(fields, list | tuple) or len(fields) != count:
        raise ValueError(f"a transaction of its type has {count} fields")
    if any(isinstance(one, bytes) == (number in lists) for number, one in enumerate(fields)):
        raise ValueError("a field is a list, or is none, where it must not")
    return list(fields)


def _number(raw: bytes) -> int:
    if len(raw) > 32:
        raise ValueError(f"a number of {len(raw)} bytes")
    return int.from_bytes(raw, "big")


def _without_signature(raw: bytes, signature: list[bytes]) -> bytes:
    """The list `raw` without its last three items, without writing the others again."""
    start = 1 if raw[0] < 0xF8 else 1 + raw[0] - 0xF7
    body = raw[start : len(raw) - sum(len(rlp.encode(part)) for part in signature)]
    if len(body) < 56:
        return bytes((0xC0 + len(body),)) + body
    size = _integer(len(body))
    return bytes((0xF7 + len(size),)) + size + body


def _integer(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
