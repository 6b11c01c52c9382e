"""The aggregator's loop: nothing before it is final, nothing lost, and no claim that is not so."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.aggregating import Aggregating
from ledger.chain.signed_files import UpdateFile
from ledger.cid import Cid, cid_of
from ledger.errors import BlobMissingError, UnavailableError
from ledger.facts import RoundSettled
from ledger.fetching import Fetching
from ledger.following import Follower
from ledger.history import Round
from ledger.logs import Log
from ledger.manifest import Manifest
from ledger.receipts import StateFolder
from ledger.storage import Store
from ledger.storage.folder import FolderStore
from ledger.storage.ipfs import IpfsStore
from tests.anvil import Anvil
from tests.world import PLAN, World, tensors

OPEN_PLAN = PLAN.model_copy(update={"approvals": 0, "quorum": 1})


class Work:
    """An aggregator's loop on a ledger of two sites, step by step."""

    def __init__(self, folder: Path, anvil: Anvil, finality: str = "latest", patience: float = 0) -> None:
        self.world = World(folder, 2, anvil)
        self.handed = folder / "handed over"
        self.handed.mkdir()
        self.said, self.plan = io.StringIO(), OPEN_PLAN
        follower = Follower(self.world.contract, StateFolder(folder / "state"), finality)
        self.loop = Aggregating(
            follower, self.world.aggregator, lambda *_: self.plan, 1, Log(stream=self.said), self.handed, patience
        )

    @property
    def round(self) -> Round:
        return self.world.contract.history().rounds[1]

    def hand_over(self, member: int, blob: bytes, name: str = "") -> Cid:
        """A member stores an update, and leaves it signed for the aggregator to relay."""
        cid, history = self.world.store.put(blob), self.world.contract.history()
        signed = UpdateFile.sign(self.world.participants[member - 1], history, self.round, cid, 10, None)
        (self.handed / f"{name or member}.json").write_text(json.dumps(signed.model_dump(mode="json")))
        return cid

    def store_away(self, cid: Cid) -> None:
        """Take a blob out of the store."""
        self.world.store.path(cid).unlink()

    def use(self, store: Store) -> None:
        """Give the aggregator's loop another store."""
        self.loop.aggregator = replace(self.loop.aggregator, store=store)
        self.loop._blobs.store = store

    @property
    def counted(self) -> set[int]:
        """The members whose updates the round's manifest counts."""
        ended = self.round.ended
        assert isinstance(ended, RoundSettled)
        manifest = Manifest.decode(self.world.store.get(ended.manifest))
        return {row.member for row in manifest.updates if row.weight is not None}

    def update(self, member: int) -> bytes:
        return self.world.update(member, tensors(member))


