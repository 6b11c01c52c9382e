"""Frauds of an aggregator, each played on a chain: the audit names round, party and blob."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_hash.auto import keccak

from ledger.aggregator import Proposal, propose, terms
from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.audit.origin import Claims
from ledger.audit.report import Report, Verdict
from ledger.choices import Equally, FedAdam, Krum
from ledger.cid import Bytes, Cid, cid_of
from ledger.errors import BlobMissingError, InvalidBlobError, Refused
from ledger.facts import ErasureReason, RoundSettled
from ledger.history import Status
from ledger.manifest import Manifest, Reason, Row, Score
from ledger.plan import Plan, TensorSpec
from ledger.settlement import Settlement, settle
from ledger.updates import MODEL_HEADER, decode, encode, update_header
from tests.chains import Chain
from tests.world import CHARTER_2, PLAN, SCHEMA, World, tensors


def with_manifest(settlement: Settlement, model: Bytes | None = None, **changes: object) -> Settlement:
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


def posted(folder: Path, chain: Chain | None = None) -> World:
    """Round 1 with two honest updates (members 1 and 2) and garbage (member 3), not settled yet."""
    world = World(folder, chain=chain)
    world.aggregator.open(PLAN)
    for member in (1, 2):
        world.post(member, world.update(member, tensors(member)))
    world.post(3, b"garbage")
    return world


def audited(world: World) -> Report:
    return audit(read_folder(world.write()), Claims(head=world.contract.head()))


def texts(report: Report, verdict: Verdict = Verdict.VIOLATED) -> str:
    findings = [finding for check in report.checks for finding in check.findings]
    return "\n".join(finding.sentence for finding in findings if finding.verdict is verdict)


def publishing(fraud: Callable[[Settlement], Settlement]) -> Callable[[World], None]:
    """Settle round 1 with something else than settlement gives."""

    def play(world: World) -> None:
        proposal = world.aggregator.propose()
        world.aggregator.publish(replace(proposal, settlement=fraud(proposal.settlement)))

    return play


def garbage_for_a_manifest(world: World) -> None:
    proposal = world.aggregator.propose()
    model, manifest = world.store.put(proposal.settlement.model or b""), world.store.put(b"\x00" * 100)
    world.contract.settle(world.aggregator.account, 1, proposal.head, model, manifest, 2)


def another_count(world: World) -> None:
    proposal = world.aggregator.propose()
    model = world.store.put(proposal.settlement.model or b"")
    manifest = world.store.put(proposal.settlement.manifest.encode())
    world.contract.settle(world.aggregator.account, 1, proposal.head, model, manifest, 3)


def other_order_of_sums(honest: Settlement) -> Settlement:
    """The same updates added in the order of arrival: another rounding."""
    values = tensors(1.5)
    values["weight"] = np.nextafter(values["weight"], np.float32(2))
    return with_manifest(honest, encode(MODEL_HEADER, SCHEMA, values))


def relayed_and_claimed_unavailable(world: World) -> None:
    """Round 2: the aggregator carries an update, and says that it is not to be had."""
    settle_and_open(world)
    cids = [world.post(member, world.update(member, tensors(member))) for member in (1, 2)]
    cids.append(world.relay(3, world.update(3, tensors(3)), world.aggregator.account))
    world.store.path(cids[-1]).unlink()
    world.settle()


def settle_and_open(world: World, **changes: Any) -> None:
    """End round 1 honestly, and open round 2 otherwise than its plan says."""
    world.settle()
    world.attest()
    world.contract.open(world.aggregator.account, world.store.put(PLAN.encode()), 1, replace(terms(PLAN), **changes))


def opening(**changes: Any) -> Callable[[World], None]:
    return lambda world: settle_and_open(world, **changes)


def planning(plan: bytes) -> Callable[[World], None]:
    def play(world: World) -> None:
        world.settle()
        world.attest()
        world.contract.open(world.aggregator.account, world.store.put(plan), 1, terms(PLAN))

    return play


def outside_of_the_charter(world: World) -> None:
    world.settle()
    world.attest()
    charter = world.store.put(CHARTER_2.replace(b'"min_quorum": 2', b'"min_quorum": 3'))
    world.contract.change_charter(world.governor, charter)
    for member in [*world.participants, world.aggregator.account, world.auditor]:
        world.contract.accept(member, charter, keccak(b"key"))
    world.contract.open(world.aggregator.account, world.store.put(PLAN.encode()), 1, terms(PLAN))


FRAUDS: dict[str, tuple[Callable[[World], None], int, list[str]]] = {
    "publishes another model": (publishing(another_model), 8, ["the model bafkrei"]),
    "adds in another order": (publishing(other_order_of_sums), 8, ["the model bafkrei"]),
    "aborts although there is a quorum": (publishing(aborted_with_a_quorum), 8, ["an abort for lack of a quorum"]),
    "excludes an honest update with a false reason": (
        publishing(excluded_as_malformed), 7, ["member 1 (Site 1", "counted with weight 10", "excluded as malformed"]),
    "counts garbage": (publishing(garbage_counted), 7, ["member 3 (Site 3", "excluded as malformed", "weight 10"]),
    "excludes for another reason": (
        publishing(excluded_for_another_reason), 7, ["member 3 (Site 3", "malformed", "found excluded as nonfinite"]),
    "reweights": (publishing(reweighted), 7, ["member 1 (Site 1", "counted with weight 1000"]),
    "drops an update": (publishing(left_out_of_the_manifest), 7, ["member 1 (Site 1", "this one left out of it"]),
    "counts an update twice": (publishing(listed_twice), 7, ["member 1 (Site 1", "this one 2 times in it"]),
    "invents an update": (publishing(invented), 7, ["member 9 (never admitted)", "no entry shows"]),
    "lists updates in another order": (publishing(other_order), 7, ["its manifest is not what settling again gives"]),
    "publishes another round's manifest": (publishing(of_another_round), 7, ["is not what settling again gives"]),
    "names another model in the manifest": (publishing(naming_another_model), 7, ["is not what settling again gives"]),
    "counts more than it does": (publishing(counting_more), 7, ["is not what settling again gives"]),
    "settles with another count": (another_count, 7, ["2 counted, as the manifest says", "found 3"]),
    "publishes garbage for a manifest": (garbage_for_a_manifest, 7, ["its manifest is malformed"]),
    "claims unavailable what it relayed": (relayed_and_claimed_unavailable, 7, ["member 3 (Site 3", "who had it"]),
    "opens a round on another quorum": (opening(quorum=1), 7, ["expected quorum 2", "found quorum 1"]),
    "opens a round on fewer approvals": (opening(approvals=0), 7, ["expected approvals 1", "found approvals 0"]),
    "opens a round for longer": (opening(window=601), 7, ["expected deadline", "found deadline"]),
    "opens a round with another grace": (opening(grace=1), 7, ["expected grace 86400", "found grace 1"]),
    "opens a round with more rejections": (opening(rejections=1), 7, ["expected rejections 0", "found rejections 1"]),
    "opens a round for more attesters": (
        opening(participants_attest=True), 7, ["expected participants_attest False", "found participants_attest True"]),
    "opens a round by a plan that is none": (planning(b"{}"), 7, ["its plan is malformed: not a plan"]),
    "opens a round on a model that does not fit its plan": (
        planning(PLAN.model_copy(update={"tensors": {"weight": SCHEMA["weight"]}}).encode()), 7,
        ["its base model does not fit its plan", "tensor 'bias' is F16 [3], the plan says absent"]),
    "opens a round by a plan outside of the charter's limits": (
        outside_of_the_charter, 5, ["quorum 2, the charter's min_quorum is 3"]),
}  # fmt: skip


# ------------------------------------------------------- strategies that remember, and rules that filter

ROBUST = PLAN.model_copy(
    update={
        "strategy": FedAdam(),
        "weighting": Equally(),
        "filter": Krum(attackers=1),
        "clipping": 2.0,
        "quorum": 5,
    }
)
FAR = 5
"""The member whose update the filter leaves out."""


def post_all(world: World, plan: Plan = ROBUST) -> None:
    """Open a round, in which members 1 to 4 are close to each other, and member 5 is far away."""
    world.aggregator.open(plan)
    for member in range(1, FAR + 1):
        values = tensors(50.0 if member == FAR else 1 + member / 8)
        blob = world.update(member, values, metrics={"auc": member / 8})
        if plan.seal == "none":
            world.post(member, blob)
        else:
            world.post_sealed(member, world.seal(member, blob))


def remembering(folder: Path, plan: Plan = ROBUST) -> World:
    """Round 1, released, after which the server remembers something; and round 2, which is not settled yet."""
    world = World(folder, participants=5)
    post_all(world, plan)
    world.settle()
    world.attest()
    post_all(world, plan)
    return world


def state_after(world: World, number: int = 1) -> bytes:
    return world.store.get(Cid.parse(manifest_of(world, number).state or ""))


def manifest_of(world: World, number: int) -> Manifest:
    ended = world.contract.history().rounds[number].ended
    assert ended is not None
    assert ended.manifest is not None
    return Manifest.decode(world.store.get(ended.manifest))


def kept_though_filtered(honest: Settlement) -> Settlement:
    return rows(honest, m5=row(honest, FAR, weight=1, excluded=None))


def filtered_though_kept(honest: Settlement) -> Settlement:
    return rows(honest, m1=row(honest, 1, weight=None, excluded=Reason.FILTERED))


def another_filtered(honest: Settlement) -> Settlement:
    return filtered_though_kept(kept_though_filtered(honest))


def excluded_though_filtered(honest: Settlement) -> Settlement:
    return rows(honest, m5=row(honest, FAR, excluded=Reason.MALFORMED))


def weighed_though_filtered(honest: Settlement) -> Settlement:
    return rows(honest, m5=row(honest, FAR, weight=1))


def scoring(member: int, **changes: Any) -> Callable[[Settlement], Settlement]:
    def fraud(honest: Settlement) -> Settlement:
        scores = honest.manifest.scores or {}
        score = scores.get(str(member), Score()).model_copy(update=changes)
        return with_manifest(honest, scores={**scores, str(member): score})

    return fraud


def without_scores(honest: Settlement) -> Settlement:
    return with_manifest(honest, scores=None)


def without_one_score(honest: Settlement) -> Settlement:
    return with_manifest(honest, scores={key: one for key, one in (honest.manifest.scores or {}).items() if key != "5"})


def without_state(honest: Settlement) -> Settlement:
    return replace(with_manifest(honest, state=None), state=None)


def with_another_state(honest: Settlement) -> Settlement:
    decoded = decode(honest.state or b"")
    tensors_ = {name: array * np.float32(2) for name, array in decoded.tensors.items()}
    state = encode(decoded.header, decoded.schema, tensors_)
    return replace(with_manifest(honest, state=str(cid_of(state))), state=state)


def with_no_cid_for_a_state(honest: Settlement) -> Settlement:
    return with_manifest(honest, state="b" + "a" * 58)


def with_the_state_before(world: World) -> None:
    """The state that the round began with, as if it had changed nothing."""
    before = manifest_of(world, 1).state
    publishing(lambda honest: with_manifest(honest, state=before))(world)


def settled_by(plan: Plan = ROBUST, state: Callable[[World], bytes | None] = state_after) -> Callable[[World], None]:
    """Settle round 2 by another plan, or from another state than the one after round 1; all documents fit."""

    def play(world: World) -> None:
        known, other = world.contract.history().rounds[2], state(world)
        begins = world.store.put(other) if other else None
        updates, place = known.updates.values(), world.place()
        settlement = settle(place, plan, updates, world.store, (), state=begins, eligible=known.eligible)
        world.aggregator.publish(Proposal(2, world.contract.head(), settlement))

    return play


def a_made_up_state(world: World) -> bytes:
    decoded = decode(state_after(world))
    return encode(decoded.header, decoded.schema, {name: array * 0 for name, array in decoded.tensors.items()})


REMEMBERING: dict[str, tuple[Callable[[World], None], int, list[str]]] = {
    "keeps an update that the filter leaves out": (
        publishing(kept_though_filtered), 7, ["member 5 (Site 5", "expected excluded as filtered", "counted with"]),
    "filters an update that the filter keeps": (
        publishing(filtered_though_kept), 7, ["member 1 (Site 1", "expected counted", "found excluded as filtered"]),
    "filters an honest update in the place of an attacker's": (
        publishing(another_filtered), 7, ["member 1 (Site 1", "expected counted", "found excluded as filtered"]),
    "excludes for another reason what the filter leaves out": (
        publishing(excluded_though_filtered), 7, ["member 5 (Site 5", "as filtered", "found excluded as malformed"]),
    "weighs an update that the filter leaves out": (
        publishing(weighed_though_filtered), 7, ["member 5 (Site 5", "expected excluded as filtered"]),
    "lies about how far an update is": (
        publishing(scoring(FAR, distance=0.5)), 7, ["its manifest is not what settling again gives"]),
    "lies about how long an update is": (
        publishing(scoring(1, norm=0.5)), 7, ["its manifest is not what settling again gives"]),
    "invents figures of a site": (
        publishing(scoring(1, metrics={"auc": 1.0})), 7, ["its manifest is not what settling again gives"]),
    "scores an update that nobody posted": (
        publishing(scoring(9, norm=1.0)), 7, ["its manifest is not what settling again gives"]),
    "shows no scores": (publishing(without_scores), 7, ["its manifest is not what settling again gives"]),
    "leaves out one score": (publishing(without_one_score), 7, ["its manifest is not what settling again gives"]),
    "names no state": (publishing(without_state), 7, ["its manifest is not what settling again gives"]),
    "names another state": (publishing(with_another_state), 7, ["its manifest is not what settling again gives"]),
    "names the state of the round before": (
        with_the_state_before, 7, ["its manifest is not what settling again gives"]),
    "names a state that is no CID": (publishing(with_no_cid_for_a_state), 7, ["its manifest is malformed", "state"]),
    "settles as if the server remembered nothing": (
        settled_by(state=lambda world: None), 8, ["settling again gives something else", "the model bafkrei"]),
    "settles from a state that it made up": (
        settled_by(state=a_made_up_state), 8, ["settling again gives something else", "the model bafkrei"]),
    "settles without the filter": (
        settled_by(ROBUST.model_copy(update={"filter": None})), 8, ["settling again gives something else"]),
    "settles without clipping": (
        settled_by(ROBUST.model_copy(update={"clipping": None})), 8, ["settling again gives something else"]),
    "settles with another rate of the server": (
        settled_by(ROBUST.model_copy(update={"strategy": FedAdam(server_learning_rate=0.2)})), 8,
        ["settling again gives something else"]),
}  # fmt: skip
"""The same of round 2 of a ledger whose plans filter, clip and step with Adam."""


@pytest.fixture(scope="module")
def shared_remembering(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[object]]:
    world = remembering(tmp_path_factory.mktemp("remembering"))
    return world, [world.snapshot()]


@pytest.fixture
def remembered(shared_remembering: tuple[World, list[object]]) -> Iterator[World]:
    """That world, to be changed at will: afterwards chain and blobs go back."""
    world, snapshots = shared_remembering
    with world.put_back(snapshots):
        yield world


@pytest.mark.parametrize("name", REMEMBERING)
def test_a_fraud_with_what_the_server_remembers_or_filters_is_caught_by_its_check(name: str, remembered: World) -> None:
    play, check, expected = REMEMBERING[name]
    play(remembered)
    assert_caught(remembered, check, expected)
    assert remembered.place().round == 2


def test_an_honest_settlement_with_a_filter_and_a_state_is_verified(remembered: World) -> None:
    remembered.settle()
    assert audited(remembered).verdict is Verdict.VERIFIED
    found = {one.member: one.excluded for one in manifest_of(remembered, 2).updates}
    assert found == {1: None, 2: None, 3: None, 4: None, 5: Reason.FILTERED}
    assert state_after(remembered, 2) != state_after(remembered, 1)


def test_a_state_that_is_dropped_is_named_and_its_round_and_the_next_are_not_verified(remembered: World) -> None:
    remembered.settle()
    remembered.store.path(cid_of(state_after(remembered))).unlink()
    report = audited(remembered)
    assert report.verdict is Verdict.INCOMPLETE
    sentences = texts(report, Verdict.INCOMPLETE)
    assert "missing: the server's state after round 1" in sentences
    assert "round 2: it cannot be settled again" in sentences
    assert not texts(report)


def test_a_state_that_is_dropped_stops_the_next_settlement_with_what_to_do(remembered: World) -> None:
    missing = cid_of(state_after(remembered))
    remembered.store.path(missing).unlink()
    with pytest.raises(BlobMissingError, match=str(missing)):
        remembered.settle()


def test_a_state_that_is_altered_is_mismatched(remembered: World) -> None:
    remembered.settle()
    state = state_after(remembered)
    remembered.store.path(cid_of(state)).write_bytes(state[:-1] + bytes([state[-1] ^ 1]))
    assert "mismatched" in texts(audited(remembered))


def test_a_manifest_that_is_gone_stops_no_later_round_whose_server_remembers_nothing(tmp_path: Path) -> None:
    world = posted(tmp_path)
    world.settle()
    world.attest()
    known = world.contract.history().rounds[1].ended
    assert known is not None
    assert known.manifest is not None
    world.store.path(known.manifest).unlink()
    world.aggregator.open(PLAN)
    for member in (1, 2):
        world.post(member, world.update(member, tensors(member)))
    world.chain.pass_time(PLAN.window + 1)
    world.settle()
    report = audited(world)
    assert report.verdict is Verdict.INCOMPLETE
    assert {finding.round for finding in report.checks[7].findings if finding.verdict is Verdict.INCOMPLETE} == {1}


@pytest.mark.parametrize("gone", [1, FAR], ids=["that was kept", "that was filtered"])
@pytest.mark.parametrize("erased", [False, True], ids=["missing", "erased"])
def test_an_update_that_is_gone_from_a_filtered_round_accuses_nobody(
    gone: int, erased: bool, remembered: World
) -> None:
    remembered.settle()
    cid = remembered.contract.history().rounds[2].updates[gone].update
    remembered.store.path(cid).unlink()
    if erased:
        remembered.contract.erase(remembered.participants[gone - 1], 2, gone, cid.digest, ErasureReason.REQUEST)
    report = audited(remembered)
    assert report.verdict is Verdict.INCOMPLETE, texts(report)
    assert str(cid) in texts(report, Verdict.INCOMPLETE)


@pytest.mark.parametrize("gone", ["an update", "the state before"])
@pytest.mark.parametrize(
    ("fraud", "said"),
    [
        (filtered_though_kept, "expected 4 of 5 updates kept by the filter; found 3 kept"),
        (without_state, "expected a state; found none"),
        (without_one_score, "the scores in its manifest do not fit its plan and its weights"),
        (another_filtered, "the scores in its manifest do not fit its plan and its weights"),
    ],
)
def test_what_is_gone_hides_no_lie_that_needs_no_settling_again(
    fraud: Callable[[Settlement], Settlement], said: str, gone: str, remembered: World
) -> None:
    update, state = remembered.contract.history().rounds[2].updates[2].update, manifest_of(remembered, 1).state
    publishing(fraud)(remembered)
    remembered.store.path(update if gone == "an update" else Cid.parse(state or "")).unlink()
    report = audited(remembered)
    assert report.verdict is Verdict.VIOLATED
    assert said in texts(report)


def test_what_is_gone_from_a_filtered_round_hides_no_lie_on_another_weight(remembered: World) -> None:
    publishing(reweighted)(remembered)
    remembered.store.path(remembered.contract.history().rounds[2].updates[2].update).unlink()
    report = audited(remembered)
    assert report.verdict is Verdict.VIOLATED
    assert "expected counted with weight 1; found counted with weight 1000" in texts(report)


def test_the_scores_that_a_report_shows_are_those_of_settling_again(remembered: World) -> None:
    publishing(scoring(1, metrics={"auc": 1.0}))(remembered)
    assert audited(remembered).timeline[1]["scores"]["sites"]["1"]["metrics"] == {"auc": 0.125}


def test_a_filter_looks_at_no_fewer_updates_than_the_quorum(remembered: World) -> None:
    remembered.store.path(remembered.contract.history().rounds[2].updates[2].update).unlink()
    remembered.settle()
    assert remembered.contract.history().rounds[2].status is Status.ABORTED
    assert {one.excluded for one in manifest_of(remembered, 2).updates} == {None, Reason.UNAVAILABLE}
    assert audited(remembered).verdict is Verdict.VERIFIED


@pytest.mark.parametrize("more", [3, 5000], ids=["small", "larger than any update"])
def test_a_round_that_steps_from_a_base_of_another_form_is_violated_whoever_settled_it(
    more: int, tmp_path: Path
) -> None:
    schema, fewer = SCHEMA | {"bias": TensorSpec(dtype="F16", shape=[more])}, {"weight": SCHEMA["weight"]}
    base = encode(MODEL_HEADER, schema, tensors(0) | {"bias": np.zeros(more, np.float16)})
    world, plan = World(tmp_path, genesis=base), PLAN.model_copy(update={"tensors": fewer, "strategy": FedAdam()})
    world.contract.open(world.aggregator.account, world.store.put(plan.encode()), 0, terms(plan))
    for member in (1, 2):
        values = {"weight": tensors(member)["weight"]}
        world.post(member, encode(update_header(world.place(), member, 10), fewer, values))
    with pytest.raises(InvalidBlobError):
        world.aggregator.propose()
    world.chain.pass_time(PLAN.window + 1)
    known, place = world.contract.history().rounds[1], world.place()
    plain = settle(place, PLAN.model_copy(update={"tensors": fewer}), known.updates.values(), world.store, ())
    world.aggregator.publish(Proposal(1, world.contract.head(), plain))
    report = audited(world)
    assert report.verdict is Verdict.VIOLATED
    assert "its base model" in texts(report)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[object]]:
    world = posted(tmp_path_factory.mktemp("posted"))
    return world, [world.snapshot()]


@pytest.fixture
def world(shared: tuple[World, list[object]]) -> Iterator[World]:
    """That world, to be changed at will: afterwards the chain goes back."""
    world, snapshots = shared
    yield world
    snapshots[0] = world.revert(snapshots[0])


@pytest.mark.parametrize("name", FRAUDS)
def test_a_fraud_of_an_aggregator_is_caught_by_its_check_and_names_it(name: str, world: World) -> None:
    play, check, expected = FRAUDS[name]
    play(world)
    assert_caught(world, check, expected)


def assert_caught(world: World, check: int, expected: list[str]) -> None:
    report = audited(world)
    sentences = [one.sentence for one in report.checks[check - 1].findings if one.verdict is Verdict.VIOLATED]
    member = len(world.participants) + 1
    party = f"by member {member} (Aggregator, {world.aggregator.account.address.lower()})"
    place = f"round {world.place().round}"
    assert any(all(word in sentence for word in [party, place, *expected]) for sentence in sentences), sentences
    assert report.verdict is Verdict.VIOLATED


def test_an_honest_settlement_of_the_same_updates_is_verified(world: World) -> None:
    world.settle()
    assert audited(world).verdict is Verdict.VERIFIED


def test_the_auditor_rejects_a_fraud_and_no_round_can_build_on_it(world: World) -> None:
    publishing(another_model)(world)
    world.attest()
    history = world.contract.history()
    assert history.rounds[1].status is Status.SETTLED
    assert history.latest_released == 0
    assert any("rejected the model" in finding.sentence for finding in audited(world).checks[-1].findings)


def test_the_auditor_says_nothing_where_a_blob_is_missing(tmp_path: Path) -> None:
    world = posted(tmp_path)
    world.settle()
    world.store.path(world.contract.history().rounds[1].updates[1].update).unlink()
    world.attest()
    assert world.contract.history().rounds[1].attestations == {}


@pytest.mark.parametrize("what", ["model", "state"])
def test_the_auditor_approves_nothing_that_the_next_round_could_not_begin_with(what: str, remembered: World) -> None:
    remembered.settle()
    manifest = manifest_of(remembered, 2)
    remembered.store.path(Cid.parse(getattr(manifest, what))).unlink()
    remembered.attest()
    assert remembered.contract.history().rounds[2].attestations == {}


def test_an_update_claimed_unavailable_is_listed_as_the_aggregators_claim(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.aggregator.open(PLAN)
    cids = [world.post(member, world.update(member, tensors(member))) for member in (1, 2, 3)]
    world.store.path(cids[1]).unlink()
    world.settle()
    report = audited(world)
    assert report.verdict is Verdict.VERIFIED, "the manifest says that it was not to be had"
    noted = texts(report, Verdict.VERIFIED)
    assert f"blob {cids[1]}: excluded as unavailable, claimed by member 4 (Aggregator" in noted


def test_a_settlement_on_a_head_that_has_moved_is_refused(world: World) -> None:
    stale = Proposal(1, bytes(32), propose(world.contract.history(), world.store).settlement)
    with pytest.raises(Refused, match="entries were recorded after"):
        world.aggregator.publish(stale)


def open_with(world: World, plan: bytes, **changes: Any) -> None:
    world.contract.open(world.aggregator.account, world.store.put(plan), 0, replace(terms(PLAN), **changes))


def test_a_settled_model_is_what_the_honest_arithmetic_gives(world: World) -> None:
    world.settle()
    ended = world.contract.history().rounds[1].ended
    assert isinstance(ended, RoundSettled)
    assert world.store.get(ended.model) == encode(MODEL_HEADER, SCHEMA, tensors(1.5))
    assert ended.manifest is not None
    assert Manifest.decode(world.store.get(ended.manifest)).counted == 2
