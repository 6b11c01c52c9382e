"""The corpus of frauds on what is kept of a history: each has a name, a way to play it, and the check that catches it.

Frauds of aggregators, nodes and bundles, which need a chain or a bundle, are in their own files beside this one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rlp
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.audit.origin import Claims
from ledger.audit.report import Report, Verdict
from ledger.chain.signing import sign_update
from ledger.cid import cid_of
from ledger.entries import Entry, extend, from_line, to_line
from ledger.facts import Bytes32
from ledger.receipts import Remembered
from ledger.updates import MODEL_HEADER, encode
from tests.world import SCHEMA, tensors


@dataclass
class Scene:
    """A copy of a true history's folder, for a fraud to be played on, and what an honest auditor knows.

    Attributes:
        folder: The folder.
        entries: Its entries, each with the head after it; `write` puts changed ones back.
        head: The true head.
        claims: What the auditor knows from elsewhere.
    """

    folder: Path
    entries: list[Remembered] = field(default_factory=list)
    claims: Claims = field(default_factory=Claims)

    def __post_init__(self) -> None:
        self.entries = list(read_folder(self.folder).entries)
        self.true = list(self.entries)

    def blob(self, cid: str) -> Path:
        return self.folder / "blobs" / cid

    def row(self, kind: str, nth: int = 0, **fields: Any) -> int:
        """The place of the nth entry of a kind, with these fields."""
        found = [
            at
            for at, (entry, _) in enumerate(self.true)
            if type(entry.fact).__name__ == kind
            and all(getattr(entry.fact, name) == value for name, value in fields.items())
        ]
        return found[nth]

    def write(self, rows: list[str] | None = None, head: bytes | None = None) -> None:
        """Write the entries back; with `head`, the one that the folder records, too."""
        lines = rows if rows is not None else [to_line(*pair) for pair in self.entries]
        (self.folder / "entries.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        if head is not None:
            path = self.folder / "ledger.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"head": "0x" + head.hex()}))

    def rewrite(self, entries: list[Entry]) -> None:
        """Make all heads and indexes fit these entries: a history that is consistent with itself."""
        head, forged = read_folder(self.folder).genesis.head(), []
        for index, entry in enumerate(entries):
            moved = Entry(index, entry.fact, entry.block, entry.time, entry.transaction)
            head = extend(head, moved)
            forged.append((moved, head))
        self.entries = forged
        self.write(head=head)

    def edited(self, at: int, **changes: Any) -> Entry:
        """An entry with fields of its line changed."""
        entry, head = self.true[at]
        return from_line(json.dumps(json.loads(to_line(entry, head)) | changes, ensure_ascii=False))[0]

    def transactions(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "transactions.jsonl").read_text().splitlines()]

    def write_transactions(self, rows: list[dict[str, Any]]) -> None:
        (self.folder / "transactions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def resign(self, at: int, account: LocalAccount, **changes: Any) -> None:
        """Put another signed transaction, of `account`, in the place of an entry's own."""
        entry, rows = self.true[at][0], self.transactions()
        raw = bytes.fromhex(next(row["raw"] for row in rows if row["transaction"] == entry.transaction)[2:])
        fields = decoded(raw) | {"nonce": 10_000} | changes
        signed = account.sign_transaction(fields)
        for row in rows:
            if row["transaction"] == entry.transaction:
                row |= {
                    "transaction": "0x" + bytes(signed.hash).hex(),
                    "raw": "0x" + bytes(signed.raw_transaction).hex(),
                }
        self.write_transactions(rows)
        self.entries[at] = (
            Entry(entry.index, entry.fact, entry.block, entry.time, "0x" + bytes(signed.hash).hex()),
            self.entries[at][1],
        )
        self.write()

    def know_head(self) -> None:
        self.claims = Claims(head=self.true[-1][1])

    def know_receipts(self) -> None:
        self.claims = Claims(receipts=(("a member's receipts", tuple(self.true)),))

    def audit(self) -> Report:
        return audit(read_folder(self.folder), self.claims)


