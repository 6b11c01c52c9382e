"""What a trainer asks of a framework, and chance that a seed decides. Without torch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np

from ledger.plan import Plan, TensorSpec
from ledger.updates import Array
from participant.any_task import AnyTask
from participant.array_task import ArrayTask
from participant.controls import Controls
from participant.tensors import Tensors


class Learner(Protocol):
    """A task's hooks, called so that the same arguments give the same bytes; what goes wrong is a `UsageError`."""

    def reproducible(self, seed: int) -> AbstractContextManager[None]:
        """Inside, chance is decided by `seed`; then all is as before."""

    def begin(self, part: Any) -> None:
        """Take note of the examples to train on, once they are loaded."""

    def schema(self) -> dict[str, TensorSpec]:
        """Dtype and shape of what rounds average, by name."""

    def initial(self, seed: int) -> Tensors:
        """The tensors of a new model, in stored form."""

    def train(self, base: Mapping[str, Array], part: Any, plan: Plan, seed: int, controls: Controls) -> Tensors:
        """An update's tensors: those after training from `base` on some examples; see `Trainer.train`."""

    def evaluate(self, tensors: Mapping[str, Array], part: Any) -> dict[str, float]:
        """How good a model is on some examples, by name."""


def learner(task: AnyTask) -> Learner:
    """What calls a task's hooks; torch is imported for a torch task alone."""
    if isinstance(task, ArrayTask):
        from participant.array_learner import ArrayLearner

        return ArrayLearner(task)
    from participant.task import Task
    from participant.torch_learner import TorchLearner

    assert isinstance(task, Task)  # noqa: S101  # see participant.task_file
    return TorchLearner(task)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's and numpy's chance decided by `seed`; then all is as before."""
    python, legacy = random.getstate(), np.random.get_state()
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
