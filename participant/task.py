"""The task: what a data scientist writes for a site, in a file of their own, and how such a file is read."""

from __future__ import annotations

import ast
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import isclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from ledger.errors import FedledgerError, UsageError
from ledger.plan import Training
from ledger.storage.folder import read_regular

MOMENTUM = 0.9
MAX_TASK_BYTES = 1 << 24
EVALUATED_AT_ONCE = 256  # examples
MESSAGE = 300  # characters of somebody else's error that are shown


class TaskFailedError(UsageError):
    """A task's file, or a hook of it, failed.

    Attributes:
        place: Where, and with what kind of error, but not in its words: these may quote somebody's records.
    """

    def __init__(self, where: str, kind: str, words: str) -> None:
        super().__init__(f"{where}: {words}")
        self.place = f"{where}: {kind}; what it says may quote records: see it with `fedledger task check`"


class Task(ABC):
    """What a site trains and on what; `model` and `load` are to be written, the rest has a default."""

    @abstractmethod
    def model(self) -> nn.Module:
        """A new model. Its floating tensors are what rounds average, the same for all sites."""

    @abstractmethod
    def load(self, data: Path) -> Dataset[Any]:
        """The examples in `data`, the path that ``--data`` names: anything with ``len`` and ``[]``, of pairs (x, y)."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The loss of a batch: a scalar.

        The default takes pairs (x, y) of n examples, and chooses by what the model makes of x:

        - one number for each, (n,) or (n, 1): binary cross entropy of logits; labels from 0 to 1;
        - several, (n, classes, …), and integer labels: cross entropy;
        - several, and floating labels of the same shape: mean squared error.
        """
        x, y = batch
        output = model(x)
        if y.shape[:1] == output.shape[:1] and y.numel() == output.numel() == len(y):
            if not 0 <= float(y.min()) <= float(y.max()) <= 1:
                raise UsageError(
                    f"labels go from {y.min():g} to {y.max():g}, and the model gives one number, read as the logit of "
                    "label 1: give it an output for each class, or write loss() for a regression"
                )
            return functional.binary_cross_entropy_with_logits(output, y.to(output.dtype).reshape(output.shape))
        if not y.is_floating_point() and y.shape == output.shape[:1] + output.shape[2:]:
            return functional.cross_entropy(output, y.long())
        if y.is_floating_point() and y.shape == output.shape:
            return functional.mse_loss(output, y.to(output.dtype))
        raise UsageError(
            f"no default loss fits outputs {_show(output)} to labels {_show(y)}: change one of them, or write loss()"
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
        optimizer = self.optimizer([parameter for parameter in model.parameters() if parameter.requires_grad], training)
        order = torch.Generator().manual_seed(seed)
        alone = size > 1 and examples > 1 and examples % size == 1
        batches = DataLoader(dataset, min(size, examples), shuffle=True, drop_last=alone, generator=order)
        for _ in range(training.epochs):
            for batch in batches:
                optimizer.zero_grad()
                self.loss(model, batch).backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    def evaluate(self, model: nn.Module, dataset: Dataset[Any]) -> dict[str, float]:
        """How good `model` is on `dataset`, by name; the default is the mean ``loss`` of the examples."""
        examples, total = len(dataset), 0.0  # type: ignore[arg-type]
        for number, batch in enumerate(DataLoader(dataset, EVALUATED_AT_ONCE)):
            count = min(EVALUATED_AT_ONCE, examples - number * EVALUATED_AT_ONCE)
            total += float(self.loss(model, batch)) * count
        return {"loss": total / examples}


def read_task(path: Path) -> bytes:
    """A task's file, which is not run.

    Raises:
        UsageError: If it cannot be read.
    """
    try:
        return read_regular(path, MAX_TASK_BYTES)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}): name your task's file, or write one with `fedledger task new`"
        ) from None


def load_task(path: Path, source: bytes | None = None) -> Task:
    """The one task that a file defines; this runs the file.

    Args:
        path: The file.
        source: What was read of it; None to read it.

    Raises:
        UsageError: If there is none, or what the file does fails; with the file and, where there is one, the line.
    """
    source = read_task(path) if source is None else source
    try:
        tree = ast.parse(source, str(path))
        code = compile(tree, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise UsageError(f"{path}{line}: {error.msg}: correct the file, it is to be Python") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}: correct the file, it is to be Python") from None
    module = ModuleType(f"task at {path.resolve()}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their own module up
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.insert(0, folder)  # as `python FILE` does, so that it can import its neighbours
    with blamed(str(path), ""):
        # Not through import, which would leave a __pycache__ in the user's folder.
        exec(code, vars(module))  # noqa: S102  # the user's own code
    lines = {node.name: node.lineno for node in tree.body if isinstance(node, ast.ClassDef)}
    found = [one for one in vars(module).values() if isclass(one) and issubclass(one, Task)]
    own = {one.__name__: one for one in found if one.__module__ == module.__name__}
    if not own:
        raise UsageError(f"{path} has no task: write a class in it that extends participant.Task")
    if len(own) > 1:
        named = ", ".join(f"{name} (line {lines.get(name, '?')})" for name in own)
        raise UsageError(f"{path} has {len(own)} tasks, {named}: leave one in the file")
    [(name, task)] = own.items()
    if missing := sorted(task.__abstractmethods__):
        where = f"{path}, line {lines.get(name, '?')}"
        raise UsageError(f"{where}: {name} has no {' and no '.join(missing)}: write it, see `fedledger task new`")
    with blamed(str(path), "__init__"):
        made: Task = task()
    return made


@contextmanager
def hook(task: Task, name: str) -> Iterator[None]:
    """Run a hook of a task; what it raises becomes a `UsageError` that says where in the user's file."""
    module = sys.modules.get(type(task).__module__)
    with blamed(getattr(module, "__file__", None) or type(task).__name__, name):
        yield


@contextmanager
def blamed(file: str, name: str) -> Iterator[None]:
    """What is raised inside becomes one sentence: the file, its line that was running, the hook, and what happened.

    Raises:
        UsageError: For whatever is raised, even an exit, except where memory does not suffice.
    """
    try:
        yield
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        line = f", line {frames[-1].lineno}" if frames else ""
        where = f"{file}{line}" + (f", in {name}" if name else "")
        if isinstance(error, FedledgerError):
            raise UsageError(f"{where}: {_short(str(error))}") from error
        kind = type(error).__name__
        raise TaskFailedError(where, kind, _short(f"{kind}: {error}")) from error


def _short(text: str) -> str:
    text = " ".join(text.split()).removesuffix(":")
    return text if len(text) <= MESSAGE else text[:MESSAGE] + "…"


def _show(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