@dataclass(frozen=True)
class Fraud:
    """One fraud.

    Attributes:
        group: Who commits it, or on what.
        name: What it is.
        check: The number of the check that catches it.
        verdict: What that check then says.
        play: Plays it, and gives what the finding must name.
    """

    group: str
    name: str
    check: int
    verdict: Verdict
    play: Callable[[Scene], list[str]]


def account(name: str) -> LocalAccount:
    """An account of the recorded world."""
    made: LocalAccount = Account.from_key(keccak(name.encode()))
    return made


def decoded(raw: bytes) -> dict[str, Any]:
    """The fields of a transaction of type 2, to be signed again."""
    values = rlp.decode(raw[1:])
    names = ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas")
    fields: dict[str, Any] = {name: int.from_bytes(value, "big") for name, value in zip(names, values, strict=False)}
    return fields | {"type": 2, "to": to_checksum_address(values[5]), "value": 0, "data": values[7]}


# ---------------------------------------------------------------------- storage


def _blobs(scene: Scene) -> dict[str, tuple[str, list[str]]]:
    """A blob of every kind, and what a finding about it must name."""
    settled = scene.true[scene.row("RoundSettled")][0].fact
    opened = scene.true[scene.row("RoundOpened")][0].fact
    rejected = scene.true[scene.row("UpdateRecorded", round=3, member=3)][0].fact
    direct = scene.true[scene.row("UpdateRecorded", round=1, member=1)][0].fact
    relayed = scene.true[scene.row("UpdateRecorded", round=1, member=3)][0].fact
    report = scene.true[scene.row("AttestationRecorded")][0].fact
    grant = scene.true[scene.row("GrantRecorded")][0].fact
    genesis = read_folder(scene.folder).genesis
    named: dict[str, tuple[Any, list[str]]] = {
        "the charter": (genesis.charter, ["charter, version 1"]),
        "the second charter": (scene.true[scene.row("CharterChanged")][0].fact.charter, ["charter, version 2"]),  # type: ignore[union-attr]
        "the genesis model": (opened.base, ["genesis model"]),  # type: ignore[union-attr]
        "the plan": (opened.plan, ["round 1", "plan of round 1"]),  # type: ignore[union-attr]
        "an update": (direct.update, ["round 1", "member 1 (Site 1, 0x"]),  # type: ignore[union-attr]
        "a relayed update": (relayed.update, ["round 1", "member 3 (Site 3, 0x"]),  # type: ignore[union-attr]
        "an excluded update": (rejected.update, ["round 3", "member 3 (Site 3, 0x"]),  # type: ignore[union-attr]
        "the model": (settled.model, ["round 1", "model of round 1"]),  # type: ignore[union-attr]
        "the manifest": (settled.manifest, ["round 1", "manifest of round 1"]),  # type: ignore[union-attr]
        "a report": (report.report, ["round 1", "member 5 (Auditor, 0x"]),  # type: ignore[union-attr]
        "a grant": (grant.keys, ["grant by member 4 (Aggregator, 0x"]),  # type: ignore[union-attr]
    }
    return {name: (str(cid), [*words, str(cid)]) for name, (cid, words) in named.items()}


TENSORS = ("the genesis model", "an update", "a relayed update", "the model")
TEXTS = ("the charter", "the second charter", "the plan", "the manifest", "a report", "a grant", "an excluded update")


def _flip(blob: bytes, at: int) -> bytes:
    return blob[:at] + bytes((blob[at] ^ 0x20,)) + blob[at + 1 :]


def _header_end(blob: bytes) -> int:
    return 8 + int.from_bytes(blob[:8], "little")


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short by a byte": lambda blob: blob[:-1],
    "cut down to half": lambda blob: blob[: len(blob) // 2],
    "emptied": lambda blob: b"",
    "with a byte more": lambda blob: blob + b"\0",
}
TENSOR_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit in the header's length": lambda blob: _flip(blob, 0),
    "a flipped bit in the header": lambda blob: _flip(blob, 12),
    "a flipped bit in the padding": lambda blob: _flip(blob, _header_end(blob) - 1),
    "a flipped bit in the first value": lambda blob: _flip(blob, _header_end(blob)),
    "a flipped bit in the last value": lambda blob: _flip(blob, len(blob) - 1),
    "other values, well formed": lambda blob: encode(MODEL_HEADER, SCHEMA, tensors(7)),
}
TEXT_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit at the start": lambda blob: _flip(blob, 0),
    "a flipped bit in the middle": lambda blob: _flip(blob, len(blob) // 2),
    "a flipped bit at the end": lambda blob: _flip(blob, len(blob) - 1),
}


