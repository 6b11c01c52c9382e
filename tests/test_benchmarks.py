"""What scripts/bench says of rounds, at tiny sizes. Nothing is timed here: a measurement is no test."""

import dataclasses
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def bench(*arguments: str) -> Any:
    command = [sys.executable, str(SCRIPTS / "benchmarks.py"), *arguments, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_round_is_measured_beside_flower_and_the_floor() -> None:
    cases = ["3000x4", "1500000x3"]
    rows = bench("round", *(word for case in cases for word in ("--case", case)))
    assert [row["case"] for row in rows] == cases
    for row in rows:
        assert min(row["ours"], row["other"], row["floor"], *row["other_by"].values()) > 0
        assert row["ratio"] == {
            "other_over_ours": row["other"] / row["ours"],
            "other_fastest_over_ours": min(row["other_by"].values()) / row["ours"],
            "floor_over_ours": row["floor"] / row["ours"],
        }


def test_nothing_is_measured_where_flower_averages_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    benchmark = import_module("round_benchmark")
    round_ = benchmark.Round(tmp_path, 3000, 4)
    with ThreadPoolExecutor(2) as pool:
        benchmark.require_the_same(round_, pool)
        parameters, examples = round_.parameters[1]
        round_.parameters[1] = parameters, examples + 1
        with pytest.raises(AssertionError, match="another average by aggregate"):
            benchmark.require_the_same(round_, pool)


def test_a_whole_round_takes_what_its_training_takes_and_what_the_ledger_adds() -> None:
    (row,) = bench("overhead", "--case", "heart/embedded/folder", "--seconds", "0.1")["rounds"]
    assert set(row["steps"]) == {"open", "make", "seal", "store", "post", "fetch", "settle", "publish"}
    assert 0 < sum(row["steps"].values()) < row["with_ledger"]
    assert row["ledger"] == row["with_ledger"] - row["without"]
    assert row["overhead"] == row["ledger"] / row["without"]


def test_every_strategy_wire_and_attack_is_played_and_flower_learns_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "0")
    monkeypatch.syspath_prepend(SCRIPTS)
    benchmark = import_module("learning_benchmark")
    problem = dataclasses.replace(benchmark.hearts_of_ten(0), rounds=1)
    plain = benchmark.Federation(problem, 0, {})
    ours, theirs = plain.play()[0], plain.play_in_flower()
    assert all(np.allclose(ours[name], theirs[name].ravel(), rtol=0, atol=1e-6) for name in ours)
    played = [(choices, (False, benchmark._honest)) for choices in (benchmark.STRATEGIES | benchmark.WIRES).values()]
    played += [(choices, attack) for choices in benchmark.RULES.values() for attack in benchmark.ATTACKS.values()]
    for choices, (flips, attack) in played:
        made, _ = benchmark.Federation(problem, 0, choices, 2 if flips else 0).play(attack, 2)
        assert min(benchmark.tested(problem, made)) > 0
