"""What docs/contract.md says is so: its example runs, its tables are the code's and the snapshot's."""

import dataclasses
import json
import re
from pathlib import Path

import ledger.audit.checks as checks
from ledger.facts import KINDS
from tests.adversary.table import corpus, written

ROOT = Path(__file__).resolve().parents[2]
AUDIT = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
CONTRACT = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")


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
    assert listed == [(str(one.number), one.name, one.proves) for one in checks.MEANINGS]
    assert [one.number for one in checks.MEANINGS] == list(range(1, 10))


def test_the_corpus_has_at_least_a_hundred_frauds_and_every_group_and_check_has_some() -> None:
    frauds = list(corpus())
    assert len(frauds) == len({(group, name) for group, name, _, _ in frauds}) >= 100
    assert {group for group, *_ in frauds} == {"storage", "entries", "authors", "aggregator", "site", "node", "bundle"}
    assert {check for _, _, check, _ in frauds} >= {1, 2, 3, 4, 5, 6, 7, 8}
