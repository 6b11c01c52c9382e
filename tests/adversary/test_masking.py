"""A fraud is not hidden behind a blob that is missing, nor a blob behind an erasure that is another's."""

from pathlib import Path

import pytest

from ledger.audit.attest import attest, examine
from ledger.audit.checks import Asked, audit
from ledger.audit.evidence import read_folder
from ledger.audit.origin import Claims
from ledger.audit.report import Report, Verdict
from ledger.chain.contract import Terms
from ledger.cid import Cid
from ledger.facts import AbortReason, ErasureReason, Role, RoundSettled
from ledger.manifest import Reason, Row
from ledger.plan import Plan
from ledger.settlement import settle
from ledger.updates import Place
from tests.world import CHARTER_2, PLAN, World, tensors

ANYONE = PLAN.model_copy(update={"participants_attest": True})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def audited(world: World, asked: Asked | None = None) -> Report:
    return audit(read_folder(world.write()), Claims(head=world.contract.head()), asked)


def sentences(report: Report, check: int, verdict: Verdict) -> str:
    return "\n".join(one.sentence for one in report.checks[check - 1].findings if one.verdict is verdict)


def posted(world: World, plan: Plan = PLAN, *members: int) -> dict[int, Cid]:
    """A new round with the updates of these members; of all, if none is named."""
    world.aggregator.open(plan)
    return {member: world.post(member, world.update(member, tensors(member))) for member in members or (1, 2, 3)}


def opened(world: World, plan: Plan, base: int) -> None:
    terms = Terms(plan.window, plan.grace, plan.quorum, plan.approvals, plan.rejections, plan.participants_attest)
    world.contract.open(world.aggregator.account, world.store.put(plan.encode()), base, terms)


def erased(world: World, member: int, cid: Cid, round_: int = 1) -> None:
    """A member records that a blob of its update is erased, and the blob is gone."""
    world.contract.erase(world.participants[member - 1], round_, member, cid.digest, ErasureReason.REQUEST)
    world.store.path(cid).unlink()


# ----------------------------------------------------------------------- behind a missing neighbour


def falsely_excluded(world: World) -> dict[int, Cid]:
    """The aggregator says that member 2's update is malformed, averages the others, and an auditor approves."""
    cids = posted(world)
    contract, history = world.contract, world.contract.history()
    known = history.rounds[1]
    others = [update for member, update in known.updates.items() if member != 2]
    honest = settle(Place.of(history.genesis, known.opened), PLAN, others, world.store, ())
    forged = Row(member=2, update=str(cids[2]), weight=None, excluded=Reason.MALFORMED)
    rows = sorted([*honest.manifest.updates, forged], key=lambda row: row.member)
    manifest = world.store.put(honest.manifest.model_copy(update={"updates": rows}).encode())
    contract.settle(world.aggregator.account, 1, contract.head(), world.store.put(honest.model or b""), manifest, 2)
    contract.attest(world.auditor, 1, True, world.store.put(b"looks fine"))
    return cids


@pytest.mark.parametrize("neighbour", ["there", "missing", "altered", "erased"])
def test_a_false_exclusion_is_shown_whatever_became_of_another_update(world: World, neighbour: str) -> None:
    cids = falsely_excluded(world)
    if neighbour == "missing":
        world.store.path(cids[1]).unlink()
    elif neighbour == "altered":
        world.store.path(cids[1]).write_bytes(b"another")
    elif neighbour == "erased":
        erased(world, 1, cids[1])
    report = audited(world)
    assert report.verdict is Verdict.VIOLATED
    said = sentences(report, 7, Verdict.VIOLATED)
    assert "member 2 (Site 2" in said
    assert "expected counted with weight 10" in said


def test_what_an_aggregator_carried_is_not_unavailable_whatever_else_is_missing(world: World) -> None:
    world.aggregator.open(PLAN)
    first = world.post(1, world.update(1, tensors(1)))
    world.post(2, world.update(2, tensors(2)))
    world.relay(3, world.update(3, tensors(3)), world.aggregator.account)
    contract, history = world.contract, world.contract.history()
    known = history.rounds[1]
    settled = settle(Place.of(history.genesis, known.opened), PLAN, known.updates.values(), world.store, {3})
    model, manifest = world.store.put(settled.model or b""), world.store.put(settled.manifest.encode())
    contract.settle(world.aggregator.account, 1, contract.head(), model, manifest, 2)
    world.store.path(first).unlink()
    report = audited(world)
    assert report.verdict is Verdict.VIOLATED
    assert "it carried this very update to the chain" in sentences(report, 7, Verdict.VIOLATED)


# ----------------------------------------------------------------------- behind an erasure


def posted_as_its_own(world: World, cid: Cid, base: int = 1) -> None:
    """Member 1 names another's blob as its update of round 2, is excluded, and has 'its own' blob erased."""
    opened(world, ANYONE, base)
    world.contract.post_update(world.participants[0], 2, cid, 10)
    for member in (2, 3):
        world.post(member, world.update(member, tensors(member + 1)))
    world.settle()
    attest(world.contract, world.store, world.auditor, 2)
    erased(world, 1, cid, 2)


def test_a_rejections_report_is_not_erased_by_another_member(world: World) -> None:
    posted(world, ANYONE)
    world.settle()
    attest(world.contract, world.store, world.auditor, 1)
    report = world.store.put(b"why this model must not be used")
    world.contract.attest(world.participants[1], 1, False, report)
    posted_as_its_own(world, report)
    audit_ = audited(world)
    assert audit_.verdict is Verdict.INCOMPLETE
    assert f"{report}: missing: the report of round 1" in sentences(audit_, 6, Verdict.INCOMPLETE)


