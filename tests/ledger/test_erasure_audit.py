"""Erased by record, missing and mismatched are three things; and what an erasure leaves of the audit of its round."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.audit.origin import Claims
from ledger.audit.report import Finding, Report, Verdict
from ledger.choices import FedAdam
from ledger.cid import RAW, Cid
from ledger.facts import ErasureReason, Role, RoundSettled
from ledger.following import Follower
from ledger.logs import Log
from ledger.manifest import Manifest
from ledger.mirroring import Mirroring
from ledger.plan import Plan
from ledger.receipts import StateFolder
from tests.world import PLAN, World, tensors

ATTESTED = PLAN.model_copy(update={"participants_attest": True})
KEY_BLOB = b"the key of the update of member 3, sealed"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[object]]:
    """Round 1, settled and not attested to: three updates, the third with a key blob."""
    world = World(tmp_path_factory.mktemp("erasure"))
    world.aggregator.open(ATTESTED)
    for member in (1, 2):
        world.post(member, world.update(member, tensors(member)))
    update, key = world.store.put(world.update(3, tensors(3))), world.store.put(KEY_BLOB)
    world.contract.post_update(world.participants[2], 1, update, 10, key.digest)
    world.settle()
    return world, [world.snapshot()]


@pytest.fixture
def world(shared: tuple[World, list[object]]) -> Iterator[World]:
    """That world, to be changed at will: afterwards chain and blobs go back."""
    world, snapshots = shared
    accounts = list(world.participants), world.auditor
    with world.put_back(snapshots):
        yield world
    world.participants[:], world.auditor = accounts


def update(world: World, member: int = 1) -> Cid:
    return world.contract.history().rounds[1].updates[member].update


def erase(world: World, cid: Cid, member: int = 1, delete: bool = True) -> str:
    """Record that a blob of a member's update is erased, by that member; give how a finding names the entry."""
    sender = world.participants[member - 1]
    world.contract.erase(sender, 1, member, cid.digest, ErasureReason.REQUEST)
    if delete:
        world.store.path(cid).unlink()
    return f"by {sender.address.lower()} (request), entry {world.contract.history().entries - 1}"


def audited(world: World) -> Report:
    return audit(read_folder(world.write()), Claims(head=world.contract.head()))


def of(report: Report, check: int) -> list[Finding]:
    return list(report.checks[check - 1].findings)


def test_erased_after_an_auditors_approval_the_round_is_verified_and_it_is_noted(world: World) -> None:
    world.attest()
    cid = update(world)
    by = erase(world, cid)
    report = audited(world)
    assert report.verdict is Verdict.VERIFIED
    (blob,), (settled,), (objection,) = of(report, 6), of(report, 8), of(report, 9)
    assert (blob.verdict, blob.cid, blob.round) == (Verdict.VERIFIED, cid, 1)
    assert blob.member is not None
    assert blob.member.id == 1
    assert blob.text == f"erased by record: the update of round 1 by {blob.member} was erased {by}"
    assert (settled.verdict, settled.cid, settled.round) == (Verdict.VERIFIED, cid, 1)
    assert settled.text == (
        "not recomputable, since this update was erased by record: it rests on an auditor's earlier approval"
    )
    assert objection.text == f"0x{cid.digest.hex()} was recorded as erased (request)"


def test_erased_before_any_auditors_approval_the_round_is_not_recomputable(world: World) -> None:
    cid = update(world)
    by = erase(world, cid)
    for attested in (False, True):
        report = audited(world)
        assert report.verdict is Verdict.INCOMPLETE
        (blob,), (settled,) = of(report, 6), of(report, 8)
        assert (blob.verdict, blob.text.endswith(f"was erased {by}")) == (Verdict.INCOMPLETE, True)
        assert (settled.verdict, settled.cid) == (Verdict.INCOMPLETE, cid)
        assert settled.text.startswith("not recomputable, since this update was erased by record, before any auditor")
        assert settled.by == world.participants[0].address.lower()
        if not attested:
            world.contract.attest(world.auditor, 1, True, world.store.put(b"{}"))  # too late


@pytest.mark.parametrize("who", ["a participant", "an auditor that rejects"])
def test_only_the_approval_of_an_auditor_counts(world: World, who: str) -> None:
    report = world.store.put(b"{}")
    if who == "a participant":
        world.contract.attest(world.participants[1], 1, True, report)
    else:
        world.contract.attest(world.auditor, 1, False, report)
    erase(world, update(world))
    assert audited(world).verdict is Verdict.INCOMPLETE


@pytest.mark.parametrize("then", ["takes another account", "is suspended", "is given another account"])
def test_an_approval_counts_whatever_becomes_of_the_auditor(world: World, then: str) -> None:
    world.attest()
    another = world.account(f"auditor that {then}")
    if then == "takes another account":
        world.contract.offer_account(world.auditor, another.address)
        world.contract.take_account(another, 5)
    elif then == "is suspended":
        world.contract.change_roles(world.governor, 5, Role(0))
    else:
        world.contract.replace_account(world.governor, 5, another.address)
    erase(world, update(world))
    assert audited(world).verdict is Verdict.VERIFIED


def test_what_is_recorded_as_erased_and_still_there_is_verified_like_all_else(world: World) -> None:
    cid = update(world)
    erase(world, cid, delete=False)
    report = audited(world)
    assert report.verdict is Verdict.VERIFIED
    assert (of(report, 6), of(report, 8)) == ([], [])
    assert of(report, 9)[0].text == f"0x{cid.digest.hex()} was recorded as erased (request)"


