"""Frauds on a bundle, one table for all of its sections: each is caught by its check, and nothing else is believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from ledger.audit.bundle import blobs_of, read_bundle, write_bundle
from ledger.audit.checks import audit, unreadable
from ledger.audit.evidence import Evidence, files
from ledger.audit.observe import observe
from ledger.audit.origin import Claims
from ledger.audit.report import Report, Verdict
from ledger.cid import CHUNK, Cid, varint
from ledger.cli import main
from ledger.errors import FedledgerError, UsageError
from ledger.facts import RoundSettled
from ledger.storage.car import write_car
from ledger.storage.car_store import CarStore
from ledger.storage.dag_pb import read_directory
from ledger.storage.folder import shard
from tests.anvil import Anvil
from tests.cars import Block, section, sections
from tests.world import PLAN, World, tensors

LARGE = b"".join(bytes((number,)) * CHUNK for number in (1, 2)) + b"the end"
"""An update that is garbage, of three leaves below one node."""


@dataclass(frozen=True)
class Exported:
    """A true bundle, and what an honest auditor knows.

    Attributes:
        evidence: What it was made of.
        header: The bytes before its blocks.
        blocks: Its blocks in their order.
        names: The section that each block is in, by CID.
        claims: What the auditor knows from elsewhere.
    """

    evidence: Evidence
    header: bytes
    blocks: tuple[Block, ...]
    names: dict[str, bytes]
    claims: Claims

    def at(self, name: str) -> int:
        """Where the block of a section stands."""
        return next(at for at, (cid, _) in enumerate(self.blocks) if cid == self.names[name])

    def written(self, blocks: list[Block]) -> bytes:
        return self.header + b"".join(map(section, blocks))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Round 1 with two updates and a large one of garbage, settled and approved, on a node that gives proofs."""
    folder = tmp_path_factory.mktemp("exported")
    with Anvil() as anvil:
        world = World(folder, chain=anvil)
        world.aggregator.open(PLAN)
        for member in (1, 2):
            world.post(member, world.update(member, tensors(member)))
        large = world.post(3, LARGE)
        world.settle()
        world.attest()
        block = anvil.web3.eth.get_block("latest")
        claims = Claims(head=world.contract.head(), block_hash=bytes(block["hash"]))
        evidence = observe(world.contract, world.store, claims.block_hash)
        history = world.contract.history()
    path = folder / "history.car"
    root = write_bundle(path, evidence).root
    car, bundled = path.read_bytes(), CarStore(path)
    blocks = tuple(block for _, _, block in sections(car))
    data = dict(blocks)
    top = read_directory(data[bytes(root)])["blobs"]
    ended = history.rounds[1].ended
    assert isinstance(ended, RoundSettled)
    names = {
        "the root": bytes(root),
        **{name: bytes(cid) for name, cid in bundled.files.items()},
        "the directory of blobs": bytes(top),
        "a directory of some blobs": bytes(read_directory(data[bytes(top)])[shard(large)]),
        "a small blob": bytes(ended.model),
        "a large blob's node": bytes(large),
        "a large blob's leaf": next(cid for cid, leaf in blocks if len(leaf) == CHUNK and leaf[:1] == b"\2"),
        "a large blob's last leaf": next(cid for cid, leaf in blocks if leaf == b"the end"),
    }
    assert all(cid in data for cid in names.values())
    return Exported(evidence, car[:59], blocks, names, claims)


Play = Callable[[Exported], bytes]
"""Gives the bytes of the forged file."""


def flipped(name: str) -> Play:
    def play(true: Exported) -> bytes:
        at, blocks = true.at(name), list(true.blocks)
        cid, data = blocks[at]
        middle = len(data) // 2
        blocks[at] = cid, data[:middle] + bytes((data[middle] ^ 0x20,)) + data[middle + 1 :]
        return true.written(blocks)

    return play


def cut(name: str) -> Play:
    def play(true: Exported) -> bytes:
        at, blocks = true.at(name), list(true.blocks)
        blocks[at] = blocks[at][0], blocks[at][1][:-1]
        return true.written(blocks)

    return play


def missing(name: str) -> Play:
    def play(true: Exported) -> bytes:
        at = true.at(name)
        return true.written([*true.blocks[:at], *true.blocks[at + 1 :]])

    return play


def replaced(name: str, other: str) -> Play:
    """Another true block under this one's CID."""

    def play(true: Exported) -> bytes:
        at, blocks = true.at(name), list(true.blocks)
        blocks[at] = blocks[at][0], blocks[true.at(other)][1]
        return true.written(blocks)

    return play


