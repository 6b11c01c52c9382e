"""What an audit finds: findings with their place, checks, and the verdict over them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ledger import __version__
from ledger.cid import Cid
from ledger.entries import Genesis

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
class Party:
    """A member as findings name it; `name` and `account` are None where it was never admitted."""

    id: int
    name: str | None
    account: str | None

    def __str__(self) -> str:
        known = f"{self.name}, {self.account}" if self.name is not None else "never admitted"
        return f"member {self.id} ({known})"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, could not be checked, or should be known.

    Attributes:
        verdict: VIOLATED is evidence, INCOMPLETE could not be checked, VERIFIED is worth knowing.
        text: What it is, in words.
        round: The round that it is about; None here and below where there is none.
        member: The member that it is about.
        cid: The blob.
        entry: The entry's index.
        block: The entry's block.
        expected: What should be there.
        found: What is there.
        by: Who can have done it.
    """

    verdict: Verdict
    text: str
    round: int | None = None
    member: Party | None = None
    cid: Cid | None = None
    entry: int | None = None
    block: int | None = None
    expected: str | None = None
    found: str | None = None
    by: str | None = None

    @property
    def sentence(self) -> str:
        """All of it on one line of bearable length, whatever strangers chose as names."""
        places = [
            None if self.round is None else f"round {self.round}",
            None if self.entry is None else f"entry {self.entry}",
            None if self.block is None else f"block {self.block}",
            None if self.member is None else str(self.member),
            None if self.cid is None else f"blob {self.cid}",
        ]
        where = ", ".join(place for place in places if place)
        parts = [
            f"{where}: {self.text}" if where else self.text,
            None if self.expected is None else f"expected {self.expected}",
            None if self.found is None else f"found {self.found}",
            None if self.by is None else f"by {self.by}",
        ]
        return plain("; ".join(part for part in parts if part))

    def document(self) -> dict[str, Any]:
        """The finding in JSON."""
        texts = {name: getattr(self, name) for name in ("text", "expected", "found", "by")}
        member = self.member
        return {
            "verdict": self.verdict.value,
            **{name: None if text is None else plain(text) for name, text in texts.items()},
            "round": self.round,
            "member": None if member is None else {"id": member.id, "name": member.name, "account": member.account},
            "cid": None if self.cid is None else str(self.cid),
            "entry": self.entry,
            "block": self.block,
        }


def violated(text: str, **where: Any) -> Finding:
    """Evidence that something is wrong; `where` as the fields of `Finding`."""
    return Finding(Verdict.VIOLATED, text, **where)


def incomplete(text: str, **where: Any) -> Finding:
    """Something that could not be checked."""
    return Finding(Verdict.INCOMPLETE, text, **where)


def noted(text: str, **where: Any) -> Finding:
    """Something true that should be known."""
    return Finding(Verdict.VERIFIED, text, **where)


@dataclass(frozen=True)
class Meaning:
    """What a check is worth.

    Attributes:
        number: Its number, the same everywhere.
        name: Its name.
        proves: What it proves.
        rests_on: On whose word.
        leaves_open: What it does not prove.
    """

    number: int
    name: str
    proves: str
    rests_on: str
    leaves_open: str


@dataclass(frozen=True)
class Check:
    """One check, done.

    Attributes:
        meaning: Which one, and what it is worth.
        summary: What was looked at.
        findings: What came out.
    """

    meaning: Meaning
    summary: str
    findings: tuple[Finding, ...]

    @property
    def status(self) -> Verdict:
        """The worst of its findings."""
        return worst(finding.verdict for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """The check in JSON."""
        return {
            "number": self.meaning.number,
            "name": self.meaning.name,
            "status": self.status.value,
            "proves": self.meaning.proves,
            "rests_on": self.meaning.rests_on,
            "leaves_open": self.meaning.leaves_open,
            "summary": self.summary,
            "findings": [finding.document() for finding in self.findings],
        }


@dataclass(frozen=True)
class Ground:
    """Something that the head rests on.

    Attributes:
        kind: ``head``, ``receipts``, ``provider``, ``block``, or ``source`` where nothing from elsewhere was given.
        text: It, in a sentence.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Scope:
    """What an audit that was asked to do less left out; `rounds` are those whose blobs were looked at, None for all."""

    rounds: tuple[int, ...] | None = None
    since: bytes | None = None
    left_open: str | None = None

    def document(self) -> dict[str, Any]:
        """The scope in JSON."""
        since = None if self.since is None else "0x" + self.since.hex()
        rounds = None if self.rounds is None else list(self.rounds)
        return {"rounds": rounds, "since": since, "left_open": self.left_open}


@dataclass(frozen=True)
class Report:
    """The outcome of an audit.

    Attributes:
        genesis: The ledger, None if the source could not be read.
        head: The head refolded from the entries (32 bytes), None likewise.
        entries: Entries read.
        rounds: Rounds opened.
        updates: Updates recorded.
        checks: In their order.
        rests_on: On whose word the head rests.
        scope: What was left out.
        members: See `ledger.audit.overview`.
        timeline: See `ledger.audit.overview`.
    """

    genesis: Genesis | None
    head: bytes | None
    entries: int
    rounds: int
    updates: int
    checks: tuple[Check, ...]
    rests_on: tuple[Ground, ...] = ()
    scope: Scope = Scope()
    members: tuple[Mapping[str, Any], ...] = ()
    timeline: tuple[Mapping[str, Any], ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The worst of the checks."""
        return worst(check.status for check in self.checks)

    @property
    def _head(self) -> str | None:
        return "0x" + self.head.hex() if self.head is not None else None

    def document(self) -> dict[str, Any]:
        """The report in JSON."""
        genesis = self.genesis
        return {
            "fedledger": __version__,
            "verdict": self.verdict.value,
            "rests_on": [{"kind": ground.kind, "text": ground.text} for ground in self.rests_on],
            "ledger": genesis
            and {
                "chain_id": genesis.chain_id,
                "address": genesis.ledger,
                "governor": genesis.governor,
                "charter": str(genesis.charter),
            },
            "head": self._head,
            "entries": self.entries,
            "rounds": self.rounds,
            "updates": self.updates,
            "scope": self.scope.document(),
            "checks": [check.document() for check in self.checks],
            "members": list(self.members),
            "timeline": list(self.timeline),
        }

    def sentence(self) -> str:
        """The verdict in one sentence."""
        about = f"{self.rounds} rounds, {self.updates} updates, head {self._head or 'unknown'}"
        failed = ", ".join(check.meaning.name for check in self.checks if check.status is self.verdict)
        match self.verdict:
            case Verdict.VERIFIED if self.scope.left_open is not None:
                return f"Verified as far as was asked: {self.scope.left_open} ({about})."
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
