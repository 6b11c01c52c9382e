"""How a torch task is trained: tensors of the base model in, tensors of the update out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ledger.choices import CONTROL
from ledger.errors import UsageError
from ledger.plan import Plan, TensorSpec
from ledger.updates import Array, from_float64
from participant.controls import Controls
from participant.drift import gradient, held
from participant.learning import seeded
from participant.modules import federated, read, schema_of, write
from participant.task import Task
from participant.task_file import hook
from participant.tensors import Tensors, difference


class TorchLearner:
    """Calls a torch task's hooks, on one thread of the CPU; see `participant.learning.Learner`.

    What rounds average are the floating tensors of the model's ``state_dict``. Whatever else it holds, such as the
    counters of batch normalisation, begins every round as `Task.model` makes it, and never leaves the site.
    """

    def __init__(self, task: Task) -> None:
        self._task = task

    @contextmanager
    def reproducible(self, seed: int) -> Iterator[None]:
        """One thread, deterministic algorithms where there are any, and chance of all three generators."""
        threads = torch.get_num_threads()
        strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        with seeded(seed), torch.random.fork_rng(devices=[]):
            try:
                torch.set_num_threads(1)
                torch.use_deterministic_algorithms(True, warn_only=True)
                torch.manual_seed(seed)
                yield
            finally:
                torch.set_num_threads(threads)
                torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])

    def begin(self, part: Any) -> None:
        """Have the weights of the classes made."""
        with self.reproducible(0), hook(self._task, "class_weights"):
            weights: object = self._task.class_weights(part)
            if weights is not None and not (
                isinstance(weights, Tensor)
                and weights.is_floating_point()
                and weights.dim() == 1
                and bool(torch.isfinite(weights).all() and (weights >= 0).all())
            ):
                raise UsageError(
                    "it gives no weight for each class: give a tensor of one dimension with finite numbers from 0 on, "
                    "such as participant.balanced(labels), or None"
                )
            self._task.weight_of_class = weights

    def schema(self) -> dict[str, TensorSpec]:
        """That of the model's federated tensors."""
        model = self._model(0)
        with hook(self._task, "model"):
            return schema_of(model)

    def initial(self, seed: int) -> Tensors:
        """A new model's federated tensors."""
        model = self._model(seed)
        with hook(self._task, "model"):
            return read(model, "a new model is not to be averaged")

    def train(self, base: Mapping[str, Array], part: Any, plan: Plan, seed: int, controls: Controls) -> Tensors:
        """What the task's training makes of the base model; or private training, where the plan has `privacy`."""
        model = self.loaded(base, seed)
        before = schema_of(model)
        if plan.privacy is not None:
            self._train_privately(model.train(), part, plan, seed)
        with self.reproducible(seed), hook(self._task, "train"):
            if plan.privacy is None:
                with held(self._task, model, plan, controls):
                    self._task.train(model.train(), part, plan.training, seed)
            if changed := difference(schema_of(model), before, "what model() makes"):
                raise UsageError(f"it changes the model's form: {changed}: train the model as it is")
            tensors = read(model, "training diverged, lower the learning rate")
        return tensors if plan.strategy.name != "scaffold" else tensors | self._new(base, part, plan, seed, controls)

    def _new(self, base: Mapping[str, Array], part: Any, plan: Plan, seed: int, controls: Controls) -> Tensors:
        """What is new in the site's control variate."""
        model = self.loaded(base, seed)
        with self.reproducible(seed), hook(self._task, "loss"):
            found = gradient(self._task, model.train(), part, plan.training.batch_size)
        return {
            CONTROL + name: from_float64(new - controls.own.get(name, np.zeros(len(new))), "F32")
            for name, new in found.items()
        }

    def evaluate(self, tensors: Mapping[str, Array], part: Any) -> dict[str, float]:
        """What `evaluate` says of the model, in use and without gradients."""
        model = self.loaded(tensors)
        with self.reproducible(0), torch.no_grad(), hook(self._task, "evaluate"):
            return {str(name): float(value) for name, value in self._task.evaluate(model.eval(), part).items()}

    def _train_privately(self, model: nn.Module, part: Any, plan: Plan, seed: int) -> None:
        try:
            from participant import private
        except ModuleNotFoundError as error:
            raise UsageError(f"a private plan needs {error.name}: pip install 'fedledger[dp]'") from None
        assert plan.privacy is not None  # noqa: S101
        with hook(self._task, "model"):
            private.require_private(model)
            untrained = {name: tensor for name, tensor in federated(model).items() if not tensor.requires_grad}
            before = {name: tensor.detach().clone() for name, tensor in untrained.items()}
        with self.reproducible(seed), hook(self._task, "train"):
            private.train(self._task, model, part, plan.training, plan.privacy, seed)
            for name, tensor in untrained.items():
                if not torch.equal(tensor, before[name]):
                    raise UsageError(
                        f"tensor {name!r} is changed by training without noise: a private plan lets only parameters "
                        "change that the optimizer steps; keep it as it is"
                    )

    def loaded(self, tensors: Mapping[str, Array], seed: int = 0) -> nn.Module:
        """A model with these tensors; whatever else it is made of is left to the seed."""
        model = self._model(seed)
        with hook(self._task, "model"):
            write(model, tensors)
        return model

    def _model(self, seed: int) -> nn.Module:
        with self.reproducible(seed), hook(self._task, "model"):
            model = self._task.model()
            if not isinstance(model, nn.Module):
                raise UsageError(f"it gives a {type(model).__name__}: give a torch.nn.Module")
            return model
