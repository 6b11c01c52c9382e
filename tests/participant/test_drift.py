"""FedProx and SCAFFOLD in local training: every step is theirs, whichever optimizer takes it, and bytes repeat."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from ledger.choices import CONTROL, AnyStrategy, FedAvg, FedProx, Scaffold
from ledger.errors import UsageError
from ledger.plan import Plan, Training
from participant.array_task import Arrays, ArrayTask
from participant.controls import Controls
from participant.task import Task
from participant.tensors import Tensors
from participant.trainer import Trainer
from tests.world import PLAN

HERE = Path(__file__)  # some data that is there
FEDPROX, SCAFFOLD = FedProx(mu=0.5), Scaffold()
Optimizer = Callable[[list[nn.Parameter], Training], torch.optim.Optimizer]


def plain(parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=training.learning_rate)


class Made(Task):
    """A regression by a given model on given examples, with a given optimizer."""

    def __init__(self, make: Callable[[], nn.Module], data: Dataset[Any], optimizer: Optimizer = plain) -> None:
        self.make, self.data, self.make_optimizer = make, data, optimizer

    def model(self) -> nn.Module:
        return self.make()

    def load(self, data: Path) -> Dataset[Any]:
        return self.data

    def split(self, dataset: Any) -> tuple[Any, Any]:
        return dataset, []  # what is trained on is counted out below

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return functional.mse_loss(model(x).squeeze(1), y)

    def optimizer(self, parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
        return self.make_optimizer(parameters, training)


def examples(count: int = 12) -> TensorDataset:
    chance = torch.Generator().manual_seed(3)
    x = torch.randn(count, 3, generator=chance)
    return TensorDataset(x, x @ torch.tensor([1.0, -2.0, 0.5]) + 0.3)


def linear() -> nn.Module:
    return nn.Linear(3, 1)


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))


def plan(strategy: AnyStrategy, epochs: int = 3, batch_size: int = 100, learning_rate: float = 0.05) -> Plan:
    training = Training(epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    return PLAN.model_copy(update={"training": training, "strategy": strategy})


def controls_of(trainer: Trainer, scale: float = 1.0) -> Controls:
    """Control variates that are all different."""
    shapes = {name: int(np.prod(spec.shape)) for name, spec in trainer.schema().items()}
    chance = np.random.default_rng(5)
    server, own = ({name: scale * chance.normal(size=count) for name, count in shapes.items()} for _ in range(2))
    return Controls(server, own)


def as_bytes(tensors: Tensors) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in tensors.items()}


def weights_of(tensors: Tensors, kind: str = "") -> np.ndarray[Any, np.dtype[np.float64]]:
    parts = [tensors[kind + "weight"], tensors[kind + "bias"]]
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64)


def gradient_of(weights: Any, data: TensorDataset) -> Any:
    """By hand: the gradient of the mean of (w·x + b − y)² is the mean of 2 (w·x + b − y) (x, 1)."""
    x, y = (tensor.double().numpy() for tensor in data.tensors)
    rows = np.hstack([x, np.ones((len(x), 1))])
    return 2 * (rows @ weights - y) @ rows / len(rows)


def refused(ask: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        ask()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------- the numbers


def test_fedprox_steps_by_the_gradient_and_the_way_from_the_base() -> None:
    data = examples()
    trainer = Trainer(Made(linear, data), HERE)
    base = trainer.initial()
    weights = start = weights_of(base)
    for _ in range(3):
        weights = weights - 0.05 * (gradient_of(weights, data) + 0.5 * (weights - start))
    np.testing.assert_allclose(weights_of(trainer.train(base, plan(FEDPROX), 1)), weights, rtol=1e-5)


def test_scaffold_steps_by_the_gradient_and_the_difference_of_the_control_variates() -> None:
    data = examples()
    trainer = Trainer(Made(linear, data), HERE)
    base, controls = trainer.initial(), controls_of(trainer)
    weights = weights_of(base)
    for _ in range(3):
        step = gradient_of(weights, data) - weights_of(dict(controls.own)) + weights_of(dict(controls.server))
        weights = weights - 0.05 * step
    trained = trainer.train(base, plan(SCAFFOLD), 1, controls=controls)
    np.testing.assert_allclose(weights_of(trained), weights, rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 11, 12, 100])
def test_the_new_control_variate_is_the_gradient_at_the_base_over_all_examples(batch_size: int) -> None:
    data = examples()
    trainer = Trainer(Made(linear, data), HERE)
    base, controls = trainer.initial(), controls_of(trainer)
    trained = trainer.train(base, plan(SCAFFOLD, batch_size=batch_size), 1, controls=controls)
    expected = gradient_of(weights_of(base), data) - weights_of(dict(controls.own))
    np.testing.assert_allclose(weights_of(trained, CONTROL), expected, rtol=1e-5, atol=1e-6)
    assert {array.dtype for array in trained.values()} == {np.dtype(np.float32)}


class Around(torch.optim.Optimizer):
    """Steps by another's steps."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.inner = inner

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.inner.step()


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda parameters, training: torch.optim.Adam(parameters, lr=0.01),
        lambda parameters, training: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True),
        lambda parameters, training: torch.optim.SGD([{"params": parameters[:1]}, {"params": parameters[1:]}], lr=0.01),
        lambda parameters, training: Around(plain(parameters, training)),
    ],
    ids=["Adam", "momentum", "groups", "one around another"],
)
def test_any_optimizer_is_given_the_changed_gradients(optimizer: Optimizer) -> None:
    """By FedProx it does what it would with the penalty written into the loss."""

    class Penalised(Made):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            way = sum(((one - torch.from_numpy(base[name])) ** 2).sum() for name, one in model.named_parameters())
            return super().loss(model, batch) + 0.25 * way

    trainer = Trainer(Made(linear, examples(), optimizer), HERE)
    base = trainer.initial()
    penalised = Trainer(Penalised(linear, examples(), optimizer), HERE).train(base, plan(FedAvg()), 1)
    trained = trainer.train(base, plan(FEDPROX), 1)
    np.testing.assert_allclose(weights_of(trained), weights_of(penalised), rtol=1e-5)
    assert as_bytes(trained) != as_bytes(trainer.train(base, plan(FedAvg()), 1))


