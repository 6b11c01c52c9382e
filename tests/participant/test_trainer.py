"""The trainer: a base model's tensors in, an update's out; the same bytes every time, or a sentence that says why."""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from ledger.errors import UsageError
from ledger.plan import TensorSpec, Training
from ledger.updates import MODEL_HEADER, decode, encode
from participant.task import Task
from participant.tensors import Tensors
from participant.trainer import Trainer, genesis
from tests.world import PLAN

ROUND = PLAN.model_copy(update={"training": Training(epochs=2, batch_size=4, learning_rate=0.05)})
HERE = Path(__file__)  # some data that is there


class Made(Task):
    """A task of a given model, on ten examples of three numbers, or on given ones."""

    def __init__(self, make: Callable[[], Any], data: Any = None) -> None:
        self.make = make
        self.data = data

    def model(self) -> nn.Module:
        made: nn.Module = self.make()
        return made

    def load(self, data: Path) -> Dataset[Any]:
        if self.data is not None:
            return self.data  # type: ignore[no-any-return]
        x = torch.randn(10, 3)  # the trainer seeds what is left to chance
        return TensorDataset(x, (x.sum(1) > 0).float())


def trainer(make: Callable[[], Any], data: Any = None) -> Trainer:
    return Trainer(Made(make, data), HERE)


def linear() -> nn.Module:
    return nn.Linear(3, 1)


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))


def with_parameter(name: str, tensor: torch.Tensor) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = nn.Linear(3, 1)
        model.register_parameter(name, nn.Parameter(tensor.clone(), requires_grad=tensor.is_floating_point()))
        return model

    return make


def as_bytes(tensors: Tensors) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in tensors.items()}


