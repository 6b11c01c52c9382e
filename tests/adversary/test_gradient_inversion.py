"""What a reader of updates makes of them: a training example, unless they are sealed or noised (Zhu, Liu, Han 2019).

The attacker is an outsider. He has all blobs of the store and all entries of the chain, and with them the base model,
the plan (learning rate, epochs, batch size) and each update's number of examples. He knows the task's file too, and so
the network and its loss: every site has it. He knows no key, and nothing of any site's data.

He takes the update of a site that trained one step on one example: what it changed, divided by the learning rate, is
that example's gradient (a first step of SGD with momentum is one without). Then he looks for an input and a label
whose gradient has the same direction, beginning from noise, with L-BFGS.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from ledger.cid import Cid, cid_of
from ledger.errors import InvalidBlobError
from ledger.facts import RoundSettled, UpdateRecorded
from ledger.manifest import Manifest
from ledger.plan import Plan, Training
from ledger.updates import TensorBlob, decode, to_float64
from participant.site import make_update
from participant.task import Task
from participant.trainer import Trainer, genesis
from tests.world import PLAN, World

FEATURES, HIDDEN, CLASSES = 16, 12, 4
RECOVERED, FAR_OFF = 0.01, 0.5  # of the true example's length
Gradients = dict[str, Tensor]


class Network(Task):
    """A network of two layers, on the records of one site."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.records = TensorDataset(x, y)

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.Sigmoid(), nn.Linear(HIDDEN, CLASSES))

    def load(self, data: Path) -> Dataset[Any]:
        return self.records


@dataclass(frozen=True)
class Record:
    """One patient's."""

    x: Tensor
    label: int

    @classmethod
    def of(cls, member: int) -> Record:
        chance = torch.Generator().manual_seed(member)
        return cls(torch.randn(FEATURES, generator=chance), member % CLASSES)

    @property
    def task(self) -> Network:
        return Network(self.x[None], torch.tensor([self.label]))


def plan(seal: str, quorum: int = 2) -> Plan:
    changes = {
        "tensors": Trainer(Record.of(1).task, Path(__file__)).schema(),
        "training": Training(epochs=1, batch_size=1, learning_rate=0.1),
        "max_update_bytes": 1 << 16,
        "seal": seal,
        "quorum": quorum,
    }
    return PLAN.model_copy(update=changes)


def played(folder: Path, planned: Plan, members: Iterable[int]) -> World:
    """A ledger with one settled round, in which each member trains on one record with the product's own trainer."""
    world = World(folder, genesis=genesis(Record.of(1).task, 0))
    world.aggregator.open(planned)
    history = world.contract.history()
    for member in members:
        trainer = Trainer(Record.of(member).task, Path(__file__))

        def train(base: Mapping[str, Any], plan: Plan, trainer: Trainer = trainer) -> Any:
            return trainer.train(base, plan, seed=0)

        update = make_update(history.genesis, history.rounds[1], member, trainer.examples, train, world.store)
        if planned.seal == "none":
            world.post(member, update, examples=1)
        else:
            world.post_sealed(member, world.seal(member, update), examples=1)
    world.chain.pass_time(planned.window + 1)
    world.settle()
    return world


# ---------------------------------------------------------------------------------- the attacker


@dataclass(frozen=True)
class Outsider:
    """Who has entries and blobs, and no key."""

    world: World

    def entries(self, kind: type) -> list[Any]:
        return [entry.fact for entry, _ in self.world.contract.shown()[0] if isinstance(entry.fact, kind)]

    @property
    def opened(self) -> Any:
        return self.world.contract.history().rounds[1].opened

    def blob(self, cid: Cid) -> bytes:
        return self.world.store.get(cid)

    def blobs(self) -> dict[Cid, bytes]:
        files = [path for path in self.world.store.folder.rglob("*") if path.is_file()]
        return {cid_of(blob): blob for blob in (path.read_bytes() for path in files)}

    def gradients(self, cid: Cid) -> Gradients:
        """What training on it changed of the base model, by the learning rate."""
        rate = Plan.decode(self.blob(self.opened.plan)).training.learning_rate
        base, update = values(decode(self.blob(self.opened.base))), values(decode(self.blob(cid)))
        return {name: (base[name] - update[name]) / rate for name in base}

    def inverted(self, gradients: Gradients) -> tuple[Tensor, int]:
        """The record whose gradients have the direction of these; from some beginnings a search ends nowhere."""
        base, wanted = values(decode(self.blob(self.opened.base))), direction(gradients)
        searches = [searched(base, wanted, seed) for seed in range(5)]
        x, label, _ = min(searches, key=lambda one: one[2])
        return x, label


def searched(base: Gradients, wanted: Tensor, seed: int) -> tuple[Tensor, int, float]:
    """A record, and how far its gradients' direction is from the one that is wanted."""
    model, chance = Record.of(1).task.model().double(), torch.Generator().manual_seed(1000 + seed)
    parameters = {name: base[name].reshape(own.shape).requires_grad_() for name, own in model.named_parameters()}
    x = torch.randn(FEATURES, generator=chance, dtype=torch.float64).requires_grad_()
    y = torch.randn(CLASSES, generator=chance, dtype=torch.float64).requires_grad_()
    search = torch.optim.LBFGS([x, y], max_iter=500, line_search_fn="strong_wolfe", tolerance_change=1e-15)

    def distance() -> Tensor:
        search.zero_grad()
        output = torch.func.functional_call(model, parameters, (x[None],))
        loss = functional.cross_entropy(output, y.softmax(0)[None])
        own = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        squared = (direction(dict(zip(parameters, own, strict=True))) - wanted).square().sum()
        squared.backward()  # type: ignore[no-untyped-call]
        return squared.detach()

    search.step(distance)  # type: ignore[no-untyped-call]
    return x.detach().float(), int(y.argmax()), float(distance())