def test_what_is_recorded_as_erased_and_was_altered_instead_is_mismatched(world: World) -> None:
    world.attest()
    cid = update(world)
    erase(world, cid, delete=False)
    world.store.path(cid).write_bytes(b"another update")
    report = audited(world)
    assert report.verdict is Verdict.VIOLATED
    assert of(report, 6)[0].text.startswith("mismatched: ")


def test_missing_mismatched_and_erased_are_three_different_things(world: World) -> None:
    world.attest()
    missing, mismatched, erased = (update(world, member) for member in (1, 2, 3))
    world.store.path(missing).unlink()
    world.store.path(mismatched).write_bytes(b"another update")
    erase(world, erased, member=3)
    report = audited(world)
    found = {one.cid: (one.verdict, one.text.partition(": ")[0]) for one in of(report, 6)}
    assert found == {
        missing: (Verdict.INCOMPLETE, "missing"),
        mismatched: (Verdict.VIOLATED, "mismatched"),
        erased: (Verdict.VERIFIED, "erased by record"),
    }
    assert report.verdict is Verdict.VIOLATED


def test_a_record_excuses_no_blob_that_is_not_the_members_own(world: World) -> None:
    world.attest()
    ended = world.contract.history().rounds[1].ended
    assert isinstance(ended, RoundSettled)
    assert ended.manifest is not None
    for cid in (ended.model, ended.manifest, update(world, 2)):
        world.contract.erase(world.participants[0], 1, 1, cid.digest, ErasureReason.REQUEST)
        world.store.path(cid).unlink()
    report = audited(world)
    assert report.verdict is Verdict.INCOMPLETE
    found = {one.cid: one for one in of(report, 6)}
    assert found.keys() == {ended.model, ended.manifest, update(world, 2)}
    assert all(one.verdict is Verdict.INCOMPLETE and one.text.startswith("missing: ") for one in found.values())
    assert len(of(report, 9)) == 3, "the records are listed all the same"


def test_a_record_excuses_no_state_that_a_member_posts_as_its_own_update_afterwards(tmp_path: Path) -> None:
    world, state = with_a_state_as_an_update(tmp_path)
    assert audited(world).verdict is Verdict.VERIFIED
    world.store.path(state).unlink()
    report = audited(world)
    assert report.verdict is Verdict.INCOMPLETE
    assert [one.text for one in of(report, 6) if one.verdict is Verdict.INCOMPLETE] == [
        "missing: the update of round 2 by member 3 (Site 3, "
        f"{world.participants[2].address.lower()}), the server's state after round 1"
    ]


def test_a_mirror_keeps_a_state_that_a_member_posts_as_its_own_update_afterwards_and_has_erased(tmp_path: Path) -> None:
    world, state = with_a_state_as_an_update(tmp_path)
    own = world.contract.history().rounds[2].updates[1].update
    world.contract.erase(world.participants[0], 2, 1, own.digest, ErasureReason.REQUEST)
    follower = Follower(world.contract, StateFolder(tmp_path / "state"), "latest")
    mirroring = Mirroring(follower, world.store, 10**9, Log(stream=io.StringIO()))
    for _ in range(2):
        mirroring.step()
        assert world.store.path(state).is_file()
        assert state in mirroring.pinned
        assert own not in mirroring.pinned
        assert mirroring.missing == []


def with_a_state_as_an_update(folder: Path) -> tuple[World, Cid]:
    """The server's state after round 1, which member 3 posts as its own update of round 2, and records as erased."""
    world, plan = World(folder), PLAN.model_copy(update={"strategy": FedAdam()})
    settle(world, plan, 3)
    ended = world.contract.history().rounds[1].ended
    assert isinstance(ended, RoundSettled)
    state = Cid.parse(Manifest.decode(world.store.get(ended.manifest)).state or "")
    settle(world, plan, 2, state)
    world.contract.erase(world.participants[2], 2, 3, state.digest, ErasureReason.REQUEST)
    return world, state


def settle(world: World, plan: Plan, honest: int, third: Cid | None = None) -> None:
    """A round on the genesis model with so many honest updates, and for the third one a blob that is there."""
    world.aggregator.open(plan, base_round=0)
    for member in range(1, honest + 1):
        world.post(member, world.update(member, tensors(member)))
    if third is not None:
        world.contract.post_update(world.participants[2], world.place().round, third, 10)
    world.settle()
    world.attest()


def test_an_erased_key_blob_is_noted_or_leaves_the_audit_incomplete(world: World) -> None:
    key = Cid(world.contract.history().rounds[1].updates[3].key_blob or b"", RAW)
    assert world.store.get(key) == KEY_BLOB
    world.attest()
    erase(world, key, member=3)
    report = audited(world)
    assert report.verdict is Verdict.VERIFIED
    (blob,) = of(report, 6)
    assert blob.text.startswith("erased by record: the key blob of round 1 by member 3 (Site 3, 0x")
    assert of(report, 8) == [], "the update itself is there, and settled again"


def test_a_key_blob_erased_before_any_approval_leaves_the_audit_incomplete(world: World) -> None:
    key = Cid(world.contract.history().rounds[1].updates[3].key_blob or b"", RAW)
    erase(world, key, member=3)
    report = audited(world)
    assert report.verdict is Verdict.INCOMPLETE
    assert of(report, 6)[0].text.startswith("erased by record: the key blob of round 1 by member 3 (Site 3, 0x")


def test_a_missing_key_blob_is_missing(world: World) -> None:
    world.store.path(Cid(world.contract.history().rounds[1].updates[3].key_blob or b"", RAW)).unlink()
    report = audited(world)
    assert report.verdict is Verdict.INCOMPLETE
    assert of(report, 6)[0].text.startswith("missing: the key blob of round 1 by member 3 (Site 3, 0x")
