"""Hostile bytes break no audit: few bytes do not grow to many, nothing nests too deep, and no number is too long."""

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rlp
from click.testing import CliRunner
from eth_hash.auto import keccak
from eth_typing import Hash32
from trie.hexary import HexaryTrie

from ledger.audit.bundle import blobs_of, read_bundle
from ledger.audit.checks import audit
from ledger.audit.evidence import files, read_folder
from ledger.audit.html import render
from ledger.audit.origin import Claims
from ledger.audit.proof import StorageProof, prove
from ledger.audit.report import Verdict
from ledger.chain.transactions import SignedTransaction
from ledger.charter import limits_of
from ledger.cli import main
from ledger.errors import FedledgerError, UnavailableError, ViolationError
from ledger.facts import Address
from ledger.storage.car import write_car
from tests.adversary.frauds import Scene, account
from tests.world import PLAN, World, tensors

LEDGER = Address("0x" + "11" * 20)
MEBIBYTE = 1 << 20


@pytest.fixture
def scene(recorded: World, tmp_path: Path) -> Scene:
    return Scene(Path(shutil.copytree(recorded.folder, tmp_path / "history")))


def peak(run: Callable[[], object]) -> int:
    """The most memory that it takes at once, in bytes."""
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# ----------------------------------------------------------------------- few bytes that grow


def test_a_file_that_names_one_leaf_many_times_is_refused_before_it_grows(recorded: World, tmp_path: Path) -> None:
    evidence, path = read_folder(recorded.folder), tmp_path / "history.car"
    write_car(path, files(evidence) | {"entries.jsonl": b"\n" * (64 * MEBIBYTE)}, [], evidence.store)
    assert path.stat().st_size < 4 * MEBIBYTE

    def run() -> None:
        with pytest.raises(FedledgerError, match=r"entries\.jsonl"):
            read_bundle(path)

    assert peak(run) < 16 * MEBIBYTE


def test_a_charter_that_names_one_leaf_many_times_is_hashed_and_not_read(tmp_path: Path) -> None:
    world, path = World(tmp_path), tmp_path / "history.car"
    charter = world.store.put(b"\n" * (64 * MEBIBYTE))
    world.contract.change_charter(world.governor, charter)
    for member in [*world.participants, world.aggregator.account, world.auditor]:
        world.contract.accept(member, charter, b"k" * 32)
    world.aggregator.open(PLAN)
    evidence = read_folder(world.write())
    write_car(path, files(evidence), blobs_of(evidence), evidence.store)
    assert path.stat().st_size < 4 * MEBIBYTE
    bundled, claims = read_bundle(path), Claims(head=world.contract.head())
    reports = []
    assert peak(lambda: reports.append(audit(bundled, claims))) < 16 * MEBIBYTE
    (finding,) = reports[0].checks[4].findings
    assert (finding.verdict, finding.cid) == (Verdict.INCOMPLETE, charter)
    assert reports[0].checks[5].status is Verdict.VERIFIED


def test_a_charter_of_openings_is_counted_and_not_matched() -> None:
    with pytest.raises(ValueError, match="has 50000 blocks of limits"):
        limits_of(b"```fedledger-limits\n" * 50_000)


@pytest.mark.parametrize(
    "text",
    [
        '```fedledger-limits\n{"min_quorum": 3}\n',
        ' ```fedledger-limits\n{"min_quorum": 3}\n ```\n',
        '````fedledger-limits\n{"min_quorum": 3}\n````\n',
        '~~~fedledger-limits\n{"min_quorum": 3}\n~~~\n',
        '``` fedledger-limits\n{"min_quorum": 3}\n```\n',
        '```fedledger-limits\n{"min_quorum": 3, "min_quorum": 0}\n```\n',
    ],
)
def test_what_people_take_for_limits_is_never_silently_none(text: str) -> None:
    with pytest.raises(ValueError, match="limits"):
        limits_of(text.encode())


# ----------------------------------------------------------------------- transactions