class Clock:
    """The loop's clock, which goes on as the test says, and with the time that really passes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        true, self._passed = time.monotonic, 0.0
        monkeypatch.setattr("ledger.fetching.time.monotonic", lambda: true() + self._passed)

    def pass_by(self, seconds: float) -> None:
        self._passed += seconds


class Slow(FolderStore):
    """A store that has one blob, and takes half a minute to find out that it has not another one."""

    def __init__(self, clock: Clock, there: Cid) -> None:
        super().__init__(Path("nowhere"))
        self.clock, self.there, self.asked = clock, there, list[Cid]()

    def pin(self, cid: Cid, limit: int | None = None) -> None:
        self.asked.append(cid)
        if cid != self.there:
            self.clock.pass_by(30)
            raise BlobMissingError(cid, "nobody has it")


DOWN = IpfsStore("http://127.0.0.1:9")


@pytest.fixture
def work(anvil: Anvil, tmp_path: Path) -> Work:
    return Work(tmp_path, anvil)


def test_a_round_is_not_settled_before_the_updates_that_were_just_relayed_are_final(
    anvil: Anvil, tmp_path: Path
) -> None:
    work = Work(tmp_path, anvil, finality="2")
    anvil.mine(2)
    work.loop.step()
    anvil.mine(2)
    for member in (1, 2):
        work.hand_over(member, work.update(member))
    work.loop.step()
    assert sorted(work.round.updates) == [1, 2]
    assert work.round.ended is None
    work.loop.step()
    assert work.round.ended is None
    anvil.mine(2)
    work.loop.step()
    assert isinstance(work.round.ended, RoundSettled)


def test_a_signed_update_waits_while_the_aggregators_own_store_is_down(work: Work) -> None:
    work.loop.step()
    update, store = work.hand_over(1, work.update(1)), work.world.store
    work.use(DOWN)
    with pytest.raises(UnavailableError, match="does not answer"):
        work.loop.step()
    work.use(store)
    work.loop.step()
    assert work.round.updates[1].update == update


def test_files_that_are_no_signed_updates_or_go_away_stop_nobody(work: Work) -> None:
    work.loop.step()
    (work.handed / "0.json").symlink_to("nowhere")
    (work.handed / "00.json").write_text("{}")
    (work.handed / "000.json").mkdir()
    update = work.hand_over(1, work.update(1))
    work.loop.step()
    assert work.round.updates[1].update == update
    assert "00.json is no signed update" in work.said.getvalue()


def test_a_signed_update_whose_blob_never_comes_keeps_no_other_one_of_its_member(work: Work) -> None:
    work.loop.step()
    work.store_away(work.hand_over(1, work.world.update(1, tensors(5)), "a"))
    update = work.hand_over(1, work.update(1), "b")
    work.loop.step()
    work.loop.step()
    assert work.round.updates[1].update == update


@pytest.mark.parametrize("relayed", [False, True], ids=["posted", "relayed"])
def test_an_update_that_was_here_and_cannot_be_read_any_more_is_no_claim_to_make_at_once(
    work: Work, relayed: bool
) -> None:
    work.plan = OPEN_PLAN.model_copy(update={"seal": "none" if relayed else "age"})
    work.loop.step()
    blob = work.update(1)
    sealed = work.world.seal(1, blob)
    update = work.hand_over(1, blob) if relayed else work.world.post_sealed(1, sealed)
    work.loop.step()
    work.loop.step()
    work.store_away(update)
    if relayed:
        work.world.post(2, work.update(2))
    else:
        work.world.post_sealed(2, work.world.seal(2, work.update(2)))
    with pytest.raises(UnavailableError, match="cannot be read any more"):
        work.loop.step()
    assert work.round.ended is None
    work.world.store.put(blob if relayed else sealed.update)
    work.loop.step()
    assert work.counted == {1, 2}


def test_time_in_which_the_aggregators_own_store_is_down_is_no_patience_with_an_update(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    work.loop.patience, store = 60, work.world.store
    work.loop.step()
    blob = work.update(1)
    work.store_away(work.world.post(1, blob))
    work.world.post(2, work.update(2))
    work.loop.step()
    work.use(DOWN)
    clock.pass_by(600)
    with pytest.raises(UnavailableError, match="does not answer"):
        work.loop.step()
    work.use(store)
    clock.pass_by(1)
    work.loop.step()
    assert work.round.ended is None, "it has been looked for once"
    clock.pass_by(59)
    work.loop.step()
    assert work.round.ended is None
    work.world.store.put(blob)
    clock.pass_by(59)
    work.loop.step()
    assert work.counted == {1, 2}


def test_an_update_that_is_missed_long_enough_after_the_round_is_left_out(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    work.loop.patience = 60
    work.loop.step()
    work.store_away(work.world.post(1, work.update(1)))
    work.loop.step()
    clock.pass_by(600)
    work.world.post(2, work.update(2))
    work.loop.step()
    assert work.round.ended is None, "that it was missing while the round ran counts for nothing"
    clock.pass_by(60)
    work.loop.step()
    assert work.counted == {2}


def test_an_update_that_is_larger_than_the_plan_allows_is_neither_pinned_nor_waited_for(work: Work) -> None:
    work.loop.patience = 1000
    work.loop.step()
    work.world.post(1, bytes(OPEN_PLAN.max_update_bytes + 1))
    work.world.post(2, work.update(2))
    work.loop.step()
    assert work.counted == {2}
    assert "larger than the plan allows" in work.said.getvalue()


def test_blobs_that_take_a_store_long_to_miss_are_asked_for_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    wanted = {cid_of(bytes([number])): {"member": number} for number in range(4)}
    *missing, last = wanted
    store = Slow(clock, last)
    fetching = Fetching(store, Log(stream=io.StringIO()))
    for _ in missing:
        fetching.fetch(wanted, 100)
    assert store.asked == missing, "one that takes long each time, and none twice before the others"
    fetching.fetch(wanted, 100)
    assert store.asked[3:] == [last, missing[0]]
    assert fetching.held == {last}
    fetching.fetch({missing[0]: {}}, 100)
    assert len(store.asked) == 5, "not again at once: as long as it took to miss it, there is time for others"
