"""Entries: facts in their place, the head that commits to them, and the line that each is written as. Pure.

A *fact* is what one event of the contract says; an *entry* is a fact with its place: index, block, time, transaction.
A head is ``keccak256(abi.encode(head, kind, fields…, block, time))``, where the kind is the event's topic and the
fields are its data, byte for byte: a third party refolds the head from raw logs with keccak256 alone.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, get_type_hints

from eth_hash.auto import keccak

from ledger.cid import Cid
from ledger.documents import read_json
from ledger.facts import FACTS, KINDS, AbortReason, Address, Bytes32, ErasureReason, Fact, Name, Role

CONTRACT_VERSION = 1
MAX_CHAIN_ID = 1 << 53
"""Chain ids are below this: RFC 8785 knows no larger integers, and headers and manifests name the chain."""


@dataclass(frozen=True)
class Entry:
    """A fact in its place.

    Attributes:
        index: Position in the ledger, from 0.
        block: Number of the block that recorded it.
        time: That block's time, in seconds since 1970.
        transaction: Hash of the transaction, ``0x`` and 64 hex digits. Not part of the head.
    """

    index: int
    fact: Fact
    block: int
    time: int
    transaction: str


@dataclass(frozen=True)
class Genesis:
    """What the first head binds."""

    chain_id: int
    ledger: Address
    governor: Address
    charter: Cid

    def head(self) -> bytes:
        """The head of the ledger before its first entry (32 bytes)."""
        return keccak(
            _integer(CONTRACT_VERSION)
            + _integer(self.chain_id)
            + _address(self.ledger)
            + _address(self.governor)
            + _cid(self.charter)
        )


def extend(head: bytes, entry: Entry) -> bytes:
    """The head after `entry`, given the head before it (32 bytes each)."""
    kind, data = KINDS[type(entry.fact)], fact_data(entry.fact)
    return keccak(head + kind + data + _integer(entry.block) + _integer(entry.time))


def fact_data(fact: Fact) -> bytes:
    """What the fact's event has as data, its fields as ABI words; `fact_of` reads it back."""
    return words(fact, *_codecs(type(fact)))


def words(fact: Fact, *fields: str) -> bytes:
    """Some fields of a fact as ABI words, in the order given."""
    codecs = _codecs(type(fact))
    return b"".join(codecs[name].words(getattr(fact, name)) for name in fields)


def fact_of(kind: bytes, data: bytes) -> Fact:
    """The fact that an event says.

    Args:
        kind: The event's topics, of which an entry has one (32 bytes).
        data: The event's data.

    Raises:
        ValueError: If it is no event of a ledger.
    """
    fact = next((fact for fact, known in KINDS.items() if known == kind), None)
    if fact is None:
        raise ValueError(f"no event of a ledger has the topic 0x{kind.hex()}")
    fields, rest = {}, data
    try:
        for name, codec in _codecs(fact).items():
            fields[name] = codec.parse(rest[: codec.size])
            rest = rest[codec.size :]
        found = fact(**fields)
        same = fact_data(found) == data
    except (ValueError, OverflowError):
        same = False
    if not same:
        raise ValueError(f"not the data of {fact.__name__}: 0x{data.hex()}")
    return found


def to_line(entry: Entry, head: bytes) -> str:
    """One line of JSON for an entry and the head after it; ``from_line(to_line(e, h)) == (e, h)``."""
    row: dict[str, Any] = {"entry": entry.index, "kind": type(entry.fact).__name__}
    row |= {name: codec.show(getattr(entry.fact, name)) for name, codec in _codecs(type(entry.fact)).items()}
    row |= {"block": entry.block, "time": entry.time, "transaction": entry.transaction, "head": "0x" + head.hex()}
    return json.dumps(row, ensure_ascii=False)


def from_line(line: str) -> tuple[Entry, bytes]:
    """Read one line back.

    Raises:
        ValueError: If the line is anything but what `to_line` writes.
    """
    try:
        row = read_json(line)
        kind = FACTS[row["kind"]]
        fact = kind(**{name: codec.read(row[name]) for name, codec in _codecs(kind).items()})
        place = [_read_integer(row[name]) for name in ("entry", "block", "time")]
        entry = Entry(place[0], fact, place[1], place[2], row["transaction"])
        head = bytes.fromhex(row["head"][2:])
        same = to_line(entry, head) == line
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an entry's line: {error}") from None
    if not same or len(head) != 32 or not re.fullmatch("0x[0-9a-f]{64}", entry.transaction):
        raise ValueError("not an entry's line: a field is missing, unknown, or not in its usual form")
    return entry, head


# ------------------------------------------------------------- fields and their codecs


