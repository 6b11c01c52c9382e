"""Sealed rounds: what each auditor can tell, and whoever seals, hands on or leaves out otherwise than he should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyrage
import pytest
from pyrage.x25519 import Identity

from ledger.aggregator import Proposal
from ledger.audit.checks import Asked, audit
from ledger.audit.evidence import read_folder
from ledger.audit.origin import Claims
from ledger.audit.report import Report, Verdict
from ledger.cid import RAW, Cid
from ledger.errors import UsageError
from ledger.facts import Role
from ledger.manifest import Manifest, Reason
from ledger.plan import Plan
from ledger.sealing import Annex, Masked, Sealed, mask, open_key, read_annex, readers, seal_to, write_annex, write_grant
from ledger.settlement import settle
from tests.world import SEALED, World, age_key, identity_of, tensors

AGGREGATOR, AUDITOR = 4, 5


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.aggregator.open(SEALED)
    return made


def posted(world: World, *members: int) -> dict[int, Sealed]:
    sealed = {member: world.seal(member, world.update(member, tensors(member))) for member in members}
    for member, one in sealed.items():
        world.post_sealed(member, one)
    return sealed


def settle_now(world: World) -> None:
    world.chain.pass_time(SEALED.window + 1)
    world.settle()


def audited(world: World, *who: Identity, public: bool = False) -> Report:
    return audit(
        read_folder(world.write()), Claims(head=world.contract.head()), Asked(only_public=public), identities=who
    )


def said(report: Report, verdict: Verdict) -> list[str]:
    return [finding.sentence for check in report.checks for finding in check.findings if finding.verdict is verdict]


def auditor(world: World) -> Identity:
    return identity_of(world.auditor)


def manifest_of(world: World, number: int = 1) -> Manifest:
    ended = world.contract.history().rounds[number].ended
    assert ended is not None
    assert ended.manifest is not None
    return Manifest.decode(world.store.get(ended.manifest))


def test_with_a_readers_key_everything_is_settled_again(world: World) -> None:
    posted(world, 1, 2, 3)
    settle_now(world)
    for who in (auditor(world), identity_of(world.aggregator.account)):
        report = audited(world, who)
        assert report.verdict is Verdict.VERIFIED, said(report, Verdict.VIOLATED)
        assert report.scope.left_open is None
    assert [row.weight for row in manifest_of(world).updates] == [10, 10, 10]


def test_sealing_changes_nothing_of_the_model(world: World, tmp_path: Path) -> None:
    posted(world, 1, 2, 3)
    settle_now(world)
    plain = World(tmp_path / "plain")
    plain.aggregator.open(SEALED.model_copy(update={"seal": "none"}))
    for member in (1, 2, 3):
        plain.post(member, plain.update(member, tensors(member)))
    plain.settle()
    models = [one.contract.history().rounds[1].ended.model for one in (world, plain)]  # type: ignore[union-attr]
    assert models[0] == models[1]


def test_without_a_key_the_audit_is_incomplete_and_says_what_it_checked(world: World) -> None:
    posted(world, 1, 2)
    settle_now(world)
    report = audited(world)
    assert report.verdict is Verdict.INCOMPLETE
    [text] = said(report, Verdict.INCOMPLETE)
    assert "round 1" in text
    assert "give --identity" in text
    assert "manifest's weights and counts, and the model's form are checked" in text


def test_asked_for_what_is_public_only_it_is_verified_and_says_what_that_leaves_open(world: World) -> None:
    posted(world, 1, 2)
    settle_now(world)
    report = audited(world, public=True)
    assert report.verdict is Verdict.VERIFIED
    assert "the updates of 1 of 1 rounds stayed sealed" in str(report.scope.left_open)
    assert "Verified as far as was asked" in report.sentence()


def test_a_key_that_was_not_named_opens_nothing(world: World) -> None:
    posted(world, 1, 2)
    settle_now(world)
    report = audited(world, Identity.generate())
    assert report.verdict is Verdict.INCOMPLETE
    assert "ask an auditor or the aggregator for a grant" in said(report, Verdict.INCOMPLETE)[0]


def test_a_participant_opens_its_own_update_and_no_other(world: World) -> None:
    sealed = posted(world, 1, 2)
    own = identity_of(world.participants[0])
    assert open_key(sealed[1].key_blob or b"", [own])
    assert open_key(sealed[2].key_blob or b"", [own]) is None


def test_a_grant_lets_a_later_auditor_settle_again(world: World) -> None:
    posted(world, 1, 2)
    settle_now(world)
    later = world.account("later")
    world.contract.admit(world.governor, later.address, Role.AUDITOR, "Later")
    world.contract.accept(later, world.contract.genesis.charter, age_key(identity_of(later)))
    assert audited(world, identity_of(later)).verdict is Verdict.INCOMPLETE
    history = world.contract.history()
    annex = read_annex(manifest_of(world).annex or "", world.place(), [auditor(world)])
    assert annex is not None
    keys = world.store.put(write_grant(history.genesis, {1: annex.masked}, age_key(identity_of(later))))
    world.contract.grant(world.auditor, 6, 1, 1, keys)
    assert audited(world, identity_of(later)).verdict is Verdict.VERIFIED
    world.store.path(keys).unlink()
    report = audited(world, identity_of(later))
    assert report.verdict is Verdict.INCOMPLETE
    assert any("a grant to you cannot be read" in text for text in said(report, Verdict.INCOMPLETE))


def test_a_false_grant_accuses_nobody(world: World) -> None:
    posted(world, 1, 2)
    settle_now(world)
    later = world.account("later")
    world.contract.admit(world.governor, later.address, Role.AUDITOR, "Later")
    world.contract.accept(later, world.contract.genesis.charter, age_key(identity_of(later)))
    history = world.contract.history()
    false = {1: {1: bytes(32), 2: bytes(range(32))}}
    keys = world.store.put(write_grant(history.genesis, false, age_key(identity_of(later))))
    world.contract.grant(world.auditor, 6, 1, 1, keys)
    report = audited(world, identity_of(later))
    assert report.verdict is Verdict.INCOMPLETE
    assert any("the grant holds no key that opens it" in text for text in said(report, Verdict.INCOMPLETE))


# -------------------------------------------------------------------- sites that seal otherwise


def not_sealed(world: World, blob: bytes) -> Sealed:
    return Sealed(blob, world.seal(3, blob).key_blob)


def another_identity(world: World, blob: bytes) -> Sealed:
    return Sealed(world.seal(3, blob).update, world.seal(3, blob).key_blob)


def without_the_aggregator(world: World, blob: bytes) -> Sealed:
    identity = Identity.generate()
    return Sealed(
        pyrage.encrypt(blob, [identity.to_public()]), seal_to([age_key(auditor(world))], str(identity).encode())
    )


def for_nobody(world: World, blob: bytes) -> Sealed:
    identity = Identity.generate()
    stranger = age_key(Identity.generate())
    return Sealed(pyrage.encrypt(blob, [identity.to_public()]), seal_to([stranger], str(identity).encode()))


def for_the_aggregator_only(world: World, blob: bytes) -> Sealed:
    identity = Identity.generate()
    own = age_key(identity_of(world.aggregator.account))
    return Sealed(pyrage.encrypt(blob, [identity.to_public()]), seal_to([own], str(identity).encode()))


def garbage_key_blob(world: World, blob: bytes) -> Sealed:
    return Sealed(world.seal(3, blob).update, b"no key blob")


def no_identity_in_the_key_blob(world: World, blob: bytes) -> Sealed:
    known = world.contract.history().rounds[1]
    return Sealed(world.seal(3, blob).update, seal_to(readers(known).values(), b"AGE-SECRET-KEY-1NONE"))


def cut_short(world: World, blob: bytes) -> Sealed:
    sealed = world.seal(3, blob)
    return Sealed(sealed.update[:-1], sealed.key_blob)


def of_another_member(world: World, blob: bytes) -> Sealed:
    return world.seal(3, world.update(2, tensors(2)))


def too_large(world: World, blob: bytes) -> Sealed:
    return world.seal(3, blob + bytes(3 * SEALED.max_update_bytes))


SITES: dict[Callable[[World, bytes], Sealed], Reason | None] = {
    not_sealed: Reason.UNOPENABLE,
    another_identity: Reason.UNOPENABLE,
    without_the_aggregator: Reason.UNOPENABLE,
    for_nobody: Reason.UNOPENABLE,
    for_the_aggregator_only: None,
    garbage_key_blob: Reason.UNOPENABLE,
    no_identity_in_the_key_blob: Reason.UNOPENABLE,
    cut_short: Reason.UNOPENABLE,
    of_another_member: Reason.BINDING,
    too_large: Reason.OVERSIZED,
}


@pytest.mark.parametrize("sealing", SITES, ids=lambda one: one.__name__)
def test_a_site_that_seals_otherwise_is_left_out_for_a_reason_and_harms_no_audit(
    world: World, sealing: Callable[[World, bytes], Sealed]
) -> None:
    posted(world, 1, 2)
    world.post_sealed(3, sealing(world, world.update(3, tensors(3))))
    settle_now(world)
    assert manifest_of(world).updates[2].excluded == SITES[sealing]
    report = audited(world, auditor(world))
    assert not said(report, Verdict.VIOLATED)
    disputed = sealing is without_the_aggregator
    assert report.verdict is (Verdict.INCOMPLETE if disputed else Verdict.VERIFIED)
    assert not said(audited(world), Verdict.VIOLATED)
    assert audited(world, public=True).verdict is Verdict.VERIFIED


def test_an_update_that_is_not_sealed_at_all_is_left_out(world: World) -> None:
    posted(world, 1, 2)
    world.post(3, world.update(3, tensors(3)))
    settle_now(world)
    assert manifest_of(world).updates[2].excluded is Reason.UNOPENABLE
    assert audited(world, auditor(world)).verdict is Verdict.VERIFIED
    assert audited(world, public=True).verdict is Verdict.VERIFIED


def test_a_neighbours_sealed_update_posted_again_does_not_count(world: World) -> None:
    sealed = posted(world, 1, 2)
    world.post_sealed(3, sealed[1])
    settle_now(world)
    assert manifest_of(world).updates[2].excluded is Reason.BINDING
    assert audited(world, auditor(world)).verdict is Verdict.VERIFIED


# ---------------------------------------------------------------- aggregators that cheat


@dataclass(frozen=True)
class Cheating:
    """Settles with other keys than it found, and hands on what it likes."""

    world: World

    def publish(self, plan: Plan, handed_on: dict[int, bytes] | None, to: Sequence[bytes], without: int | None) -> None:
        world, history = self.world, self.world.contract.history()
        known, place = history.rounds[1], world.place()
        own = [identity_of(world.aggregator.account)]
        blobs = {member: world.store.get(Cid(one.key_blob or b"", RAW)) for member, one in known.updates.items()}
        keys = {member: open_key(blob, own) or "" for member, blob in blobs.items()}
        keys.pop(without or 0, None)
        masked = {member: mask(key, blobs[member]) for member, key in keys.items()} if handed_on is None else handed_on
        settlement = settle(place, plan, known.updates.values(), world.store, (), keys=keys)
        annex = write_annex(place, Annex(masked, settlement.scores), to)
        settlement = replace(settlement, manifest=settlement.manifest.model_copy(update={"annex": annex}))
        world.chain.pass_time(plan.window + 1)
        world.aggregator.publish(Proposal(1, history.head, settlement))


def test_an_update_that_was_left_out_as_unopenable_is_disputed_by_an_auditor_who_opens_it(world: World) -> None:
    posted(world, 1, 2, 3)
    Cheating(world).publish(SEALED, None, readers(world.contract.history().rounds[1]).values(), without=3)  # type: ignore[arg-type]
    report = audited(world, auditor(world))
    assert report.verdict is Verdict.INCOMPLETE
    [text] = said(report, Verdict.INCOMPLETE)
    assert "claimed unopenable by the aggregator, and your key opens it" in text
    assert "Site 3" in text
    assert "Aggregator" in text


@pytest.mark.parametrize("handed_on", [{}, {1: bytes(32), 2: bytes(32), 3: bytes(32)}, {1: bytes(32)}])
def test_an_aggregator_that_hands_on_no_keys_or_false_ones_is_caught(world: World, handed_on: dict[int, bytes]) -> None:
    posted(world, 1, 2, 3)
    to = list(readers(world.contract.history().rounds[1]).values())
    Cheating(world).publish(SEALED, handed_on, to, without=None)
    report = audited(world, auditor(world))
    assert report.verdict is Verdict.VIOLATED
    assert any("Aggregator" in text for text in said(report, Verdict.VIOLATED))


def test_a_false_key_for_an_update_that_was_left_out_is_caught_by_the_key_blob(world: World) -> None:
    sealed = posted(world, 1, 2, 3)
    known, own = world.contract.history().rounds[1], [identity_of(world.aggregator.account)]
    masked = {
        member: mask(open_key(sealed[member].key_blob or b"", own) or "", sealed[member].key_blob or b"")
        for member in (1, 2)
    }
    to = list(readers(known).values())
    Cheating(world).publish(SEALED, {**masked, 3: bytes(32)}, to, without=3)
    report = audited(world, auditor(world))
    assert report.verdict is Verdict.VIOLATED
    assert any("hands on another key than the key blob holds" in text for text in said(report, Verdict.VIOLATED))


def test_an_aggregator_that_keeps_an_auditor_out_of_the_annex_is_caught_by_that_auditor(world: World) -> None:
    posted(world, 1, 2)
    Cheating(world).publish(SEALED, None, [age_key(identity_of(world.aggregator.account))], without=None)
    report = audited(world, auditor(world))
    assert report.verdict is Verdict.VIOLATED
    assert any("does not open to the key of member 5" in text for text in said(report, Verdict.VIOLATED))


def test_what_needs_no_key_is_checked_without_one(world: World) -> None:
    posted(world, 1, 2, 3)
    lighter = SEALED.model_copy(update={"weighting": SEALED.weighting.model_copy(update={"cap": 5})})
    to = list(readers(world.contract.history().rounds[1]).values())
    Cheating(world).publish(lighter, None, to, without=None)
    report = audited(world)
    assert report.verdict is Verdict.VIOLATED
    assert any("counted with weight 10" in text for text in said(report, Verdict.VIOLATED))


def test_an_aggregator_without_its_key_settles_nothing(world: World) -> None:
    posted(world, 1, 2)
    world.aggregator = replace(world.aggregator, identities=[Identity.generate()])
    with pytest.raises(UsageError, match="sealed to keys of which none is here"):
        world.settle()


# --------------------------------------------------------- who gains by framing an honest aggregator


def granted_later(world: World, keys: dict[int, bytes]) -> Identity:
    """An auditor that came after round 1, and what another auditor, who may lie, grants to it."""
    later = world.account("later")
    world.contract.admit(world.governor, later.address, Role.AUDITOR, "Later")
    world.contract.accept(later, world.contract.genesis.charter, age_key(identity_of(later)))
    annex = read_annex(manifest_of(world).annex or "", world.place(), [auditor(world)])
    assert annex is not None
    grant = write_grant(world.contract.history().genesis, {1: {**annex.masked, **keys}}, age_key(identity_of(later)))
    world.contract.grant(world.auditor, 6, 1, 1, world.store.put(grant))
    return identity_of(later)


def test_a_member_and_who_grants_cannot_frame_the_aggregator_with_a_key_that_it_was_never_given(world: World) -> None:
    posted(world, 1, 2)
    identity, known = Identity.generate(), world.contract.history().rounds[1]
    update = pyrage.encrypt(world.update(3, tensors(3)), [identity.to_public()])
    sealed = Sealed(update, seal_to(readers(known).values(), str(Identity.generate()).encode()))
    world.post_sealed(3, sealed)
    settle_now(world)
    later = granted_later(world, {3: mask(str(identity), sealed.key_blob or b"")})
    assert not said(audited(world, later), Verdict.VIOLATED)


def test_a_false_grant_to_whom_the_update_is_sealed_does_not_pass_for_the_aggregators_annex(world: World) -> None:
    posted(world, 1, 2)
    identity, later = Identity.generate(), world.account("later")
    update = pyrage.encrypt(world.update(3, tensors(3)), [identity.to_public()])
    world.post_sealed(3, Sealed(update, seal_to([age_key(identity_of(later))], str(identity).encode())))
    settle_now(world)
    report = audited(world, granted_later(world, {3: bytes(32)}))
    assert report.verdict is Verdict.INCOMPLETE
    assert not said(report, Verdict.VIOLATED)


def test_an_update_that_is_too_large_and_that_nobody_opens_harms_no_public_audit(world: World) -> None:
    posted(world, 1, 2)
    world.post_sealed(3, Sealed(too_large(world, world.update(3, tensors(3))).update, b"garbage"))
    settle_now(world)
    assert manifest_of(world).updates[2].excluded is Reason.UNOPENABLE
    assert audited(world, public=True).verdict is Verdict.VERIFIED


def test_an_update_that_is_too_large_and_sealed_without_the_aggregator_is_no_dispute(world: World) -> None:
    posted(world, 1, 2)
    world.post_sealed(3, without_the_aggregator(world, bytes(3 * SEALED.max_update_bytes)))
    settle_now(world)
    assert audited(world, auditor(world)).verdict is Verdict.VERIFIED


def test_whoever_lengthens_a_stored_blob_does_not_accuse_the_aggregator(world: World) -> None:
    sealed = posted(world, 1, 2)
    settle_now(world)
    path = world.store.path(world.contract.history().rounds[1].updates[1].update)
    path.write_bytes(sealed[1].update + bytes(3 * SEALED.max_update_bytes))
    [text] = said(audited(world, public=True), Verdict.VIOLATED)
    assert "mismatched" in text
    assert "whoever keeps this store" in text


@pytest.mark.parametrize("key", ["settlement", "chain_id", "ledger", "round", "plan", "base"])
def test_a_manifest_of_another_place_is_seen_without_a_key(world: World, key: str) -> None:
    posted(world, 1, 2)
    proposal, place = world.aggregator.propose(), world.place()
    others = {"settlement": 1, "chain_id": 1, "ledger": "0x" + "ab" * 20, "round": 2}
    other = {key: others.get(key, str(place.base if key == "plan" else place.plan))}
    manifest = proposal.settlement.manifest.model_copy(update=other)
    world.chain.pass_time(SEALED.window + 1)
    world.aggregator.publish(replace(proposal, settlement=replace(proposal.settlement, manifest=manifest)))
    assert audited(world, public=True).verdict is Verdict.VIOLATED


def test_a_disputed_update_keeps_no_auditor_from_approving_the_model_and_stands_in_the_report(world: World) -> None:
    posted(world, 1, 2)
    world.post_sealed(3, without_the_aggregator(world, world.update(3, tensors(3))))
    settle_now(world)
    world.attest()
    known = world.contract.history().rounds[1]
    assert known.attestations[AUDITOR].approve
    report = world.store.get(known.attestations[AUDITOR].report)
    assert b"claimed unopenable by the aggregator, and your key opens it" in report


@pytest.mark.parametrize("false_last", [False, True])
def test_a_false_grant_beside_a_true_one_takes_nothing_away(world: World, false_last: bool) -> None:
    posted(world, 1, 2)
    settle_now(world)
    later = world.account("later")
    world.contract.admit(world.governor, later.address, Role.AUDITOR, "Later")
    world.contract.accept(later, world.contract.genesis.charter, age_key(identity_of(later)))
    history, to = world.contract.history(), age_key(identity_of(later))
    annex = read_annex(manifest_of(world).annex or "", world.place(), [auditor(world)])
    assert annex is not None
    handed: list[dict[int, Masked]] = [{1: annex.masked}, {1: {1: bytes(32), 2: bytes(32)}}]
    for rounds in handed if false_last else reversed(handed):
        keys = world.store.put(write_grant(history.genesis, rounds, to))
        world.contract.grant(world.auditor, 6, 1, 1, keys)
    assert audited(world, identity_of(later)).verdict is Verdict.VERIFIED
