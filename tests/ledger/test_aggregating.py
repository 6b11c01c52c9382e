"""The aggregator's loop: nothing before it is final, nothing lost, and no claim that is not so."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from ledger.aggregating import Aggregating
from ledger.chain.signed_files import UpdateFile
from ledger.cid import Cid
from ledger.facts import RoundSettled
from ledger.following import Follower
from ledger.history import Round
from ledger.logs import Log
from ledger.receipts import StateFolder
from tests.anvil import Anvil
from tests.world import PLAN, World, tensors

OPEN_PLAN = PLAN.model_copy(update={"approvals": 0, "quorum": 1})


class Work:
    """An aggregator's loop on a ledger of two sites, step by step."""

    def __init__(self, folder: Path, anvil: Anvil, finality: str = "latest", patience: float = 0) -> None:
        self.world = World(folder, 2, anvil)
        self.handed = folder / "handed over"
        self.handed.mkdir()
        self.said = io.StringIO()
        follower = Follower(self.world.contract, StateFolder(folder / "state"), finality)
        self.loop = Aggregating(
            follower, self.world.aggregator, lambda *_: OPEN_PLAN, 1, Log(stream=self.said), self.handed, patience
        )

    @property
    def round(self) -> Round:
        return self.world.contract.history().rounds[1]

    def hand_over(self, member: int, blob: bytes, name: str = "") -> Cid:
        """A member stores an update, and leaves it signed for the aggregator to relay."""
        cid, history = self.world.store.put(blob), self.world.contract.history()
        signed = UpdateFile.sign(self.world.participants[member - 1], history, self.round, cid, 10)
        (self.handed / f"{name or member}.json").write_text(json.dumps(signed.model_dump(mode="json")))
        return cid

    def update(self, member: int) -> bytes:
        return self.world.update(member, tensors(member))


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
