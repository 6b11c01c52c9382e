"""Frauds of a site that spends more of its examples' privacy than a plan allows: the audit names round and site."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.audit.report import Verdict
from ledger.plan import TensorSpec
from ledger.updates import Place
from tests.paper import PaperLedger
from tests.world import private


def play(ledger: PaperLedger, budget: float | None, garbage: bool = False) -> None:
    """A private round with that budget, none for a round that is not private."""
    privacy = None if budget is None else private(budget=budget)
    ledger.plan = ledger.plan.model_copy(update={"privacy": privacy})

    def update(member: int, place: Place) -> bytes:
        return b"garbage" if garbage and member == 1 else ledger.update(member, place, 10)

    ledger.play_round(update)


def once_too_often(ledger: PaperLedger) -> None:
    play(ledger, 4)
    play(ledger, 4)


def after_a_round_without(ledger: PaperLedger) -> None:
    play(ledger, None)
    play(ledger, 90)


def with_one_that_is_excluded(ledger: PaperLedger) -> None:
    play(ledger, 9)
    play(ledger, 4, garbage=True)


FRAUDS: dict[str, tuple[Callable[[PaperLedger], None], int, str]] = {
    "an update with which it exceeds the plan's privacy budget": (once_too_often, 5, "epsilon 5.219"),
    "an update for a privacy budget, after a round without privacy": (after_a_round_without, 5, "epsilon unlimited"),
    "an update over the privacy budget that is excluded": (with_one_that_is_excluded, 5, "epsilon 5.219"),
}
"""What is played, the check that finds it, and how much was spent."""


@pytest.mark.parametrize("name", FRAUDS)
def test_a_site_over_a_privacy_budget_is_named_with_its_round_and_epsilon(name: str, tmp_path: Path) -> None:
    fraud, number, spent = FRAUDS[name]
    ledger = PaperLedger(tmp_path / "history", 2, {"w": TensorSpec(dtype="F32", shape=[3])}, 4096)
    fraud(ledger)
    report = audit(read_folder(ledger.write()))
    assert report.verdict is Verdict.VIOLATED
    found = [one.sentence for one in report.checks[number - 1].findings if one.verdict is Verdict.VIOLATED]
    assert any("round 2, member 1 (Site 1, 0x" in one and f"found {spent}; by member 1" in one for one in found)
    others = [one for check in report.checks if check.meaning.number != number for one in check.findings]
    assert not [one for one in others if one.verdict is Verdict.VIOLATED]
