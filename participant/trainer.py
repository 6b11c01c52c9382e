"""A site's training for rounds: tensors of the base model in, tensors of the update out, nothing is kept between."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ledger.errors import UsageError
from ledger.plan import Plan, TensorSpec
from ledger.updates import MAX_HEADER_BYTES, MODEL_HEADER, Array, encode
from participant.any_task import AnyTask
from participant.controls import Controls
from participant.examples import fingerprint, part_of, require_dataset
from participant.learning import learner
from participant.measures import checked
from participant.task_file import hook
from participant.tensors import Tensors


class Trainer:
    """Trains a task on a site's data; on one machine the same inputs and seed give the same bytes.

    It trains on one part of the examples, and evaluates models on the other, which is held out; see `AnyTask.split`. By
    a private plan it trains on all: which examples are held out depends on how many there are, so that one example more
    would change the place of others, and what privacy promises is that it changes nothing but itself.
    """

    def __init__(self, task: AnyTask, data: Path) -> None:
        """Load the data.

        Raises:
            UsageError: If there is none or it is empty, or the model has a tensor that no plan takes.
        """
        if not data.exists():
            raise UsageError(f"there is no data at {data}: name it with --data")
        self._task, self._learner = task, learner(task)
        with self._learner.reproducible(0):
            with hook(task, "load"):
                self._all: Any = task.load(data)
                require_dataset(self._all)
                if not len(self._all):
                    raise UsageError(f"it gives no examples from {data}: name other data with --data")
            with hook(task, "split"):
                self._part, self._held_out = task.split(self._all)
                require_dataset(self._part)
                require_dataset(self._held_out)
                if not len(self._part):
                    raise UsageError("it leaves no examples to train on: hold fewer out")
        self._learner.begin(self._part)
        self._schema = self._learner.schema()

    @property
    def examples(self) -> int:
        """How many examples it trains on, unless by a private plan."""
        return len(self._part)

    def examples_by(self, plan: Plan) -> int:
        """How many examples it trains on by a plan, the update's weight: of a private one, all.

        Which are held out depends on how many there are: one example more would change the place of others.
        """
        return len(self._examples(plan))

    @property
    def held_out(self) -> int:
        """How many examples models are evaluated on."""
        return len(self._held_out)

    @property
    def fingerprint(self) -> bytes:
        """The sha256 of all examples, those that it trains on and those held out, as the task gives them now.

        Raises:
            UsageError: If an example holds something of which no digest can be taken.
        """
        with self._learner.reproducible(0), hook(self._task, "load"):
            return fingerprint(self._part, self._held_out)

    def schema(self) -> dict[str, TensorSpec]:
        """Dtype and shape of what rounds average, by name."""
        return self._schema

    def initial(self, seed: int = 0) -> Tensors:
        """A new model's tensors, in stored form."""
        return self._learner.initial(seed)

    def train(
        self,
        base: Mapping[str, Array],
        plan: Plan,
        seed: int,
        first: int | None = None,
        controls: Controls = Controls(),  # noqa: B008  # frozen
    ) -> Tensors:
        """Train for one round.

        Args:
            base: The base model's tensors in stored form, of any shape.
            plan: The round's; with its `training`, or privately where it has `privacy`.
            seed: Decides the order of the examples, and all else that is left to chance; from 0 to 2^63 - 1.
            first: How many examples to train on, from the first on; None for all.
            controls: The control variates, where the plan's strategy is SCAFFOLD.

        Returns:
            The trained tensors; by a plan of SCAFFOLD also what is new in the site's control variate, in float32.

        Raises:
            UsageError: If `base` is another model's, a hook fails, the training diverges, or the plan is private, or of
                a strategy that changes the training, and the task cannot be trained so.
        """
        return self._learner.train(base, _first(self._examples(plan), first), plan, seed, controls)

    def evaluate(self, tensors: Mapping[str, Array], first: int | None = None) -> dict[str, float]:
        """How good a model is on the examples it trains on, or the `first` of them, by names such as ``loss``.

        Raises:
            UsageError: If `tensors` are another model's, or a hook fails.
        """
        return self._learner.evaluate(tensors, _first(self._part, first))

    def metrics(self, base: Mapping[str, Array]) -> dict[str, float]:
        """What the base model achieves on the examples that are held out, for others to see; {} without any.

        Raises:
            UsageError: What `evaluate` raises; and if the names or numbers are none that an update's header takes.
        """
        if not self.held_out:
            return {}
        found = self._learner.evaluate(base, self._held_out)
        with hook(self._task, "evaluate"):
            return checked(found)

    def _examples(self, plan: Plan) -> Any:
        return self._part if plan.privacy is None else self._all


def _first(part: Any, count: int | None) -> Any:
    return part if count is None else part_of(part, np.arange(min(count, len(part))))


def genesis(task: AnyTask, seed: int) -> bytes:
    """The blob of a new model; the same task and seed give the same bytes, with the same version of its framework.

    Raises:
        UsageError: If the model cannot be made, has a tensor that no plan takes or that is not finite, or has more
            tensors than a blob can name.
    """
    made = learner(task)
    blob = encode(MODEL_HEADER, made.schema(), made.initial(seed))
    if int.from_bytes(blob[:8], "little") > MAX_HEADER_BYTES:
        raise UsageError(
            f"the names of the model's tensors take more than {MAX_HEADER_BYTES:,} bytes: make it of fewer"
        )
    return blob