@dataclass(frozen=True)
class _Codec:
    words: Callable[[Any], bytes]
    """The field as ABI words."""
    parse: Callable[[bytes], Any]
    """The field from ABI words; raises ValueError, or gives a value with other words."""
    show: Callable[[Any], Any]
    """The field in JSON."""
    read: Callable[[Any], Any]
    """The field from JSON; raises ValueError or TypeError."""
    size: int = 32
    """Bytes of the ABI words."""


def _codecs(fact: type[Fact]) -> dict[str, _Codec]:
    return _FIELDS[fact]


def _integer(value: int) -> bytes:
    return int(value).to_bytes(32, "big")


def _address(value: Address) -> bytes:
    return bytes(12) + bytes.fromhex(value[2:])


def _cid(value: Cid | None) -> bytes:
    return value.digest + _integer(value.codec) if value else bytes(64)


def _parse_integer(words: bytes) -> int:
    return int.from_bytes(words, "big")


def _parse_cid(words: bytes) -> Cid:
    return Cid(words[:32], _parse_integer(words[32:]))


def _read_integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError(f"not a number of 64 bits: {value!r}")
    return value


def _read_bool(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError(f"not true or false: {value!r}")
    return value


def read_address(value: Any) -> Address:
    """An address in lower case.

    Raises:
        ValueError: If `value` is anything else.
    """
    if not (isinstance(value, str) and re.fullmatch("0x[0-9a-f]{40}", value)):
        raise ValueError(f"not an address in lower case: {value!r}")
    return Address(value)


def name_bytes(name: str) -> bytes:
    """A name as the contract takes it: UTF-8, padded with zeros to 32 bytes; inverse of `name_text`.

    Raises:
        ValueError: If it is empty, too long or has a NUL.
    """
    if name.startswith("0x") and len(name) == 66:
        return bytes.fromhex(name[2:])
    raw = name.encode()
    if not raw or len(raw) > 32 or b"\0" in raw:
        raise ValueError(f"a member's name has 1 to 32 bytes of UTF-8, without NUL: {name!r}")
    return raw.ljust(32, b"\0")


def name_text(raw: bytes) -> Name:
    """A name from its 32 bytes; where they are no UTF-8 (the contract cannot tell), their 64 hex digits."""
    text = raw.rstrip(b"\0").decode(errors="replace")
    try:
        readable = name_bytes(text) == raw
    except ValueError:
        readable = False
    return Name(text if readable else "0x" + raw.hex())


def _read_name(value: Any) -> Name:
    if name_text(name_bytes(value)) != value or not any(name_bytes(value)):
        raise ValueError(f"not a member's name: {value!r}")
    return Name(value)


def _read_bytes32(value: Any) -> Bytes32:
    if not (isinstance(value, str) and value[:2] == "0x" and len(raw := bytes.fromhex(value[2:])) == 32):
        raise ValueError(f"not 32 bytes: {value!r}")
    return Bytes32(raw)


def _reader(kind: type[IntEnum]) -> Callable[[Any], IntEnum]:
    return lambda value: kind[value.upper()]


def _show_roles(value: Role) -> list[str]:
    return [role.name.lower() for role in value if role.name]


def _read_roles(value: Any) -> Role:
    roles = Role(0)
    for name in value:
        roles |= Role[name.upper()]
    return roles


_CODECS: dict[Any, _Codec] = {
    int: _Codec(_integer, _parse_integer, int, _read_integer),
    bool: _Codec(_integer, any, bool, _read_bool),
    Cid: _Codec(_cid, _parse_cid, str, Cid.parse, 64),
    Cid | None: _Codec(
        _cid,
        lambda words: _parse_cid(words) if any(words) else None,
        lambda cid: str(cid) if cid else None,
        lambda value: None if value is None else Cid.parse(value),
        64,
    ),
    Address: _Codec(_address, lambda words: "0x" + words[12:].hex(), str, read_address),
    Name: _Codec(name_bytes, name_text, str, _read_name),
    Role: _Codec(_integer, lambda words: Role(_parse_integer(words) & 7), _show_roles, _read_roles),
    Bytes32: _Codec(bytes, bytes, lambda value: "0x" + value.hex(), _read_bytes32),
    Bytes32 | None: _Codec(
        lambda value: value or bytes(32),
        lambda words: words if any(words) else None,
        lambda value: "0x" + value.hex() if value else None,
        lambda value: None if value is None else _read_bytes32(value),
    ),
    AbortReason: _Codec(
        _integer,
        lambda words: AbortReason(_parse_integer(words)),
        lambda reason: reason.name.lower(),
        _reader(AbortReason),
    ),
    ErasureReason: _Codec(
        _integer,
        lambda words: ErasureReason(_parse_integer(words)),
        lambda reason: reason.name.lower(),
        _reader(ErasureReason),
    ),
}
_FIELDS: dict[type[Fact], dict[str, _Codec]] = {
    fact: {field.name: _CODECS[get_type_hints(fact)[field.name]] for field in dataclasses.fields(fact)}
    for fact in FACTS.values()
}