def values(blob: TensorBlob) -> Gradients:
    return {name: torch.from_numpy(to_float64(array, blob.schema[name].dtype)) for name, array in blob.tensors.items()}


def direction(gradients: Gradients) -> Tensor:
    flat = torch.cat([gradients[name].reshape(-1) for name in sorted(gradients)])
    return functional.normalize(flat, dim=0)


def computed(gradients: Gradients) -> Tensor:
    """The input of a fully connected layer, by least squares: its weights' gradient is its biases' times that input."""
    weight, bias = gradients["0.weight"].reshape(HIDDEN, FEATURES), gradients["0.bias"]
    return (bias @ weight / (bias @ bias)).float()


def error(found: Tensor, record: Record) -> float:
    """How far off a reconstruction is, as a share of the true example's length."""
    return float((found - record.x).norm() / record.x.norm())


def update_of(outsider: Outsider, member: int) -> Cid:
    [cid] = [fact.update for fact in outsider.entries(UpdateRecorded) if fact.member == member]
    return cid  # type: ignore[no-any-return]


def model_of(outsider: Outsider) -> Cid:
    [settled] = outsider.entries(RoundSettled)
    return settled.model  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def unsealed(tmp_path_factory: pytest.TempPathFactory) -> Outsider:
    return Outsider(played(tmp_path_factory.mktemp("unsealed"), plan("none"), (1, 2, 3)))


# ------------------------------------------------------------------------------------- unsealed


@pytest.mark.parametrize("member", [1, 2, 3])
def test_an_unsealed_update_of_one_example_gives_that_example_and_its_label_away(
    unsealed: Outsider, member: int
) -> None:
    found, label = unsealed.inverted(unsealed.gradients(update_of(unsealed, member)))
    assert error(found, Record.of(member)) < RECOVERED
    assert label == Record.of(member).label


def test_no_search_is_needed_behind_a_fully_connected_layer(unsealed: Outsider) -> None:
    gradients = unsealed.gradients(update_of(unsealed, 1))
    assert error(computed(gradients), Record.of(1)) < RECOVERED
    assert int(gradients["2.bias"].argmin()) == Record.of(1).label


# --------------------------------------------------------------------------------------- sealed


def test_a_sealed_update_is_bytes_that_the_same_attacker_cannot_decode(tmp_path: Path) -> None:
    outsider = Outsider(played(tmp_path, plan("age"), (1, 2, 3)))
    for member in (1, 2, 3):
        with pytest.raises(InvalidBlobError, match="malformed"):
            outsider.gradients(update_of(outsider, member))


def test_nothing_that_is_seen_of_a_sealed_round_is_a_tensor_but_base_and_model(tmp_path: Path) -> None:
    outsider = Outsider(played(tmp_path, plan("age"), (1, 2, 3)))
    outsider.world.attest()
    [settled] = outsider.entries(RoundSettled)
    annex = base64.b64decode(Manifest.decode(outsider.blob(settled.manifest)).annex or "")
    decoded = set()
    for cid, blob in {**outsider.blobs(), cid_of(annex): annex}.items():
        try:
            assert decode(blob).schema == plan("age").tensors
            decoded.add(cid)
        except InvalidBlobError:
            pass
    assert decoded == {outsider.opened.base, settled.model}


def test_where_a_single_update_counts_the_model_of_a_sealed_round_gives_its_example_away(tmp_path: Path) -> None:
    """Sealing hides updates, and not what the model says: with a quorum of one, the model can be an update."""
    outsider = Outsider(played(tmp_path, plan("age", quorum=1), (1,)))
    found, label = outsider.inverted(outsider.gradients(model_of(outsider)))
    assert error(found, Record.of(1)) < RECOVERED
    assert label == Record.of(1).label


# --------------------------------------------------------------------------------------- noised


def noised(gradients: Gradients, clip: float, noise: float, seed: int) -> Gradients:
    """As DP-SGD has it (Abadi et al. 2016): clipped to a norm, and Gaussian noise of `noise` times that norm added."""
    norm = float(torch.cat(list(gradients.values())).norm())
    chance = np.random.default_rng(seed)
    return {
        name: array * min(1, clip / norm) + torch.from_numpy(chance.normal(0, noise * clip, array.shape))
        for name, array in gradients.items()
    }


@pytest.mark.parametrize("seed", range(3))
def test_clipping_and_noise_put_the_reconstruction_far_off_and_clipping_alone_does_not(
    unsealed: Outsider, seed: int
) -> None:
    gradients, record = unsealed.gradients(update_of(unsealed, 1)), Record.of(1)
    clip = float(torch.cat(list(gradients.values())).norm()) / 2
    clipped, private = (noised(gradients, clip, noise, seed) for noise in (0, 1))
    assert error(unsealed.inverted(clipped)[0], record) < RECOVERED
    assert error(unsealed.inverted(private)[0], record) > FAR_OFF
    assert error(computed(private), record) > FAR_OFF