def refused(ask: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        ask()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------------------------------- determinism


@pytest.mark.parametrize("make", [linear, normalised, lambda: normalised().bfloat16(), lambda: linear().half()])
def test_the_same_inputs_and_seed_give_the_same_bytes_and_another_seed_others(make: Callable[[], nn.Module]) -> None:
    def data() -> Any:
        x = torch.ones(9, 3) * torch.arange(9)[:, None]
        return TensorDataset(x.to(next(make().parameters()).dtype), torch.arange(9) % 2)

    one, other = trainer(make, data()), trainer(make, data())
    base = one.initial(3)
    first = one.train(base, ROUND, 7)
    one.train(base, ROUND, 8)
    assert as_bytes(first) == as_bytes(one.train(base, ROUND, 7)) == as_bytes(other.train(base, ROUND, 7))
    assert as_bytes(first) != as_bytes(one.train(base, ROUND, 8))
    assert as_bytes(first) != as_bytes(base)


def test_chance_threads_and_modes_are_afterwards_as_they_were() -> None:
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    threads = torch.get_num_threads()
    asked = trainer(normalised)
    asked.evaluate(asked.train(asked.initial(), ROUND, 5))
    drawn = float(torch.rand(1)), random.random(), float(np.random.rand())
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    assert drawn == (float(torch.rand(1)), random.random(), float(np.random.rand()))
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_data_that_draws_with_any_of_the_three_generators_trains_the_same_again() -> None:
    class Noisy(Dataset[Any]):
        def __len__(self) -> int:
            return 6

        def __getitem__(self, at: int) -> Any:
            if at >= 6:
                raise IndexError
            drawn = [random.random(), np.random.rand(), float(torch.rand(1))]
            return torch.tensor(drawn, dtype=torch.float32), at % 2

    asked = trainer(linear, Noisy())
    base = asked.initial()
    assert as_bytes(asked.train(base, ROUND, 1)) == as_bytes(asked.train(base, ROUND, 1))


def test_the_genesis_blob_of_a_seed_is_always_the_same_and_holds_the_initial_tensors() -> None:
    asked = trainer(normalised)
    blob = genesis(Made(normalised), 5)
    assert blob == genesis(Made(normalised), 5) != genesis(Made(normalised), 6)
    decoded = decode(blob)
    assert (decoded.header, decoded.schema) == (MODEL_HEADER, asked.schema())
    assert as_bytes(decoded.tensors) == as_bytes(asked.initial(5))


# --------------------------------------------------------------------------------------- which tensors


def test_training_starts_from_the_base_as_a_blob_holds_it_and_makes_the_loss_smaller() -> None:
    asked = trainer(linear)
    base = decode(genesis(Made(linear), 0)).tensors
    long = ROUND.model_copy(update={"training": Training(epochs=30, batch_size=4, learning_rate=0.1)})
    trained = asked.train(base, long, 0)
    assert asked.evaluate(trained)["loss"] < asked.evaluate(base)["loss"]
    assert (asked.examples, asked.held_out) == (8, 2)
    assert encode(MODEL_HEADER, asked.schema(), trained)


@given(st.integers(0, 2**32 - 1))
def test_tensors_go_in_and_come_out_bit_for_bit(seed: int) -> None:
    class Idle(Made):
        def train(self, *_: Any) -> None:
            pass

    chance = np.random.default_rng(seed)

    def make() -> nn.Module:
        model = with_parameter("f16", torch.zeros(2, 2, dtype=torch.float16))()
        model.register_buffer("brain", torch.zeros(3, dtype=torch.bfloat16))
        model.register_buffer("scalar", torch.zeros(()))
        model.register_buffer("empty", torch.zeros(0, 4))
        return model

    asked = Trainer(Idle(make), HERE)
    base = {
        name: chance.normal(size=spec.shape).astype(np.float16 if spec.dtype == "F16" else np.float32)
        for name, spec in asked.schema().items()
    }
    base["brain"] = (base["brain"].astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    assert {name: spec.dtype for name, spec in asked.schema().items()} == {
        "weight": "F32",
        "bias": "F32",
        "f16": "F16",
        "brain": "BF16",
        "scalar": "F32",
        "empty": "F32",
    }
    flat = {name: np.ravel(array) for name, array in base.items()}
    assert as_bytes(asked.train(flat, ROUND, 0)) == as_bytes(base)


def test_running_means_of_batch_normalisation_are_averaged_and_its_counter_stays() -> None:
    asked = trainer(normalised)
    assert {"1.running_mean", "1.running_var"} < asked.schema().keys()
    assert "1.num_batches_tracked" not in asked.schema()
    base = asked.initial()
    assert as_bytes(asked.train(base, ROUND, 0))["1.running_mean"] != as_bytes(base)["1.running_mean"]


def test_batch_normalisation_trains_where_one_example_is_left_for_the_last_batch() -> None:
    x = torch.arange(27.0).reshape(9, 3)
    asked = trainer(normalised, TensorDataset(x, torch.arange(9) % 2))
    assert asked.train(asked.initial(), ROUND, 0)


def test_tied_tensors_are_there_once_and_stay_tied() -> None:
    def make() -> nn.Module:
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
        model[1].weight = model[0].weight
        return model

    asked = trainer(make)
    assert sorted(asked.schema()) == ["0.bias", "0.weight", "1.bias", "2.bias", "2.weight"]
    base = asked.initial()
    trained = asked.train(base, ROUND, 0)
    assert as_bytes(trained)["0.weight"] != as_bytes(base)["0.weight"]
    assert asked.evaluate(trained) != asked.evaluate({**trained, "0.weight": base["0.weight"]})


def test_tensors_that_share_memory_otherwise_or_lie_in_another_order_are_kept_as_they_are_seen() -> None:
    whole = torch.arange(6.0).reshape(2, 3)

    def make() -> nn.Module:
        model = nn.Linear(3, 1)
        own = whole.clone()
        model.register_buffer("part", own[0])
        model.register_buffer("whole", own)
        model.register_buffer("turned", own.T)
        return model

    initial = trainer(make).initial()
    assert np.array_equal(initial["part"], whole[0])
    assert np.array_equal(initial["turned"], whole.T)
    assert trainer(make).schema()["turned"] == TensorSpec(dtype="F32", shape=[3, 2])
    assert decode(encode(MODEL_HEADER, trainer(make).schema(), initial)).tensors["turned"].tolist() == [
        0,
        3,
        1,
        4,
        2,
        5,
    ]


@pytest.mark.parametrize("name", ["ü", 'a"b', "a\\b", "a b", "\n", "模型", "x" * 256, "__metadata_"])
def test_odd_names_stay_as_they_are(name: str) -> None:
    make = with_parameter(name, torch.zeros(2))
    decoded = decode(genesis(Made(make), 0))
    assert name in decoded.schema
    assert name in trainer(make).train(decoded.tensors, ROUND, 0)


def extra_state() -> nn.Module:
    class Stateful(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"seen": 1}

    return Stateful(3, 1)


def complex_() -> nn.Module:
    model = nn.Linear(3, 1)
    model.register_buffer("wave", torch.zeros(2, dtype=torch.complex64))
    return model


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: linear().double(),
            "tensor 'weight' is float64: settlement takes float32, or float16 and bfloat16: call .f",
        ),
        (complex_, "tensor 'wave' is complex64: settlement takes float32"),
        (
            with_parameter("__metadata__", torch.zeros(1)),
            "tensor '__metadata__' fits no plan: give it a name of at most",
        ),
        (with_parameter("x" * 257, torch.zeros(1)), " fits no plan"),
        (with_parameter("\ud800", torch.zeros(1)), "tensor '\\ud800' fits no plan"),
        (with_parameter("deep", torch.zeros([1] * 17)), "tensor 'deep' fits no plan"),
        (with_parameter("deep", torch.tensor([float("inf")])), "tensor 'deep' has a value that is NaN or infinite"),
        (extra_state, "its state '_extra_state' is a dict: keep what is no tensor out of state_dict"),
        (lambda: nn.LazyLinear(1), "tensor 'weight' has no shape before the first batch: give the layer its size"),
        (nn.ReLU, "it has no floating tensors, so that there is nothing to average"),
        (lambda: nn.Linear(3, 1, device="meta"), "on meta tensors"),
        (lambda: "a model", "it gives a str: give a torch.nn.Module"),
        (lambda: None, "it gives a NoneType"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_a_model_that_rounds_cannot_average_is_refused(make: Callable[[], Any], said: str) -> None:
    sentence = refused(lambda: trainer(make).initial())
    assert ", in model: " in sentence
    assert said in sentence
    assert said in refused(lambda: genesis(Made(make), 0))


# ------------------------------------------------------------------------------------------ bad input


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (TensorDataset(torch.zeros(0, 3), torch.zeros(0)), "it gives no examples from "),
        ([], "it gives no examples from "),
        (Endless(), "it gives a Endless, which has no __len__: give a Dataset with len and []"),
        (7, "it gives a int, which has no __len__"),
        ({1, 2}, "it gives a set, which has no __getitem__"),
    ],
)
def test_data_of_the_wrong_form_is_refused(data: Any, said: str) -> None:
    sentence = refused(lambda: trainer(linear, data))
    assert ", in load: " in sentence
    assert said in sentence


