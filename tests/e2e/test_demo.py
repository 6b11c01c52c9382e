"""The main job as a newcomer runs it, and each fraud that it can play."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledger.audit.meanings import MEANINGS
from participant.demo import Demo, run
from participant.federation import Order, RoundResult

finished_demo = pytest.mark.xdist_group("finished demo")  # one worker plays it for all


def fedledger(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("fedledger")
    result = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr, result.stderr
    return result


def summary(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return document


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo as it is run by default, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "run"
    result = fedledger("demo", "--out", str(out))
    assert result.returncode == 0, result.stdout + result.stderr
    return out, result.stdout


@finished_demo
def test_the_demo_prints_a_line_a_round_then_the_checks_then_the_verdict(finished: tuple[Path, str]) -> None:
    _, printed = finished
    lines = printed.splitlines()
    assert sum(line.startswith("round ") for line in lines) == 20
    checks = [line for line in lines if line.startswith("✓")]
    assert [line.split(":")[0] for line in checks] == [f"✓ {meaning.number} {meaning.name}" for meaning in MEANINGS]
    assert len(checks) == 9
    assert lines.index(checks[0]) > max(at for at, line in enumerate(lines) if line.startswith("round "))
    assert any(line.startswith("Verified: ") for line in lines[lines.index(checks[-1]) :])


@finished_demo
def test_the_federated_model_is_as_good_as_one_trained_on_pooled_rows(finished: tuple[Path, str]) -> None:
    document = summary(finished[0])
    overall = document["rounds"][-1]["auc"]["overall"]
    assert overall >= 0.83
    assert overall >= document["baselines"]["pooled"] - 0.02
    alone = [document["baselines"][name] for name in ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")]
    assert overall > sum(alone) / 4


@finished_demo
def test_the_folder_is_readable_by_other_programs(finished: tuple[Path, str]) -> None:
    out, _ = finished
    document = summary(out)
    entries = [json.loads(line) for line in (out / "entries.jsonl").read_text().splitlines()]
    assert [entry["entry"] for entry in entries] == list(range(len(entries)))
    assert document["head"] == entries[-1]["head"]
    assert all(entry["block"] > 0 and len(entry["transaction"]) == 66 for entry in entries)
    assert len(document["rounds"]) == 20
    for number, row in enumerate(document["rounds"], 1):
        assert row["round"] == number
        assert (out / "blobs" / row["model"]).is_file()
        assert set(row["auc"]) == {"overall", "Cleveland", "Hungary", "Switzerland", "VA Long Beach"}
        assert len(row["included"]) == 4
        assert row["excluded"] == {}


@finished_demo
def test_the_audit_in_another_process_verifies_the_folder(finished: tuple[Path, str]) -> None:
    out, _ = finished
    result = fedledger("audit", str(out), "--json", "--head", summary(out)["head"], *key(out))
    document = json.loads(result.stdout)
    assert result.returncode == 0
    assert (document["verdict"], document["rounds"], document["updates"]) == ("verified", 20, 80)
    assert document["head"] == summary(out)["head"]
    assert [check["number"] for check in document["checks"]] == list(range(1, 10))
    assert {check["status"] for check in document["checks"]} == {"verified"}
    assert document["rests_on"] == [{"kind": "head", "text": f"the head given {document['head']}"}]


def key(out: Path) -> tuple[str, str]:
    """What opens the updates of a demo."""
    return "--identity", str(out / "auditor.key")


def models(folder: Path) -> list[str | None]:
    return [row["model"] for row in summary(folder)["rounds"]]


def test_the_same_seed_gives_the_same_models_in_any_order_of_posting(tmp_path: Path) -> None:
    orders: list[Order] = [sorted, lambda names: sorted(names, reverse=True), lambda names: names[2:] + names[:2]]
    played = []
    for number, order in enumerate(orders):
        run(Demo(tmp_path / str(number), 3, 7, order))
        played.append(models(tmp_path / str(number)))
    assert played[0] == played[1] == played[2]
    run(Demo(tmp_path / "other", 1, 8, sorted))
    assert models(tmp_path / "other")[0] != played[0][0]


@pytest.mark.parametrize("cheat", ["participant", "aggregator", "storage", "node"])
def test_each_fraud_is_named_with_round_party_and_blob(cheat: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = fedledger("demo", "--rounds", "3", "--out", str(out), "--cheat", cheat)
    expected = 0 if cheat == "participant" else 1
    assert result.returncode == expected, result.stdout + result.stderr
    entries = [json.loads(line) for line in (out / "entries.jsonl").read_text().splitlines()]
    posted = {entry["update"] for entry in entries if entry["kind"] == "UpdateRecorded" and entry["round"] == 3}
    named = [line for line in result.stdout.splitlines() if "round 3" in line and "member 2 (Hungary, 0x" in line]
    assert named, result.stdout
    if cheat == "participant":
        assert summary(out)["rounds"][2]["excluded"] == {"Hungary": "malformed"}
        assert "excluded as malformed" in named[0]
    if cheat == "aggregator":
        assert any("by member 5 (Aggregator, 0x" in line for line in named)
        assert "rejected" in result.stdout
    if cheat == "node":
        assert len(posted) == 3
        assert any("that no entry shows" in line for line in named)
    else:
        assert any(update in line for update in posted for line in named)
    assert fedledger("audit", str(out), *key(out)).returncode == expected


def test_a_second_demo_takes_the_place_of_the_first(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for rounds in (2, 1):
        run(Demo(out, rounds, 0, sorted))
    assert len(summary(out)["rounds"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert {path.name for path in out.iterdir()} == {
        "artifact.json",
        "auditor.key",
        "blobs",
        "code.hex",
        "entries.jsonl",
        "ledger.json",
        "summary.json",
        "transactions.jsonl",
    }


def test_a_demo_that_is_interrupted_leaves_the_earlier_folder_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(Demo(out, 1, 0, sorted))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def interrupt(_: RoundResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Demo(out, 2, 1, sorted), interrupt)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