def renamed(name: str) -> Play:
    """The block under a CID that differs in one bit."""

    def play(true: Exported) -> bytes:
        at, blocks = true.at(name), list(true.blocks)
        cid, data = blocks[at]
        blocks[at] = cid[:-1] + bytes((cid[-1] ^ 1,)), data
        return true.written(blocks)

    return play


def of_length(name: str, length: Callable[[int], bytes]) -> Play:
    """With another length before the block."""

    def play(true: Exported) -> bytes:
        at = true.at(name)
        cid, data = true.blocks[at]
        before = true.written(list(true.blocks[:at]))
        rest = b"".join(map(section, true.blocks[at + 1 :]))
        return before + length(len(cid) + len(data)) + cid + data + rest

    return play


def other_root(true: Exported) -> bytes:
    forged = bytearray(true.written(list(true.blocks)))
    forged[true.header.index(b"\x12\x20") + 2] ^= 1
    return bytes(forged)


def remade(name: str, edit: Callable[[str], str]) -> Play:
    """A bundle made again around an edited file: all CIDs are right."""

    def play(true: Exported) -> bytes:
        contents = files(true.evidence)
        edited = edit(contents[name].decode()).encode()
        assert edited != contents[name]
        return again(true, contents | {name: edited})

    return play


def remade_without(name: str) -> Play:
    def play(true: Exported) -> bytes:
        contents = files(true.evidence)
        del contents[name]
        return again(true, contents)

    return play


def remade_without_the_model(true: Exported) -> bytes:
    model = true.names["a small blob"]
    return again(true, files(true.evidence), [cid for cid in blobs_of(true.evidence) if bytes(cid) != model])


def again(true: Exported, contents: dict[str, bytes], blobs: list[Cid] | None = None) -> bytes:
    store = true.evidence.store
    path = Path(store.folder) / "again.car"  # type: ignore[attr-defined]
    write_car(path, contents, blobs_of(true.evidence) if blobs is None else blobs, store)
    car = path.read_bytes()
    path.unlink()
    return car


def line(number: int, change: Callable[[str], str | None]) -> Callable[[str], str]:
    """Edits one line of a file, counted from the end."""

    def edit(text: str) -> str:
        rows = text.splitlines()
        changed = change(rows[-number])
        rows[-number:] = [*([] if changed is None else [changed]), *rows[len(rows) - number + 1 :]]
        return "".join(f"{row}\n" for row in rows)

    return edit


def field(name: str, value: Callable[[str], object]) -> Callable[[str], str]:
    """Edits a field of a JSON document."""

    def edit(text: str) -> str:
        row = json.loads(text)
        return json.dumps(row | {name: value(row[name])})

    return edit


def digit(text: str) -> str:
    """With another last hex digit."""
    return text[:-1] + ("0" if text[-1] != "0" else "1")


VIOLATED, INCOMPLETE = Verdict.VIOLATED, Verdict.INCOMPLETE
FILES = ("ledger.json", "entries.jsonl", "transactions.jsonl", "code.hex", "proof.json", "artifact.json")
DIRECTORIES = ("the directory of blobs", "a directory of some blobs")
BLOBS = ("a small blob", "a large blob's node", "a large blob's leaf", "a large blob's last leaf")
MISSING_FILES: dict[str, tuple[int, list[str]]] = {
    "ledger.json": (1, ["ledger.json in", "is not in"]),
    "entries.jsonl": (1, ["entries.jsonl in", "is not in"]),
    "transactions.jsonl": (3, ["the source has no signed transactions"]),
    "code.hex": (1, ["the source does not show the code"]),
    "proof.json": (2, ["the source has no storage proof"]),
}
"""By what the lack of a file shows; ``artifact.json`` is not needed, every auditor has it."""


