"""What an audit finds: findings, checks, and the verdict over them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MAX_TEXT = 2000


class Verdict(StrEnum):
    """Of a finding, a check or an audit; the worst one wins."""

    VERIFIED = "verified"
    VIOLATED = "violated"
    INCOMPLETE = "incomplete"

    @property
    def exit_status(self) -> int:
        """What `fedledger audit` ends with."""
        return {"verified": 0, "violated": 1, "incomplete": 3}[self.value]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, could not be checked, or should be known.

    Attributes:
        verdict: VIOLATED is evidence, INCOMPLETE could not be checked, VERIFIED is worth knowing.
        text: Which round, party and blob; what was expected and what was found.
    """

    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Check:
    """One numbered check.

    Attributes:
        name: Its name, see `ledger.audit.checks`.
        summary: What was looked at.
        findings: What came out.
    """

    name: str
    summary: str
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Verdict:
        """The worst of its findings."""
        return worst(finding.verdict for finding in self.findings)

    @property
    def detail(self) -> str:
        """Summary and findings, a line each."""
        return "\n".join([self.summary, *(finding.text for finding in self.findings)])


@dataclass(frozen=True)
class Report:
    """The outcome of an audit.

    Attributes:
        head: The head refolded from the entries (32 bytes), None if they could not be read.
        rounds: Rounds opened.
        updates: Updates recorded.
        checks: In their order.
    """

    head: bytes | None
    rounds: int
    updates: int
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks."""
        return worst(check.status for check in self.checks)

    @property
    def _head(self) -> str | None:
        return "0x" + self.head.hex() if self.head is not None else None

    def document(self) -> dict[str, Any]:
        """The report in JSON."""
        return {
            "verdict": self.verdict.value,
            "head": self._head,
            "rounds": self.rounds,
            "updates": self.updates,
            "checks": [
                {"name": check.name, "status": check.status.value, "detail": check.detail} for check in self.checks
            ],
        }

    def sentence(self) -> str:
        """The verdict in one sentence."""
        about = f"{self.rounds} rounds, {self.updates} updates, head {self._head or 'unknown'}"
        failed = ", ".join(check.name for check in self.checks if check.status is self.verdict)
        match self.verdict:
            case Verdict.VERIFIED:
                return f"Verified: the history is what its head commits to, and every model is what it says ({about})."
            case Verdict.VIOLATED:
                return f"Violated: there is evidence that something is wrong; see {failed} ({about})."
            case Verdict.INCOMPLETE:
                return f"Incomplete: nothing wrong was found, but not all could be checked; see {failed} ({about})."


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Violated before incomplete before verified."""
    seen = set(verdicts)
    return next((verdict for verdict in (Verdict.VIOLATED, Verdict.INCOMPLETE) if verdict in seen), Verdict.VERIFIED)


def plain(text: str) -> str:
    """On one line, of bearable length, without control characters: strangers chose the names in it."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if len(shown) <= MAX_TEXT else f"{shown[:MAX_TEXT]}… ({len(shown):,} characters)"


def violated(text: str) -> Finding:
    """Evidence that something is wrong."""
    return Finding(Verdict.VIOLATED, plain(text))


def incomplete(text: str) -> Finding:
    """Something that could not be checked."""
    return Finding(Verdict.INCOMPLETE, plain(text))


def noted(text: str) -> Finding:
    """Something true that should be known."""
    return Finding(Verdict.VERIFIED, plain(text))
