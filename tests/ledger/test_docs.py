"""What docs/contract.md says is so: its example runs, its tables are the code's and the snapshot's."""

import dataclasses
import json
import re
from pathlib import Path

from ledger.facts import KINDS

ROOT = Path(__file__).resolve().parents[2]
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
