"""Tasks in any framework: arrays go in and come out, and torch is not needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ledger.errors import UsageError
from ledger.plan import TensorSpec, Training
from ledger.plan_file import read_plan
from ledger.updates import MODEL_HEADER, Place, decode, decode_model, encode, update_header
from participant import ArrayTask
from participant.task_file import load_task
from participant.tensors import Tensors
from participant.trainer import Trainer, genesis
from tests.paper import PaperLedger
from tests.world import PLAN, private

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SKLEARN, PLAN_TOML = EXAMPLES / "sklearn" / "task.py", EXAMPLES / "heart" / "plan.toml"
DATA = [EXAMPLES / "heart" / name for name in ("cleveland.csv", "hungary.csv")]
HERE = Path(__file__)  # some data that is there
ROUND = PLAN.model_copy(update={"training": Training(epochs=2, batch_size=4, learning_rate=0.05)})


class Mean(ArrayTask):
    """Its one tensor goes to the mean of the rows, by the learning rate."""

    def __init__(self, first: Any = None) -> None:
        self.first = np.zeros(2, np.float32) if first is None else first

    def initial(self) -> Any:
        return {"mean": self.first}

    def load(self, data: Path) -> Any:
        return np.random.rand(20, 2)  # the trainer seeds what is left to chance

    def fit(self, tensors: Any, examples: Any, training: Training, seed: int) -> Any:
        noise = np.random.default_rng(seed).normal(size=2) * 1e-3
        tensors["mean"] += (training.learning_rate * (examples.mean(0) - tensors["mean"]) + noise).astype(np.float32)
        return tensors

    def evaluate(self, tensors: Any, examples: Any) -> dict[str, float]:
        return {"distance": float(np.linalg.norm(examples.mean(0) - tensors["mean"]))}


def refused(ask: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        ask()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_bytes(tensors: Tensors) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in tensors.items()}


# ------------------------------------------------------------------------------------ arrays in, arrays out


def test_arrays_are_trained_from_a_blobs_and_the_same_seed_gives_the_same_bytes() -> None:
    asked, blob = Trainer(Mean(), HERE), genesis(Mean(), 0)
    base = decode(blob).tensors
    trained = asked.train(base, ROUND, 7)
    assert as_bytes(trained) == as_bytes(Trainer(Mean(), HERE).train(base, ROUND, 7))
    assert as_bytes(trained) != as_bytes(asked.train(base, ROUND, 8))
    assert asked.evaluate(trained)["distance"] < asked.evaluate(base)["distance"]
    assert (asked.examples, asked.held_out, set(asked.metrics(base))) == (16, 4, {"distance"})
    assert asked.fingerprint == Trainer(Mean(), HERE).fingerprint
    assert encode(MODEL_HEADER, asked.schema(), trained)


def test_a_new_models_chance_is_the_seeds_and_afterwards_as_it_was() -> None:
    class Random(Mean):
        def initial(self) -> Any:
            return {"mean": np.random.rand(2)}

    np.random.seed(1)
    assert genesis(Random(), 5) == genesis(Random(), 5) != genesis(Random(), 6)
    drawn = np.random.rand()
    np.random.seed(1)
    assert drawn == np.random.rand()


@pytest.mark.parametrize(
    ("kind", "dtype"), [(np.float64, "F32"), (np.float32, "F32"), (np.float16, "F16"), (float, "F32")]
)
def test_doubles_are_rounded_once_to_float32_and_narrower_floats_stay(kind: Any, dtype: str) -> None:
    class Exact(Mean):
        def fit(self, *_: Any) -> Any:
            return {"mean": np.array([1 / 3, 1 + 2.0**-24 + 2.0**-40])}

    task = Exact(np.zeros(2, kind) if kind is not float else [0.0, 0.0])
    asked = Trainer(task, HERE)
    [spec] = asked.schema().values()
    assert (spec.dtype, spec.shape) == (dtype, [2])
    expected = np.array([1 / 3, 1 + 2.0**-24 + 2.0**-40]).astype(np.float16 if dtype == "F16" else np.float32)
    assert asked.train(asked.initial(), ROUND, 0)["mean"].tobytes() == expected.tobytes()


def test_a_task_may_change_what_it_is_given_and_the_base_model_stays() -> None:
    asked = Trainer(Mean(), HERE)
    base = asked.initial()
    asked.train(base, ROUND, 0)
    assert base["mean"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (np.zeros(2, np.int64), "tensor 'mean' is int64: settlement takes float32 or float16, give one of them"),
        (np.zeros(2, np.longdouble), "settlement takes float32 or float16"),
        (np.zeros([1] * 17), "tensor 'mean' fits no plan"),
        ("text", "settlement takes float32 or float16"),
        (np.array([np.inf]), "a new model is not to be averaged: tensor 'mean' has a value that is NaN or infinite"),
        (np.array([1e300]), "tensor 'mean' has a value that is NaN or infinite"),
    ],
)
def test_a_model_that_rounds_cannot_average_is_refused(first: Any, said: str) -> None:
    sentence = refused(lambda: genesis(Mean(first), 0))
    assert ", in initial: " in sentence
    assert said in sentence


@pytest.mark.parametrize(
    ("fitted", "said"),
    [
        (None, "it gives a NoneType: give a dict of arrays by name"),
        ({}, "it gives no arrays: give a dict of arrays by name"),
        (
            {"mean": np.zeros(3)},
            "it changes the model's form: tensor 'mean' is F32 [3] in the task's model, and F32 [2]",
        ),
        (
            {"mean": np.zeros(2), "more": np.zeros(1)},
            "tensor 'more' is F32 [1] in the task's model, and absent in what",
        ),
        ({"mean": np.array([0, np.nan])}, "training diverged, lower the learning rate: tensor 'mean' has a value that"),
        ({"mean": np.array([0, 1e39])}, "training diverged, lower the learning rate"),
        ({"mean": np.array(["a", "b"])}, "tensor 'mean' is <U1"),
    ],
)
def test_what_training_must_not_give_is_refused(fitted: Any, said: str) -> None:
    class Wrong(Mean):
        def fit(self, *_: Any) -> Any:
            return fitted

    asked = Trainer(Wrong(), HERE)
    sentence = refused(lambda: asked.train(asked.initial(), ROUND, 0))
    assert ", in fit: " in sentence
    assert said in sentence


def test_another_models_tensors_are_refused() -> None:
    asked = Trainer(Mean(), HERE)
    for base, said in [({}, "is in the task's model alone"), ({"mean": np.zeros(3, np.float32)}, "has another size")]:
        assert said in refused(lambda base=base: asked.train(base, ROUND, 0))  # type: ignore[misc]
        assert said in refused(lambda base=base: asked.evaluate(base))  # type: ignore[misc]


def test_a_private_plan_does_not_train_arrays() -> None:
    asked = Trainer(Mean(), HERE)
    plan = ROUND.model_copy(update={"privacy": private()})
    assert "a private plan clips the gradient of each example, which an ArrayTask does not give: write a" in refused(
        lambda: asked.train(asked.initial(), plan, 0)
    )


def test_without_an_evaluate_nothing_is_said_of_a_model() -> None:
    class Silent(Mean):
        evaluate = ArrayTask.evaluate

    asked = Trainer(Silent(), HERE)
    assert asked.metrics(asked.initial()) == asked.evaluate(asked.initial()) == {}


# ------------------------------------------------------------------------------------------ scikit-learn


def test_scikit_learn_federates_over_the_real_settlement_and_gets_better(tmp_path: Path) -> None:
    task = load_task(SKLEARN)
    trainers, blob = [Trainer(task, data) for data in DATA], genesis(task, 0)
    ledger = PaperLedger(tmp_path / "history", len(DATA), trainers[0].schema(), 1 << 16, blob)
    ledger.plan = ledger.plan.model_copy(update={"training": read_plan(PLAN_TOML, lambda: blob).training})

    def model() -> Tensors:
        cid = ledger.history.model_of(ledger.history.latest_released)
        assert cid is not None
        return decode_model(ledger.store.get(cid), ledger.plan).tensors

    def update(member: int, place: Place) -> bytes:
        trainer = trainers[member - 1]
        trained = trainer.train(model(), ledger.plan, place.round)
        assert isinstance(task, ArrayTask)
        shaped = {name: array.reshape(trained[name].shape).copy() for name, array in model().items()}
        fitted = task.fit(shaped, trainer._part, ledger.plan.training, place.round)
        assert as_bytes({name: array.astype(np.float32) for name, array in fitted.items()}) == as_bytes(trained)
        return encode(update_header(place, member, trainer.examples), ledger.plan.tensors, trained)

    auc = [[trainer.metrics(model()).get("auc", 0.5) for trainer in trainers]]
    for _ in range(4):
        ledger.play_round(update, [trainer.examples for trainer in trainers])
        auc.append([trainer.metrics(model())["auc"] for trainer in trainers])
    assert all(first == 0.5 for first in auc[0]), "a new model knows nothing"
    assert all(last > 0.75 for last in auc[-1]), auc


# ------------------------------------------------------------------------------------------ without torch

WITHOUT_TORCH = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH + program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_site_with_a_task_of_arrays_answers_rounds_without_torch() -> None:
    python(f"""