def test_data_that_is_not_there_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    said = refused(lambda: Trainer(Made(linear), tmp_path / "none"))
    assert said == f"there is no data at {tmp_path / 'none'}: name it with --data"


def test_a_list_of_pairs_is_data() -> None:
    asked = trainer(linear, [(np.ones(3, np.float32), 1), (np.zeros(3, np.float32), 0)])
    assert asked.examples == 2
    assert asked.train(asked.initial(), ROUND, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weight": None}, "tensor 'weight' is in the task's model alone: take the task from which the base model was"),
        ({"more": np.zeros(1, np.float32)}, "tensor 'more' is in the base model alone"),
        ({"weight": np.zeros(4, np.float32)}, "tensor 'weight' has another size in the base model"),
        ({"weight": np.zeros(3, np.float64)}, "tensor 'weight' has another size in the base model"),
    ],
)
def test_another_models_tensors_are_refused(change: dict[str, Any], said: str) -> None:
    asked = trainer(linear)
    base = {name: array for name, array in (asked.initial() | change).items() if array is not None}
    assert said in refused(lambda: asked.train(base, ROUND, 0))
    assert said in refused(lambda: asked.evaluate(base))


def test_training_that_diverges_names_the_tensor_and_what_to_do() -> None:
    data = TensorDataset(torch.full((8, 3), 1e30), torch.full((8, 2), -1e30))
    asked = trainer(lambda: nn.Linear(3, 2), data)
    said = refused(lambda: asked.train(asked.initial(), ROUND, 0))
    assert (
        "in train: training diverged, lower the learning rate: tensor 'weight' has a value that is NaN or inf" in said
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda model: model.half(),
            "it changes the model's form: tensor 'bias' is F16 [1] in the task's model, and F32 [1]",
        ),
        (lambda model: model.double(), "tensor 'weight' is float64"),
        (
            lambda model: model.register_buffer("more", torch.ones(1)),
            "tensor 'more' is F32 [1] in the task's model, and ab",
        ),
        (lambda _: 1 / 0, "test_trainer.py, line "),
        (lambda _: sys.exit(0), "SystemExit: 0"),
    ],
)
def test_a_hook_that_spoils_the_model_or_fails_is_told(change: Callable[[Any], object], said: str) -> None:
    class Spoiling(Made):
        def train(self, model: nn.Module, *_: Any) -> None:
            change(model)

    asked = Trainer(Spoiling(linear), HERE)
    assert said in refused(lambda: asked.train(asked.initial(), ROUND, 0))