def _storage() -> Iterator[Fraud]:
    for what in (*TENSORS, *TEXTS):
        for how, change in (CHANGES | (TENSOR_CHANGES if what in TENSORS else TEXT_CHANGES)).items():
            yield Fraud("storage", f"{what}: {how}", 6, Verdict.VIOLATED, _changed(what, change))
        if what != "an excluded update":  # that one is erased by record
            yield Fraud("storage", f"{what}: missing", 6, Verdict.INCOMPLETE, _gone(what))
        other = "an update" if what != "an update" else "a relayed update"
        yield Fraud("storage", f"{what}: swapped with {other}", 6, Verdict.VIOLATED, _swapped(what, other))


def _changed(what: str, change: Callable[[bytes], bytes]) -> Callable[[Scene], list[str]]:
    def play(scene: Scene) -> list[str]:
        cid, named = _blobs(scene)[what]
        before = scene.blob(cid).read_bytes()
        after = change(before)
        assert before != after
        scene.blob(cid).write_bytes(after)
        return ["mismatched", *named]

    return play


def _gone(what: str) -> Callable[[Scene], list[str]]:
    def play(scene: Scene) -> list[str]:
        cid, named = _blobs(scene)[what]
        scene.blob(cid).unlink()
        return ["missing", *named]

    return play


def _swapped(what: str, other: str) -> Callable[[Scene], list[str]]:
    def play(scene: Scene) -> list[str]:
        (first, named), (second, _) = _blobs(scene)[what], _blobs(scene)[other]
        contents = scene.blob(first).read_bytes(), scene.blob(second).read_bytes()
        scene.blob(first).write_bytes(contents[1])
        scene.blob(second).write_bytes(contents[0])
        return ["mismatched", *named]

    return play


# ---------------------------------------------------------------------- entries

