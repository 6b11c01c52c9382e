"""A site's training for rounds: tensors of the base model in, tensors of the update out, nothing is kept between."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Subset

from ledger.choices import CONTROL
from ledger.errors import UsageError
from ledger.plan import Plan, TensorSpec
from ledger.updates import MAX_HEADER_BYTES, MODEL_HEADER, Array, encode, from_float64
from participant.controls import Controls
from participant.drift import gradient, held
from participant.fingerprint import fingerprint
from participant.task import Task, hook
from participant.tensors import Tensors, difference, federated, read, schema_of, write


class Trainer:
    """Trains a task on a site's data, on one thread of the CPU; there the same inputs and seed give the same bytes.

    What rounds average are the floating tensors of the model's ``state_dict``. Whatever else it holds, such as the
    counters of batch normalisation, begins every round as `Task.model` makes it, and never leaves the site.
    """

    def __init__(self, task: Task, data: Path) -> None:
        """Load the data.

        Raises:
            UsageError: If there is none or it is empty, or the model has a tensor that no plan takes.
        """
        if not data.exists():
            raise UsageError(f"there is no data at {data}: name it with --data")
        self._task = task
        with _reproducible(0), hook(task, "load"):
            self._dataset: Dataset[Any] = task.load(data)
            for needed in ("__len__", "__getitem__"):
                if not hasattr(self._dataset, needed):
                    kind = type(self._dataset).__name__
                    raise UsageError(f"it gives a {kind}, which has no {needed}: give a Dataset with len and []")
            self._examples = len(self._dataset)  # type: ignore[arg-type]  # Dataset promises no len
            if not self._examples:
                raise UsageError(f"it gives no examples from {data}: name other data with --data")
        self._schema = schema(task)

    @property
    def examples(self) -> int:
        """How many examples there are: the update's weight."""
        return self._examples

    @cached_property
    def fingerprint(self) -> bytes:
        """A digest of the examples; raises what `participant.fingerprint.fingerprint` does."""
        with _reproducible(0), hook(self._task, "load"):
            return fingerprint(self._dataset[at] for at in range(self._examples))

    def metrics(self, base: Mapping[str, Array]) -> dict[str, float]:
        """What a model achieves on the examples that are held out: none are."""
        return {}

    def schema(self) -> dict[str, TensorSpec]:
        """Dtype and shape of what rounds average, by name."""
        return self._schema

    def initial(self, seed: int = 0) -> Tensors:
        """A new model's tensors, see `initial`."""
        return initial(self._task, seed)

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
        model, part = self._loaded(base, seed), self._part(first)
        if plan.privacy is not None:
            self._train_privately(model.train(), part, plan, seed)
        with _reproducible(seed), hook(self._task, "train"):
            if plan.privacy is None:
                with held(self._task, model, plan, controls):
                    self._task.train(model.train(), part, plan.training, seed)
            if changed := difference(schema_of(model), self._schema, "what model() makes"):
                raise UsageError(f"it changes the model's form: {changed}: train the model as it is")
            tensors = read(model, "training diverged, lower the learning rate")
        if plan.strategy.name != "scaffold":
            return tensors
        model = self._loaded(base, seed)
        with _reproducible(seed), hook(self._task, "loss"):
            found = gradient(self._task, model.train(), part, plan.training.batch_size)
        return tensors | {
            CONTROL + name: from_float64(new - controls.own.get(name, np.zeros(len(new))), "F32")
            for name, new in found.items()
        }

    def evaluate(self, tensors: Mapping[str, Array], first: int | None = None) -> dict[str, float]:
        """How good a model is on this site's examples, or the `first` of them, by the task's names, such as ``loss``.

        Raises:
            UsageError: If `tensors` are another model's, or a hook fails.
        """
        model = self._loaded(tensors, 0)
        with _reproducible(0), torch.no_grad(), hook(self._task, "evaluate"):
            found = self._task.evaluate(model.eval(), self._part(first))
            return {str(name): float(value) for name, value in found.items()}

    def _train_privately(self, model: nn.Module, part: Dataset[Any], plan: Plan, seed: int) -> None:
        try:
            from participant import private
        except ModuleNotFoundError as error:
            raise UsageError(f"a private plan needs {error.name}: pip install 'fedledger[dp]'") from None
        assert plan.privacy is not None  # noqa: S101
        with hook(self._task, "model"):
            private.require_private(model)
            untrained = {name: tensor for name, tensor in federated(model).items() if not tensor.requires_grad}
            before = {name: tensor.detach().clone() for name, tensor in untrained.items()}
        with _reproducible(seed), hook(self._task, "train"):
            private.train(self._task, model, part, plan.training, plan.privacy, seed)
            for name, tensor in untrained.items():
                if not torch.equal(tensor, before[name]):
                    raise UsageError(
                        f"tensor {name!r} is changed by training without noise: a private plan lets only parameters "
                        "change that the optimizer steps; keep it as it is"
                    )

    def _part(self, first: int | None) -> Dataset[Any]:
        return self._dataset if first is None else Subset(self._dataset, range(min(first, self._examples)))

    def _loaded(self, tensors: Mapping[str, Array], seed: int) -> nn.Module:
        model = _model(self._task, seed)
        with hook(self._task, "model"):
            write(model, tensors)
        return model


def schema(task: Task) -> dict[str, TensorSpec]:
    """Dtype and shape of what rounds of a task average, by name; raises what `initial` does."""
    model = _model(task, 0)
    with hook(task, "model"):
        return schema_of(model)


def initial(task: Task, seed: int) -> Tensors:
    """The tensors of a new model, in stored form.

    Raises:
        UsageError: If the model cannot be made, or has a tensor that no plan takes or that is not finite.
    """
    model = _model(task, seed)
    with hook(task, "model"):
        return read(model, "a new model is not to be averaged")


def genesis(task: Task, seed: int) -> bytes:
    """The blob of a new model; the same task and seed give the same bytes, with the same torch.

    Raises:
        UsageError: What `initial` raises; and if the model has more tensors than a blob can name.
    """
    blob = encode(MODEL_HEADER, schema(task), initial(task, seed))
    if int.from_bytes(blob[:8], "little") > MAX_HEADER_BYTES:
        raise UsageError(
            f"the names of the model's tensors take more than {MAX_HEADER_BYTES:,} bytes: make it of fewer"
        )
    return blob


def _model(task: Task, seed: int) -> nn.Module:
    with _reproducible(seed), hook(task, "model"):
        model = task.model()
        if not isinstance(model, nn.Module):
            raise UsageError(f"it gives a {type(model).__name__}: give a torch.nn.Module")
        return model


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Chance decided by `seed`, one thread, deterministic algorithms where there are any; then all is as before."""
    threads, python, legacy = torch.get_num_threads(), random.getstate(), np.random.get_state()
    strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(1)
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
            random.setstate(python)
            np.random.set_state(legacy)
