"""Private training: every example's gradient is clipped, noise is added, batches are drawn at random, all of a seed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from ledger.errors import UsageError
from ledger.plan import Plan, Training
from participant.private import Chance
from participant.task import Task, balanced
from participant.tensors import Tensors
from participant.trainer import Trainer
from tests.world import PLAN, private

HERE = Path(__file__)  # some data that is there
SILENT = 1e-6  # noise that does not show


class Made(Task):
    """A task of a given model on given examples, none held out; steps without momentum."""

    def __init__(self, make: Callable[[], nn.Module], data: Dataset[Any]) -> None:
        self.make, self.data = make, data

    def model(self) -> nn.Module:
        return self.make()

    def load(self, data: Path) -> Dataset[Any]:
        return self.data

    def split(self, dataset: Any) -> tuple[Any, Any]:
        return dataset, []

    def optimizer(self, parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=training.learning_rate)


class Squared(Made):
    """A regression."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return functional.mse_loss(model(x).squeeze(1), y)


def examples(count: int = 12, scale: float = 1.0) -> TensorDataset:
    chance = torch.Generator().manual_seed(3)
    x = torch.randn(count, 3, generator=chance) * scale
    return TensorDataset(x, (x.sum(1) > 0).float())


def linear() -> nn.Module:
    return nn.Linear(3, 1)


def plan(learning_rate: float = 0.5, batch_size: int = 4, **changes: float) -> Plan:
    training = Training(epochs=1, batch_size=batch_size, learning_rate=learning_rate)
    return PLAN.model_copy(update={"training": training, "privacy": private(**changes)})


def as_bytes(tensors: Tensors) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in tensors.items()}


def flat(tensors: Tensors) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.concatenate([np.asarray(array, np.float64).ravel() for _, array in sorted(tensors.items())])


