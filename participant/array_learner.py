"""How an `ArrayTask` is trained: arrays of the base model in, arrays of the update out. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ledger.errors import UsageError
from ledger.plan import Dtype, Plan, TensorSpec
from ledger.updates import Array, from_float64
from participant.array_task import Arrays, ArrayTask
from participant.controls import Controls
from participant.learning import seeded
from participant.task_file import hook
from participant.tensors import Tensors, difference, require_alike, require_finite, require_takes

_DTYPES: dict[str, Dtype] = {"float64": "F32", "float32": "F32", "float16": "F16"}


class ArrayLearner:
    """Calls an array task's hooks; see `participant.learning.Learner`."""

    def __init__(self, task: ArrayTask) -> None:
        self._task = task

    def reproducible(self, seed: int) -> AbstractContextManager[None]:
        """Python's and numpy's chance; a framework of its own is seeded by `fit`."""
        return seeded(seed)

    def begin(self, part: Any) -> None:
        """Nothing."""

    def schema(self) -> dict[str, TensorSpec]:
        """What `initial` gives."""
        with seeded(0), hook(self._task, "initial"):
            return _schema(self._task.initial())

    def initial(self, seed: int) -> Tensors:
        """A new model's arrays."""
        with seeded(seed), hook(self._task, "initial"):
            found = self._task.initial()
            return _stored(found, _schema(found), "a new model is not to be averaged")

    def train(self, base: Mapping[str, Array], part: Any, plan: Plan, seed: int, controls: Controls) -> Tensors:
        """What `fit` makes of the base model."""
        schema, arrays = self._arrays(base)
        with seeded(seed), hook(self._task, "fit"):
            if plan.privacy is not None:
                raise UsageError(
                    "a private plan clips the gradient of each example, which an ArrayTask does not give: write a "
                    "participant.Task, or take a plan without privacy"
                )
            if plan.strategy.name in ("fedprox", "scaffold"):
                raise UsageError(
                    f"a plan of {plan.strategy.name} adds to every gradient, which an ArrayTask does not give: write a "
                    "participant.Task, or take a plan of another strategy"
                )
            found = self._task.fit(arrays, part, plan.training, seed)
            if changed := difference(_schema(found, schema), schema, "what initial() gives"):
                raise UsageError(f"it changes the model's form: {changed}: give the arrays that it was given")
            return _stored(found, schema, "training diverged, lower the learning rate")

    def evaluate(self, tensors: Mapping[str, Array], part: Any) -> dict[str, float]:
        """What `evaluate` says."""
        _, arrays = self._arrays(tensors)
        with seeded(0), hook(self._task, "evaluate"):
            return {str(name): float(value) for name, value in self._task.evaluate(arrays, part).items()}

    def _arrays(self, tensors: Mapping[str, Array]) -> tuple[dict[str, TensorSpec], Arrays]:
        """The schema, and tensors of any shape as copies of the schema's shapes, which a task may change."""
        schema = self.schema()
        with hook(self._task, "initial"):
            require_alike(schema, tensors)
        return schema, {name: np.array(tensors[name]).reshape(spec.shape) for name, spec in schema.items()}


def _schema(found: Any, meant: Mapping[str, TensorSpec] | None = None) -> dict[str, TensorSpec]:
    """Dtype and shape of arrays by name; where it is known which dtype is `meant`, any float is rounded to it."""
    if not isinstance(found, dict) or not found:
        what = "no arrays" if found == {} else f"a {type(found).__name__}"
        raise UsageError(f"it gives {what}: give a dict of arrays by name")
    schema: dict[str, TensorSpec] = {}
    for name, value in found.items():
        array = np.asarray(value)
        if array.dtype.name not in _DTYPES:
            raise UsageError(f"tensor {name!r} is {array.dtype}: settlement takes float32 or float16, give one of them")
        require_takes(name, array.ndim)
        dtype = meant[name].dtype if meant and name in meant else _DTYPES[array.dtype.name]
        schema[name] = TensorSpec(dtype=dtype, shape=list(array.shape))
    return schema


def _stored(found: Arrays, schema: Mapping[str, TensorSpec], otherwise: str) -> Tensors:
    tensors = {}
    for name, spec in schema.items():
        tensors[name] = from_float64(np.asarray(found[name], np.float64), spec.dtype)
        require_finite(name, bool(np.isfinite(tensors[name]).all()), otherwise)
    return tensors