ANOTHER = {
    "address": "0x" + "12" * 20,
    "cid": str(cid_of(b"another")),
    "bytes32": "0x" + "34" * 32,
}
EDITS: dict[str, dict[str, Any]] = {
    "GovernanceOffered": {"account": ANOTHER["address"]},
    "GovernanceTaken": {"governor": ANOTHER["address"]},
    "CharterChanged": {"version": 3, "charter": ANOTHER["cid"]},
    "MemberAdmitted": {"member": 9, "account": ANOTHER["address"], "roles": ["auditor"], "name": "Another"},
    "RolesChanged": {"member": 1, "roles": ["auditor"]},
    "CharterAccepted": {
        "member": 2,
        "charter": ANOTHER["cid"],
        "age_key": ANOTHER["bytes32"],
        "sender": ANOTHER["address"],
    },
    "AccountOffered": {"member": 1, "account": ANOTHER["address"]},
    "AccountTaken": {"member": 1, "account": ANOTHER["address"]},
    "AccountReplaced": {"member": 1, "account": ANOTHER["address"]},
    "GenesisRecorded": {"model": ANOTHER["cid"]},
    "RoundOpened": {
        "round": 2,
        "aggregator": 1,
        "plan": ANOTHER["cid"],
        "base_round": 1,
        "base": ANOTHER["cid"],
        "deadline": 1 << 39,
        "grace": 1,
        "quorum": 1,
        "approvals": 0,
        "rejections": 1,
        "participants_attest": True,
    },
    "UpdateRecorded": {
        "round": 2,
        "member": 2,
        "update": ANOTHER["cid"],
        "key_blob": ANOTHER["bytes32"],
        "weight": 1000,
        "sender": ANOTHER["address"],
    },
    "RoundSettled": {
        "round": 2,
        "aggregator": 1,
        "model": ANOTHER["cid"],
        "manifest": ANOTHER["cid"],
        "counted": 2,
    },
    "RoundAborted": {
        "round": 3,
        "aggregator": 1,
        "reason": "cancelled",
        "manifest": ANOTHER["cid"],
        "sender": ANOTHER["address"],
    },
    "AttestationRecorded": {"round": 3, "member": 1, "approve": False, "report": ANOTHER["cid"]},
    "ErasureRecorded": {
        "round": 1,
        "member": 2,
        "digest": ANOTHER["bytes32"],
        "reason": "request",
        "sender": ANOTHER["address"],
    },
    "GrantRecorded": {"member": 5, "to": 1, "first": 2, "last": 4, "keys": ANOTHER["cid"]},
}
BY_THE_RULES = {
    ("GovernanceTaken", "governor"),
    ("CharterChanged", "version"),
    ("MemberAdmitted", "member"),
    ("CharterAccepted", "charter"),
    ("AccountTaken", "member"),
    ("AccountTaken", "account"),
    ("RoundOpened", "round"),
    ("RoundOpened", "aggregator"),
    ("RoundOpened", "base_round"),
    ("RoundOpened", "base"),
    ("UpdateRecorded", "round"),
    ("RoundSettled", "round"),
    ("RoundSettled", "aggregator"),
    ("RoundAborted", "round"),
    ("RoundAborted", "aggregator"),
    ("RoundAborted", "reason"),
    ("AttestationRecorded", "round"),
    ("AttestationRecorded", "member"),
    ("ErasureRecorded", "member"),
    ("ErasureRecorded", "sender"),
    ("GrantRecorded", "last"),
}
"""Edits that the contract's rules rule out; the others are caught since their author did not sign them."""


def _entries() -> Iterator[Fraud]:
    for kind in EDITS:
        yield Fraud("entries", f"{kind} dropped", 2, Verdict.VIOLATED, _dropped(kind))
        yield Fraud("entries", f"{kind} dropped, and all heads made to fit", 2, Verdict.VIOLATED, _rewritten(kind))
        yield Fraud("entries", f"{kind} repeated", 2, Verdict.VIOLATED, _repeated(kind))
        for name, value in EDITS[kind].items():
            check = 5 if (kind, name) in BY_THE_RULES else 3
            play = _edited(kind, name, value)
            yield Fraud("entries", f"{kind}.{name} edited, and all heads made to fit", check, Verdict.VIOLATED, play)
    for name in ("block", "time"):
        yield Fraud("entries", f"{name} edited, and all heads made to fit", 2, Verdict.VIOLATED, _moved(name))
    yield Fraud("entries", "an entry's line is garbage", 2, Verdict.VIOLATED, _garbage)
    yield Fraud("entries", "the head after an entry edited", 2, Verdict.VIOLATED, _other_head)
    yield Fraud("entries", "two entries swapped", 2, Verdict.VIOLATED, _swapped_entries)
    yield Fraud("entries", "the last entries dropped, and the head made to fit", 2, Verdict.VIOLATED, _cut)
    yield Fraud("entries", "an update invented, and all heads made to fit", 3, Verdict.VIOLATED, _invented)
    yield Fraud("entries", "rewritten from the first entry on", 4, Verdict.VIOLATED, _forked(0))
    yield Fraud("entries", "rewritten from the middle on", 4, Verdict.VIOLATED, _forked(22))
    yield Fraud("entries", "rewritten from the last entry on", 4, Verdict.VIOLATED, _forked(44))
    for name in ("chain_id", "ledger", "governor", "charter"):
        yield Fraud("entries", f"another ledger's: {name} edited", 2, Verdict.VIOLATED, _other_ledger(name))


def _dropped(kind: str) -> Callable[[Scene], list[str]]:
    def play(scene: Scene) -> list[str]:
        at = scene.row(kind)
        del scene.entries[at]
        scene.write()
        return [f"entry {at} is missing before it", f"entry {at + 1}"]

    return play