def nested(depth: int) -> bytes:
    """A list in a list in a list …, in RLP."""
    raw = b""
    for _ in range(depth):
        size = len(raw).to_bytes((len(raw).bit_length() + 7) // 8, "big")
        raw = (bytes([0xC0 + len(raw)]) if len(raw) < 56 else bytes([0xF7 + len(size)]) + size) + raw
    return raw


def signed(receiver: Any, chain_id: bytes = b"\1") -> bytes:
    """A transaction of type 2 that is signed well, whatever its fields are."""
    fields = [chain_id, b"", b"", b"", b"", receiver, b"", b"", []]
    made = account("operator").unsafe_sign_hash(Hash32(keccak(b"\2" + rlp.encode(fields))))
    signature = [made.v - 27, made.r, made.s]
    return b"\2" + bytes(rlp.encode([*fields, *signature]))


TRANSACTIONS = {
    "empty": b"",
    "of lists for r and s": b"\2" + rlp.encode([b"\1"] * 9 + [b"", [], []]),
    "of a list for its call": b"\2" + rlp.encode([b"\1", b"", b"", b"", b"", b"", b"", [b"\1"], [], b"", b"\1", b"\1"]),
    "to a list of 20 bytes": signed([b"\1"] * 20),
    "to 21 bytes": signed(b"\1" * 21),
    "for a chain of 2000 bytes": signed(b"\1" * 20, b"\1" * 2000),
    "nested 50,000 deep": nested(50_000),
    "nested, of type 2": b"\2" + nested(50_000),
}


@pytest.mark.parametrize("name", TRANSACTIONS)
def test_a_transaction_that_is_none_is_a_finding_and_hides_no_other(scene: Scene, name: str) -> None:
    with pytest.raises(ValueError, match=r"transaction|signature|account|number|field|RLP"):
        SignedTransaction.parse(TRANSACTIONS[name])
    blob = next(path for path in sorted((scene.folder / "blobs").iterdir()))
    blob.write_bytes(b"x")
    rows = scene.transactions()
    rows[3]["raw"] = "0x" + TRANSACTIONS[name].hex()
    scene.write_transactions(rows)
    result = CliRunner().invoke(main, ["audit", str(scene.folder), "--state", str(scene.folder), "--json"])
    assert result.exit_code == 1, result.output
    checks = json.loads(result.stdout)["checks"]
    assert [check["number"] for check in checks if check["status"] == "violated"][:2] == [3, 6]
    (said,) = [one["text"] for one in checks[2]["findings"] if one["verdict"] == "violated"]
    assert rows[3]["transaction"] in said


# ----------------------------------------------------------------------- proofs


def header(state_root: Any, number: bytes = b"\7") -> list[Any]:
    return [b"\1" * 32] * 3 + [state_root] + [b""] * 4 + [number] + [b""] * 7


def _path(trie: HexaryTrie, key: bytes) -> tuple[bytes, ...]:
    nodes: tuple[Any, ...] = trie.get_proof(key)  # type: ignore[no-untyped-call]
    return tuple(bytes(rlp.encode(node)) for node in nodes)


def proof_of(value: bytes, stored: bytes | None = None, number: bytes = b"\7", fields: int = 16) -> StorageProof:
    """A proof in which all hashes are right: of a value in the head's slot, or of what is stored as the account."""
    storage, key = HexaryTrie({}), keccak(bytes(32))
    storage[key] = value
    accounts, name = HexaryTrie({}), keccak(bytes.fromhex(LEDGER[2:]))
    accounts[name] = rlp.encode([b"\1", b"", storage.root_hash, b"\2" * 32]) if stored is None else stored
    nodes = (_path(accounts, name), _path(storage, key))
    return StorageProof(bytes(rlp.encode(header(accounts.root_hash, number)[:fields])), *nodes)


def proof_with(node: Any) -> StorageProof:
    """A proof whose only node has the right hash."""
    raw = node if isinstance(node, bytes) else bytes(rlp.encode(node))
    return StorageProof(bytes(rlp.encode(header(keccak(raw)))), (raw,), ())


PROOFS = {
    "empty": StorageProof(b"", (), ()),
    "a header that is nested": StorageProof(nested(50_000), (), ()),
    "a header that is a string": StorageProof(bytes(rlp.encode(b"x" * 300)), (), ()),
    "a header with too few fields": proof_of(rlp.encode(b"\5" * 32), fields=12),
    "a block's number of 3000 bytes": proof_of(rlp.encode(b"\5" * 32), number=b"\1" * 3000),
    "a state root that is a list": StorageProof(bytes(rlp.encode(header([b"\1"] * 32))), (), ()),
    "a head that is a list": proof_of(rlp.encode([b"\1", b"\2"])),
    "a head that is an empty list": proof_of(b"\xc0"),
    "a head of 33 bytes": proof_of(rlp.encode(b"\5" * 33)),
    "an account that is a string": proof_of(b"\1", rlp.encode(b"abcdefgh" * 20)),
    "a storage root that is a list": proof_of(b"\1", rlp.encode([b"", b"", [b"\1"] * 32, b"\2" * 32])),
    "a storage root of 5 bytes": proof_of(b"\1", rlp.encode([b"", b"", b"\1" * 5, b"\2" * 32])),
    "a code hash of 5 bytes": proof_of(b"\1", rlp.encode([b"", b"", b"\1" * 32, b"\2" * 5])),
    "a node that is nested": proof_with(nested(50_000)),
    "a node that is a number": proof_with(b"\5"),
    "a node of 3 items": proof_with([b"1" * 20, b"2" * 20, b"3" * 20]),
    "a node of 2 lists": proof_with([[b"1" * 20], [b"2" * 20]]),
    "a node of 17 lists": proof_with([[b"1" * 20]] * 17),
    "a leaf without a path": proof_with([b"", b"2" * 40]),
}


def test_the_proofs_below_lead_to_a_head_if_nothing_is_wrong_with_them() -> None:
    assert prove(proof_of(rlp.encode(b"\5" * 31)), LEDGER).head == b"\0" + b"\5" * 31


@pytest.mark.parametrize("name", PROOFS)
def test_a_proof_that_is_none_is_a_violation(name: str) -> None:
    with pytest.raises(ViolationError, match="the storage proof does not lead to the ledger's head"):
        prove(PROOFS[name], LEDGER)


def test_a_proof_that_nothing_is_at_the_address_is_no_violation() -> None:
    accounts = HexaryTrie({})
    accounts[keccak(b"somebody")] = b"1" * 40
    nodes = _path(accounts, keccak(bytes.fromhex(LEDGER[2:])))
    proof = StorageProof(bytes(rlp.encode(header(accounts.root_hash))), nodes, ())
    with pytest.raises(UnavailableError, match="in block 7 nothing is at 0x1111"):
        prove(proof, LEDGER)


# ----------------------------------------------------------------------- numbers


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1e308", '{"a":1}'])
def test_whatever_quality_an_auditor_reports_the_document_is_json(tmp_path: Path, number: str) -> None:
    world = World(tmp_path)
    world.aggregator.open(PLAN.model_copy(update={"public_quality": True}))
    for member in (1, 2, 3):
        world.post(member, world.update(member, tensors(member)))
    world.settle()
    world.contract.attest(world.auditor, 1, True, world.store.put(f'{{"quality":{{"auc":{number}}}}}'.encode()))
    document = audit(read_folder(world.write()), Claims(head=world.contract.head())).document()
    assert document["timeline"][0]["quality"] == ({"auc": 1e308} if number == "1e308" else None)
    json.dumps(document, allow_nan=False)
    page = render(document)
    assert not {"NaN", "Infinity"} & set(page.replace(">", " ").replace("<", " ").split())


def test_gas_of_5000_digits_is_not_read(scene: Scene) -> None:
    path = scene.folder / "transactions.jsonl"
    path.write_text(path.read_text().replace('"gas_used": ', '"gas_used": ' + "9" * 5000, 1))
    report = scene.audit()
    assert report.verdict is Verdict.VIOLATED
    assert "of transactions.jsonl" in report.checks[1].findings[0].sentence
    json.dumps(report.document())


@pytest.mark.parametrize("time", [10**11, 10**12, 1 << 62])
def test_a_round_in_a_far_future_is_shown_like_any_other(scene: Scene, time: int) -> None:
    entries = [entry for entry, _ in scene.true[: scene.row("RoundOpened", round=5) + 1]]
    last = entries[-1]
    entries[-1] = scene.edited(last.index, time=time, deadline=time + 600)
    scene.rewrite(entries)
    report = scene.audit()
    assert "<!DOCTYPE html>" in render(report.document())
