"""Sites that want different things: where FedAvg comes to rest in the wrong place, and where the others do.

Two sites train on one number w, by a quadratic loss each: curvature/2 (w - wanted)². The best w for both together is
known, and so is where each strategy must come to rest. Rounds are settled as they always are.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from ledger.choices import CONTROL, AnyStrategy, AnyWeighting, ByExamples, Equally, FedAvg, FedProx, Scaffold
from ledger.logs import Log
from ledger.plan import Dtype, Training
from ledger.storage.folder import FolderStore
from ledger.updates import Place, decode, decode_model, to_float64
from participant.controls import Controls, controls_before
from participant.posted import Posted
from participant.site import make_update
from participant.task import Task
from participant.tensors import Tensors
from participant.trainer import Trainer, genesis
from tests.paper import PaperLedger

HERE = Path(__file__)  # some data that is there
STEPS, RATE = 20, 0.1  # a site comes close to what it wants alone


class One(nn.Module):
    """One number."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))


class Quadratic(Task):
    """A site with so many examples, all of this curvature, that wants this number."""

    def __init__(self, curvature: float, wanted: float, examples: int = 1) -> None:
        self.curvature, self.wanted, self.examples = curvature, wanted, examples

    def model(self) -> nn.Module:
        return One()

    def load(self, data: Path) -> Dataset[Any]:
        return TensorDataset(torch.full((self.examples,), self.wanted))

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        loss: Tensor = self.curvature / 2 * (model.w - batch[0]).square().mean()
        return loss

    def optimizer(self, parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=training.learning_rate)


class Sites:
    """A ledger whose sites have a quadratic each."""

    def __init__(
        self,
        folder: Path,
        tasks: Sequence[Quadratic],
        strategy: AnyStrategy,
        weighting: AnyWeighting | None = None,
        wire: Dtype | None = None,
    ) -> None:
        self.trainers = [Trainer(task, HERE) for task in tasks]
        schema, model = self.trainers[0].schema(), genesis(tasks[0], 0)
        self.ledger, self.stream = PaperLedger(folder / "history", len(tasks), schema, 1 << 16, model), io.StringIO()
        self.change(strategy=strategy, weighting=weighting or Equally(), wire=wire)
        self.change(training=Training(epochs=STEPS, batch_size=1 << 20, learning_rate=RATE))
        self.absent = set[int]()

    def change(self, **changes: Any) -> None:
        """What plans say from now on."""
        self.ledger.plan = self.ledger.plan.model_copy(update=changes)

    def play(self, rounds: int = 1) -> float:
        """Play rounds; the number that the last one comes to."""
        for _ in range(rounds):
            self.ledger.play_round(self.update, [trainer.examples for trainer in self.trainers])
        return self.number

    def update(self, member: int, place: Place) -> bytes:
        if member in self.absent:
            return b"garbage"
        known, trainer = self.ledger.history.rounds[place.round], self.trainers[member - 1]

        def train(base: Tensors, plan: Any) -> Tensors:
            return trainer.train(base, plan, 0, controls=self.controls(member, place.round))

        return make_update(self.ledger.genesis, known, member, trainer.examples, train, self.ledger.store)

    def controls(self, member: int, round_: int) -> Controls:
        """With what a member trains for a round."""
        posted = Posted(self.ledger.history, member, self.ledger.store, ())
        return controls_before(self.ledger.history.rounds[round_], self.ledger.plan, posted, Log(stream=self.stream))

    @property
    def store(self) -> FolderStore:
        return self.ledger.store

    @property
    def number(self) -> float:
        model = self.ledger.history.model_of(self.ledger.history.latest_round)
        assert model is not None
        return float(decode_model(self.store.get(model), self.ledger.plan).tensors["w"][0])

    def posted(self, member: int, round_: int) -> float:
        """By how much a member's update says that its control variate changed."""
        update = decode(self.store.get(self.ledger.history.rounds[round_].updates[member].update))
        return float(to_float64(update.tensors[CONTROL + "w"], update.schema[CONTROL + "w"].dtype)[0])


TASKS = [Quadratic(1, 0), Quadratic(4, 1)]
BEST = 4 / 5
"""The number at which the mean of both losses has its minimum."""


def alone(task: Quadratic, start: float, mu: float = 0.0) -> float:
    """Where a site's steps end that begin at `start`."""
    w = start
    for _ in range(STEPS):
        w -= RATE * (task.curvature * (w - task.wanted) + mu * (w - start))
    return w


def rest(tasks: Sequence[Quadratic], mu: float = 0.0) -> float:
    """The number from which the mean of the sites' steps does not lead away; it is linear in the start."""
    at_0, at_1 = (np.mean([alone(task, start, mu) for task in tasks]) for start in (0.0, 1.0))
    return float(at_0 / (1 - (at_1 - at_0)))


# --------------------------------------------------------------------------------------------- the claims


