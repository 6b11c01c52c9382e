"""The tables of docs/audit.md: `python -m tests.adversary.table` writes them into it again."""

from collections.abc import Iterator
from pathlib import Path

from ledger.audit.meanings import MEANINGS
from tests.adversary import (
    frauds,
    test_bundle_frauds,
    test_cheating_aggregator,
    test_lying_nodes,
    test_overspending,
    test_sealed_filters,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "audit.md"


def corpus() -> Iterator[tuple[str, str, int, str]]:
    """Every fraud of the corpus: who commits it, or on what; its name; the check that catches it; what that says."""
    for fraud in frauds.FRAUDS:
        yield fraud.group, fraud.name, fraud.check, fraud.verdict.value
    for name, (_, check, _) in [
        *test_cheating_aggregator.FRAUDS.items(),
        *test_cheating_aggregator.REMEMBERING.items(),
    ]:
        yield "aggregator", name, check, "violated"
    for name in test_sealed_filters.FRAUDS:
        yield "aggregator, sealed round", name, 7, "violated"
    for name, (_, check, _) in test_overspending.FRAUDS.items():
        yield "site", name, check, "violated"
    for name, (_, _, check, verdict, _) in test_lying_nodes.FRAUDS.items():
        yield "node", name, check, verdict.value
    for name, (_, check, verdict, _) in test_bundle_frauds.FRAUDS.items():
        yield "bundle", name, check, verdict.value


def tables() -> dict[str, str]:
    """The tables by their names."""
    names = {meaning.number: meaning.name for meaning in MEANINGS}
    checks = ["| | check | what it proves | on whose word | what it leaves open |", "|---|---|---|---|---|"]
    checks += [f"| {one.number} | {one.name} | {one.proves} | {one.rests_on} | {one.leaves_open} |" for one in MEANINGS]
    rows = ["| who, or on what | fraud | caught by | says |", "|---|---|---|---|"]
    rows += [f"| {group} | {name} | {check} {names[check]} | {verdict} |" for group, name, check, verdict in corpus()]
    return {"checks": "\n".join(checks), "frauds": "\n".join(rows)}


def written(page: str) -> str:
    """The page, with its tables as they are now."""
    for name, table in tables().items():
        before, rest = page.split(f"<!-- {name} -->\n")
        page = f"{before}<!-- {name} -->\n{table}\n{rest[rest.index('<!-- end -->') :]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