def test_a_measure_that_is_no_number_by_name_is_refused() -> None:
    class Measuring(Made):
        def evaluate(self, model: nn.Module, dataset: Any) -> dict[str, float]:
            return self.data[1]  # type: ignore[no-any-return]

    for found, said in [(0.5, "AttributeError"), ({"auc": "good"}, "ValueError: could not convert string to float")]:
        asked = Trainer(Measuring(linear, [0, found]), HERE)
        assert said in refused(lambda asked=asked: asked.evaluate(asked.initial()))  # type: ignore[misc]
    asked = Trainer(Measuring(linear, [0, {"auc": np.float32(0.5), "hits": torch.tensor(3)}]), HERE)
    assert asked.evaluate(asked.initial()) == {"auc": 0.5, "hits": 3.0}


def test_models_are_evaluated_as_models_in_use_and_without_gradients() -> None:
    class Seeing(Made):
        def evaluate(self, model: nn.Module, dataset: Any) -> dict[str, float]:
            assert not model.training
            assert not torch.is_grad_enabled()
            return super().evaluate(model, dataset)

    asked = Trainer(Seeing(normalised), HERE)
    assert asked.evaluate(asked.initial()) == asked.evaluate(asked.initial())
    assert asked.evaluate(asked.initial(), first=1) != asked.evaluate(asked.initial())


# ---------------------------------------------------------------------------- trained on, and held out


def labelled(count: int) -> TensorDataset:
    """Each example's one number is its own."""
    return TensorDataset(torch.arange(float(count)).reshape(-1, 1), torch.arange(count) % 2)


class Split(Made):
    """Notes what it trains on and is evaluated on."""

    def __init__(self, data: Any) -> None:
        super().__init__(lambda: nn.Linear(1, 1), data)
        self.seen: list[list[float]] = []

    def train(self, model: nn.Module, dataset: Dataset[Any], *_: Any) -> None:
        self.seen.append([float(x) for x, _ in dataset])  # type: ignore[attr-defined]

    def evaluate(self, model: nn.Module, dataset: Dataset[Any]) -> dict[str, float]:
        self.seen.append([float(x) for x, _ in dataset])  # type: ignore[attr-defined]
        return {"count": len(self.seen[-1])}


def test_a_site_trains_on_one_part_and_says_how_good_the_base_model_is_on_the_other() -> None:
    task = Split(labelled(100))
    asked = Trainer(task, HERE)
    asked.train(asked.initial(), ROUND, 0)
    assert asked.metrics(asked.initial()) == {"count": 20}
    assert asked.evaluate(asked.initial()) == {"count": 80}
    train, held_out, trained_on = task.seen
    assert sorted(train + held_out) == list(range(100))
    assert train == trained_on
    assert (asked.examples, asked.held_out) == (80, 20)