def damage() -> Iterator[tuple[str, tuple[Play, int, Verdict, list[str]]]]:
    ways: dict[str, Callable[[str], Play]] = {
        "a flipped bit": flipped,
        "cut by a byte": cut,
        "replaced by another block": lambda name: replaced(name, "a large blob's leaf" if name != LEAF else "the root"),
    }
    for how, way in ways.items():
        yield f"the root: {how}", (way("the root"), 1, VIOLATED, ["the root of", "it was altered"])
        for name in FILES:
            yield f"{name}: {how}", (way(name), 1, VIOLATED, [f"{name} in", "are not what that CID names"])
        for name in BLOBS:
            what = "model of round 1" if name == "a small blob" else "update of round 1 by member 3 (Site 3, 0x"
            yield f"{name}: {how}", (way(name), 6, VIOLATED, ["mismatched", "round 1", what])
    for how, lost in (("missing", missing), ("under another CID", renamed)):
        yield f"the root: {how}", (lost("the root"), 1, INCOMPLETE, ["is not in"])
        for name, (check, words) in MISSING_FILES.items():
            yield f"{name}: {how}", (lost(name), check, INCOMPLETE, words)
        for name in BLOBS:
            what = "model of round 1" if name == "a small blob" else "update of round 1 by member 3 (Site 3, 0x"
            yield f"{name}: {how}", (lost(name), 6, INCOMPLETE, ["missing", "round 1", what])


LEAF = "a large blob's leaf"
FRAUDS: dict[str, tuple[Play, int, Verdict, list[str]]] = {
    **dict(damage()),
    "the header: another root": (other_root, 1, INCOMPLETE, ["is not in"]),
    "the root: a length of nothing before it": (
        of_length("the root", lambda _: b"\0"), 1, INCOMPLETE, ["only the first 59 of"]),
    "entries.jsonl: a length too short before it": (
        of_length("entries.jsonl", lambda true: varint(true - 1)), 1, INCOMPLETE, ["ledger.json in", "is not in"]),
    "a large blob's leaf: a length too great before it": (
        of_length(LEAF, lambda true: varint(true + 1)), 6, INCOMPLETE, ["missing", "member 3 (Site 3, 0x"]),
    "a large blob's leaf: a length beyond the file before it": (
        of_length(LEAF, lambda _: varint(1 << 40)), 6, INCOMPLETE, ["missing", "member 3 (Site 3, 0x"]),
    "a large blob's leaf: a length that never ends before it": (
        of_length(LEAF, lambda _: b"\xff" * 20), 6, INCOMPLETE, ["missing", "member 3 (Site 3, 0x"]),
    "ledger.json remade: another head": (
        remade("ledger.json", field("head", digit)), 2, VIOLATED, ["do not refold to the head"]),
    "ledger.json remade: another chain": (
        remade("ledger.json", field("chain_id", lambda _: 1)), 2, VIOLATED, ["entry 0", "does not lead from the head"]),
    "ledger.json remade: garbage": (
        remade("ledger.json", lambda _: "{}"), 1, VIOLATED, ["ledger.json does not describe a ledger"]),
    "ledger.json left out": (remade_without("ledger.json"), 1, INCOMPLETE, ["holds no ledger.json"]),
    "entries.jsonl remade: an entry dropped": (
        remade("entries.jsonl", line(2, lambda _: None)), 2, VIOLATED, ["is missing before it"]),
    "entries.jsonl remade: an entry repeated": (
        remade("entries.jsonl", line(2, lambda row: f"{row}\n{row}")), 2, VIOLATED, ["it stands there a second time"]),
    "entries.jsonl remade: a weight edited": (
        remade("entries.jsonl", lambda text: text.replace('"weight": 10,', '"weight": 11,', 1)), 2, VIOLATED,
        ["round 1", "member 1 (Site 1, 0x", "does not lead from the head before it"]),
    "entries.jsonl remade: garbage in a line": (
        remade("entries.jsonl", line(3, lambda _: "nonsense")), 2, VIOLATED, ["of entries.jsonl"]),
    "entries.jsonl left out": (remade_without("entries.jsonl"), 1, INCOMPLETE, ["holds no entries.jsonl"]),
    "transactions.jsonl remade: a transaction dropped": (
        remade("transactions.jsonl", line(1, lambda _: None)), 3, INCOMPLETE, ["member 5 (Auditor, 0x", "not in the"]),
    "transactions.jsonl remade: a signature edited": (
        remade("transactions.jsonl", line(1, field("raw", digit))), 3, VIOLATED,
        ["member 5 (Auditor, 0x", "the signed transaction beside it is another one"]),
    "transactions.jsonl remade: garbage in a line": (
        remade("transactions.jsonl", line(1, lambda _: "nonsense")), 2, VIOLATED, ["of transactions.jsonl"]),
    "transactions.jsonl left out": (
        remade_without("transactions.jsonl"), 3, INCOMPLETE, ["the source has no signed transactions"]),
    "code.hex remade: other code": (
        remade("code.hex", lambda text: digit(text.strip())), 1, VIOLATED, ["is not the contract that this fedledger"]),
    "code.hex remade: no code": (
        remade("code.hex", lambda _: "0x"), 1, VIOLATED, ["is not the contract that this fedledger ships", "0 bytes"]),
    "code.hex remade: garbage": (remade("code.hex", lambda _: "nonsense"), 2, VIOLATED, ["code.hex: not 0x"]),
    "code.hex left out": (remade_without("code.hex"), 1, INCOMPLETE, ["the source does not show the code"]),
    "proof.json remade: another header": (
        remade("proof.json", field("header", digit)), 2, INCOMPLETE,
        ["the storage proof is from another block than the one whose hash was given"]),
    "proof.json remade: another account": (
        remade("proof.json", field("account", lambda nodes: [*nodes[:-1], digit(nodes[-1])])), 2, VIOLATED,
        ["the storage proof does not lead to the ledger's head"]),
    "proof.json remade: another value": (
        remade("proof.json", field("storage", lambda nodes: [*nodes[:-1], digit(nodes[-1])])), 2, VIOLATED,
        ["the storage proof does not lead to the ledger's head"]),
    "proof.json remade: garbage": (remade("proof.json", lambda _: "[]"), 2, VIOLATED, ["proof.json: not a storage"]),
    "proof.json left out": (remade_without("proof.json"), 2, INCOMPLETE, ["the source has no storage proof"]),
    "artifact.json remade: other code": (
        remade("artifact.json", field("runtimeBytecode", digit)), 1, VIOLATED, ["the compiled contract beside it"]),
    "artifact.json remade: garbage": (
        remade("artifact.json", lambda _: "nonsense"), 1, VIOLATED, ["the compiled contract beside it"]),
    "the model left out": (remade_without_the_model, 6, INCOMPLETE, ["missing", "model of round 1"]),
}  # fmt: skip
"""Name to how it is played, the check that catches it, what that says, and which words."""