def _rewritten(kind: str) -> Callable[[Scene], list[str]]:
    def play(scene: Scene) -> list[str]:
        at = scene.row(kind)
        scene.rewrite([entry for number, (entry, _) in enumerate(scene.true) if number != at])
        scene.know_head()
        return ["no entry leads to the head given", scene.true[-1][1].hex(), scene.entries[-1][1].hex()]

    return play


def _repeated(kind: str) -> Callable[[Scene], list[str]]:
    def play(scene: Scene) -> list[str]:
        at = scene.row(kind)
        scene.entries.insert(at, scene.entries[at])
        scene.write()
        return [f"entry {at}", "it stands there a second time"]

    return play


def _edited(kind: str, name: str, value: Any) -> Callable[[Scene], list[str]]:
    def play(scene: Scene) -> list[str]:
        at = scene.row(kind)
        entry = scene.edited(at, **{name: value})
        assert entry != scene.true[at][0]
        scene.rewrite([entry if number == at else other for number, (other, _) in enumerate(scene.true)])
        return [f"entry {at}", f"block {entry.block}"]

    return play


def _moved(name: str) -> Callable[[Scene], list[str]]:
    def play(scene: Scene) -> list[str]:
        entries = [entry for entry, _ in scene.true]
        entries[-1] = scene.edited(len(entries) - 1, **{name: getattr(entries[-1], name) + 1})
        scene.rewrite(entries)
        scene.know_head()
        return ["no entry leads to the head given"]

    return play


def _garbage(scene: Scene) -> list[str]:
    rows = [to_line(*pair) for pair in scene.true]
    rows[5] = "nonsense"
    scene.write(rows)
    return ["line 6 of entries.jsonl"]


def _other_head(scene: Scene) -> list[str]:
    scene.entries[7] = (scene.true[7][0], bytes(32))
    scene.write()
    return ["entry 7", "it does not lead from the head before it to the head after it"]


def _swapped_entries(scene: Scene) -> list[str]:
    scene.entries[8:10] = scene.true[9], scene.true[8]
    scene.write()
    return ["entry 8 is not in its place", "entry 9"]


def _cut(scene: Scene) -> list[str]:
    scene.rewrite([entry for entry, _ in scene.true[:-4]])
    scene.know_head()
    return ["no entry leads to the head given", scene.true[-1][1].hex()]


def _invented(scene: Scene) -> list[str]:
    last = scene.true[-1][0]
    invented = scene.edited(len(scene.true) - 1, member=3, update=ANOTHER["cid"])
    scene.rewrite([*(entry for entry, _ in scene.true), invented])
    return [f"entry {last.index + 1}", "member 3 (Site 3, 0x", ANOTHER["cid"], "does not ask for this"]


def _forked(at: int) -> Callable[[Scene], list[str]]:
    def play(scene: Scene) -> list[str]:
        entries = [entry for entry, _ in scene.true]
        entries[at:] = [Entry(one.index, one.fact, one.block, one.time + 1, one.transaction) for one in entries[at:]]
        scene.rewrite(entries)
        scene.know_receipts()
        last = f"entry {at - 1}" if at else "no entry"
        return [f"last entry in common is {last}", f"entry {at}", scene.true[at][1].hex(), scene.entries[at][1].hex()]

    return play


def _other_ledger(name: str) -> Callable[[Scene], list[str]]:
    def play(scene: Scene) -> list[str]:
        path = scene.folder / "ledger.json"
        document = json.loads(path.read_text())
        others = {"chain_id": document["chain_id"] + 1, "charter": ANOTHER["cid"]}
        path.write_text(json.dumps(document | {name: others.get(name, ANOTHER["address"])}))
        return ["entry 0", "it does not lead from the head before it"]

    return play


# ---------------------------------------------------------------------- authors


