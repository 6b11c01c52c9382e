"""The entries, one after another: what the rules say to each, who is its author, what it names and erases. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ledger.facts as facts
from ledger.audit.authors import OPERATORS, Authors
from ledger.audit.evidence import Evidence
from ledger.audit.overview import Overview
from ledger.audit.places import Erasure, party, place, references
from ledger.audit.report import Finding, Party, violated
from ledger.cid import Cid
from ledger.entries import Entry
from ledger.errors import Refused
from ledger.facts import Address, Role
from ledger.history import History
from ledger.rules import check

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Mention:
    """A place that names a blob: as what, and in which entry."""

    role: str
    about: str
    round: int | None = None
    member: Party | None = None
    entry: int | None = None
    block: int | None = None

    @property
    def where(self) -> dict[str, Any]:
        """The place, as the fields of `Finding`."""
        return {name: getattr(self, name) for name in ("round", "member", "entry", "block")}


@dataclass
class Replay:
    """A history, replayed.

    Attributes:
        history: The state at the end.
        heads: The refolded head after each entry.
        authors: What came out about the authors.
        refusals: Entries that the rules do not allow.
        overview: What the state does not say.
        charters: The charter of each version.
        blobs: Every blob that is named, and every place that names it.
        last_of: Each round's last entry.
        ended_at: The entry that ended each round.
        attested_at: The entry of each attestation, by round and member.
    """

    evidence: Evidence
    progress: Progress
    contracts: frozenset[Address]
    heads: list[bytes] = field(default_factory=list)
    refusals: list[Finding] = field(default_factory=list)
    blobs: dict[Cid, dict[str, Mention]] = field(default_factory=dict)
    last_of: dict[int, int] = field(default_factory=dict)
    ended_at: dict[int, int] = field(default_factory=dict)
    attested_at: dict[tuple[int, int], int] = field(default_factory=dict)
    _erasures: dict[tuple[int, int, bytes], Erasure] = field(default_factory=dict)
    _approved: set[int] = field(default_factory=set)  # rounds whose model an auditor has approved

    def __post_init__(self) -> None:
        evidence, genesis = self.evidence, self.evidence.genesis
        self.history, self.overview = History(genesis), Overview()
        self.authors = Authors(genesis.ledger, genesis.chain_id, evidence.sent, self.contracts)
        self.charters = {1: genesis.charter}
        self.mention(genesis.charter, Mention("charter", "charter, version 1"))
        for done, (entry, _) in enumerate(evidence.entries):
            if done % 256 == 0:
                self.progress("replaying entries", done, len(evidence.entries))
            self._check(entry)
            self._note(entry)
            self.history.record(entry)
            self.heads.append(self.history.head)
            self.overview.see(self.history, entry)

    def erasures_in(self, round_: int) -> dict[tuple[int, bytes], Erasure]:
        """Erasures of updates of a round, by member and digest."""
        return {(member, digest): one for (number, member, digest), one in self._erasures.items() if number == round_}

    def excused(self, cid: Cid) -> Erasure | None:
        """The erasure that excuses a blob's absence: it must be nothing else than what was erased.

        That somebody names it later, as a report, a grant or a state, takes its member's right to have it erased from
        nobody; what was named before is not the member's own.
        """
        found = None
        for mention in sorted(self.blobs[cid].values(), key=lambda one: one.entry or 0):
            if found is not None and mention.role in ("report", "grant", "state"):
                continue
            if mention.role not in ("update", "key blob") or mention.round is None or mention.member is None:
                return None
            found = self._erasures.get((mention.round, mention.member.id, cid.digest))
            if found is None:
                return None
        return found

    def _check(self, entry: Entry) -> None:
        history, fact = self.history, entry.fact
        call = self.authors.call(history, entry)
        try:
            check(history, fact, entry.time, call)
        except Refused as with_author:
            try:
                check(history, fact, entry.time)
            except Refused as refused:
                text = f"the rules do not allow {type(fact).__name__}: {refused.name}: {refused}"
                self.refusals.append(violated(text, by=OPERATORS, **place(history, entry)))
            else:
                if call is not None:
                    self.authors.not_allowed(history, entry, call, with_author)

    def _note(self, entry: Entry) -> None:
        history, fact, number = self.history, entry.fact, getattr(entry.fact, "round", None)
        if number is not None:
            self.last_of[number] = entry.index
        match fact:
            case facts.CharterChanged(version, charter):
                self.charters[version] = charter
            case facts.RoundSettled() | facts.RoundAborted():
                self.ended_at[fact.round] = entry.index
            case facts.AttestationRecorded(round_, member):
                self.attested_at[round_, member] = entry.index
                # Decided now: what roles a member had then is not kept for ever.
                known = history.members.get(member)
                if fact.approve and known and Role.AUDITOR & history.accounts[known.account].roles_in(round_):
                    self._approved.add(round_)
            case facts.ErasureRecorded(round_, member, digest):
                update = history.rounds[round_].updates.get(member) if round_ in history.rounds else None
                # The contract takes any digest: only a blob of the member's own update is erased by such a record.
                if update is not None and digest in (update.update.digest, update.key_blob):
                    approved = round_ in self._approved
                    self._erasures.setdefault((round_, member, digest), Erasure(fact, entry.index, approved))
        for cid, role in references(fact):
            about = f"{role} of round {number}" if number is not None else role
            if isinstance(fact, facts.CharterChanged):
                about = f"charter, version {fact.version}"
            whose = None
            if isinstance(fact, facts.UpdateRecorded | facts.AttestationRecorded | facts.GrantRecorded):
                whose = party(history, fact.member)
                about += f" by {whose}"
            self.mention(cid, Mention(role, about, number, whose, entry.index, entry.block))

    def mention(self, cid: Cid, mention: Mention) -> None:
        """Note a place that names a blob."""
        self.blobs.setdefault(cid, {}).setdefault(mention.about, mention)