def moved(trainer: Trainer, asked: Plan, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    base = trainer.initial()
    return flat(trainer.train(base, asked, seed)) - flat(base)


def refused(ask: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        ask()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------- the numbers


def test_it_is_dp_sgd_as_it_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, on a linear regression: the gradient of (w·x + b − y)² is 2 (w·x + b − y) (x, 1)."""
    data = examples(50)
    x, y = (tensor.double().numpy() for tensor in data.tensors)
    clip, noise, rate, steps, learning_rate, seed = 0.7, 1.3, 0.4, 5, 0.2, 11
    trainer = Trainer(Squared(linear, data), HERE)
    base = trainer.initial()
    weights = np.concatenate([base["weight"].ravel(), base["bias"]]).astype(np.float64)
    batches, normal = Chance(seed, "batches"), Chance(seed, "noise")
    for _ in range(steps):
        total = np.zeros(4)
        for row in np.flatnonzero(batches.uniform(50) <= rate):
            example = np.append(x[row], 1.0)
            gradient = 2 * (weights @ example - y[row]) * example
            total += gradient * min(1.0, clip / np.linalg.norm(gradient))
        drawn = np.concatenate([normal.normal(3), normal.normal(1)])  # a parameter after another
        weights -= learning_rate * (total + noise * clip * drawn) / (rate * 50)
    asked = plan(learning_rate, clip=clip, noise_multiplier=noise, sampling_rate=rate, local_steps=steps)
    trained = trainer.train(base, asked, seed)
    np.testing.assert_allclose(trained["weight"].ravel(), weights[:3], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(trained["bias"], weights[3:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_no_example_moves_the_model_further_than_the_clip_allows(scale: float) -> None:
    trainer = Trainer(Squared(linear, examples(20, scale)), HERE)
    step = moved(trainer, plan(1.0, clip=0.01, noise_multiplier=SILENT, sampling_rate=1, local_steps=1), 0)
    assert 0 < np.linalg.norm(step) <= 0.01 * 1.001, "20 examples, each by at most 0.01 / 20"
    assert np.linalg.norm(moved(trainer, plan(1.0, clip=1e5, noise_multiplier=SILENT, sampling_rate=1), 0)) > 0.1


def test_leaving_one_example_out_moves_a_step_by_no_more_than_the_clip() -> None:
    x, y = examples(20, 100.0).tensors
    asked = plan(1.0, batch_size=7, clip=0.5, noise_multiplier=SILENT, sampling_rate=1, local_steps=1)
    # The plan divides by the expected size of a batch, which is the number of examples here.
    whole = moved(Trainer(Squared(linear, TensorDataset(x, y)), HERE), asked, 0) * 20
    for left_out in range(20):
        kept = [row for row in range(20) if row != left_out]
        rest = moved(Trainer(Squared(linear, TensorDataset(x[kept], y[kept])), HERE), asked, 0) * 19
        assert np.linalg.norm(whole - rest) <= 0.5 * 1.01


def test_the_noise_has_the_planned_standard_deviation_and_no_mean() -> None:
    task = Made(lambda: nn.Linear(3, 2000), examples(10))
    task.loss = lambda model, batch: model(batch[0]).sum() * 0  # type: ignore[method-assign]
    trainer = Trainer(task, HERE)
    noise, clip, rate, learning_rate = 2.0, 0.25, 0.5, 0.1
    asked = plan(learning_rate, noise_multiplier=noise, clip=clip, sampling_rate=rate, local_steps=3)
    step = moved(trainer, asked, 5)
    expected = learning_rate * noise * clip / (rate * 10) * math.sqrt(3)
    assert len(step) == 8000
    assert abs(step.std() / expected - 1) < 5 / math.sqrt(2 * 8000)
    assert abs(step.mean()) < 5 * expected / math.sqrt(8000)
    assert abs(np.mean((step / expected) ** 4) - 3) < 5 * math.sqrt(96 / 8000), "as a normal distribution has it"


def test_an_example_is_in_a_batch_with_the_planned_probability_independently_of_others_and_of_other_steps() -> None:
    seen: list[Tensor] = []

    class Watched(Made):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            if model.training:
                seen.append(batch[1])
            return super().loss(model, (batch[0], batch[1] * 0))

    count, rate, steps = 40, 0.15, 400
    data = TensorDataset(torch.ones(count, 3), torch.arange(count).float())
    Trainer(Watched(linear, data), HERE).train(
        {"weight": np.zeros((1, 3), np.float32), "bias": np.zeros(1, np.float32)},
        plan(batch_size=count, sampling_rate=rate, local_steps=steps),
        2,
    )
    sizes = [len(batch) for batch in seen] + [0] * (steps - len(seen))
    times = torch.bincount(torch.cat(seen).long(), minlength=count).double()
    spread = math.sqrt(rate * (1 - rate))
    assert all(len(set(batch.tolist())) == len(batch) for batch in seen), "once in a batch"
    assert abs(sum(sizes) / (count * steps) - rate) < 5 * spread / math.sqrt(count * steps)
    assert float((times / steps - rate).abs().max()) < 5 * spread / math.sqrt(steps)
    binomial = count * rate * (1 - rate)
    assert abs(np.var(sizes) / binomial - 1) < 5 * math.sqrt(2 / steps), "sizes vary: it is no fixed batch"


def test_a_step_without_examples_is_noise_alone() -> None:
    trainer = Trainer(Made(linear, examples(3)), HERE)
    asked = plan(noise_multiplier=1.0, sampling_rate=1e-9, local_steps=2)
    assert np.isfinite(moved(trainer, asked, 0)).all()
    assert np.abs(moved(trainer, asked, 0)).min() > 0


def test_what_is_looked_at_together_is_no_matter_of_privacy() -> None:
    trainer = Trainer(Squared(linear, examples(30)), HERE)
    one, other = (moved(trainer, plan(batch_size=size, sampling_rate=0.7, local_steps=6), 9) for size in (1, 1000))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_no_example_is_held_out_for_one_more_would_change_the_place_of_others() -> None:
    class Splitting(Made):
        split = Task.split

    data = examples(20)
    asked, splitting, whole = (
        plan(sampling_rate=1),
        Trainer(Splitting(linear, data), HERE),
        Trainer(Made(linear, data), HERE),
    )
    assert (splitting.examples, splitting.examples_by(asked)) == (16, 20)
    assert splitting.examples_by(asked.model_copy(update={"privacy": None})) == 16
    assert moved(splitting, asked, 3).tobytes() == moved(whole, asked, 3).tobytes()


# ------------------------------------------------------------------------------------------ the seed


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    one, other = (Trainer(Made(linear, examples()), HERE) for _ in range(2))
    base, asked = one.initial(3), plan()
    assert as_bytes(one.train(base, asked, 7)) == as_bytes(one.train(base, asked, 7))
    assert as_bytes(one.train(base, asked, 7)) == as_bytes(other.train(base, asked, 7))
    assert as_bytes(one.train(base, asked, 7)) != as_bytes(one.train(base, asked, 8))


def test_all_of_the_seed_decides_and_not_its_last_32_bits_as_with_torch() -> None:
    first, second = (torch.rand(3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1 + (1 << 32)))
    assert torch.equal(first, second), "if torch takes all of a seed now, its generator would do, too"
    drawn = {Chance(seed, "noise").normal(3).tobytes() for seed in (1, 1 + (1 << 32), 1 + (1 << 62))}
    assert len(drawn) == 3


def test_batches_and_noise_are_streams_of_their_own() -> None:
    assert Chance(1, "noise").uniform(4).tobytes() != Chance(1, "batches").uniform(4).tobytes()
    stream = Chance(1, "noise")
    assert stream.normal(4).tobytes() != stream.normal(4).tobytes()


def test_the_stream_is_uniform_and_has_no_zero() -> None:
    drawn = Chance(4, "batches").uniform(200_000)
    assert drawn.min() > 0
    assert drawn.max() <= 1
    counts = np.bincount((drawn * 100).astype(int).clip(max=99), minlength=100)
    assert ((counts - 2000) ** 2 / 2000).sum() < 99 + 5 * math.sqrt(2 * 99), "chi-squared"


def test_chance_elsewhere_does_not_matter() -> None:
    trainer = Trainer(Made(lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)), examples()), HERE)
    base, asked = trainer.initial(), plan()
    torch.manual_seed(1)
    one = trainer.train(base, asked, 7)
    torch.manual_seed(2)
    np.random.seed(5)
    assert as_bytes(one) == as_bytes(trainer.train(base, asked, 7))


# -------------------------------------------------------------------------------------- models and tasks


class TiedTwice(nn.Module):
    """Uses its layer twice for every example."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        twice: Tensor = self.layer(torch.tanh(self.layer(x)))
        return twice.sum(1)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "linear": linear,
    "group normalisation": lambda: nn.Sequential(nn.Linear(3, 4), nn.GroupNorm(2, 4), nn.Dropout(0.5), nn.Linear(4, 1)),
    "convolution": lambda: nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 2, 2), nn.Flatten(), nn.Linear(4, 1)),
    "a layer used twice": TiedTwice,
    "a frozen layer": lambda: nn.Sequential(nn.Linear(3, 4).requires_grad_(False), nn.Linear(4, 1)),
}