def _authors() -> Iterator[Fraud]:
    yield Fraud("authors", "an update signed by another member", 3, Verdict.VIOLATED, _signed_by("participant 1", 2))
    yield Fraud("authors", "an update signed by a stranger", 3, Verdict.VIOLATED, _signed_by("stranger", 1))
    yield Fraud(
        "authors", "an update signed with a key that was rotated", 3, Verdict.VIOLATED, _signed_by("participant 2", 2)
    )
    yield Fraud("authors", "a settlement signed by a participant", 3, Verdict.VIOLATED, _settled_by)
    yield Fraud("authors", "an admission signed by the governor before", 3, Verdict.VIOLATED, _admitted_by)
    yield Fraud("authors", "a relayed update that another member signed", 3, Verdict.VIOLATED, _relayed(_by_another))
    yield Fraud("authors", "a relayed update signed for another history", 3, Verdict.VIOLATED, _relayed(_other_history))
    yield Fraud("authors", "a relayed update with a signature of nobody", 3, Verdict.VIOLATED, _relayed(_nobody))
    yield Fraud("authors", "signed for another chain", 3, Verdict.VIOLATED, _other_chain)
    yield Fraud("authors", "sent to another contract", 3, Verdict.INCOMPLETE, _other_contract)
    yield Fraud("authors", "a flipped bit in a signed transaction", 3, Verdict.VIOLATED, _flipped_transaction)
    yield Fraud("authors", "garbage for a signed transaction", 3, Verdict.VIOLATED, _garbage_transaction)
    yield Fraud("authors", "a signed transaction missing", 3, Verdict.INCOMPLETE, _missing_transaction)
    yield Fraud("authors", "all signed transactions missing", 3, Verdict.INCOMPLETE, _no_transactions)
    yield Fraud("authors", "an entry that names another's transaction", 3, Verdict.VIOLATED, _other_transaction)
    yield Fraud("authors", "one transaction for two entries", 3, Verdict.VIOLATED, _twice)
    yield Fraud("authors", "a relayed update far from its transaction's others", 3, Verdict.VIOLATED, _apart)
    yield Fraud("authors", "an account's transactions out of their order", 3, Verdict.VIOLATED, _out_of_order)


def _signed_by(name: str, member: int) -> Callable[[Scene], list[str]]:
    def play(scene: Scene) -> list[str]:
        at = scene.row("UpdateRecorded", round=1, member=member)
        scene.resign(at, account(name))
        found = account(name).address.lower()
        return ["round 1", f"entry {at}", f"member {member} (Site {member}, 0x", found]

    return play


def _settled_by(scene: Scene) -> list[str]:
    at = scene.row("RoundSettled")
    scene.resign(at, account("participant 1"))
    return [f"entry {at}", "member 4 (Aggregator, 0x", account("participant 1").address.lower()]


def _admitted_by(scene: Scene) -> list[str]:
    at = scene.row("MemberAdmitted", nth=-1)
    scene.resign(at, account("governor"))
    return [f"entry {at}", "is not the governor", account("governor").address.lower()]


def _relayed(signature: Callable[[Scene, int], tuple[bytes, bytes]]) -> Callable[[Scene], list[str]]:
    def play(scene: Scene) -> list[str]:
        at = scene.row("UpdateRecorded", round=1, member=3)
        entry = scene.true[at][0]
        raw = next(row["raw"] for row in scene.transactions() if row["transaction"] == entry.transaction)
        data = decoded(bytes.fromhex(raw[2:]))["data"]
        r, vs = signature(scene, at)
        scene.resign(at, account("aggregator"), data=data[:228] + r + vs)
        return ["round 1", f"entry {at}", "member 3 (Site 3, 0x", "its member did not sign it"]

    return play


def _signature(scene: Scene, at: int, name: str, opening: bytes) -> tuple[bytes, bytes]:
    fact: Any = scene.true[at][0].fact
    genesis = read_folder(scene.folder).genesis
    signed = sign_update(account(name), genesis, fact.round, opening, fact.update, fact.weight)
    return signed.r, signed.vs


def _by_another(scene: Scene, at: int) -> tuple[bytes, bytes]:
    return _signature(scene, at, "participant 1", scene.true[scene.row("RoundOpened")][1])


def _other_history(scene: Scene, at: int) -> tuple[bytes, bytes]:
    return _signature(scene, at, "participant 3", Bytes32(b"\x01" * 32))