def audited(path: Path, claims: Claims) -> Report:
    try:
        return audit(read_bundle(path), claims)
    except UsageError:
        raise
    except FedledgerError as error:
        return unreadable(error)


def test_the_bundle_as_it_was_exported_is_verified(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "history.car"
    path.write_bytes(exported.written(list(exported.blocks)))
    report = audited(path, exported.claims)
    assert report.verdict is Verdict.VERIFIED
    assert [ground.kind for ground in report.rests_on] == ["head", "block"]


@pytest.mark.parametrize("name", FRAUDS)
def test_a_fraud_on_a_bundle_is_caught_by_its_check_and_named(name: str, exported: Exported, tmp_path: Path) -> None:
    play, check, verdict, words = FRAUDS[name]
    path = tmp_path / "history.car"
    path.write_bytes(play(exported))
    report = audited(path, exported.claims)
    found = [one.sentence for one in report.checks[check - 1].findings if one.verdict is verdict]
    assert any(all(word in sentence for word in words) for sentence in found), (words, report.checks)
    assert report.verdict in (verdict, Verdict.VIOLATED)
    result = CliRunner().invoke(main, ["audit", str(path), "--state", str(tmp_path)])
    assert result.exit_code in (0, 1, 3)
    assert "a defect in fedledger" not in result.output


NOT_NEEDED = [(name, how) for name in DIRECTORIES for how in (flipped, cut, missing, renamed)]
NOT_NEEDED += [("artifact.json", how) for how in (missing, renamed)]


@pytest.mark.parametrize(("name", "how"), NOT_NEEDED)
def test_what_no_audit_needs_changes_nothing(
    name: str, how: Callable[[str], Play], exported: Exported, tmp_path: Path
) -> None:
    path = tmp_path / "history.car"
    path.write_bytes(exported.written(list(exported.blocks)))
    expected = audited(path, exported.claims).document()
    path.write_bytes(how(name)(exported))
    assert audited(path, exported.claims).document() == expected


def test_an_artifact_of_another_version_with_the_same_code_is_told(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "history.car"
    evidence = replace(exported.evidence, artifact=(exported.evidence.artifact or b"") + b"\n")
    write_bundle(path, evidence)
    report = audited(path, exported.claims)
    assert report.verdict is Verdict.VERIFIED
    assert "do not read it there" in report.checks[0].findings[0].sentence


def test_every_section_of_a_bundle_is_in_the_table(exported: Exported) -> None:
    sections_ = {name.split(":")[0].split(" remade")[0].split(" left out")[0] for name in FRAUDS}
    assert {"the header", "the root", *FILES, *BLOBS} <= sections_
    assert {"the root", *FILES, *DIRECTORIES, *BLOBS} == exported.names.keys()
