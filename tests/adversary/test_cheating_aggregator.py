"""An aggregator that publishes what settlement does not give: the audit names round, party and blob."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ledger.aggregator import Proposal, propose, terms
from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.audit.report import Report, Verdict
from ledger.cid import cid_of
from ledger.errors import Refused
from ledger.facts import RoundSettled
from ledger.history import Status
from ledger.manifest import Manifest, Reason, Row
from ledger.settlement import Settlement
from ledger.updates import MODEL_HEADER, encode
from tests.world import PLAN, SCHEMA, World, tensors


def with_manifest(settlement: Settlement, model: bytes | None = None, **changes: object) -> Settlement:
    model = model or settlement.model
    changes["model"] = str(cid_of(model)) if model else None
    return replace(settlement, model=model, manifest=settlement.manifest.model_copy(update=changes))


def rows(settlement: Settlement, **changes: Row | None) -> Settlement:
    """With the rows of some members (``m1=…``) replaced, or left out where None."""
    kept = [changes.get(f"m{row.member}", row) for row in settlement.manifest.updates]
    return with_manifest(settlement, updates=[row for row in kept if row is not None])


def row(settlement: Settlement, member: int, **changes: object) -> Row:
    found = next(row for row in settlement.manifest.updates if row.member == member)
    return found.model_copy(update=changes)


def another_model(honest: Settlement) -> Settlement:
    return with_manifest(honest, encode(MODEL_HEADER, SCHEMA, tensors(9)))


def excluded_as_malformed(honest: Settlement) -> Settlement:
    return rows(honest, m1=row(honest, 1, weight=None, excluded=Reason.MALFORMED))


def garbage_counted(honest: Settlement) -> Settlement:
    return rows(honest, m3=row(honest, 3, weight=10, excluded=None))


def excluded_for_another_reason(honest: Settlement) -> Settlement:
    return rows(honest, m3=row(honest, 3, excluded=Reason.NONFINITE))


def reweighted(honest: Settlement) -> Settlement:
    return rows(honest, m1=row(honest, 1, weight=1000))


def left_out_of_the_manifest(honest: Settlement) -> Settlement:
    return rows(honest, m1=None)


def listed_twice(honest: Settlement) -> Settlement:
    return with_manifest(honest, updates=[*honest.manifest.updates, row(honest, 1)])


def invented(honest: Settlement) -> Settlement:
    more = Row(member=9, update=str(cid_of(b"never posted")), weight=10, excluded=None)
    return with_manifest(honest, updates=[*honest.manifest.updates, more])


def other_order(honest: Settlement) -> Settlement:
    return with_manifest(honest, updates=honest.manifest.updates[::-1])


def of_another_round(honest: Settlement) -> Settlement:
    return with_manifest(honest, round=2)


def naming_another_model(honest: Settlement) -> Settlement:
    changed = honest.manifest.model_copy(update={"model": str(cid_of(b"another"))})
    return replace(honest, manifest=changed)


def counting_more(honest: Settlement) -> Settlement:
    return with_manifest(honest, counted=3)


def aborted_with_a_quorum(honest: Settlement) -> Settlement:
    return replace(honest, model=None, manifest=honest.manifest.model_copy(update={"model": None}))


def posted(folder: Path) -> World:
    """Round 1 with two honest updates (members 1 and 2) and garbage (member 3), not settled yet."""
    world = World(folder)
    world.aggregator.open(PLAN)
    for member in (1, 2):
        world.post(member, world.update(member, tensors(member)))
    world.post(3, b"garbage")
    return world


def audited(world: World) -> Report:
    return audit(read_folder(world.write()), world.contract.head())


def texts(report: Report) -> str:
    wrong = [finding.text for check in report.checks for finding in check.findings if finding.verdict == "violated"]
    return "\n".join(wrong)


@pytest.mark.parametrize(
    "fraud",
    [
        another_model,
        excluded_as_malformed,
        garbage_counted,
        excluded_for_another_reason,
        reweighted,
        left_out_of_the_manifest,
        listed_twice,
        invented,
        other_order,
        of_another_round,
        naming_another_model,
        counting_more,
        aborted_with_a_quorum,
    ],
)
def test_a_settlement_that_is_not_the_one_is_a_violation_by_the_aggregator(
    fraud: Callable[[Settlement], Settlement], tmp_path: Path
) -> None:
    world = posted(tmp_path)
    proposal = world.aggregator.propose()
    world.aggregator.publish(replace(proposal, settlement=fraud(proposal.settlement)))
    report = audited(world)
    assert report.verdict is Verdict.VIOLATED
    assert "round 1" in texts(report)
    assert "member 4 (Aggregator)" in texts(report)
    ended = world.contract.history().rounds[1].ended
    assert ended is not None
    blobs = {
        str(ended.manifest),
        *(str(update.update) for update in world.contract.history().rounds[1].updates.values()),
    }
    if fraud not in (another_model, aborted_with_a_quorum):
        assert any(blob in texts(report) for blob in blobs)


def test_an_honest_settlement_of_the_same_updates_is_verified(tmp_path: Path) -> None:
    world = posted(tmp_path)
    world.settle()
    assert audited(world).verdict is Verdict.VERIFIED


def test_the_auditor_rejects_a_fraud_and_no_round_can_build_on_it(tmp_path: Path) -> None:
    world = posted(tmp_path)
    proposal = world.aggregator.propose()
    world.aggregator.publish(replace(proposal, settlement=another_model(proposal.settlement)))
    world.attest()
    history = world.contract.history()
    assert history.rounds[1].status is Status.SETTLED
    assert history.latest_released == 0
    assert any("rejected the model" in finding.text for finding in audited(world).checks[-1].findings)


def test_the_auditor_says_nothing_where_a_blob_is_missing(tmp_path: Path) -> None:
    world = posted(tmp_path)
    world.settle()
    world.store.path(world.contract.history().rounds[1].updates[1].update).unlink()
    world.attest()
    assert world.contract.history().rounds[1].attestations == {}


def test_an_update_claimed_unavailable_is_listed_as_the_aggregators_claim(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.aggregator.open(PLAN)
    cids = [world.post(member, world.update(member, tensors(member))) for member in (1, 2, 3)]
    world.store.path(cids[1]).unlink()
    world.settle()
    report = audited(world)
    assert report.verdict is Verdict.VERIFIED, "the manifest says that it was not to be had"
    notes = [finding.text for check in report.checks for finding in check.findings]
    assert f"round 1: the update {cids[1]} of member 2 (Site 2) is excluded as unavailable, claimed by" in str(notes)


def test_a_settlement_on_a_head_that_has_moved_is_refused(tmp_path: Path) -> None:
    world = posted(tmp_path)
    stale = Proposal(1, bytes(32), propose(world.contract.history(), world.store).settlement)
    with pytest.raises(Refused, match="entries were recorded after"):
        world.aggregator.publish(stale)


def open_with(world: World, plan: bytes, **changes: Any) -> None:
    world.contract.open(world.aggregator.account, world.store.put(plan), 0, replace(terms(PLAN), **changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quorum": 1}, "says quorum 2, member 4 (Aggregator) opened it with 1"),
        ({"approvals": 0}, "says approvals 1, member 4 (Aggregator) opened it with 0"),
        ({"window": 601}, "says deadline "),
        ({"grace": 1}, "says grace 86400, member 4 (Aggregator) opened it with 1"),
        ({"rejections": 1}, "says rejections 0, member 4 (Aggregator) opened it with 1"),
        ({"participants_attest": True}, "says participants_attest False"),
    ],
)
def test_a_round_opened_otherwise_than_its_plan_says_is_a_violation(
    changes: dict[str, int], said: str, tmp_path: Path
) -> None:
    world = World(tmp_path)
    open_with(world, PLAN.encode(), **changes)
    assert said in texts(audited(world))


def test_a_plan_that_is_none_is_a_violation_by_whoever_opened_the_round(tmp_path: Path) -> None:
    world = World(tmp_path)
    open_with(world, b"{}")
    report = audited(world)
    assert report.verdict is Verdict.VIOLATED
    assert "not a plan" in texts(report)
    assert "member 4 (Aggregator) opened the round with it" in texts(report)


def test_a_base_model_that_does_not_fit_the_plan_is_a_violation(tmp_path: Path) -> None:
    world = World(tmp_path)
    other = {"weight": SCHEMA["weight"]}
    open_with(world, PLAN.model_copy(update={"tensors": other}).encode())
    assert "tensor 'bias' is F16 [3], the plan says absent" in texts(audited(world))


def test_a_manifest_that_is_none_is_a_violation_by_whoever_published_it(tmp_path: Path) -> None:
    world = posted(tmp_path)
    proposal = world.aggregator.propose()
    garbage = world.store.put(b"\x00" * 100)
    model = proposal.settlement.model
    assert model is not None
    world.contract.settle(
        world.aggregator.account,
        1,
        proposal.head,
        world.store.put(model),
        garbage,
        proposal.settlement.manifest.counted,
    )
    assert f"round 1: its manifest {garbage}: malformed: not a manifest" in texts(audited(world))


def test_a_settled_model_is_what_the_honest_arithmetic_gives(tmp_path: Path) -> None:
    world = posted(tmp_path)
    world.settle()
    ended = world.contract.history().rounds[1].ended
    assert isinstance(ended, RoundSettled)
    assert world.store.get(ended.model) == encode(MODEL_HEADER, SCHEMA, tensors(1.5))
    assert ended.manifest is not None
    assert Manifest.decode(world.store.get(ended.manifest)).counted == 2
