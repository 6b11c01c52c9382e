"""``fedledger task``: a task is written, checked before a round is at stake, and makes the genesis model."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ledger.charter import limits_of
from ledger.cid import cid_of
from ledger.cli import main
from ledger.facts import Address
from ledger.plan_file import read_plan, update_bytes
from ledger.privacy import epsilons
from ledger.updates import MODEL_HEADER, Place, decode, decode_model, encode, update_header
from participant import example, heart
from participant.task_file import load_task
from participant.trainer import Trainer, genesis
from tests.world import PLAN

HEART = Path(__file__).resolve().parents[2] / "examples" / "heart"
TASK, DATA, OTHER, TOML, PRIVATE = (
    str(HEART / name) for name in ("task.py", "cleveland.csv", "hungary.csv", "plan.toml", "plan-private.toml")
)
GOOD = (HEART / "task.py").read_text(encoding="utf-8")


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["task", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "a defect in fedledger" not in result.output
    return result


def ok(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0].removeprefix("Error: ")


def changed(folder: Path, *changes: tuple[str, str]) -> str:
    """The file of the example with some changes."""
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "my_task.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


# ---------------------------------------------------------------------------------------- the example


def test_the_example_is_what_task_new_writes(tmp_path: Path) -> None:
    path = tmp_path / "my_task.py"
    assert f"fedledger task check {path} --data PATH" in ok("new", str(path))
    assert path.read_bytes() == (HEART / "task.py").read_bytes() == Path(example.__file__).read_bytes()


def test_the_examples_data_is_what_the_demos_data_set_holds() -> None:
    for hospital, path in (("Cleveland", DATA), ("Hungary", OTHER)):
        text = Path(path).read_text(encoding="utf-8")
        assert text == heart.csv_of(hospital)
        assert text.splitlines()[0].split(",")[-1] == "disease"
        assert all(len(line.split(",")) == heart.FEATURES + 1 for line in text.splitlines())


@pytest.mark.parametrize(("data", "examples", "held_out"), [(DATA, 244, 60), (OTHER, 235, 58)])
def test_the_example_can_answer_rounds_of_its_plan(data: str, examples: int, held_out: int) -> None:
    told = json.loads(ok("check", TASK, "--data", data, "--plan", TOML, "--json"))
    assert (told["examples"], told["held_out"], told["tensors"], told["notes"]) == (examples, held_out, 4, [])
    assert told["after"]["loss"] < told["before"]["loss"]
    assert told["update_bytes"] == update_bytes(
        read_plan(Path(TOML), lambda: genesis(load_task(Path(TASK)), 0)).tensors
    )


@pytest.mark.parametrize("data", [DATA, OTHER])
def test_the_example_can_answer_ten_rounds_of_its_private_plan(data: str) -> None:
    told = json.loads(ok("check", TASK, "--data", data, "--plan", PRIVATE, "--json"))
    assert (told["epsilon"], told["delta"], told["notes"]) == (1.366, 1e-5, [])
    text = ok("check", TASK, "--data", data, "--plan", PRIVATE)
    assert "after one private step\n" in text
    assert "epsilon   1.366 for one round, at delta 1e-05\n" in text
    plan = read_plan(Path(PRIVATE), lambda: genesis(load_task(Path(TASK)), 0))
    assert limits_of((HEART / "charter.md").read_bytes()).exceeded(plan) == []
    privacy = plan.privacy
    assert privacy is not None
    assert privacy.budget is not None
    step = (privacy.noise_multiplier, privacy.sampling_rate)
    ten, eleven = (epsilons(frozenset({(step, rounds * privacy.local_steps)}), privacy.delta)[0] for rounds in (10, 11))
    assert ten <= privacy.budget < eleven


def test_examples_of_which_no_fingerprint_can_be_taken_are_refused(tmp_path: Path) -> None:
    """Every update commits to them."""
    holding = changed(
        tmp_path,
        ("        return TensorDataset(", "        return Odd("),
        (
            "class Example",
            "class Odd(TensorDataset):\n    def __getitem__(self, at):\n        x, y = super().__getitem__(at)\n"
            "        return {'x': x, 'y': y, 'of': range(2)}\n\n\nclass Example",
        ),
        (
            "    def load",
            "    def loss(self, model, batch):\n        return super().loss(model, [batch['x'], batch['y']])\n\n"
            "    def load",
        ),
    )
    said = refused("check", holding, "--data", DATA)
    assert "in load: example 0 holds a range, of which no fingerprint can be taken" in said


STRATEGIES = {"fedprox": "mu = 0.1", "scaffold": ""}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_plan_of_a_strategy_that_changes_the_training_is_tried(tmp_path: Path, strategy: str) -> None:
    plan = tmp_path / "plan.toml"
    text = Path(TOML).read_text(encoding="utf-8") + f'[strategy]\nname = "{strategy}"\n{STRATEGIES[strategy]}\n'
    plan.write_text(text)
    told = json.loads(ok("check", TASK, "--data", DATA, "--plan", str(plan), "--json"))
    assert (told["tensors"], told["notes"]) == (4, [])
    assert told["after"]["loss"] < told["before"]["loss"]
    read = read_plan(plan, lambda: genesis(load_task(Path(TASK)), 0))
    assert told["update_bytes"] == update_bytes(read.update_tensors)
    passes = read.training.epochs + (strategy == "scaffold")
    assert told["round_seconds"] == pytest.approx(passes * told["epoch_seconds"])
    own = changed(
        tmp_path,
        (
            "    def load",
            "    def train(self, *of_its_own):\n        super().train(*of_its_own)\n\n    def load",
        ),
    )
    assert ok("check", own, "--data", DATA, "--plan", TOML)
    said = refused("check", own, "--data", DATA, "--plan", str(plan))
    assert f"in train: a plan of {strategy} adds to every gradient" in said


def test_a_private_plan_that_cannot_work_is_noted_or_refused(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    text = Path(PRIVATE).read_text(encoding="utf-8")
    for change, said in (
        (("noise_multiplier = 2.0", "noise_multiplier = 0.1"), "a round spends an unlimited epsilon"),
        (("budget = 4.0", "budget = 1.0"), "a round spends more than the plan's budget of 1: no site will answer it"),
    ):
        plan.write_text(text.replace(*change))
        assert f"Note: {said}" in ok("check", TASK, "--data", DATA, "--plan", str(plan))
    plan.write_text(text)
    other = changed(tmp_path, ("nn.ReLU()", "nn.BatchNorm1d(16)"))
    said = refused("check", other, "--data", DATA, "--plan", str(plan))
    assert "in model: layer '1' (BatchNorm1d) cannot be trained privately: it mixes the examples of a batch" in said


@pytest.mark.parametrize("data", [DATA, OTHER])
def test_training_by_the_plan_improves_the_model_and_gives_the_same_bytes_in_another_process(data: str) -> None:
    task = load_task(Path(TASK))
    trainer, blob = Trainer(task, Path(data)), genesis(task, 0)
    plan = read_plan(Path(TOML), lambda: blob)
    base = decode_model(blob, plan).tensors
    trained = trainer.train(base, plan, 1)
    assert trainer.evaluate(trained)["loss"] < trainer.evaluate(base)["loss"] - 0.05
    update = encode(
        update_header(Place(1, Address("0x" + "c0" * 20), 1, cid_of(plan.encode()), cid_of(blob)), 1, trainer.examples),
        plan.tensors,
        trained,
    )
    assert len(update) <= plan.max_update_bytes
    program = f"""