def test_the_stronger_fedprox_pulls_the_closer_the_update_stays_to_its_base() -> None:
    trainer = Trainer(Made(linear, examples()), HERE)
    base = trainer.initial()
    ways = []
    for mu in (1e-9, 1.0, 10.0):
        trained = trainer.train(base, plan(FedProx(mu=mu), epochs=50), 1)
        ways.append(float(np.linalg.norm(weights_of(trained) - weights_of(base))))
    assert ways == sorted(ways, reverse=True)
    assert ways[0] > 2 * ways[2]


@pytest.mark.parametrize("make", [linear, normalised])
def test_without_control_variates_scaffold_trains_as_fedavg(make: Callable[[], nn.Module]) -> None:
    trainer = Trainer(Made(make, examples()), HERE)
    base = trainer.initial()
    trained = trainer.train(base, plan(SCAFFOLD, batch_size=5), 1)
    plainly = trainer.train(base, plan(FedAvg(), batch_size=5), 1)
    assert as_bytes({name: trained[name] for name in base}) == as_bytes(plainly)
    assert trained.keys() == base.keys() | {CONTROL + name for name in base}


def test_what_is_not_trained_has_no_control_variate() -> None:
    def make() -> nn.Module:
        model = normalised()
        model[0].requires_grad_(False)  # type: ignore[index]
        return model

    trainer = Trainer(Made(make, examples()), HERE)
    trained = trainer.train(trainer.initial(), plan(SCAFFOLD, batch_size=5), 1)
    still = {name for name in trainer.schema() if not trained[CONTROL + name].any()}
    assert {"0.weight", "0.bias", "1.running_mean", "1.running_var"} <= still
    assert "3.weight" not in still


def test_a_parameter_that_this_sites_loss_leaves_out_moves_as_the_other_sites_say() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(3, 1), nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            given: Tensor = self.used(x)
            return given

    trainer = Trainer(Made(Two, examples()), HERE)
    base = trainer.initial()
    controls = Controls(server={"unused.bias": np.array([2.0])})
    trained = trainer.train(base, plan(SCAFFOLD), 1, controls=controls)
    np.testing.assert_allclose(trained["unused.bias"], base["unused.bias"] - 3 * 0.05 * 2.0, rtol=1e-6)
    assert not trained[CONTROL + "unused.bias"].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_control_variates_are_float32_whatever_the_models_tensors_are(dtype: torch.dtype) -> None:
    x, y = examples().tensors
    trainer = Trainer(Made(lambda: linear().to(dtype), TensorDataset(x.to(dtype), y.to(dtype))), HERE)
    trained = trainer.train(trainer.initial(), plan(SCAFFOLD), 1, controls=controls_of(trainer, 0.1))
    assert {array.dtype for name, array in trained.items() if name.startswith(CONTROL)} == {np.dtype(np.float32)}


# ------------------------------------------------------------------------------------------ the same bytes


