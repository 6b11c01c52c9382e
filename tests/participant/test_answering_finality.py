"""A site's loop: it trains within the charter that it accepted, and no update is lost with a block."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from eth_hash.auto import keccak
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from ledger.chain.contract import LedgerContract
from ledger.facts import AbortReason
from ledger.following import Follower
from ledger.history import Round
from ledger.logs import Log
from ledger.plan import Plan, Training
from ledger.receipts import StateFolder
from participant.answering import Answering
from participant.controls import Controls
from participant.task import Task
from participant.task_file import hook
from participant.tensors import Tensors
from tests.anvil import Anvil
from tests.trainers import Adds
from tests.world import CHARTER_2, SEALED, World, identity_of, tensors


class Fails(Task):
    """Its training says in its error what a record holds."""

    def model(self) -> nn.Module:
        return nn.Linear(2, 1)

    def load(self, data: Path) -> Dataset[Any]:
        return TensorDataset(torch.ones(3, 2), torch.ones(3))

    def train(self, model: nn.Module, dataset: Dataset[Any], training: Training, seed: int) -> None:
        float("Jane Roe, positive")


class Site:
    """Site 1 of a ledger of two, whose blocks are final when two are behind them."""

    def __init__(self, folder: Path, anvil: Anvil) -> None:
        self.world, self.anvil = World(folder, 2, anvil), anvil
        self.said = io.StringIO()
        follower = Follower(
            LedgerContract.attach(anvil.web3, self.world.contract.address), StateFolder(folder / "state"), "2"
        )
        self.loop = Answering(
            follower,
            self.world.store,
            self.world.participants[0],
            Adds(),
            Log(stream=self.said),
            identities=[identity_of(self.world.participants[0])],
        )

    @property
    def round(self) -> Round:
        history = self.world.contract.history()
        return history.rounds[history.latest_round]


@pytest.fixture
def site(anvil: Anvil, tmp_path: Path) -> Site:
    return Site(tmp_path, anvil)


def test_the_limits_are_those_of_the_charter_under_which_the_round_opened(site: Site) -> None:
    world = site.world
    charter = world.store.put(CHARTER_2)
    world.contract.change_charter(world.governor, charter)
    for member in (*world.participants, world.aggregator.account, world.auditor):
        world.contract.accept(member, charter, keccak(member.address.encode()))
    world.aggregator.open(SEALED.model_copy(update={"quorum": 1}))
    world.contract.change_charter(world.governor, world.store.put(b"# Charter, version 3: no limits\n"))
    site.anvil.mine(2)
    site.loop.step()
    assert not site.round.updates
    assert "quorum 1, the charter's min_quorum is 2" in site.said.getvalue()


def test_a_round_whose_end_is_taken_back_with_its_block_is_answered(site: Site) -> None:
    site.world.aggregator.open(SEALED)
    site.anvil.mine(2)
    contract = site.world.contract
    contract.abort(site.world.aggregator.account, 1, contract.head(), AbortReason.CANCELLED)
    site.loop.step()
    site.anvil.reorganize(1)
    assert site.round.ended is None
    site.loop.step()
    assert 1 in site.round.updates


def test_an_update_that_another_process_posted_and_that_is_taken_back_is_posted_by_this_one(site: Site) -> None:
    site.world.aggregator.open(SEALED)
    site.anvil.mine(2)
    site.world.post(1, site.world.update(1, tensors(5)))
    site.loop.step()
    site.anvil.reorganize(1)
    assert not site.round.updates
    site.loop.step()
    assert 1 in site.round.updates


def test_an_update_that_is_taken_back_with_its_block_is_posted_again_until_it_is_final(site: Site) -> None:
    site.world.aggregator.open(SEALED)
    site.anvil.mine(2)
    site.loop.step()
    first = site.round.updates[1]
    site.loop.step()
    site.anvil.reorganize(1)
    assert not site.round.updates
    site.loop.step()
    assert site.round.updates[1].update == first.update
    site.anvil.mine(2)
    site.loop.step()
    assert "posted, and final" in site.said.getvalue()


def test_a_log_says_where_a_task_fails_and_not_what_it_quotes_of_records(site: Site) -> None:
    class Failing(Adds):
        def train(self, base: Tensors, plan: Plan, seed: int, *, controls: Controls) -> Tensors:
            with hook(task, "train"):
                task.train(task.model(), task.load(Path()), plan.training, seed)
            return base

    task = Fails()
    site.loop.trainer = Failing()
    site.world.aggregator.open(SEALED)
    site.anvil.mine(2)
    site.loop.step()
    said = site.said.getvalue()
    assert "Jane" not in said
    assert "in train: ValueError; what it says may quote records" in said


def test_what_a_killed_process_left_half_written_goes_with_the_next_update(site: Site) -> None:
    site.loop.outbox.blobs.put(b"")
    (site.loop.outbox.blobs.folder / ".killed.part").write_bytes(bytes(1000))
    site.world.aggregator.open(SEALED)
    site.anvil.mine(2)
    site.loop.step()
    assert len(list(site.loop.outbox.blobs.folder.iterdir())) == 3, "an answer, its blob, and its key blob"
