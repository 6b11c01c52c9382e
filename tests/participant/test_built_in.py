"""The built-in tasks: their data are written, they train on them, and their names stand for their files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sklearn.datasets import load_digits

from ledger.cli import main
from ledger.plan import Training
from ledger.updates import decode
from participant import heart
from participant.built_in import NAMES, built_in
from participant.task_file import load_task
from participant.trainer import Trainer
from tests.world import PLAN, private

ROUND = PLAN.model_copy(update={"training": Training(epochs=20, batch_size=16, learning_rate=0.02)})


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["task", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def ok(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    return result.stderr


def rows(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


# ------------------------------------------------------------------------------------------------- data


def test_heart_is_a_file_for_each_of_four_hospitals(tmp_path: Path) -> None:
    said = ok("data", "heart", str(tmp_path / "new" / "heart"))
    folder = tmp_path / "new" / "heart"
    names = ["cleveland.csv", "hungary.csv", "switzerland.csv", "va-long-beach.csv"]
    assert sorted(path.name for path in folder.iterdir()) == names
    for name, hospital, count in zip(names, heart.HOSPITALS, (304, 293, 123, 200), strict=True):
        assert (folder / name).read_text(encoding="utf-8") == heart.csv_of(hospital)
        assert f"{folder / name}: {count} examples" in said


def test_digits_are_all_of_them_each_at_one_site(tmp_path: Path) -> None:
    ok("data", "digits", str(tmp_path), "--sites", "7", "--alpha", "0.3", "--seed", "5")
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == [f"site-{number}.csv" for number in range(1, 8)]
    pixels, labels = load_digits(return_X_y=True)
    expected = [",".join(map(str, row)) for row in np.column_stack([pixels, labels]).astype(int)]
    assert sorted(line for path in files for line in rows(path)[1:]) == sorted(expected)
    assert all(rows(path)[0].split(",")[-1] == "digit" for path in files)


def test_seed_and_alpha_decide_how_digits_are_split(tmp_path: Path) -> None:
    asked = {"a": [], "b": ["--seed", "0", "--alpha", "0.5", "--sites", "4"], "c": ["--seed", "1"]}
    asked["d"] = ["--alpha", "100"]
    for name, options in asked.items():
        ok("data", "digits", str(tmp_path / name), *options)
    first = {name: rows(tmp_path / name / "site-1.csv") for name in asked}
    assert first["a"] == first["b"]
    assert len({tuple(first[name]) for name in asked}) == 3
    assert len(list((tmp_path / "a").iterdir())) == 4


def test_what_is_there_is_not_written_over_and_nothing_is_written_then(tmp_path: Path) -> None:
    (tmp_path / "switzerland.csv").write_text("years of work")
    assert "switzerland.csv is there already, and nothing is written over it" in refused("data", "heart", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["switzerland.csv"]
    assert (tmp_path / "switzerland.csv").read_text() == "years of work"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["heart", "--sites", "3"], "heart is the records of four hospitals: leave --sites, --alpha and --seed out"),
        (
            ["digits", "--sites", "180"],
            "1,797 examples cannot be split among 180 sites of 10 or more: take from",
        ),
        (["digits", "--alpha", "nan"], "alpha is nan: take a number above 0"),
        (["digits", "--alpha", "0"], "0.0 is not in the range"),
        (["letters"], "'letters' is not one of 'heart', 'digits'"),
    ],
)
def test_what_cannot_be_written_is_said(tmp_path: Path, arguments: list[str], said: str) -> None:
    name, *options = arguments
    assert said in refused("data", name, str(tmp_path / "new"), *options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("digits", "sklearn", "scikit-learn: pip install 'fedledger[digits]'")]
)
def test_data_of_a_package_that_is_not_there_say_what_to_install(
    tmp_path: Path, name: str, module: str, extra: str
) -> None:
    program = f"""
import sys
sys.modules[{module!r}] = None
from ledger.cli import main
main(["task", "data", {name!r}, {str(tmp_path / "new")!r}])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, f"Error: the {name} need {extra}\n")


# ---------------------------------------------------------------------------------------------- the tasks


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in NAMES:
        ok("data", name, str(folder / name))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_task_trains_on_each_of_its_files_and_gets_better(name: str, data: Path) -> None:
    file = built_in(name)
    assert file is not None
    for path in (data / name).iterdir():
        trainer = Trainer(load_task(file), path)
        base = trainer.initial()
        trained = trainer.train(base, ROUND, 0)
        assert trainer.evaluate(trained)["loss"] < 0.9 * trainer.evaluate(base)["loss"]
        assert {"loss", "accuracy"} <= trainer.metrics(base).keys()
        assert len(trainer.fingerprint) == 32


@pytest.mark.parametrize("name", NAMES)
def test_a_built_in_task_trains_privately(name: str, data: Path) -> None:
    file = built_in(name)
    assert file is not None
    trainer = Trainer(load_task(file), next((data / name).iterdir()))
    assert trainer.train(trainer.initial(), ROUND.model_copy(update={"privacy": private()}), 0)


def test_no_row_changes_how_another_one_of_heart_is_read(data: Path, tmp_path: Path) -> None:
    file, path = built_in("heart"), data / "heart" / "hungary.csv"
    assert file is not None
    task = load_task(file)
    whole, header = task.load(path), rows(path)[0]
    for number in (0, 100, 292):
        alone = tmp_path / f"{number}.csv"
        alone.write_text(f"{header}\n{rows(path)[1 + number]}\n")
        assert np.array_equal(task.load(alone)[0][0], whole[number][0])


def test_names_stand_for_the_tasks_and_a_path_for_a_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("heart").write_text("x = 1")
    file = str(data / "heart" / "cleveland.csv")
    told = json.loads(ok("check", "heart", "--data", file, "--json"))
    assert (told["examples"], told["held_out"]) == (244, 60)
    assert "heart has no task" in refused("check", "./heart", "--data", file)
    assert "Heart cannot be read" in refused("check", "Heart", "--data", file)
    ok("genesis", "digits", "--out", "digits.safetensors")
    assert decode(Path("digits.safetensors").read_bytes()).schema["2.bias"].shape == [10]
