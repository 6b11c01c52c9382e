"""Whoever controls a source, a blob or a name cannot crash, stall or deceive the audit, nor hide a fraud."""

import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from web3 import EthereumTesterProvider, Web3
from web3.types import RPCEndpoint, RPCResponse

from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.audit.report import Verdict, noted
from ledger.cid import RAW, cid_of
from ledger.cli import main
from ledger.documents import canonical
from ledger.errors import BlobMismatchedError, InvalidBlobError, UsageError, ViolationError
from ledger.facts import AbortReason, Role, UpdateRecorded
from ledger.history import Status
from ledger.plan import Plan
from ledger.settlement import Settlement
from tests.adversary.test_cheating_aggregator import another_model, open_with, posted
from tests.chains import Embedded
from tests.world import PLAN, World


def settle_another_model(world: World) -> None:
    proposal = world.aggregator.propose()
    forged: Settlement = another_model(proposal.settlement)
    world.aggregator.publish(type(proposal)(proposal.round, proposal.head, forged))


def test_a_plan_for_more_memory_than_there_is_does_not_hide_the_fraud_of_another_round(tmp_path: Path) -> None:
    world = posted(tmp_path)
    settle_another_model(world)
    huge = {"w": {"dtype": "F16", "shape": [1 << 39, 1 << 12]}}
    plan = PLAN.model_dump(mode="json") | {"tensors": huge, "max_update_bytes": (1 << 53) - 1}
    open_with(world, canonical(plan))
    world.chain.pass_time(PLAN.window + 1)
    place = {"kind": "manifest", "settlement": 1, **world.place().document()}
    manifest = world.store.put(canonical({**place, "updates": [], "counted": 0, "model": None}))
    world.contract.abort(world.aggregator.account, 2, world.contract.head(), AbortReason.QUORUM, manifest)
    report = audit(read_folder(world.write()))
    assert report.verdict is Verdict.VIOLATED
    wrong = [finding.sentence for finding in report.checks[7].findings if finding.verdict is Verdict.VIOLATED]
    assert any("round 1" in one and "by member 4 (Aggregator" in one for one in wrong)


