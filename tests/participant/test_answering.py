"""What a site does about a round, also one that it cannot answer or that somebody else answered, on a real chain."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.aggregator import terms
from ledger.chain.contract import LedgerContract
from ledger.cid import RAW, Cid
from ledger.errors import BlobMissingError, UnavailableError, UsageError
from ledger.facts import AbortReason, UpdateRecorded
from ledger.following import Follower
from ledger.history import Round
from ledger.logs import Log
from ledger.receipts import StateFolder
from ledger.sealing import open_key, open_update
from ledger.storage.folder import FolderStore
from ledger.updates import Place, decode
from participant.answering import Answering
from participant.outbox import ANSWER, Outbox
from participant.seeds import Seed
from tests.cli import Cli
from tests.trainers import Adds
from tests.world import PLAN, World, identity_of, private


class SiteAtWork:
    """Site 1 of a founded ledger."""

    def __init__(self, cli: Cli, trainer: Adds, finality: str = "latest", once: bool = False) -> None:
        contract = LedgerContract.attach(cli.anvil.web3, cli.ledger)
        memory = StateFolder.of(cli.state / "site 1", contract.genesis.chain_id, cli.ledger)
        self.stream, self.trainer, self.store = io.StringIO(), trainer, FolderStore(Path(cli.store))
        follower = Follower(contract, memory, finality)
        own = [identity_of(cli.party("site 1"))]
        log = Log(stream=self.stream)
        self.answering = Answering(follower, self.store, cli.party("site 1"), trainer, log, once=once, identities=own)
        self._cli = cli

    def steps(self, count: int = 3) -> list[bool]:
        return [self.answering.step() for _ in range(count)]

    @property
    def said(self) -> str:
        return self.stream.getvalue()

    @property
    def round(self) -> Round:
        history = LedgerContract.attach(self._cli.anvil.web3, self._cli.ledger).history()
        return history.rounds[history.latest_round]


@pytest.fixture
def site(cli: Cli) -> SiteAtWork:
    return SiteAtWork(cli, Adds())


def test_a_round_is_trained_for_and_posted_once(cli: Cli, site: SiteAtWork) -> None:
    cli.open()
    assert site.steps() == [False] * 3
    assert site.trainer.trained == 1
    posted = site.round.updates[1]
    assert site.store.get(posted.update)
    assert posted.weight == 10
    assert "posted, and final  round 1" in site.said
    assert not list(site.answering.outbox.blobs.folder.iterdir()), "nothing is on its way any more"


def test_once_is_done_when_the_update_is_final(cli: Cli) -> None:
    site = SiteAtWork(cli, Adds(), once=True)
    assert site.steps() == [False] * 3
    cli.open()
    assert site.steps(2) == [False, True]


def test_once_is_done_also_if_the_round_ended_meanwhile(cli: Cli) -> None:
    site = SiteAtWork(cli, Adds(), once=True)
    cli.open()
    site.steps(1)
    cli.ok("site 2", "round", "post", "1", cli.update(2), "--weight", "10")
    cli.ok("aggregator", "round", "settle")
    assert site.steps(1) == [True]


def test_nothing_is_done_for_a_round_whose_opening_is_not_final(cli: Cli) -> None:
    site = SiteAtWork(cli, Adds(), finality="3")
    cli.open()
    site.steps()
    assert (site.trainer.trained, dict(site.round.updates)) == (0, {})
    cli.anvil.rpc("anvil_mine", "0x3")
    site.steps(1)
    assert site.trainer.trained == 1


def test_what_was_trained_is_posted_by_the_next_process_with_the_same_bytes(cli: Cli, site: SiteAtWork) -> None:
    cli.open()
    known, member = site.round, 1
    place = Place.of(site.answering.follower.contract.genesis, known.opened)
    kept = site.answering.outbox.keep(place, member, 10, b"as if it had been trained before", b"its key blob")
    site.steps()
    assert site.trainer.trained == 0
    assert site.round.updates[1].update == kept.update


HOPELESS: dict[str, tuple[Callable[[Cli], object], Adds, str]] = {
    "a plan that is none": (
        lambda cli: open_by(cli, b"garbage"),
        Adds(),
        "no update can be made for this round  round 1  why malformed: not a plan",
    ),
    "a task that fails": (
        lambda cli: cli.open(),
        Adds(UsageError("training diverged")),
        "no update can be made for this round  round 1  why training diverged",
    ),
    "a base model of another form": (
        lambda cli: open_by(cli, PLAN.model_copy(update={"tensors": {"weight": PLAN.tensors["weight"]}}).encode()),
        Adds(),
        "why schema: tensor 'bias' is F16 [3], the plan says absent",
    ),
}


def open_by(cli: Cli, plan: bytes) -> None:
    """Open a round by any bytes, as an aggregator can that does not use our commands."""
    contract = LedgerContract.attach(cli.anvil.web3, cli.ledger)
    contract.open(cli.party("aggregator"), FolderStore(Path(cli.store)).put(plan), 0, terms(PLAN))


@pytest.mark.parametrize("why", HOPELESS)
def test_a_round_that_no_update_can_be_made_for_is_passed_over_and_said_once(cli: Cli, why: str) -> None:
    begin, trainer, said = HOPELESS[why]
    site = SiteAtWork(cli, trainer)
    begin(cli)
    assert site.steps(4) == [False] * 4
    assert site.said.count(said) == 1
    assert not site.round.updates


def test_a_plan_outside_of_the_charters_limits_is_not_trained_for(cli: Cli) -> None:
    charter = '# Two\n\n```fedledger-limits\n{"min_window": 3600}\n```\n'
    cli.ok("governor", "charter", "change", cli.file("two.md", charter))
    for name in ("site 1", "site 2", "aggregator", "auditor"):
        cli.ok(name, "join", "--age-key", cli.look("member", "show", "1")["age_key"])
    open_by(cli, PLAN.encode())
    site = SiteAtWork(cli, Adds())
    site.steps()
    assert site.trainer.trained == 0
    assert "the plan is outside of the charter's limits: window 600, the charter's min_window is 3600" in site.said


def test_a_plan_that_is_not_to_be_had_is_waited_for(cli: Cli, site: SiteAtWork) -> None:
    cli.open()
    blob = site.store.get(site.round.opened.plan)
    site.store.path(site.round.opened.plan).unlink()
    with pytest.raises(UnavailableError, match="is not to be had"):
        site.answering.step()
    site.store.put(blob)
    site.steps(1)
    assert 1 in site.round.updates


def test_a_round_that_another_process_answered_is_left_alone(cli: Cli, site: SiteAtWork) -> None:
    cli.open()
    place = Place.of(site.answering.follower.contract.genesis, site.round.opened)
    site.answering.outbox.keep(place, 1, 10, b"mine", b"its key blob")
    cli.ok("site 1", "round", "post", "1", cli.update(1), "--weight", "10")
    site.steps()
    assert site.trainer.trained == 0
    assert site.said.count("another process posted for this member  round 1") == 1


def test_a_member_that_may_not_post_says_why_and_waits_for_the_next_round(cli: Cli) -> None:
    cli.ok("governor", "member", "suspend", "1")
    cli.open(quorum=1)
    site = SiteAtWork(cli, Adds())
    site.steps()
    assert site.trainer.trained == 0
    assert site.said.count("this round takes no update of ours  round 1  why member 1 (site 1) is no participant") == 1


def test_who_is_no_member_is_told_what_to_do(cli: Cli, site: SiteAtWork) -> None:
    site.answering.account = cli.party("stranger")
    with pytest.raises(UsageError, match="is no member's account: have the governor admit it, then `fedledger join`"):
        site.answering.step()


def read_by(cli: Cli, party: str, update: UpdateRecorded) -> bytes | None:
    """What a party makes of a sealed update."""
    store = FolderStore(Path(cli.store))
    key = open_key(store.get(Cid(update.key_blob or b"", RAW)), [identity_of(cli.party(party))])
    return open_update(store.get(update.update), key) if key else None


def test_an_update_is_sealed_to_aggregators_auditors_and_its_own_site(cli: Cli, site: SiteAtWork) -> None:
    cli.open()
    site.steps()
    update = site.round.updates[1]
    found = {party: read_by(cli, party, update) for party in ("site 1", "aggregator", "auditor", "site 2")}
    assert found.pop("site 2") is None
    [blob] = set(found.values())
    assert blob is not None
    seed = Seed.of(str(identity_of(cli.party("site 1"))), site.round)
    header = decode(blob).header
    assert header["witness"] == seed.witness(Adds.fingerprint)
    assert header["metrics"] == {"loss": 0.5}
    assert site.trainer.seeds == [seed.number]


def test_an_update_of_settlement_1_has_neither_witness_nor_metrics(cli: Cli, site: SiteAtWork) -> None:
    cli.open(settlement=1, seal="none")
    site.steps(1)
    header = decode(site.answering.outbox.blobs.get(site.round.updates[1].update)).header
    assert header["member"] == 1
    assert not {"witness", "metrics"} & header.keys()


def test_without_an_age_key_no_update_is_made(cli: Cli, site: SiteAtWork) -> None:
    cli.open()
    site.answering.identities = ()
    site.steps()
    assert site.trainer.trained == 0
    assert site.said.count("there is no age key here for training to draw its randomness from") == 1


def test_no_update_is_made_for_an_aggregator_that_nothing_can_be_sealed_to(cli: Cli, site: SiteAtWork) -> None:
    contract = LedgerContract.attach(cli.anvil.web3, cli.ledger)
    contract.accept(cli.party("aggregator"), contract.genesis.charter, b"\x01" + bytes(31))
    cli.open()
    site.steps()
    assert not site.round.updates
    assert "has no age key that can be sealed to" in site.said


def test_an_unsealed_update_is_published_only_when_no_other_can_be_posted(cli: Cli, site: SiteAtWork) -> None:
    cli.open(seal="none")
    site.steps()
    update = site.round.updates[1].update
    assert "THE PLAN HAS UPDATES UNSEALED" in site.said
    with pytest.raises(BlobMissingError):
        site.store.get(update)
    cli.ok("site 2", "round", "post", "1", cli.update(2), "--weight", "10")
    site.steps()
    assert decode(site.store.get(update)).header["member"] == 1
    cli.ok("aggregator", "round", "settle")


def test_an_unsealed_update_is_published_after_the_deadline(cli: Cli, site: SiteAtWork) -> None:
    cli.open(seal="none")
    site.steps()
    cli.anvil.pass_time(PLAN.window + 1)
    site.steps()
    assert site.store.get(site.round.updates[1].update)


# --------------------------------------------------------------------------------------------- outbox


PLACE = Place(1, "0x" + "11" * 20, 3, Cid(b"p" * 32, 0x55), Cid(b"b" * 32, 0x55))  # type: ignore[arg-type]


def test_what_is_kept_is_found_for_its_place_and_member_alone(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    kept = outbox.keep(PLACE, 1, 7, b"update", b"key blob")
    again = Outbox(tmp_path / "outbox")
    assert again.get(PLACE, 1) == kept
    assert [again.blobs.get(cid) for cid in kept.blobs] == [b"update", b"key blob"]
    assert again.get(PLACE, 2) is None
    assert again.get(Place(**{**vars(PLACE), "round": 4}), 1) is None
    again.keep(PLACE, 1, 7, b"another", None)
    assert len(list((tmp_path / "outbox").iterdir())) == 2, "one answer, and its blob"
    again.clear()
    assert again.get(PLACE, 1) is None
    assert list((tmp_path / "outbox").iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"{}", b'{"place": 1, "member": 1}', b"[]", b"\xff"])
def test_a_damaged_answer_is_named(tmp_path: Path, damage: bytes) -> None:
    outbox = Outbox(tmp_path)
    outbox.keep(PLACE, 1, 7, b"update", None)
    (tmp_path / ANSWER).write_bytes(damage)
    if damage == b'{"place": 1, "member": 1}':
        assert outbox.get(PLACE, 1) is None, "it is for another place"
        return
    with pytest.raises(UnavailableError, match=f"{ANSWER} is damaged"):
        outbox.get(PLACE, 1)


# ----------------------------------------------------------------------------------------------- privacy


def test_a_round_that_would_exceed_the_privacy_budget_is_not_answered(cli: Cli, site: SiteAtWork) -> None:
    cli.open(privacy=private(budget=5))
    site.steps()
    cli.ok("site 2", "round", "post", "1", cli.update(2), "--weight", "10")
    cli.ok("aggregator", "round", "settle")
    cli.ok("auditor", "attest", "1")
    cli.open(privacy=private(budget=5))
    site.steps()
    assert (site.trainer.trained, dict(site.round.updates)) == (1, {}), "the second one is not trained for"
    assert site.said.count("it would exceed the plan's privacy budget: epsilon 5.219 after this round, 5 at most") == 1


def test_a_round_without_a_budget_is_answered(cli: Cli, site: SiteAtWork) -> None:
    cli.open(privacy=private())
    site.steps()
    assert site.trainer.trained == 1


def test_a_private_update_says_nothing_of_how_good_its_base_model_is(cli: Cli, site: SiteAtWork) -> None:
    cli.open(privacy=private())
    site.steps(1)
    blob = read_by(cli, "aggregator", site.round.updates[1])
    assert blob is not None
    assert decode(blob).header["metrics"] == {}
    assert site.trainer.metrics_asked == 0, "what is measured without noise is not even measured"


def test_a_budget_that_cannot_be_computed_is_not_spent(
    cli: Cli, site: SiteAtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    cli.open(privacy=private(budget=99, delta=1e-6))  # a delta that nothing was computed for yet
    site.steps()
    assert site.trainer.trained == 0
    assert "which is not installed: pip install 'fedledger[privacy]'" in site.said


def test_an_unsealed_update_is_published_also_if_its_round_ended_and_the_next_opened_between_two_looks(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.aggregator.open(PLAN)
    contract, site = LedgerContract.attach(world.chain.web3, world.contract.address), world.participants[0]
    memory = StateFolder.of(tmp_path / "site 1", contract.genesis.chain_id, contract.address)
    follower, log = Follower(contract, memory, "latest"), Log(stream=io.StringIO())
    answering = Answering(follower, world.store, site, Adds(), log, identities=[identity_of(site)])
    answering.step()
    update = world.contract.history().rounds[1].updates[1].update
    answering.step()
    assert world.store.size(update) is None, "others could copy it"
    world.contract.abort(world.aggregator.account, 1, world.contract.head(), AbortReason.CANCELLED)
    world.aggregator.open(PLAN)
    answering.step()
    world.store.verify(update)
    answering.step()
    assert world.contract.history().rounds[2].updates.keys() == {1}


def test_a_plan_whose_delta_gives_an_example_away_is_not_trained_for(cli: Cli) -> None:
    site = SiteAtWork(cli, Adds())
    site.trainer.examples = 1000
    cli.open(privacy=private(delta=1e-3))
    site.steps()
    assert site.trainer.trained == 0
    assert site.said.count("the plan's delta of 0.001 allows to give one of 1000 examples away") == 1