@pytest.mark.parametrize("name", MODELS)
def test_names_and_shapes_are_the_models_and_what_is_frozen_stays(name: str) -> None:
    trainer = Trainer(Made(MODELS[name], examples()), HERE)
    base = trainer.initial()
    trained = trainer.train(base, plan(), 1)
    assert trained.keys() == base.keys() == trainer.schema().keys()
    assert as_bytes(trained) != as_bytes(base)
    if name == "a frozen layer":
        assert as_bytes(trained)["0.weight"] == as_bytes(base)["0.weight"]
        assert as_bytes(trained)["1.weight"] != as_bytes(base)["1.weight"]


def test_the_model_is_as_good_as_without_where_the_noise_is_small() -> None:
    trainer = Trainer(Made(linear, examples(200)), HERE)
    base = trainer.initial()
    trained = trainer.train(base, plan(noise_multiplier=0.5, sampling_rate=0.5, local_steps=60, clip=1), 1)
    assert trainer.evaluate(trained)["loss"] < 0.6 * trainer.evaluate(base)["loss"]


class Counting(nn.Module):
    """Keeps the mean of what it saw, in secret from Opacus: the layer has no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.copy_(x.detach().mean(0))
        return x


class Spread(nn.Module):
    """Lays three numbers of each example into the first dimension, as if they were examples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.layer(x.reshape(-1, 1))
        return rows.reshape(len(x), 3).sum(1)


