"""A task's file: what it must define, what the hooks do by default, and where an error in it is said to be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from ledger.errors import UsageError
from ledger.plan import Training
from participant.task import Task, balanced, moved
from participant.task_file import hook, load_task

GOOD = """
import torch
from participant import Task

class Mine(Task):
    def model(self):
        return torch.nn.Linear(2, 1)

    def load(self, data):
        return torch.utils.data.TensorDataset(torch.ones(4, 2), torch.ones(4))
"""


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "my_task.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_task(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------------------------------- the file


def test_a_file_with_one_task_is_a_task_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    task = load_task(path)
    assert isinstance(task, Task)
    assert isinstance(task.model(), nn.Linear)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    load_task(written(tmp_path, GOOD))
    task = load_task(written(tmp_path, GOOD.replace("(2, 1)", "(3, 1)")))
    assert isinstance(task, Task)
    model = task.model()
    assert isinstance(model, nn.Linear)
    assert model.in_features == 3


def test_a_file_imports_its_neighbours_and_dataclasses_work_in_it(tmp_path: Path) -> None:
    (tmp_path / "my_neighbour_of_tasks.py").write_text("WIDTH = 7\n")
    header = "from __future__ import annotations\nfrom dataclasses import dataclass\nimport my_neighbour_of_tasks\n"
    shape = "@dataclass\nclass Shape:\n    width: int = my_neighbour_of_tasks.WIDTH\n"
    path = written(tmp_path, header + GOOD + shape)
    assert isinstance(load_task(path), Task)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", " has no task: write a class in it that extends participant.Task"),
        ("from participant import Task", " has no task: "),
        ("class Mine: pass", " has no task: "),
        (GOOD + GOOD.replace("Mine", "Other"), " has 2 tasks, Mine (line 5), Other (line 15): leave one in the file"),
        (
            "from participant import Task\nclass Mine(Task):\n  pass",
            ", line 2: Mine has no load and no model: write it",
        ),
        (GOOD.replace("load", "laod"), ", line 5: Mine has no load: write it"),
        ("x = 1\ndef f(:\n", ", line 2: invalid syntax: correct the file"),
        ("x = 1\n  y = 2\n", ", line 2: unexpected indent: correct the file"),
        ("x = 1\nreturn x\n", ", line 2: 'return' outside function: correct the file"),
        ("x = '\\ud800'\nx.encode()", ", line 2: UnicodeEncodeError: "),
        (b"\xff\xfe", "correct the file, it is to be Python"),
        (b"x = 1\0", "null bytes: correct the file, it is to be Python"),
        ("\nimport pandaz", ", line 2: ModuleNotFoundError: No module named 'pandaz'"),
        ("\nfrom math import pie", ", line 2: ImportError: cannot import name 'pie'"),
        ("\n\nprint(undefined)", ", line 3: NameError: name 'undefined' is not defined"),
        ("def f():\n  1 / 0\nf()", ", line 2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(0)", ", line 2: SystemExit: 0"),
        ("raise ValueError('a\\nb\\n')", ", line 1: ValueError: a b"),
        ("raise ValueError", ", line 1: ValueError"),
        (GOOD + "    def __init__(self):\n        self.x = {}['x']\n", ", line 12, in __init__: KeyError: 'x'"),
        (GOOD + "    def __init__(self, x):\n        pass\n", ", in __init__: TypeError: Mine.__init__() missing 1"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name_and_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    path = written(tmp_path, text)
    sentence = refused(path)
    assert sentence.startswith(str(path))
    assert said in sentence


def test_a_file_that_is_not_there_is_said_not_to_be(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.py"):
        assert f"{path} cannot be read" in refused(path)


def test_a_long_error_is_cut_short(tmp_path: Path) -> None:
    assert len(refused(written(tmp_path, "raise ValueError('x' * 100_000)"))) < 1000


def test_an_error_in_a_hook_is_said_with_the_users_line_and_the_hook(tmp_path: Path) -> None:
    path = written(
        tmp_path, GOOD.replace("        return torch.utils", "        open(data)\n        return torch.utils")
    )
    task = load_task(path)
    with pytest.raises(UsageError) as caught, hook(task, "load"):
        task.load(tmp_path / "none.csv")
    assert str(caught.value).startswith(f"{path}, line 10, in load: FileNotFoundError: ")


# ------------------------------------------------------------------------------------------- defaults


class Mine(Task):
    def model(self) -> nn.Module:
        return nn.Identity()

    def load(self, data: Path) -> Any:
        raise NotImplementedError


def loss(output: Any, labels: Any) -> torch.Tensor:
    """The default loss, where the model gives what it is given."""
    return Mine().loss(nn.Identity(), (torch.as_tensor(output), torch.as_tensor(labels)))


def test_one_output_is_the_logit_of_label_1() -> None:
    expected = functional.binary_cross_entropy_with_logits(torch.tensor([0.5, -2.0]), torch.tensor([1.0, 0.0]))
    for output in ([0.5, -2.0], [[0.5], [-2.0]]):
        for labels in ([1.0, 0.0], [1, 0], [True, False], [[1.0], [0.0]], torch.tensor([1, 0], dtype=torch.float64)):
            assert loss(output, labels) == expected


def test_several_outputs_and_integer_labels_are_classes() -> None:
    output = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])
    for kind in (torch.int64, torch.int32, torch.uint8):
        labels = torch.tensor([2, 0], dtype=kind)
        assert loss(output, labels) == functional.cross_entropy(output, labels.long())
    image = torch.arange(24.0).reshape(2, 3, 2, 2)
    labels = torch.ones(2, 2, 2, dtype=torch.int64)
    assert loss(image, labels) == functional.cross_entropy(image, labels)


def test_several_outputs_and_floating_labels_of_their_shape_are_a_regression() -> None:
    assert loss([[1.0, 2.0]], [[0.0, 4.0]]) == 2.5


@pytest.mark.parametrize(
    ("output", "labels", "said"),
    [
        ([0.5, 0.5], [1.0, 2.0], "labels go from 1 to 2, and the model gives one number"),
        ([0.5, 0.5], [0, 3], "labels go from 0 to 3"),
        ([0.5, 0.5], [-1.0, 1.0], "labels go from -1 to 1"),
        ([0.5], [float("nan")], "labels go from nan to nan"),
        ([[0.5, 0.5]], [1.0], "no default loss fits outputs float32 [1, 2] to labels float32 [1]"),
        ([[0.5, 0.5]], [[1, 2]], "no default loss fits outputs float32 [1, 2] to labels int64 [1, 2]"),
        ([[[0.5]]], [[1.0, 1.0]], "no default loss fits outputs float32 [1, 1, 1] to labels float32 [1, 2]"),
        (0.5, [1.0, 0.0], "no default loss fits outputs float32 [] to labels float32 [2]"),
    ],
)
def test_labels_that_fit_no_default_are_refused_and_never_broadcast(output: Any, labels: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        loss(output, labels)
    assert said in str(caught.value)
    assert "write loss()" in str(caught.value)


def test_the_optimizer_gets_what_is_to_be_trained_and_the_plans_learning_rate() -> None:
    class Frozen(Mine):
        def optimizer(self, parameters: list[nn.Parameter], training: Training) -> torch.optim.Optimizer:
            made = super().optimizer(parameters, training)
            assert (made.defaults["lr"], made.defaults["momentum"]) == (0.25, 0.9)
            assert [parameter.shape for parameter in parameters] == [(1,)]
            return made

    model = nn.Linear(2, 1)
    model.weight.requires_grad_(False)
    before = [parameter.clone() for parameter in model.parameters()]
    data: Any = torch.utils.data.TensorDataset(torch.ones(3, 2), torch.ones(3))
    Frozen().train(model, data, Training(epochs=1, batch_size=2, learning_rate=0.25), 0)
    changed = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
    assert changed == [False, True]


@pytest.mark.parametrize(("examples", "size", "sizes"), [(5, 2, [2, 2]), (6, 2, [2] * 3), (1, 4, [1]), (3, 1, [1] * 3)])
def test_a_last_batch_of_one_is_left_out_unless_all_are(examples: int, size: int, sizes: list[int]) -> None:
    seen: list[int] = []

    class Seeing(Mine):
        def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
            seen.append(len(batch[0]))
            return super().loss(model, batch)

    data: Any = torch.utils.data.TensorDataset(torch.ones(examples, 2), torch.ones(examples))
    Seeing().train(nn.Linear(2, 1), data, Training(epochs=2, batch_size=size, learning_rate=0.1), 0)
    assert seen == sizes * 2


def test_the_default_loss_of_a_dataset_is_the_mean_of_all_examples() -> None:
    x = torch.linspace(-3, 3, 600)
    y = (x > 0.3).float()
    data: Any = torch.utils.data.TensorDataset(x, y)
    found = Mine().evaluate(nn.Identity(), data)
    loss = pytest.approx(float(functional.binary_cross_entropy_with_logits(x, y)), rel=1e-6)
    assert found == {"loss": loss, "accuracy": float(((x > 0) == (y > 0)).double().mean()), "auc": 1.0}


def pairs(x: Any, y: Any) -> Any:
    return torch.utils.data.TensorDataset(torch.as_tensor(x), torch.as_tensor(y))


def test_a_classifier_is_measured_by_accuracy_and_where_there_are_two_classes_by_auc() -> None:
    two = pairs([[2.0, 1.0], [0.0, 1.0], [0.0, 3.0], [1.0, 1.0]], [0, 0, 1, 1])
    assert Mine().evaluate(nn.Identity(), two) == {"loss": pytest.approx(0.592, abs=1e-3), "accuracy": 0.5, "auc": 0.75}
    three = pairs([[2.0, 1.0, 0.0], [0.0, 1.0, 5.0]], [0, 1])
    assert set(Mine().evaluate(nn.Identity(), three)) == {"loss", "accuracy"}
    assert set(Mine().evaluate(nn.Identity(), pairs([0.5, 2.0], [1.0, 1.0]))) == {"loss", "accuracy"}, "one class"
    pixels = pairs(torch.arange(8.0).reshape(1, 2, 2, 2), torch.ones(1, 2, 2, dtype=torch.int64))
    assert Mine().evaluate(nn.Identity(), pixels)["accuracy"] == 1.0


def test_what_is_no_classifier_is_measured_by_its_loss() -> None:
    assert set(Mine().evaluate(nn.Identity(), pairs([[1.0, 2.0]], [[0.0, 4.0]]))) == {"loss"}, "a regression"
    assert set(Mine().evaluate(nn.Identity(), pairs([0.5, 1.0], [0.2, 0.9]))) == {"loss"}, "labels between 0 and 1"
    shares = pairs(torch.zeros(300), torch.cat([torch.ones(256), torch.full((44,), 0.5)]))
    assert set(Mine().evaluate(nn.Identity(), shares)) == {"loss"}, "also where a whole batch has labels of 0 or 1"


def test_an_own_loss_has_no_accuracy_where_one_number_need_not_be_a_logit() -> None:
    class Own(Mine):
        def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
            return functional.binary_cross_entropy(model(batch[0]), batch[1])

    assert Own().evaluate(nn.Identity(), pairs([0.1, 0.4], [0.0, 1.0])) == {
        "loss": pytest.approx(0.511, abs=1e-3),
        "auc": 1.0,
    }

    class Strange(Mine):
        def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
            return batch["x"].sum()  # type: ignore[no-any-return]

    data: Any = [{"x": torch.ones(2)}] * 3
    assert Strange().evaluate(nn.Identity(), data) == {"loss": 6.0}


def test_evaluating_leaves_the_model_as_it_was() -> None:
    model = nn.Linear(1, 1)
    for data in (pairs([[1.0]], [1.0]), pairs([[1.0]], [7.0])):
        try:
            Mine().evaluate(model, data)
        except UsageError:
            continue
    assert not model._forward_hooks


# ------------------------------------------------------------------------------------- weights of classes


def weighted(*weights: float) -> Task:
    task = Mine()
    task.weight_of_class = torch.tensor(weights)
    return task


def test_weights_multiply_each_examples_loss_and_the_loss_stays_a_mean_over_examples() -> None:
    output, labels = torch.tensor([0.5, -2.0, 1.0]), torch.tensor([1.0, 0.0, 0.0])
    each = functional.binary_cross_entropy_with_logits(output, labels, reduction="none")
    expected = (each * torch.tensor([3.0, 2.0, 2.0])).mean()
    assert torch.isclose(weighted(2, 3).loss(nn.Identity(), (output, labels)), expected)
    logits, classes = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]), torch.tensor([2, 0])
    each = functional.cross_entropy(logits, classes, reduction="none")
    assert torch.isclose(weighted(1, 5, 7).loss(nn.Identity(), (logits, classes)), (7 * each[0] + each[1]) / 2)
    assert weighted(1, 1).loss(nn.Identity(), (output, labels)) == loss(output, labels)


@pytest.mark.parametrize(
    ("weights", "output", "labels", "said"),
    [
        ([1.0], [0.5], [1.0], "class_weights() gives 1 weights for 2 classes: give one for each"),
        ([1.0, 1.0], [[0.5, 0.5, 0.5]], [1], "class_weights() gives 2 weights for 3 classes"),
        ([1.0, 1.0], [[0.5, 0.5]], [[1.0, 1.0]], "to labels float32 [1, 2] with class_weights(): change one of them"),
    ],
)
def test_weights_that_fit_no_classes_are_refused(weights: list[float], output: Any, labels: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        weighted(*weights).loss(nn.Identity(), (torch.tensor(output), torch.tensor(labels)))
    assert said in str(caught.value)


def test_balanced_weights_count_all_classes_the_same_and_are_one_on_average() -> None:
    labels = [0, 0, 0, 0, 0, 0, 2, 2]
    weights = balanced(labels, 4)
    assert weights.tolist() == pytest.approx([8 / 12, 1.0, 2.0, 1.0])
    assert float(weights[labels].mean()) == pytest.approx(1.0)
    for same in (torch.tensor(labels), torch.tensor(labels).float(), np.array(labels)):
        assert torch.equal(balanced(same, 4), weights)
    assert balanced([1, 1]).tolist() == [1.0, 1.0]


# ------------------------------------------------------------------------------------------------ device


def test_model_and_batches_go_to_the_tasks_device_and_come_back_with_the_tensors() -> None:
    asked: list[str] = []

    class Elsewhere(Mine):
        def device(self) -> str:
            asked.append("cpu:0")
            return "cpu:0"

    model = nn.Linear(2, 1)
    data: Any = torch.utils.data.TensorDataset(torch.ones(3, 2), torch.ones(3))
    Elsewhere().train(model, data, Training(epochs=1, batch_size=2, learning_rate=0.25), 0)
    Elsewhere().evaluate(model, data)
    assert asked


@pytest.mark.parametrize("kind", [tuple, list, dict])
def test_a_batch_is_moved_whole(kind: type) -> None:
    batch: Any = {"x": torch.ones(1), "y": ["a"]} if kind is dict else kind([torch.ones(1), ["a"]])
    found = moved(batch, "meta")
    tensor = found["x"] if kind is dict else found[0]
    assert tensor.device.type == "meta"