def test_fedavg_comes_to_rest_far_from_the_best_number(tmp_path: Path) -> None:
    found = Sites(tmp_path, TASKS, FedAvg()).play(10)
    assert found == pytest.approx(rest(TASKS), abs=1e-5)
    assert abs(found - BEST) > 0.25


def test_fedprox_comes_to_rest_closer_the_stronger_it_pulls(tmp_path: Path) -> None:
    distances = [abs(rest(TASKS) - BEST)]
    for mu in (1.0, 4.0):
        found = Sites(tmp_path / str(mu), TASKS, FedProx(mu=mu)).play(35)
        assert found == pytest.approx(rest(TASKS, mu), abs=1e-5)
        distances.append(abs(found - BEST))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < distances[0] / 3


def test_scaffold_comes_to_rest_at_the_best_number(tmp_path: Path) -> None:
    assert Sites(tmp_path, TASKS, Scaffold()).play(30) == pytest.approx(BEST, abs=1e-5)


def test_scaffold_finds_the_best_number_also_where_sites_weigh_by_their_examples(tmp_path: Path) -> None:
    tasks = [Quadratic(1, 0, examples=3), Quadratic(4, 1, examples=1)]
    found = Sites(tmp_path, tasks, Scaffold(), ByExamples()).play(30)
    assert found == pytest.approx(4 / 7, abs=1e-5)


@pytest.mark.parametrize("wire", ["F16", "BF16"])
def test_scaffold_finds_it_also_by_half_the_bytes(tmp_path: Path, wire: Dtype) -> None:
    """What a site adds up is what it posted: rounding does not add up."""
    assert Sites(tmp_path, TASKS, Scaffold(), wire=wire).play(30) == pytest.approx(BEST, abs=1e-4)


# -------------------------------------------------------------------------------------- control variates


def test_a_sites_control_variate_is_the_sum_of_what_it_posted_and_the_gradient_at_the_base_before(
    tmp_path: Path,
) -> None:
    sites = Sites(tmp_path, TASKS, Scaffold())
    for round_ in range(1, 5):
        base = sites.number if round_ > 1 else 0.0
        sites.play()
        if round_ > 1:
            for member, task in enumerate(TASKS, 1):
                own = sites.controls(member, round_).own["w"][0]
                assert own == sum(sites.posted(member, earlier) for earlier in range(1, round_))
                assert own + sites.posted(member, round_) == pytest.approx(
                    task.curvature * (base - task.wanted), abs=1e-6
                )


def test_the_servers_control_variate_is_the_mean_of_the_sites(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASKS, Scaffold())
    sites.play(6)
    one, other = (sites.controls(member, 6) for member in (1, 2))
    assert one.server["w"] == other.server["w"]
    assert one.server["w"][0] == pytest.approx((one.own["w"][0] + other.own["w"][0]) / 2, abs=1e-6)
    assert sites.stream.getvalue() == ""


def test_in_the_first_round_there_are_none(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASKS, Scaffold())
    sites.play()
    assert sites.controls(1, 1) == Controls()


def test_an_update_that_settlement_left_out_does_not_count(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASKS, Scaffold())
    sites.play(2)
    sites.absent = {2}
    sites.play()
    before = sites.controls(2, 3).own["w"][0]
    sites.absent = set()
    sites.play()
    assert sites.controls(2, 4).own["w"][0] == before
    assert sites.stream.getvalue() == ""
    assert sites.play(30) == pytest.approx(BEST, abs=1e-5)


def test_an_update_that_is_not_to_be_had_any_more_counts_as_zero_and_is_said(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASKS, Scaffold())
    sites.play(3)
    lost = sites.ledger.history.rounds[1].updates[1].update
    sites.store.path(lost).unlink()
    assert sites.controls(1, 3).own["w"][0] == sites.posted(1, 2)
    said = sites.stream.getvalue()
    assert (
        f"an earlier update of ours counts as zero in our control variate  round 1  why blob {lost} is not to" in said
    )


def test_rounds_before_another_strategy_do_not_count(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASKS, Scaffold())
    sites.play(2)
    sites.change(strategy=FedAvg())
    sites.play()
    sites.change(strategy=Scaffold())
    sites.play(2)
    assert sites.controls(1, 4) == Controls()
    assert sites.controls(1, 5).own["w"][0] == sites.posted(1, 4)
    assert sites.play(30) == pytest.approx(BEST, abs=1e-5)


def test_rounds_whose_model_the_base_does_not_rest_on_do_not_count(tmp_path: Path) -> None:
    sites = Sites(tmp_path, TASKS, Scaffold())
    sites.play(3)
    history = sites.ledger.history
    third = history.rounds[3]
    assert third.opened.base_round == 2
    posted = Posted(history, 1, sites.store, ())
    on_first = replace(third, opened=replace(third.opened, base_round=1, base=history.model_of(1) or third.opened.base))
    own = controls_before(on_first, sites.ledger.plan, posted, Log(stream=sites.stream)).own["w"][0]
    assert own == sites.posted(1, 1)
