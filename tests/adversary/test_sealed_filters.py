"""Sealed rounds that filter, clip and remember: what an auditor with a key catches, and what is seen without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pyrage.x25519 import Identity

from ledger.aggregator import Proposal
from ledger.audit.checks import Asked, audit
from ledger.audit.evidence import read_folder
from ledger.audit.origin import Claims
from ledger.audit.report import Report, Verdict
from ledger.cid import RAW, Cid, cid_of
from ledger.facts import ErasureReason
from ledger.manifest import Manifest, Reason, Score
from ledger.sealing import Annex, read_annex, readers, write_annex
from ledger.settlement import Settlement
from ledger.updates import decode, encode
from tests.adversary.test_cheating_aggregator import (
    FAR,
    ROBUST,
    another_filtered,
    excluded_though_filtered,
    filtered_though_kept,
    kept_though_filtered,
    manifest_of,
    remembering,
    scoring,
    state_after,
    texts,
    with_another_state,
    with_manifest,
    without_one_score,
    without_scores,
    without_state,
)
from tests.world import World, identity_of, tensors

SEALED = ROBUST.model_copy(update={"seal": "age"})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[object]]:
    world = remembering(tmp_path_factory.mktemp("sealed"), SEALED)
    return world, [world.snapshot()]


@pytest.fixture
def world(shared: tuple[World, list[object]]) -> Iterator[World]:
    """Round 1, released, and round 2, not settled yet: to be changed at will, afterwards chain and blobs go back."""
    world, snapshots = shared
    with world.put_back(snapshots):
        yield world


def audited(world: World, *who: Identity) -> Report:
    asked = Asked(only_public=not who)
    return audit(read_folder(world.write()), Claims(head=world.contract.head()), asked, identities=who)


def auditor(world: World) -> Identity:
    return identity_of(world.auditor)


def annex_of(world: World, manifest: Manifest, who: Identity) -> Annex:
    found = read_annex(manifest.annex or "", world.place(), [who])
    assert found is not None
    return found


Cheat = Callable[[World, Settlement], Settlement]


def telling(change: Callable[[dict[int, Score]], Mapping[int, Score]]) -> Cheat:
    """Hand other scores on in the annex."""

    def cheat(world: World, honest: Settlement) -> Settlement:
        own = identity_of(world.aggregator.account)
        annex = annex_of(world, honest.manifest, own)
        to = readers(world.contract.history().rounds[2]).values()
        text = write_annex(world.place(), replace(annex, scores=change(dict(annex.scores))), to)
        return with_manifest(honest, annex=text)

    return cheat


def alone(fraud: Callable[[Settlement], Settlement]) -> Cheat:
    return lambda world, honest: fraud(honest)


def another_score(scores: dict[int, Score], member: int = 1, **changes: Any) -> dict[int, Score]:
    return scores | {member: scores[member].model_copy(update=changes)}


def public_scores(honest: Settlement) -> Settlement:
    return with_manifest(honest, scores={str(member): score for member, score in honest.scores.items()})


def state_of_another_strategy(honest: Settlement) -> Settlement:
    decoded = decode(honest.state or b"")
    state = encode({**decoded.header, "strategy": "fedyogi"}, decoded.schema, decoded.tensors)
    return replace(with_manifest(honest, state=str(cid_of(state))), state=state)


@dataclass(frozen=True)
class Fraud:
    """What an aggregator does, what an auditor with a key then reads, and whether anybody sees it without one."""

    cheat: Cheat
    said: str
    is_seen: bool


FRAUDS: dict[str, Fraud] = {
    "keeps what the filter leaves out": Fraud(
        alone(kept_though_filtered), "expected excluded as filtered; found counted", True),
    "filters one more": Fraud(alone(filtered_though_kept), "found excluded as filtered", True),
    "filters another one": Fraud(alone(another_filtered), "found excluded as filtered", False),
    "gives another reason": Fraud(alone(excluded_though_filtered), "found excluded as malformed", True),
    "lies on a norm in the annex": Fraud(
        telling(lambda scores: another_score(scores, norm=0.5)), "its annex scores the updates otherwise", False),
    "lies on a distance in the annex": Fraud(
        telling(lambda scores: another_score(scores, FAR, distance=0.5)), "its annex scores the updates", False),
    "lies on a site's figures in the annex": Fraud(
        telling(lambda scores: another_score(scores, metrics={"auc": 1.0})), "its annex scores the updates", False),
    "hands no scores on": Fraud(telling(lambda scores: {}), "its annex scores the updates otherwise", False),
    "scores a member that posted nothing": Fraud(
        telling(lambda scores: {**scores, 99: Score(norm=1.0)}), "its annex scores the updates otherwise", False),
    "shows everybody the scores": Fraud(alone(public_scores), "its manifest is not what settling again gives", True),
    "names no state": Fraud(alone(without_state), "its manifest is not what settling again gives", True),
    "names another state": Fraud(
        alone(with_another_state), "its manifest is not what settling again gives", False),
    "names a state of another strategy": Fraud(
        alone(state_of_another_strategy), "its manifest is not what settling again gives", True),
    "names the model for a state": Fraud(
        alone(lambda honest: with_manifest(honest, state=honest.manifest.model)),
        "its manifest is not what settling again gives", True),
}  # fmt: skip


def publish(world: World, cheat: Cheat) -> None:
    proposal = world.aggregator.propose()
    world.aggregator.publish(Proposal(2, proposal.head, cheat(world, proposal.settlement)))


@pytest.mark.parametrize("name", FRAUDS)
def test_an_auditor_with_a_key_catches_it_and_without_one_what_can_be_seen_is(name: str, world: World) -> None:
    fraud = FRAUDS[name]
    publish(world, fraud.cheat)
    opened = audited(world, auditor(world))
    assert opened.verdict is Verdict.VIOLATED
    party = f"by member 6 (Aggregator, {world.aggregator.account.address.lower()})"
    sentences = [one.sentence for one in opened.checks[6].findings if one.verdict is Verdict.VIOLATED]
    assert any(all(word in one for word in ("round 2", party, fraud.said)) for one in sentences), sentences
    closed = audited(world)
    assert closed.verdict is (Verdict.VIOLATED if fraud.is_seen else Verdict.VERIFIED), texts(closed)
    if fraud.is_seen:
        assert any("round 2" in one and party in one for one in texts(closed).splitlines())


def test_an_honest_round_is_verified_with_a_key_and_without(world: World) -> None:
    world.settle()
    assert audited(world, auditor(world)).verdict is Verdict.VERIFIED
    assert audited(world).verdict is Verdict.VERIFIED
    manifest = manifest_of(world, 2)
    assert manifest.scores is None
    assert [row.excluded for row in manifest.updates] == [None] * 4 + [Reason.FILTERED]
    scores = annex_of(world, manifest, auditor(world)).scores
    assert {member: score.metrics for member, score in scores.items()} == {
        member: {"auc": member / 8} for member in range(1, 6)
    }
    assert max(scores, key=lambda member: scores[member].distance or 0) == FAR
    assert max(scores, key=lambda member: scores[member].norm or 0) == FAR


def test_where_the_plan_makes_them_public_everybody_reads_the_scores(tmp_path: Path) -> None:
    world = remembering(tmp_path, SEALED.model_copy(update={"public_quality": True}))
    world.settle()
    assert audited(world, auditor(world)).verdict is Verdict.VERIFIED
    assert audited(world).verdict is Verdict.VERIFIED
    manifest = manifest_of(world, 2)
    scores = annex_of(world, manifest, auditor(world)).scores
    assert manifest.scores == {str(member): score for member, score in scores.items()}


PUBLIC_FRAUDS: dict[str, Callable[[Settlement], Settlement]] = {
    "shows no scores": without_scores,
    "leaves out one score": without_one_score,
    "scores an update that nobody posted": scoring(99, norm=1.0, distance=1.0),
    "shows no norm": scoring(1, norm=None),
    "shows no distance": scoring(1, distance=None),
    "filters another one than the farthest": another_filtered,
    "lies that the filtered one was the closest": scoring(FAR, distance=0.0),
}
"""What nobody needs a key for, where the plan has the scores public."""


def test_public_scores_that_fit_neither_plan_nor_weights_are_seen_without_a_key(tmp_path: Path) -> None:
    world = remembering(tmp_path, SEALED.model_copy(update={"public_quality": True}))
    snapshot = world.snapshot()
    for name, fraud in PUBLIC_FRAUDS.items():
        publish(world, alone(fraud))
        said = [one.text for one in audited(world).checks[6].findings if one.verdict is Verdict.VIOLATED]
        assert said == ["the scores in its manifest do not fit its plan and its weights"], name
        snapshot = world.revert(snapshot)


def test_a_far_update_however_far_keeps_no_auditor_from_the_annex(tmp_path: Path) -> None:
    world = World(tmp_path, participants=5)
    world.aggregator.open(SEALED)
    for member in range(1, 6):
        values = tensors(member / 8)
        if member == FAR:
            values["weight"][:] = 1e10 / 8
        world.post_sealed(member, world.seal(member, world.update(member, values)))
    world.settle()
    scores = annex_of(world, manifest_of(world, 1), auditor(world)).scores
    distance = scores[FAR].distance
    assert distance is not None
    assert 2.0**53 < distance < 1e21, "such numbers JSON writes like integers"
    assert audited(world, auditor(world)).verdict is Verdict.VERIFIED


@pytest.mark.parametrize("gone", [1, FAR], ids=["that was kept", "that was filtered"])
@pytest.mark.parametrize("what", ["the update", "its key blob"])
@pytest.mark.parametrize("erased", [False, True], ids=["missing", "erased"])
def test_what_is_gone_of_a_sealed_filtered_round_accuses_nobody(
    gone: int, what: str, erased: bool, world: World
) -> None:
    world.settle()
    update = world.contract.history().rounds[2].updates[gone]
    cid = update.update if what == "the update" else Cid(update.key_blob or b"", RAW)
    world.store.path(cid).unlink()
    if erased:
        world.contract.erase(world.participants[gone - 1], 2, gone, cid.digest, ErasureReason.REQUEST)
    for report in (audited(world, auditor(world)), audited(world)):
        assert report.verdict is Verdict.INCOMPLETE, texts(report)


def test_a_state_that_is_gone_is_named_with_a_key_and_without(world: World) -> None:
    world.settle()
    state = cid_of(state_after(world, 2))
    world.store.path(state).unlink()
    for report in (audited(world, auditor(world)), audited(world)):
        assert report.verdict is Verdict.INCOMPLETE, texts(report)
        assert str(state) in texts(report, Verdict.INCOMPLETE)
