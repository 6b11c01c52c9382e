"""Entries: one line each, and a head that anyone can refold with keccak256 alone."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode as abi_encode
from eth_hash.auto import keccak

from ledger.chain.artifact import artifact
from ledger.cid import DAG_PB, RAW, Cid
from ledger.entries import (
    Entry,
    Genesis,
    extend,
    fact_data,
    fact_of,
    from_line,
    name_bytes,
    name_text,
    to_line,
)
from ledger.facts import FACTS as NAMES
from ledger.facts import (
    KINDS,
    AbortReason,
    AccountOffered,
    AccountReplaced,
    AccountTaken,
    Address,
    AttestationRecorded,
    Bytes32,
    CharterAccepted,
    CharterChanged,
    ErasureReason,
    ErasureRecorded,
    Fact,
    GenesisRecorded,
    GovernanceOffered,
    GovernanceTaken,
    GrantRecorded,
    MemberAdmitted,
    Name,
    Role,
    RolesChanged,
    RoundAborted,
    RoundOpened,
    RoundSettled,
    UpdateRecorded,
)

GOLDEN = Path(__file__).parent / "golden" / "entries.jsonl"
A, B = Cid(bytes(range(32)), RAW), Cid(bytes(range(32, 64)), DAG_PB)
ACCOUNT = Address("0x" + "a1" * 20)
GENESIS = Genesis(1337, Address("0x" + "c0" * 20), Address("0x" + "d0" * 20), A)
OTHER = Address("0x" + "b2" * 20)
KEY = Bytes32(bytes(range(64, 96)))
FACTS: list[Fact] = [
    GovernanceOffered(ACCOUNT),
    GovernanceTaken(ACCOUNT),
    CharterChanged(2, B),
    MemberAdmitted(1, ACCOUNT, Role.PARTICIPANT | Role.AUDITOR, Name("Zürich")),
    RolesChanged(1, Role(0)),
    CharterAccepted(1, B, KEY, ACCOUNT),
    AccountOffered(1, OTHER),
    AccountTaken(1, OTHER),
    AccountReplaced(1, ACCOUNT),
    GenesisRecorded(A),
    RoundOpened(1, 5, A, 0, B, 1_700_000_600, 86_400, 3, 1, 0, False),
    UpdateRecorded(1, 1, B, None, 212, ACCOUNT),
    UpdateRecorded(1, 2, B, KEY, 212, OTHER),
    RoundSettled(1, 5, A, B, 3),
    AttestationRecorded(1, 6, True, A),
    ErasureRecorded(1, 1, KEY, ErasureReason.REQUEST, ACCOUNT),
    RoundAborted(2, 5, AbortReason.QUORUM, B, ACCOUNT),
    RoundAborted(3, 0, AbortReason.EXPIRED, None, OTHER),
    GrantRecorded(5, 6, 1, 2, B),
]


def history() -> list[tuple[Entry, bytes]]:
    head, rows = GENESIS.head(), []
    for index, fact in enumerate(FACTS):
        entry = Entry(index, fact, 100 + index, 1_700_000_000 + index, "0x" + f"{index:02x}" * 32)
        head = extend(head, entry)
        rows.append((entry, head))
    return rows


def test_the_lines_of_all_kinds_are_the_golden_ones() -> None:
    assert [to_line(entry, head) for entry, head in history()] == GOLDEN.read_text(encoding="utf-8").splitlines()


def test_every_kind_of_entry_has_a_golden_line() -> None:
    assert {type(fact).__name__ for fact in FACTS} == set(NAMES)


def test_reading_a_line_gives_back_the_entry_and_its_head() -> None:
    for entry, head in history():
        assert from_line(to_line(entry, head)) == (entry, head)


def test_the_first_head_is_the_keccak256_of_what_the_ledger_is() -> None:
    types = ["uint256", "uint256", "address", "address", "bytes32", "uint8"]
    values = [1, GENESIS.chain_id, GENESIS.ledger, GENESIS.governor, A.digest, A.codec]
    assert GENESIS.head() == keccak(abi_encode(types, values))


def test_a_head_is_the_keccak256_of_the_abi_encoded_entry_after_the_head_before_it() -> None:
    fact = RoundOpened(1, 5, A, 0, B, 1_700_000_600, 86_400, 3, 1, 0, True)
    entry = Entry(0, fact, 9, 1_700_000_000, "0x" + "00" * 32)
    types = ["bytes32", "bytes32", "uint32", "uint16", "bytes32", "uint8", "uint32", "bytes32", "uint8"]
    types += ["uint40", "uint32", "uint16", "uint16", "uint16", "bool", "uint256", "uint256"]
    values: list[Any] = [
        bytes(32),
        keccak(f"RoundOpened({fact.FIELDS})".encode()),
        1,
        5,
        A.digest,
        A.codec,
        0,
        B.digest,
        B.codec,
    ]
    values += [1_700_000_600, 86_400, 3, 1, 0, True, 9, 1_700_000_000]
    assert extend(bytes(32), entry) == keccak(abi_encode(types, values))


def test_the_kinds_are_the_topics_of_the_contracts_events() -> None:
    events = {item["name"]: item["inputs"] for item in artifact().abi if item["type"] == "event"}
    topics = {
        keccak(f"{name}({','.join(map(_abi_type, inputs))})".encode()): [field["name"] for field in inputs]
        for name, inputs in events.items()
    }
    names = {kind: [_camel_case(field.name) for field in dataclasses.fields(fact)] for fact, kind in KINDS.items()}
    assert names == topics


def _abi_type(field: dict[str, Any]) -> str:
    return f"({','.join(map(_abi_type, field['components']))})" if field["type"] == "tuple" else field["type"]


def _camel_case(name: str) -> str:
    return re.sub(r"_(.)", lambda match: match[1].upper(), name)


def test_a_fact_is_read_back_from_its_log() -> None:
    for fact in FACTS:
        assert fact_of(KINDS[type(fact)], fact_data(fact)) == fact


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"", b""),
        (bytes(32), b""),
        (KINDS[GovernanceOffered] + KINDS[GovernanceOffered], fact_data(FACTS[0])),
        (KINDS[GovernanceOffered], b""),
        (KINDS[GovernanceOffered], b"\xff" * 32),
        (KINDS[GovernanceOffered], fact_data(FACTS[0]) + bytes(32)),
        (KINDS[GenesisRecorded], bytes(64)),
        (KINDS[RolesChanged], fact_data(FACTS[4])[:-1] + b"\x08"),
        (KINDS[AttestationRecorded], fact_data(FACTS[14])[:95] + b"\x02" + fact_data(FACTS[14])[96:]),
        (KINDS[RoundAborted], fact_data(FACTS[16])[:95] + b"\x04" + fact_data(FACTS[16])[96:]),
    ],
)
def test_a_log_that_no_ledger_emits_is_refused(kind: bytes, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^not the data of|^no event of a ledger"):
        fact_of(kind, data)


def _edited(fact: Fact, field: str, value: Any) -> Fact:
    return type(fact)(**(vars(fact) | {field: value}))


def test_every_field_of_every_fact_changes_the_head() -> None:
    for entry, head in history():
        before = history()[entry.index - 1][1] if entry.index else GENESIS.head()
        changed = [
            dataclasses.replace(entry, block=entry.block + 1),
            dataclasses.replace(entry, time=entry.time + 1),
        ]
        for field in dataclasses.fields(entry.fact):
            other = _another(getattr(entry.fact, field.name), field.name)
            changed.append(dataclasses.replace(entry, fact=_edited(entry.fact, field.name, other)))
        heads = [extend(before, other) for other in changed]
        assert head not in heads
        assert len(set(heads)) == len(heads)


def _another(value: Any, field: str) -> Any:
    """Another value of the same type."""
    match value:
        case None:
            return KEY if field == "key_blob" else A
        case bool():
            return not value
        case AbortReason():
            return AbortReason.CANCELLED
        case ErasureReason():
            return ErasureReason.MISTAKE
        case Role():
            return Role.AGGREGATOR
        case Cid():
            return A if value == B else B
        case bytes():
            return bytes(31) + b"1"
        case str() if value.startswith("0x"):
            return GENESIS.ledger
        case str():
            return value + "!"
    return value + 1


@pytest.mark.parametrize(
    "change",
    [
        {"entry": -1},
        {"entry": True},
        {"member": "1"},
        {"member": 1.0},
        {"member": 1 << 64},
        {"kind": "Nothing"},
        {"account": "0xA1" + "a1" * 19},
        {"account": "0x12"},
        {"roles": ["auditor", "participant"]},
        {"roles": ["king"]},
        {"name": ""},
        {"name": "x" * 33},
        {"name": "a\0b"},
        {"head": "0x00"},
        {"block": None},
        {"more": 1},
    ],
)
def test_a_line_in_any_other_form_is_refused(change: dict[str, Any]) -> None:
    row = json.loads(to_line(*history()[3])) | change
    with pytest.raises(ValueError, match="not an entry's line"):
        from_line(json.dumps(row, ensure_ascii=False))


@pytest.mark.parametrize("line", ["", "[]", "null", "{}", "[" * 100_000, '{"kind": []}', "{'a': 1}"])
def test_a_line_that_is_no_entry_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not an entry's line"):
        from_line(line)


def test_a_line_with_a_field_missing_or_other_spacing_is_refused() -> None:
    line = to_line(*history()[11])
    row = json.loads(line)
    del row["weight"]
    for other in (json.dumps(row), line.replace(": ", ":"), line + " ", line.replace("{", '{"entry": 11, ', 1)):
        with pytest.raises(ValueError, match="not an entry's line"):
            from_line(other)


@pytest.mark.parametrize("raw", [b"Site".ljust(32, b"\0"), b"\xff" * 32, b"a\0b".ljust(32, b"\0"), "é".encode() * 16])
def test_every_name_that_a_contract_can_hold_is_written_and_read_back(raw: bytes) -> None:
    assert name_bytes(name_text(raw)) == raw
