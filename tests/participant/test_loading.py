"""A released model as a torch module, in two lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ledger.errors import UsageError
from ledger.updates import MODEL_HEADER, decode, encode
from participant import load_model
from participant.built_in import built_in
from participant.task_file import load_task
from participant.trainer import genesis

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TASK = EXAMPLES / "heart" / "task.py"


def refused(ask: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        ask()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(genesis(load_task(TASK), 3))
    return path


def test_a_model_is_a_module_in_eval_mode_with_the_tensors_of_the_file(file: Path) -> None:
    model = load_model(str(file), str(TASK))
    assert isinstance(model, nn.Module)
    assert not model.training
    tensors = decode(file.read_bytes()).tensors
    assert {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()} == {
        name: array.tobytes() for name, array in tensors.items()
    }
    assert model(torch.zeros(1, 21)).shape == (1, 1)


def test_the_task_is_a_path_a_built_in_name_or_a_task(file: Path) -> None:
    heart = built_in("heart")
    assert heart is not None
    first = load_model(file, TASK).state_dict()
    for task in ("heart", load_task(TASK), load_task(heart)):
        for name, tensor in load_model(file, task).state_dict().items():  # type: ignore[arg-type]
            assert torch.equal(tensor, first[name])


def test_a_file_that_is_no_model_is_refused(file: Path, tmp_path: Path) -> None:
    blob = decode(file.read_bytes())
    bad = {
        "padded": (file.read_bytes() + b"\0", "holds no model (not a canonical tensor blob"),
        "empty": (b"", "holds no model (not a canonical tensor blob"),
        "update": (
            encode({"kind": "update"}, blob.schema, blob.tensors),
            "holds no model, its header says some",
        ),
        "nan": (
            encode(MODEL_HEADER, blob.schema, {n: a * np.float32("nan") for n, a in blob.tensors.items()}),
            "has a value that is NaN or infinite",
        ),
    }
    for name, (content, said) in bad.items():
        path = tmp_path / name
        path.write_bytes(content)
        sentence = refused(lambda path=path: load_model(path, TASK))  # type: ignore[misc]
        assert sentence.startswith(str(path))
        assert said in sentence
    assert f"{tmp_path / 'none'} cannot be read (No such file" in refused(lambda: load_model(tmp_path / "none", TASK))


def test_another_tasks_model_is_refused(file: Path) -> None:
    said = refused(lambda: load_model(file, "digits"))
    assert f"is F32 [32] in the task's model, and F32 [16] in {file}: take the task from" in said
    assert f"has no torch model: read {file} as arrays, with safetensors.numpy.load_file" in refused(
        lambda: load_model(file, EXAMPLES / "sklearn" / "task.py")
    )
    assert "nowhere.py cannot be read" in refused(lambda: load_model(file, "nowhere.py"))