from pathlib import Path
import participant.answering, participant.consent, participant.policy, participant.cli.terminal
from participant.task_file import load_task
from participant.trainer import Trainer
from ledger.plan import Plan
trainer = Trainer(load_task(Path({str(SKLEARN)!r})), Path({str(DATA[0])!r}))
plan = Plan.decode({ROUND.encode()!r})
trained = trainer.train(trainer.initial(), plan, 1)
assert trainer.metrics(trained)["auc"] > 0.7, trainer.metrics(trained)
assert len(trainer.fingerprint) == 32
assert "torch" not in sys.modules
""")


def test_the_commands_work_on_it_without_torch(tmp_path: Path) -> None:
    out = tmp_path / "model"
    said = python(f"""
from ledger.cli import main
main(["task", "check", {str(SKLEARN)!r}, "--data", {str(DATA[1])!r}, "--plan", {str(PLAN_TOML)!r}])
""")
    assert "235 to train on, 58 held out" in said
    assert "accuracy" in said
    assert f"{SKLEARN} can answer rounds." in said
    python(f"from ledger.cli import main\nmain(['task', 'genesis', {str(SKLEARN)!r}, '--out', {str(out)!r}])")
    assert decode(out.read_bytes()).schema["coef"] == TensorSpec(dtype="F32", shape=[1, 21])
