"""A released model as a torch module, to use it."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ledger.errors import InvalidBlobError, UsageError
from ledger.storage.folder import open_regular
from ledger.updates import MODEL_HEADER, decode, require_finite
from participant.built_in import built_in
from participant.task import Task
from participant.task_file import load_task
from participant.tensors import difference
from participant.torch_learner import TorchLearner


def load_model(file: str | Path, task: str | Path | Task) -> nn.Module:
    """The model in a file, such as `fedledger model pull` writes, in eval mode.

    What is not averaged, such as the counters of batch normalisation, is as the task's `model` makes it.

    Args:
        file: A canonical model blob.
        task: The task whose model it is: a path, the name of a built-in task, or a `Task`.

    Raises:
        UsageError: If the file is no such blob, or does not fit the task's model.
    """
    if not isinstance(task, Task):
        loaded = load_task(built_in(str(task)) or Path(task))
        if not isinstance(loaded, Task):
            raise UsageError(f"{task} has no torch model: read {file} as arrays, with safetensors.numpy.load_file")
        task = loaded
    try:
        with open_regular(Path(file)) as opened:
            blob = decode(opened.read())
        if blob.header != MODEL_HEADER:
            raise UsageError(f"{file} holds no model, its header says something else: give a model")
        require_finite(blob)
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}): name a model's file") from None
    except InvalidBlobError as error:
        raise UsageError(f"{file} holds no model ({error.detail}): get it with `fedledger model pull`") from None
    learner = TorchLearner(task)
    if differs := difference(learner.schema(), blob.schema, str(file)):
        raise UsageError(f"{differs}: take the task from which the model was made")
    return learner.loaded(blob.tensors).eval()