@pytest.mark.parametrize("row", ["{}", '{"member":"x"}', "null"])
def test_a_manifest_of_many_wrong_rows_is_refused_in_bounded_memory(row: str, tmp_path: Path) -> None:
    world = posted(tmp_path)
    proposal = world.aggregator.propose()
    blob = ('{"updates":[' + ",".join([row] * ((4 << 20) // len(row))) + "]}").encode()
    model, manifest = world.store.put(proposal.settlement.model or b""), world.store.put(blob)
    world.contract.settle(world.aggregator.account, 1, proposal.head, model, manifest, 2)
    evidence = read_folder(world.write())
    tracemalloc.start()
    try:
        report = audit(evidence)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.verdict is Verdict.VIOLATED
    assert peak < 64 << 20


def test_a_plan_of_many_wrong_tensors_is_refused_in_bounded_memory() -> None:
    tensors = ",".join(f'"t{number}":{{}}' for number in range(60_000))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidBlobError, match="not a plan"):
            Plan.decode(f'{{"tensors":{{{tensors}}}}}'.encode())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


@pytest.mark.parametrize("name", ["Klinik\u2028Nord", "a\nb", "\x1b[2J", "x\x85y", "é" * 16])
def test_an_honest_history_is_verified_whatever_its_members_are_called(name: str, tmp_path: Path) -> None:
    world = World(tmp_path)
    world.contract.admit(world.governor, world.account("odd").address, Role.PARTICIPANT, name)
    report = audit(read_folder(world.write()))
    assert report.verdict is Verdict.VERIFIED


@given(st.text())
def test_a_finding_is_one_printable_line_whatever_names_stand_in_it(name: str) -> None:
    text = noted(f"round 1: {name}").sentence
    assert text.isprintable()
    assert len(text.splitlines()) == 1


class WithholdingNode(EthereumTesterProvider):
    """A node that keeps one event to itself and tells the true head."""

    withheld = 0

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        answer = super().make_request(method, params)
        if method == "eth_getLogs":
            answer["result"] = [log for at, log in enumerate(answer["result"]) if at != self.withheld]
        return answer


def test_a_node_that_withholds_an_entry_from_an_auditor_gets_no_approval(tmp_path: Path) -> None:
    world = posted(tmp_path)
    settle_another_model(world)
    honest = world.contract
    assert isinstance(world.chain, Embedded)
    node = WithholdingNode(world.chain.tester)
    node.withheld = next(at for at, one in enumerate(honest.entries()) if isinstance(one.fact, UpdateRecorded))
    world.contract = replace(honest, web3=Web3(node))
    with pytest.raises(ViolationError, match="withholds or alters entries"):
        world.attest()
    assert honest.history().rounds[1].status is Status.SETTLED


def test_attesting_to_a_round_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    from ledger.audit.attest import attest

    world = World(tmp_path)
    with pytest.raises(UsageError, match="there is no round 99"):
        attest(world.contract, world.store, world.auditor, 99)


def status(folder: Path) -> int:
    result = CliRunner().invoke(main, ["audit", str(folder), "--json"])
    assert json.loads(result.output)["verdict"]
    return result.exit_code


@pytest.mark.parametrize("name", ["entries.jsonl", "ledger.json"])
def test_a_pipe_a_device_or_a_folder_in_place_of_a_file_is_incomplete(history_folder: Path, name: str) -> None:
    path = history_folder / name
    path.unlink()
    os.mkfifo(path)
    assert status(history_folder) == 3
    path.unlink()
    path.symlink_to("/dev/zero")
    assert status(history_folder) == 3
    path.unlink()
    path.mkdir()
    assert status(history_folder) == 3


def test_a_pipe_or_a_device_in_place_of_a_blob_is_a_missing_blob(history_folder: Path) -> None:
    blob = next((history_folder / "blobs").iterdir())
    blob.unlink()
    os.mkfifo(blob)
    assert status(history_folder) == 3
    blob.unlink()
    blob.symlink_to("/dev/zero")
    assert status(history_folder) == 3


def test_a_raw_blob_larger_than_any_raw_blob_is_altered_and_not_even_read(recorded: World) -> None:
    cid = cid_of(b"small")
    assert cid.codec == RAW
    with open(recorded.store.path(cid), "wb") as file:
        file.truncate(1 << 43)
    try:
        with pytest.raises(BlobMismatchedError):
            recorded.store.verify(cid)
        with pytest.raises(BlobMismatchedError):
            recorded.store.get(cid, limit=100)
    finally:
        recorded.store.path(cid).unlink()


def edited(folder: Path, **changes: Any) -> int:
    path = folder / "ledger.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return status(folder)


def test_an_absurd_chain_id_or_a_space_in_an_address_is_a_violation(history_folder: Path) -> None:
    document = json.loads((history_folder / "ledger.json").read_text())
    assert edited(history_folder, chain_id=10**80) == 1
    assert edited(history_folder, chain_id=document["chain_id"], governor=document["governor"] + " ") == 1


def test_a_defect_of_ours_does_not_look_like_a_verdict(history_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("ledger.audit.evidence.read_folder", broken)
    result = CliRunner().invoke(main, ["audit", str(history_folder)])
    assert result.exit_code == 3
    assert "a defect in fedledger, please report it: ZeroDivisionError: a bug" in result.output


def test_a_demo_replaces_nothing_but_a_demo(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (mine / "blobs").mkdir(parents=True)
    (mine / "blobs" / "thesis.txt").write_text("years of work")
    for name in ("entries.jsonl", "ledger.json", "summary.json"):
        result = CliRunner().invoke(main, ["demo", "--rounds", "1", "--out", str(mine)])
        assert (result.exit_code, (mine / "blobs" / "thesis.txt").read_text()) == (2, "years of work")
        (mine / name).write_text("")
    assert CliRunner().invoke(main, ["demo", "--rounds", "1", "--out", str(mine)]).exit_code == 2


def test_a_demo_does_not_take_the_place_of_the_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["demo", "--rounds", "1", "--out", "."]).exit_code == 2