def _nobody(scene: Scene, at: int) -> tuple[bytes, bytes]:
    return b"\xff" * 32, b"\x01" * 32


def _other_chain(scene: Scene) -> list[str]:
    at = scene.row("UpdateRecorded", round=1, member=1)
    scene.resign(at, account("participant 1"), chainId=1)
    return [f"entry {at}", "signed for another chain", "found 1"]


def _other_contract(scene: Scene) -> list[str]:
    at = scene.row("UpdateRecorded", round=1, member=1)
    scene.resign(at, account("stranger"), to=to_checksum_address("0x" + "56" * 20))
    return [f"entry {at}", "member 1 (Site 1, 0x", "through the contract 0x" + "56" * 20, "not provable by a signature"]


def _flipped_transaction(scene: Scene) -> list[str]:
    at = scene.row("UpdateRecorded", round=1, member=1)
    rows = scene.transactions()
    row = next(row for row in rows if row["transaction"] == scene.true[at][0].transaction)
    row["raw"] = row["raw"][:-1] + ("0" if row["raw"][-1] != "0" else "1")
    scene.write_transactions(rows)
    return [f"entry {at}", "member 1 (Site 1, 0x", scene.true[at][0].transaction]


def _garbage_transaction(scene: Scene) -> list[str]:
    at = scene.row("UpdateRecorded", round=1, member=1)
    rows = scene.transactions()
    next(row for row in rows if row["transaction"] == scene.true[at][0].transaction)["raw"] = "0x02c0ffee"
    scene.write_transactions(rows)
    return [f"entry {at}", "member 1 (Site 1, 0x", "not a signed transaction"]


def _missing_transaction(scene: Scene) -> list[str]:
    at = scene.row("UpdateRecorded", round=1, member=1)
    scene.write_transactions(
        [row for row in scene.transactions() if row["transaction"] != scene.true[at][0].transaction]
    )
    return [f"entry {at}", "member 1 (Site 1, 0x", scene.true[at][0].transaction, "is not in the source"]


def _no_transactions(scene: Scene) -> list[str]:
    (scene.folder / "transactions.jsonl").unlink()
    return ["the source has no signed transactions"]


def _other_transaction(scene: Scene) -> list[str]:
    at, other = (scene.row("UpdateRecorded", round=1, member=member) for member in (1, 2))
    entry = scene.true[at][0]
    moved = Entry(entry.index, entry.fact, entry.block, entry.time, scene.true[other][0].transaction)
    scene.entries[at] = (moved, scene.entries[at][1])
    scene.write()
    return [f"entry {at}", "member 1 (Site 1, 0x", "does not ask for this"]


def _twice(scene: Scene) -> list[str]:
    entries = [entry for entry, _ in scene.true]
    again = entries[scene.row("RolesChanged")]
    last = entries[-1]
    scene.rewrite([*entries, Entry(len(entries), again.fact, last.block, last.time, again.transaction)])
    return [f"entry {len(entries)}", "its transaction has recorded another entry before", again.transaction]


def _apart(scene: Scene) -> list[str]:
    """The update that member 3 signed for round 1, recorded again where another round of the same number is open."""
    entries = [entry for entry, _ in scene.true]
    at = scene.row("UpdateRecorded", round=1, member=3)
    relayed, next_one = entries[at], entries[at + 1]
    moved = Entry(at + 2, relayed.fact, next_one.block, next_one.time, relayed.transaction)
    scene.rewrite([*entries[: at + 2], moved, *entries[at + 2 :]])
    return [f"entry {at + 2}", "member 3 (Site 3, 0x", "its transaction has recorded another entry before"]


def _out_of_order(scene: Scene) -> list[str]:
    at = scene.row("UpdateRecorded", round=3, member=1)
    scene.resign(at, account("participant 1"), nonce=0)
    return [f"entry {at}", "member 1 (Site 1, 0x", "in the order of their numbers"]


FRAUDS: tuple[Fraud, ...] = (*_storage(), *_entries(), *_authors())