def test_a_model_is_not_erased_by_a_participant(world: World) -> None:
    posted(world)
    world.settle()
    world.attest()
    ended = world.contract.history().rounds[1].ended
    assert isinstance(ended, RoundSettled)
    posted_as_its_own(world, ended.model, base=0)
    report = audited(world)
    assert report.verdict is Verdict.INCOMPLETE
    assert f"{ended.model}: missing: the model of round 1" in sentences(report, 6, Verdict.INCOMPLETE)


def test_an_update_is_not_erased_by_a_member_that_copied_its_cid(world: World) -> None:
    world.aggregator.open(PLAN)
    victim = world.post(2, world.update(2, tensors(2)))
    world.contract.post_update(world.participants[0], 1, victim, 10)
    world.post(3, world.update(3, tensors(3)))
    world.settle()
    world.attest()
    erased(world, 1, victim)
    report = audited(world)
    assert report.verdict is Verdict.INCOMPLETE
    assert "missing: the update of round 1 by member 2 (Site 2" in sentences(report, 6, Verdict.INCOMPLETE)
    assert "member 2 (Site 2" in sentences(report, 8, Verdict.INCOMPLETE)


def roles_twice(world: World, member: int, first: Role, then: Role) -> None:
    """Two changes of roles, with a round between them, so that the chain knows no older ones."""
    world.contract.change_roles(world.governor, member, first)
    world.aggregator.open(PLAN.model_copy(update={"approvals": 0}))
    world.contract.abort(world.aggregator.account, 2, world.contract.head(), AbortReason.CANCELLED)
    world.contract.change_roles(world.governor, member, then)


def test_a_participants_approval_never_becomes_an_auditors(world: World) -> None:
    cids = posted(world, ANYONE)
    world.settle()
    report = world.store.put(examine(world.contract.history(), world.store, 1).report)
    world.contract.attest(world.participants[0], 1, True, report)
    roles_twice(world, 1, Role.PARTICIPANT | Role.AUDITOR, Role.PARTICIPANT)
    erased(world, 3, cids[3])
    audit_ = audited(world)
    assert audit_.verdict is Verdict.INCOMPLETE
    assert "before any auditor had approved the model" in sentences(audit_, 8, Verdict.INCOMPLETE)


def test_an_auditors_approval_is_not_forgotten(world: World) -> None:
    cids = posted(world)
    world.settle()
    world.attest()
    roles_twice(world, 5, Role.PARTICIPANT, Role.AUDITOR)
    erased(world, 3, cids[3])
    report = audited(world)
    assert report.verdict is Verdict.VERIFIED
    assert "it rests on an auditor's earlier approval" in sentences(report, 8, Verdict.VERIFIED)


def test_the_report_of_whoever_was_claimed_unavailable_does_not_vanish(world: World) -> None:
    cids = posted(world, ANYONE)
    world.store.path(cids[1]).unlink()
    world.chain.pass_time(PLAN.window + 1)
    world.settle()
    attest(world.contract, world.store, world.auditor, 1)
    report = world.store.put(b"my update was available all the time")
    world.contract.attest(world.participants[0], 1, False, report)
    assert audited(world).verdict is Verdict.VERIFIED
    world.store.path(report).unlink()
    audit_ = audited(world)
    assert audit_.verdict is Verdict.INCOMPLETE
    assert "missing: the report of round 1 by member 1 (Site 1" in sentences(audit_, 6, Verdict.INCOMPLETE)


# ----------------------------------------------------------------------- behind a question, or another history


def test_who_asks_for_some_rounds_is_told_that_the_others_plans_were_not_compared(world: World) -> None:
    charter = world.store.put(CHARTER_2)
    world.contract.change_charter(world.governor, charter)
    for member in [*world.participants, world.aggregator.account, world.auditor]:
        world.contract.accept(member, charter, b"k" * 32)
    opened(world, PLAN.model_copy(update={"quorum": 1, "approvals": 0}), 0)  # outside of the charter's limits
    for number in (1, 2, 3):
        world.post(number, world.update(number, tensors(number)))
    world.settle()
    opened(world, PLAN, 0)
    assert audited(world).checks[4].status is Verdict.VIOLATED
    report = audited(world, Asked(rounds={2}))
    assert report.verdict is Verdict.VERIFIED
    assert "1 of 2 rounds were left out" in report.sentence()
    assert "their plans compared with the charter" in report.sentence()


def test_an_approval_is_not_carried_over_to_another_model(world: World) -> None:
    """Whoever rewrites the chain from before the settlement sends the auditor's old transaction again."""
    world.aggregator.open(PLAN)
    for member in (1, 2):
        world.post(member, world.update(member, tensors(member)))
    before = world.snapshot()
    world.post(3, world.update(3, tensors(3)))
    world.settle()
    world.attest()
    approval = list(read_folder(world.write()).sent.values())[-1].raw
    world.revert(before)
    world.chain.pass_time(PLAN.window + 1)
    world.settle()
    web3 = world.chain.web3
    assert web3.eth.wait_for_transaction_receipt(web3.eth.send_raw_transaction(approval))["status"] == 1
    report = audited(world)
    assert report.verdict is Verdict.VIOLATED
    said = sentences(report, 7, Verdict.VIOLATED)
    assert "member 5 (Auditor" in said
    assert "it attests to another model" in said