def test_of_few_examples_none_is_held_out_and_nothing_is_said() -> None:
    asked = Trainer(Split(labelled(9)), HERE)
    assert (asked.examples, asked.held_out, asked.metrics(asked.initial())) == (9, 0, {})


def test_a_task_splits_in_its_own_way() -> None:
    class Halves(Split):
        def split(self, dataset: Any) -> tuple[Any, Any]:
            return [dataset[0]], [dataset[1], dataset[2]]

    asked = Trainer(Halves(labelled(50)), HERE)
    assert (asked.examples, asked.held_out) == (1, 2)

    for parts, said in [
        (([], [1]), "in split: it leaves no examples to train on: hold fewer out"),
        (([1], None), "in split: it gives a NoneType, which has no __len__"),
        ([1], "in split: ValueError: not enough values to unpack"),
    ]:

        class Wrong(Split):
            def split(self, dataset: Any, parts: Any = parts) -> tuple[Any, Any]:
                return parts  # type: ignore[no-any-return]

        assert said in refused(lambda: Trainer(Wrong(labelled(50)), HERE))


def test_metrics_that_no_header_takes_are_refused_with_the_hook() -> None:
    class Odd(Split):
        def evaluate(self, model: nn.Module, dataset: Dataset[Any]) -> dict[str, float]:
            return {"größe": 1}

    asked = Trainer(Odd(labelled(10)), HERE)
    said = refused(lambda: asked.metrics(asked.initial()))
    assert ", in evaluate: the measure 'größe' is to have a name of 1 to 64 printable ASCII characters" in said


def test_the_metrics_of_a_model_are_always_the_same() -> None:
    one, other = trainer(normalised), trainer(normalised)
    base = one.initial(1)
    assert one.metrics(base) == one.metrics(base) == other.metrics(base)
    assert set(one.metrics(base)) >= {"loss", "accuracy"}


def test_classes_get_the_weights_that_the_task_gives_for_what_it_trains_on() -> None:
    seen: list[int] = []

    class Weighing(Made):
        def class_weights(self, dataset: Any) -> Any:
            seen.append(len(dataset))
            return torch.tensor([1.0, 3.0])

    asked, plain = Trainer(Weighing(linear), HERE), trainer(linear)
    base = asked.initial()
    assert seen == [8]
    assert asked.evaluate(base)["loss"] != plain.evaluate(base)["loss"]
    assert as_bytes(asked.train(base, ROUND, 0)) != as_bytes(plain.train(base, ROUND, 0))


@pytest.mark.parametrize(
    "weights", [[1.0, 2.0], torch.tensor([1, 2]), torch.ones(1, 2), torch.tensor([1.0, -1.0]), torch.tensor([np.nan])]
)
def test_what_is_no_weight_for_each_class_is_refused(weights: Any) -> None:
    class Weighing(Made):
        def class_weights(self, dataset: Any) -> Any:
            return weights

    assert "in class_weights: it gives no weight for each class: give a tensor" in refused(
        lambda: Trainer(Weighing(linear), HERE)
    )


def test_the_fingerprint_is_of_all_examples_as_the_task_gives_them() -> None:
    def of(data: Any) -> bytes:
        return Trainer(Made(lambda: nn.Linear(1, 1), data), HERE).fingerprint

    x, y = labelled(20).tensors
    changed = [TensorDataset(x.clone(), y) for _ in range(20)]
    for row, data in enumerate(changed):
        data.tensors[0][row] += 0.5
    assert len({of(labelled(20)), *map(of, changed)}) == 21, "each example, held out or not"
    assert of(labelled(20)) == of([(np.array([n], np.float32), np.int64(n % 2)) for n in range(20)])
    assert trainer(linear).fingerprint == trainer(linear).fingerprint, "chance in load is the trainer's"
    odd = trainer(linear, [(torch.ones(3), {1})])
    assert "in load: example 0 holds a set, of which no fingerprint can be taken" in refused(lambda: odd.fingerprint)