class Buffered(nn.Module):
    """A buffer beside a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.offset: Tensor
        self.register_buffer("offset", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.scale + self.offset).sum(1)


def normalised(**settings: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, **settings), nn.Linear(4, 1))


def unused() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 1))
    model.register_module("head", nn.Linear(3, 1))
    model.forward = lambda x: model[0](x)  # type: ignore[method-assign]
    return model


IN_THE_WAY: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "batch normalisation": (normalised(), "layer '1' (BatchNorm1d) cannot be trained privately: it mixes the examples"),
    "batch normalisation without parameters": (normalised(affine=False), "it mixes the examples of a batch; use Group"),
    "running statistics": (
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 3)), nn.InstanceNorm1d(1, track_running_stats=True), nn.Flatten(), nn.Linear(3, 1)
        ),
        "layer '1' (InstanceNorm1d) cannot be trained privately: it keeps statistics of the examples",
    ),
    "an LSTM": (lambda: nn.Sequential(nn.LSTM(3, 1)), "layer '0' (LSTM) cannot be trained privately: Opacus cannot"),
    "a buffer beside a parameter": (Buffered, "layer '' (Buffered) cannot be trained privately: it keeps a buffer"),
    "half precision": (lambda: linear().half(), "parameter 'weight' is float16: private training clips and adds noise"),
    "all frozen": (lambda: linear().requires_grad_(False), "the model has no parameter to train"),
    "statistics kept in secret": (
        lambda: nn.Sequential(Counting(), nn.Linear(3, 1)),
        "tensor '0.mean' is changed by training without noise",
    ),
    "several rows for an example": (Spread, "parameter 'layer.weight' has 12 gradients for 4 examples"),
    "a layer that is not used": (unused, "the loss leaves parameter 'head.weight' out: use it, or freeze it"),
}


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_what_cannot_be_trained_privately_is_refused_by_name_and_told_what_to_do(name: str) -> None:
    make, said = IN_THE_WAY[name]
    trainer = Trainer(Made(make, examples()), HERE)
    assert said in refused(lambda: trainer.train(trainer.initial(), plan(sampling_rate=1), 0))


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a sum": lambda output, y: functional.mse_loss(output, y, reduction="sum"),
    "examples compared with each other": lambda output, y: ((output - output.mean()) * y).square().mean(),
    "left to chance": lambda output, y: functional.mse_loss(output, torch.rand(len(y))),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_no_mean_over_examples_is_refused(name: str) -> None:
    class Lossy(Made):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            return LOSSES[name](model(batch[0]).squeeze(1), batch[1])

    trainer = Trainer(Lossy(linear, examples()), HERE)
    said = refused(lambda: trainer.train(trainer.initial(), plan(), 0))
    assert "a private plan needs a loss that is the mean over examples, each by itself" in said


def test_a_task_that_trains_in_its_own_way_is_refused() -> None:
    class Own(Made):
        def train(self, model: nn.Module, dataset: Dataset[Any], training: Training, seed: int) -> None:
            raise AssertionError("it is not asked")

    trainer = Trainer(Own(linear, examples()), HERE)
    said = refused(lambda: trainer.train(trainer.initial(), plan(), 0))
    assert "take the task without its train(), or a plan without privacy" in said


@pytest.mark.parametrize(
    "weights",
    [balanced, lambda labels: torch.tensor([1.0, 1.0 + sum(labels) // 5])],
    ids=["balanced", "a count in steps of five"],
)
def test_weights_that_a_task_takes_from_its_examples_are_refused(weights: Callable[[list[int]], Tensor]) -> None:
    class Weighted(Made):
        def class_weights(self, dataset: Any) -> Tensor:
            return weights([int(dataset[row][1]) for row in range(len(dataset))])

    trainer = Trainer(Weighted(linear, examples(20)), HERE)
    said = refused(lambda: trainer.train(trainer.initial(), plan(), 0))
    assert "class_weights() gives other weights of fewer examples, and no noise hides" in said


def test_fixed_weights_of_classes_are_trained_with() -> None:
    class Weighted(Made):
        def class_weights(self, dataset: Any) -> Tensor:
            return torch.tensor([1.0, 3.0])

    asked = plan(noise_multiplier=SILENT)
    weighted, plain = (moved(Trainer(task(linear, examples(20)), HERE), asked, 0) for task in (Weighted, Made))
    assert not np.array_equal(weighted, plain)


def test_without_opacus_a_private_plan_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "participant.private")
    monkeypatch.delattr("participant.private")
    monkeypatch.setitem(sys.modules, "opacus", None)
    trainer = Trainer(Made(linear, examples()), HERE)
    said = refused(lambda: trainer.train(trainer.initial(), plan(), 0))
    assert said == "a private plan needs opacus: pip install 'fedledger[dp]'"