@pytest.mark.parametrize("strategy", [FEDPROX, SCAFFOLD], ids=lambda strategy: strategy.name)
def test_the_same_seed_gives_the_same_bytes_and_another_one_others(strategy: AnyStrategy) -> None:
    one, other = (Trainer(Made(normalised, examples()), HERE) for _ in range(2))
    base, asked, controls = one.initial(3), plan(strategy, batch_size=5), controls_of(one, 0.1)
    first = one.train(base, asked, 7, controls=controls)
    torch.manual_seed(9)
    assert as_bytes(first) == as_bytes(one.train(base, asked, 7, controls=controls))
    assert as_bytes(first) == as_bytes(other.train(base, asked, 7, controls=controls))
    assert as_bytes(first) != as_bytes(one.train(base, asked, 8, controls=controls))


# -------------------------------------------------------------------------------------------- bad tasks


class OwnWay(Made):
    """Trains in its own way."""

    def train(self, model: nn.Module, dataset: Dataset[Any], training: Training, seed: int) -> None:
        super().train(model, dataset, training, seed)


class NoOptimizer:
    """Steps as torch's do, without being one."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        with torch.no_grad():
            for parameter in self.parameters:
                parameter.sub_(0.1 * parameter.grad)  # type: ignore[operator]


@pytest.mark.parametrize("strategy", [FEDPROX, SCAFFOLD], ids=lambda strategy: strategy.name)
def test_a_task_that_trains_in_its_own_way_is_refused(strategy: AnyStrategy) -> None:
    trainer = Trainer(OwnWay(linear, examples()), HERE)
    base = trainer.initial()
    assert trainer.train(base, plan(FedAvg()), 1)
    said = refused(lambda: trainer.train(base, plan(strategy), 1))
    assert f"in train: a plan of {strategy.name} adds to every gradient, and whether this task's own way of" in said
    assert "take the task without its train(), or a plan of another strategy" in said


@pytest.mark.parametrize("strategy", [FEDPROX, SCAFFOLD], ids=lambda strategy: strategy.name)
def test_an_optimizer_that_is_none_of_torch_is_refused(strategy: AnyStrategy) -> None:
    trainer = Trainer(Made(linear, examples(), lambda parameters, _: NoOptimizer(parameters)), HERE)  # type: ignore[arg-type,return-value]
    base = trainer.initial()
    assert trainer.train(base, plan(FedAvg()), 1)
    said = refused(lambda: trainer.train(base, plan(strategy), 1))
    assert f"a plan of {strategy.name} needs steps of an optimizer of torch: give one in optimizer()" in said


@pytest.mark.parametrize("strategy", [FEDPROX, SCAFFOLD], ids=lambda strategy: strategy.name)
def test_a_task_of_arrays_is_refused(strategy: AnyStrategy) -> None:
    class Halves(ArrayTask):
        def initial(self) -> Arrays:
            return {"w": np.ones(2, np.float32)}

        def load(self, data: Path) -> Any:
            return np.ones(3)

        def fit(self, tensors: Arrays, examples: Any, training: Training, seed: int) -> Arrays:
            return {"w": tensors["w"] / 2}

    trainer = Trainer(Halves(), HERE)
    base = trainer.initial()
    assert trainer.train(base, plan(FedAvg()), 1)["w"].tolist() == [0.5, 0.5]
    said = refused(lambda: trainer.train(base, plan(strategy), 1))
    assert f"in fit: a plan of {strategy.name} adds to every gradient, which an ArrayTask does not give: write" in said


def test_other_optimizers_and_later_training_are_left_as_they_are() -> None:
    beside = nn.Parameter(torch.ones(1))
    failing = [True]

    def optimizer(parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
        other = torch.optim.SGD([beside], lr=1.0)
        beside.grad = torch.ones(1)
        other.step()
        if failing[0]:
            raise ArithmeticError
        return plain(parameters, training)

    trainer = Trainer(Made(linear, examples(), optimizer), HERE)
    base, controls = trainer.initial(), controls_of(trainer)
    assert "ArithmeticError" in refused(lambda: trainer.train(base, plan(SCAFFOLD), 1, controls=controls))
    assert beside.item() == 0.0
    failing[0] = False
    expected = Trainer(Made(linear, examples()), HERE).train(base, plan(FedAvg()), 1)
    assert as_bytes(trainer.train(base, plan(FedAvg()), 1)) == as_bytes(expected)


def test_a_gradient_that_is_not_finite_names_the_tensor() -> None:
    class Infinite(Made):
        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            return super().loss(model, batch) * (1.0 if len(batch[1]) < 4 else float("inf"))

    trainer = Trainer(Infinite(linear, examples(7)), HERE)
    said = refused(lambda: trainer.train(trainer.initial(), plan(SCAFFOLD, batch_size=3), 1))
    assert "the gradient of tensor 'weight' at the base model has a value that is NaN or infinite" in said
