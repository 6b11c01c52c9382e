"""The task of a data scientist who works with torch: a model and data are to be written, the rest has a default."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from ledger.errors import UsageError
from ledger.plan import Training
from participant.any_task import AnyTask
from participant.measures import Tally

MOMENTUM = 0.9
EVALUATED_AT_ONCE = 256  # examples


class Task(AnyTask):
    """What a site trains and on what; `model` and `load` are to be written, the rest has a default.

    Attributes:
        weight_of_class: What `class_weights` gave for the examples to train on.
    """

    weight_of_class: Tensor | None = None

    @abstractmethod
    def model(self) -> nn.Module:
        """A new model. Its floating tensors are what rounds average, the same for all sites."""

    @abstractmethod
    def load(self, data: Path) -> Dataset[Any]:
        """The examples in `data`, the path that ``--data`` names: anything with ``len`` and ``[]``, of pairs (x, y)."""

    def device(self) -> str:
        """Where the defaults train and evaluate; only on the CPU are the same bytes promised."""
        return "cpu"

    def class_weights(self, dataset: Dataset[Any]) -> Tensor | None:
        """What the default loss multiplies an example's loss with, by its class; None for each class alike.

        Args:
            dataset: The examples to train on.
        """
        return None

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss of a batch: a scalar.

        The default takes pairs (x, y) of n examples, and chooses by what the model makes of x:

        - one number for each, (n,) or (n, 1): binary cross entropy of logits; labels from 0 to 1;
        - several, (n, classes, …), and integer labels: cross entropy;
        - several, and floating labels of the same shape: mean squared error.

        With weights of classes it is the mean of weight x loss over the examples, not divided by the sum of weights.
        """
        x, y = batch
        output: Tensor = model(x)
        if _is_binary(output, y):
            if not 0 <= float(y.min()) <= float(y.max()) <= 1:
                raise UsageError(
                    f"labels go from {y.min():g} to {y.max():g}, and the model gives one number, read as the logit of "
                    "label 1: give it an output for each class, or write loss() for a regression"
                )
            ones: Tensor = y.to(output.dtype).reshape(output.shape)
            if (weights := self._weights(2, output)) is None:
                return functional.binary_cross_entropy_with_logits(output, ones)
            each = functional.binary_cross_entropy_with_logits(output, ones, reduction="none")
            return ((weights[0] + (weights[1] - weights[0]) * ones) * each).mean()
        if _is_classes(output, y):
            if (weights := self._weights(output.shape[1], output)) is None:
                return functional.cross_entropy(output, y.long())
            each = functional.cross_entropy(output, y.long(), reduction="none")
            return (weights[y.long()] * each).mean()
        if y.is_floating_point() and y.shape == output.shape and self.weight_of_class is None:
            return functional.mse_loss(output, y.to(output.dtype))
        raise UsageError(
            f"no default loss fits outputs {_show(output)} to labels {_show(y)}"
            f"{'' if self.weight_of_class is None else ' with class_weights()'}: change one of them, or write loss()"
        )

    def optimizer(self, parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
        """What `train` steps with: stochastic gradient descent with the plan's learning rate and momentum 0.9."""
        return torch.optim.SGD(parameters, lr=training.learning_rate, momentum=MOMENTUM)

    def train(self, model: nn.Module, dataset: Dataset[Any], training: Training, seed: int) -> None:
        """Train `model` in place, for one round.

        The default goes through the plan's epochs in batches, shuffled anew each time. A last batch of one example is
        left out, for batch normalisation cannot take it.
        """
        size, examples = training.batch_size, len(dataset)  # type: ignore[arg-type]  # Dataset promises no len
        model.to(self.device())
        optimizer = self.optimizer([parameter for parameter in model.parameters() if parameter.requires_grad], training)
        order = torch.Generator().manual_seed(seed)
        alone = size > 1 and examples > 1 and examples % size == 1
        batches = DataLoader(dataset, min(size, examples), shuffle=True, drop_last=alone, generator=order)
        for _ in range(training.epochs):
            for batch in batches:
                optimizer.zero_grad()
                self.loss(model, moved(batch, self.device())).backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    @torch.no_grad()
    def evaluate(self, model: nn.Module, dataset: Dataset[Any]) -> dict[str, float]:
        """How good `model` is on `dataset`, by name.

        The default is the mean ``loss`` of the examples; and of a classifier, whose outputs are as `loss` describes
        them, ``accuracy``, and for two classes ``auc``. An output of one number has an accuracy only if `loss` is the
        default, for it need not be a logit otherwise.
        """
        examples, total, tally = len(dataset), 0.0, Tally()  # type: ignore[arg-type]
        model.to(self.device())
        outputs: list[Any] = []
        classifier = True
        recording = model.register_forward_hook(lambda _, __, output: outputs.append(output))
        try:
            for number, batch in enumerate(DataLoader(dataset, EVALUATED_AT_ONCE)):
                count = min(EVALUATED_AT_ONCE, examples - number * EVALUATED_AT_ONCE)
                outputs.clear()
                total += float(self.loss(model, moved(batch, self.device()))) * count
                classifier = classifier and _count(tally, outputs, batch)
        finally:
            recording.remove()
        if not classifier:
            return {"loss": total / examples}
        found = {"loss": total / examples, "accuracy": tally.accuracy, "auc": tally.auc}
        if tally.of_one_number and getattr(self.loss, "__func__", None) is not Task.loss:
            del found["accuracy"]
        return {name: value for name, value in found.items() if value is not None}

    def _weights(self, classes: int, output: Tensor) -> Tensor | None:
        if self.weight_of_class is not None and len(self.weight_of_class) != classes:
            raise UsageError(
                f"class_weights() gives {len(self.weight_of_class)} weights for {classes} classes: give one for each"
            )
        return None if self.weight_of_class is None else self.weight_of_class.to(output)


def balanced(labels: Any, classes: int = 2) -> Tensor:
    """Weights by which all classes count the same together, as `Task.class_weights` may return them.

    Args:
        labels: The classes' numbers: a tensor, an array or a list.
        classes: How many there are at least.

    Returns:
        For each class, n / (the number of classes that occur x how often it occurs): 1 on average over the examples;
        and 1 for a class that does not occur.
    """
    counts = torch.bincount(torch.as_tensor(labels).reshape(-1).long(), minlength=classes)
    occurs = counts > 0
    return torch.where(occurs, counts.sum() / (occurs.sum() * counts.clamp(min=1)), 1.0)


def _is_binary(output: Tensor, y: Tensor) -> bool:
    return y.shape[:1] == output.shape[:1] and y.numel() == output.numel() == len(y)


def _is_classes(output: Tensor, y: Tensor) -> bool:
    return not y.is_floating_point() and y.shape == output.shape[:1] + output.shape[2:]


def _count(tally: Tally, outputs: list[Any], batch: Any) -> bool:
    """Count what a batch's one output gets right; returns whether it is a classifier's."""
    if len(outputs) != 1 or not isinstance(batch, list | tuple) or len(batch) != 2:
        return False
    output, y = outputs[0], batch[1]
    if not isinstance(output, Tensor) or not isinstance(y, Tensor) or not output.dim():
        return False
    if _is_binary(output, y) and bool(((y == 0) | (y == 1)).all()):
        tally.add(output.reshape(-1).cpu().double().numpy(), y.reshape(-1).numpy())
    elif _is_classes(output, y) and not _is_binary(output, y):
        tally.add(output.movedim(1, -1).flatten(0, -2).cpu().double().numpy(), y.reshape(-1).numpy())
    else:
        return False
    return True


def moved(batch: Any, device: str) -> Any:
    """A batch on a device: tensors, also in lists, tuples and dicts; on the CPU it is there already."""
    if device == "cpu":
        return batch
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: moved(value, device) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        parts = [moved(value, device) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else parts
    return batch


def _show(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
