"""Following a ledger whose node does not always tell the truth."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.chain.contract import LedgerContract
from ledger.entries import Entry, extend
from ledger.errors import ViolationError
from ledger.facts import UpdateRecorded
from ledger.following import Follower
from ledger.logs import Log
from ledger.loop import repeat
from ledger.receipts import Remembered, StateFolder
from tests.anvil import Anvil
from tests.world import PLAN, World


class Lying(LedgerContract):
    """A ledger on a node that shows an update without weight as its last entry, with a head to match, at times."""

    def refolded(self) -> list[Remembered]:
        shown = super().refolded()
        if not LIES:
            return shown
        entry, fact = shown[-1][0], shown[-1][0].fact
        assert isinstance(fact, UpdateRecorded)
        altered: Entry = replace(entry, fact=replace(fact, weight=0))
        return [*shown[:-1], (altered, extend(shown[-2][1], altered))]


LIES: list[bool] = []


def test_it_is_quiet_while_looks_show_the_same(tmp_path: Path) -> None:
    world = World(tmp_path, 2)
    follower = Follower(world.contract, StateFolder(tmp_path / "state"), "3")
    follower.look()
    quiet = follower.quiet
    follower.look()
    assert follower.quiet > quiet
    began = time.monotonic()
    world.aggregator.open(PLAN)
    follower.look()
    assert follower.quiet < time.monotonic() - began


def test_a_node_that_shows_what_the_rules_forbid_ends_the_loop_and_spoils_nothing(anvil: Anvil, tmp_path: Path) -> None:
    world = World(tmp_path, 2, anvil)
    follower = Follower(Lying.attach(anvil.web3, world.contract.address), StateFolder(tmp_path / "state"), "3")
    follower.look()
    world.aggregator.open(PLAN)
    world.post(1, b"update")
    LIES.append(True)
    for _ in range(2):
        with pytest.raises(ViolationError, match=r"UpdateRecorded\) that the ledger's rules do not allow"):
            repeat(lambda: bool(follower.look()), Log(stream=io.StringIO()), 0.01)
    LIES.clear()
    assert len(follower.look().history.rounds[1].updates) == 1