from pathlib import Path
from ledger.plan import Plan
from participant.task_file import load_task
from participant.trainer import Trainer
trainer = Trainer(load_task(Path({TASK!r})), Path({data!r}))
trained = trainer.train(trainer.initial(), Plan.decode({plan.encode()!r}), 1)
print({{name: array.tobytes().hex() for name, array in trained.items()}})
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == str({name: array.tobytes().hex() for name, array in trained.items()})


def test_the_examples_plan_is_within_the_limits_of_its_charter() -> None:
    plan = read_plan(Path(TOML), lambda: genesis(load_task(Path(TASK)), 0))
    limits = limits_of((HEART / "charter.md").read_bytes())
    assert limits.exceeded(plan) == []
    assert limits.exceeded(plan.model_copy(update={"quorum": 1}))


# -------------------------------------------------------------------------------------- new, genesis


@pytest.mark.parametrize("command", [["new", "FILE"], ["genesis", TASK, "--out", "FILE"]], ids=lambda words: words[0])
def test_what_is_there_is_not_written_over(tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "thesis"
    path.write_text("years of work")
    (tmp_path / "link").symlink_to("nowhere")
    asked = {
        path: f"{path} is there already, and nothing is written over it: name another file",
        tmp_path / "link": "is there already",
        tmp_path: "is there already",
        tmp_path / "none" / "file": f"{tmp_path / 'none'} is no folder to write file into",
    }
    for file, said in asked.items():
        assert said in refused(*(word.replace("FILE", str(file)) for word in command))
    assert path.read_text() == "years of work"
    assert {one.name for one in tmp_path.iterdir()} == {"thesis", "link"}


def test_the_genesis_model_is_a_canonical_model_that_fits_the_plan_and_its_seed_decides_it(tmp_path: Path) -> None:
    blobs = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        told = ok("genesis", TASK, "--out", str(tmp_path / name), "--seed", seed)
        blobs.append((tmp_path / name).read_bytes())
        assert str(cid_of(blobs[-1])) in told
    assert blobs[0] == blobs[1] != blobs[2]
    assert decode(blobs[0]).header == MODEL_HEADER
    assert decode_model(blobs[0], read_plan(Path(TOML), lambda: blobs[2]))


def test_a_genesis_model_of_a_wrong_task_is_not_written(tmp_path: Path) -> None:
    task = changed(tmp_path, ("nn.Linear(16, 1))", "nn.Linear(16, 1)).double()"))
    assert "is float64: settlement takes float32" in refused("genesis", task, "--out", str(tmp_path / "model"))
    assert not (tmp_path / "model").exists()
    assert "-1 is not in the range" in run("genesis", task, "--seed", "-1").stderr


# -------------------------------------------------------------------------------------------- check


def test_a_check_tells_people_what_a_round_will_take() -> None:
    lines = ok("check", TASK, "--data", DATA, "--plan", TOML).splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "task",
        "examples",
        "update",
        "loss",
        "accuracy",
        "auc",
        "a step",
        "an epoch",
        "a round",
        f"{TASK} can answer rounds.",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("FEATURES = 21", "FEATURES = 20"),
            "in evaluate: RuntimeError: mat1 and mat2 shapes cannot be multiplied (32x21 an",
        ),
        (
            ("np.nan_to_num(x)", "x"),
            "in evaluate: loss is nan before any training: look for empty or infinite values in ",
        ),
        (
            ("dtype=torch.float32), t", "dtype=torch.float64), t"),
            "RuntimeError: mat1 and mat2 must have the same dtype",
        ),
        (("table[:, -1]", "table[:, 0]"), "labels go from 29 to 40, and the model gives one number"),
        (("(16, 1)", "(16, 3)"), "no default loss fits outputs float32 [32, 3] to labels float32 [32]"),
        (("def load(", "def load_(self):\n        pass\n\n    def lod("), "Example has no load: write it"),
        (("nn.ReLU()", "nn.Relu()"), "line 20, in model: AttributeError: module 'torch.nn' has no attribute 'Relu'"),
        (
            ("    def load(", "    def loss(self, model, batch):\n        return batch[0].sum()\n\n    def load("),
            "in train: RuntimeError: element 0 of tensors does not require grad",
        ),
        (
            ("    def load(", "    def train(self, model, dataset, training, seed):\n        pass\n\n    def load("),
            "in train: a step changes no tensor: give the optimizer the parameters",
        ),
        (
            ("    def load(", "    def optimizer(self, parameters, training):\n        return 1 / 0\n\n    def load("),
            "line 23, in train: ZeroDivisionError",
        ),
    ],
)
def test_what_is_wrong_with_a_task_is_said_before_a_round_is_at_stake(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    task = changed(tmp_path, change)
    sentence = refused("check", task, "--data", OTHER, "--json")
    assert sentence.startswith(task)
    assert said in sentence


def test_data_task_and_plan_that_are_not_there_are_said_not_to_be(tmp_path: Path) -> None:
    none = str(tmp_path / "none")
    assert refused("check", none, "--data", DATA).startswith(f"{none} cannot be read (No such file or directory)")
    assert refused("check", TASK, "--data", none) == f"there is no data at {none}: name it with --data"
    assert refused("check", TASK, "--data", DATA, "--plan", none).startswith(f"{none} cannot be read")
    assert "line 1, in load: " in refused("check", _line_1(tmp_path), "--data", DATA)
    assert "Missing option '--data'" in run("check", TASK).stderr


def _line_1(folder: Path) -> str:
    """A task that cannot load anything, on one line."""
    path = folder / "short.py"
    path.write_text(
        "import participant; Short = type('Short', (participant.Task,), dict(model=0, load=lambda _, x: 1 / 0))"
    )
    path.write_text(path.read_text() + "; Short.__module__ = __name__")
    return str(path)


def test_a_model_that_differs_from_the_plans_is_said_to_tensor_by_tensor(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_bytes(PLAN.encode())
    assert (
        f"tensor '0.bias' is F32 [16] in the task's model, and absent in {plan}: correct one of them, or leave tens"
    ) in refused("check", TASK, "--data", DATA, "--plan", str(plan))
    whole = read_plan(Path(TOML), lambda: genesis(load_task(Path(TASK)), 0))
    plan.write_bytes(whole.encode())
    assert "can answer rounds" in ok("check", TASK, "--data", DATA, "--plan", str(plan))
    other = changed(tmp_path, ("16", "8"))
    assert "tensor '0.bias' is F32 [8] in the task's model, and F32 [16] in " in refused(
        "check", other, "--data", DATA, "--plan", str(plan)
    )


def test_a_check_gives_the_tasks_digest_and_says_whether_task_and_plan_are_within_the_policy(tmp_path: Path) -> None:
    digest = hashlib.sha256(Path(TASK).read_bytes()).hexdigest()
    policy = tmp_path / "policy.toml"
    asked = ("check", TASK, "--data", DATA, "--policy", str(policy))
    policy.write_text(f'tasks = ["{digest}"]\nmin_sites = 2\n')
    assert f"The task is within the policy {policy}." in ok(*asked)
    assert f"Task and plan are within the policy {policy}." in ok(*asked, "--plan", TOML)
    told = json.loads(ok(*asked, "--json"))
    assert (told["task"], told["policy"]) == (digest, str(policy))
    policy.write_text("min_sites = 3\nmax_epsilon = 1")
    assert f"The task is within the policy {policy}." in ok(*asked)
    assert refused(*asked, "--plan", TOML) == (
        f"{TOML} is not within the policy {policy} (no privacy budget, the policy's max_epsilon is 1; quorum 2, the "
        "policy's min_sites is 3): change one of them"
    )


def test_a_task_that_the_policy_does_not_allow_is_not_run(tmp_path: Path) -> None:
    policy, task = tmp_path / "policy.toml", tmp_path / "task.py"
    policy.write_text("tasks = []")
    task.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    digest = hashlib.sha256(task.read_bytes()).hexdigest()
    assert f"{policy} does not have {digest} among its tasks: read the task, and add it there" in refused(
        "check", str(task), "--data", DATA, "--policy", str(policy)
    )
    assert not (tmp_path / "ran").exists()


def test_without_a_policy_a_check_says_nothing_of_one() -> None:
    assert "policy" not in ok("check", TASK, "--data", DATA).splitlines()[-2]
    assert json.loads(ok("check", TASK, "--data", DATA, "--json"))["policy"] is None


def test_a_plan_with_too_little_room_for_an_update_is_refused(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text("max_update_bytes = 2000\n" + Path(TOML).read_text(encoding="utf-8"))
    assert f"an update has up to 6,812 bytes, max_update_bytes of {plan} is 2,000: raise it" in refused(
        "check", TASK, "--data", DATA, "--plan", str(plan)
    )


@pytest.mark.parametrize(
    ("hook", "note"),
    [
        (
            "    def loss(self, model, batch):\n        return -super().loss(model, batch)\n\n",
            "did not make the loss small",
        ),
        (
            "    steps = 0\n\n    def train(self, model, dataset, training, seed):\n        self.steps += 1\n"
            "        super().train(model, dataset, training, self.steps)\n"
            "        torch.nn.init.constant_(model[0].bias, self.steps)\n\n",
            "gave different tensors",
        ),
    ],
)
def test_what_may_be_meant_so_is_noted(tmp_path: Path, hook: str, note: str) -> None:
    evaluate = (
        "    def evaluate(self, model, dataset):\n        x, y = dataset[:]\n"
        "        return {'loss': float(Task.loss(self, model, (x, y)))}\n\n"
    )
    told = json.loads(
        ok("check", changed(tmp_path, ("    def load(", hook + evaluate + "    def load(")), "--data", DATA, "--json")
    )
    assert any(note in one for one in told["notes"])


def test_what_a_task_prints_is_not_in_the_document(tmp_path: Path) -> None:
    task = changed(tmp_path, ("        table =", "        print('hello')\n        table ="))
    result = run("check", task, "--data", DATA, "--json")
    assert json.loads(result.stdout)["examples"] == 244
    assert "hello" in result.stderr


def test_a_task_without_torch_is_told_what_to_install(tmp_path: Path) -> None:
    program = f"""
import sys
sys.modules["torch"] = None
from ledger.cli import main
main(["task", "check", {TASK!r}, "--data", {DATA!r}])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    said = f"Error: {TASK}: it needs torch, which is not installed: pip install 'fedledger[train]'\n"
    assert (result.returncode, result.stderr) == (2, said)
    assert "Wrote" in ok("new", str(tmp_path / "my_task.py"))
