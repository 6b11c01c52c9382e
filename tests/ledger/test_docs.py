"""What the docs say is so: examples run, plans are plans, and tables are the code's and the snapshot's."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import ledger.audit.checks as checks
from ledger import choices
from ledger.audit.meanings import MEANINGS
from ledger.documents import Document
from ledger.facts import KINDS
from ledger.plan_file import read_plan
from tests.adversary.table import corpus, written
from tests.world import PLAN

ROOT = Path(__file__).resolve().parents[2]
AUDIT = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
STRATEGIES = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
PLANS = re.findall(r"```toml\n(.*?)```", STRATEGIES, re.DOTALL)


def test_the_worked_example_of_a_head_runs() -> None:
    example = re.search(r"```python\n(.*?)```", CONTRACT, re.DOTALL)
    assert example is not None
    assert example[1].count("assert ") == 2
    exec(example[1], {})


def test_the_table_of_entries_is_that_of_the_facts() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| `(0x\w+)…` \|$", CONTRACT, re.MULTILINE)
    shown = [(name, re.findall(r"(\([^)]*\)|\w+) (\w+)", fields), topic) for name, fields, topic in rows]
    expected = []
    for fact, kind in KINDS.items():
        types = re.findall(r"\([^)]*\)|\w+", fact.FIELDS)
        names = [re.sub(r"_(.)", lambda match: match[1].upper(), field.name) for field in dataclasses.fields(fact)]
        expected.append((fact.__name__, list(zip(types, names, strict=True)), f"0x{kind.hex()[:8]}"))
    assert shown == expected


def test_the_gas_table_is_the_snapshot() -> None:
    rows = re.findall(r"^\| ([a-z0-9, ]+) \| ([0-9,]+) \|$", CONTRACT, re.MULTILINE)
    snapshot = json.loads((ROOT / "tests" / "ledger" / "golden" / "gas.json").read_text())
    assert {call: int(gas.replace(",", "")) for call, gas in rows} == snapshot


def test_the_tables_of_checks_and_of_frauds_are_those_of_the_code_and_the_tests() -> None:
    assert written(AUDIT) == AUDIT, "python -m tests.adversary.table writes them"


def test_every_check_has_one_number_and_name_and_says_what_it_proves_in_the_one_docstring() -> None:
    listed = re.findall(r"^(\d)\. (\w+): (.+)\.$", checks.__doc__ or "", re.MULTILINE)
    assert listed == [(str(one.number), one.name, one.proves) for one in MEANINGS]
    assert [one.number for one in MEANINGS] == list(range(1, 10))


def test_the_corpus_has_at_least_a_hundred_frauds_and_every_group_and_check_has_some() -> None:
    frauds = list(corpus())
    assert len(frauds) == len({(group, name) for group, name, _, _ in frauds}) >= 100
    groups = {"storage", "entries", "authors", "aggregator", "aggregator, sealed round", "site", "node", "bundle"}
    assert {group for group, *_ in frauds} == groups
    assert {check for _, _, check, _ in frauds} >= {1, 2, 3, 4, 5, 6, 7, 8}


@pytest.mark.parametrize("written_there", PLANS)
def test_what_the_page_on_strategies_writes_of_a_plan_is_what_a_plan_can_say(
    written_there: str, tmp_path: Path
) -> None:
    said, path = tomllib.loads(written_there), tmp_path / "plan.json"
    rest = {key: value for key, value in json.loads(PLAN.encode()).items() if key != "max_update_bytes"}
    path.write_text(json.dumps(rest | said))
    plan = read_plan(path)
    assert said.items() <= rest_of(plan.model_dump(mode="json"), said).items()


def rest_of(plan: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """What a plan has, of parts those keys alone that were said."""
    return {
        key: {name: plan[key][name] for name in value} if isinstance(value, dict) else plan[key]
        for key, value in said.items()
    }


KINDS_OF: dict[str, type[Document]] = {
    "fedavg": choices.FedAvg,
    "fedprox": choices.FedProx,
    "fedavgm": choices.FedAvgM,
    "fedadagrad": choices.FedAdagrad,
    "fedadam": choices.FedAdam,
    "fedyogi": choices.FedYogi,
    "scaffold": choices.Scaffold,
    "examples": choices.ByExamples,
    "equal": choices.Equally,
    "table": choices.ByTable,
    "filter` `krum": choices.Krum,
    "average` `mean": choices.Mean,
    "average` `median": choices.Median,
    "average` `trimmed-mean": choices.TrimmedMean,
}


def test_the_page_on_strategies_has_every_choice_with_its_parameters_and_their_defaults() -> None:
    rows = dict(re.findall(r"^\| `([a-z` -]+)` \|([^|]*)\|", STRATEGIES, re.MULTILINE))
    assert set(rows) - {"name", "by", "clipping"} == set(KINDS_OF)
    for name, kind in KINDS_OF.items():
        fields = {key: field for key, field in kind.model_fields.items() if key not in ("name", "by")}
        shown = dict(re.findall(r"`(\w+)`(?: ([0-9.]+))?", rows[name]))
        defaults = {key: field.default for key, field in fields.items()}
        assert set(shown) == set(fields), name
        for key, default in defaults.items():
            assert (float(shown[key]) == default) if shown[key] else not isinstance(default, float), (name, key)
