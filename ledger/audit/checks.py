"""The audit: nine checks over the evidence. What each proves, on whose word, and what it leaves open, is in `MEANINGS`.

1. ledger: the source is the ledger that it claims to be, and its code is the shipped contract.
2. entries: the entries are complete and untouched up to a head that is known from elsewhere.
3. authors: every entry is what its author signed.
4. receipts: everything that members remember lies on this history.
5. rules: every entry was allowed when it was recorded, and every plan is within the charter's limits.
6. blobs: every blob is there, and is what its CID says.
7. documents: every plan, base model and manifest says what it must, and every exclusion is true.
8. settlement: settling every round again gives the recorded model, byte for byte.
9. objections: rejections, erasures and aborted rounds are listed, whoever won.

No check stops at its first finding, and no finding stops another check.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import ledger.facts as facts
from ledger.arithmetic import self_test
from ledger.audit.authors import OPERATORS, Authors
from ledger.audit.evidence import Evidence
from ledger.audit.origin import Claims, check_code, check_entries, check_receipts
from ledger.audit.overview import Overview
from ledger.audit.places import party, place, references, unread
from ledger.audit.report import Check, Finding, Meaning, Report, Scope, incomplete, noted, violated
from ledger.audit.rounds import Erasure, RoundAudit, audit_round
from ledger.charter import MAX_CHARTER_BYTES, Limits, limits_of
from ledger.cid import Cid
from ledger.entries import Entry
from ledger.errors import BlobMismatchedError, BlobMissingError, FedledgerError, Refused, UsageError, ViolationError
from ledger.facts import Role
from ledger.history import History, Round
from ledger.rules import check
from ledger.storage import Blobs

MEANINGS = (
    Meaning(
        1,
        "ledger",
        "the source is the ledger that it claims to be, and its code is the shipped contract",
        "that the address is the ledger's: yours (--ledger); that this code stands there: the source's, or the block's "
        "whose hash you trust (--block-hash)",
        "that the contract's source does what it says: read it, or compile it yourself (--recompile)",
    ),
    Meaning(
        2,
        "entries",
        "the entries are complete and untouched up to a head that is known from elsewhere",
        "whoever gave that head: see what it rests on; with none, the source's own",
        "whether the history goes on beyond that head",
    ),
    Meaning(
        3,
        "authors",
        "every entry is what its author signed",
        "nobody's: signatures are verified",
        "who held the key; what a contract that acts for a member (a Safe) checked",
    ),
    Meaning(
        4,
        "receipts",
        "everything that members remember lies on this history",
        "the members whose receipts were given",
        "what nobody remembered",
    ),
    Meaning(
        5,
        "rules",
        "every entry was allowed when it was recorded, and every plan is within the charter's limits",
        "nobody's: the contract's rules are replayed; times are the chain's",
        "that the chain's times are true",
    ),
    Meaning(
        6,
        "blobs",
        "every blob is there, and is what its CID says",
        "nobody's: blobs are hashed",
        "that erased blobs have no copies",
    ),
    Meaning(
        7,
        "documents",
        "every plan, base model and manifest says what it must, and every exclusion is true",
        "nobody's: they are read and derived again; `unavailable` is the aggregator's claim",
        "that an update which was claimed unavailable was so",
    ),
    Meaning(
        8,
        "settlement",
        "settling every round again gives the recorded model, byte for byte",
        "nobody's: it is computed again",
        "that a site trained honestly, on honest data, on as many examples as it says",
    ),
    Meaning(
        9,
        "objections",
        "rejections, erasures and aborted rounds are listed, whoever won",
        "the members who recorded them",
        "who was right",
    ),
)

_SMALL, _LARGE = 1 << 16, 8 << 20  # bytes of a model: below, between and above, rounds are settled in different ways

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Asked:
    """How much an audit is to look at.

    Attributes:
        rounds: Only the blobs of these rounds; None for all.
        share: Only those of this share of the rounds, chosen by chance; between 0 and 1.
        since: Only those of rounds in which something was recorded after this head (32 bytes).
    """

    rounds: Collection[int] | None = None
    share: float | None = None
    since: bytes | None = None


def audit(
    evidence: Evidence,
    claims: Claims | None = None,
    asked: Asked | None = None,
    progress: Progress = lambda *_: None,
) -> Report:
    """Run all checks.

    Args:
        evidence: What a source shows.
        claims: What is known from elsewhere.
        asked: How much to look at; everything if not given.
        progress: Told how far it is.

    Raises:
        UnavailableError: If this machine's arithmetic cannot be relied on.
        UsageError: If the rounds asked for are none of this history.
    """
    self_test()
    claims, asked = claims or Claims(), asked or Asked()
    replayed = _Replay(evidence, progress)
    history = replayed.history
    entries, grounds = check_entries(evidence, claims, history, replayed.heads)
    scope = _scope(replayed, asked)
    charters = _Charters(evidence.store, replayed.charters)
    chosen = [known for number, known in history.rounds.items() if scope.rounds is None or number in scope.rounds]
    audits = _audit_rounds(replayed, chosen, charters, progress)
    rules = [*replayed.refusals, *charters.findings, *_each(audits, "limits")]
    ended = sum(known.ended is not None for known in chosen)
    results: tuple[tuple[str, list[Finding]], ...] = (
        check_code(evidence, claims),
        entries,
        (
            f"{replayed.authors.proven} of {len(evidence.entries)} entries by a signature",
            replayed.authors.unproven(len(evidence.entries)),
        ),
        check_receipts(evidence, claims, replayed.heads),
        (f"the contract's rules replayed over {len(evidence.entries)} entries", rules),
        _check_blobs(replayed, audits, scope, progress),
        (f"plans, base models and manifests of {len(audits)} rounds", _each(audits, "documents")),
        (f"{ended} ended rounds, settled again and compared byte for byte", _each(audits, "settlement")),
        _check_objections(replayed),
    )
    checks = tuple(
        Check(meaning, summary, tuple(findings)) for meaning, (summary, findings) in zip(MEANINGS, results, strict=True)
    )
    updates = sum(isinstance(entry.fact, facts.UpdateRecorded) for entry, _ in evidence.entries)
    overview = replayed.overview
    return Report(
        evidence.genesis,
        history.head,
        len(evidence.entries),
        len(history.rounds),
        updates,
        checks,
        grounds,
        scope,
        overview.members(history),
        overview.timeline(history, evidence, audits),
    )


def unreadable(error: FedledgerError) -> Report:
    """The report on a source that cannot be read at all."""
    finding = violated if isinstance(error, ViolationError) else incomplete
    check_one = Check(MEANINGS[0], "the source is read", (finding(str(error)),))
    return Report(None, None, 0, 0, 0, (check_one,))


def _each(audits: Mapping[int, RoundAudit], name: str) -> list[Finding]:
    return [finding for one in audits.values() for finding in getattr(one, name)]


def _audit_rounds(
    replayed: _Replay, chosen: Sequence[Round], charters: _Charters, progress: Progress
) -> dict[int, RoundAudit]:
    """Audit rounds, on all processors: large ones each on all of them, and those of middling size side by side.

    Small ones, of which Python does most of the work, gain nothing by that.
    """
    threads, store = os.cpu_count() or 1, replayed.evidence.store
    audits: dict[int, RoundAudit] = {}

    def one(known: Round, limits: Limits | None, share: int) -> RoundAudit:
        return audit_round(replayed.history, known, store, limits, replayed.erasures_in(known.number), share)

    with ThreadPoolExecutor(threads) as pool:
        started: list[tuple[int, Future[RoundAudit]]] = []
        for known in chosen:
            limits = charters.limits(known.charter_version)
            if _SMALL < _size(store, known.opened.base) < _LARGE:
                started.append((known.number, pool.submit(one, known, limits, 1)))
            else:
                audits[known.number] = one(known, limits, threads)
                progress("settling again", len(audits), len(chosen))
        for number, audited in started:
            audits[number] = audited.result()
            progress("settling again", len(audits), len(chosen))
    return dict(sorted(audits.items()))


def _size(store: Blobs, cid: Cid) -> int:
    try:
        with store.open(cid) as blob:
            return blob.size
    except FedledgerError:
        return 0


# ---------------------------------------------------------------------- replay


@dataclass
class _Named:
    """What is to be said of a blob: every place that names it."""

    places: dict[str, dict[str, Any]] = field(default_factory=dict)
    rounds: set[int] = field(default_factory=set)
    always: bool = False


class _Replay:
    """The entries, one after another: what the rules say to each, who is its author, and what it names."""

    def __init__(self, evidence: Evidence, progress: Progress) -> None:
        self.evidence = evidence
        self.history = history = History(evidence.genesis)
        self.authors = Authors(evidence.genesis.ledger, evidence.genesis.chain_id, evidence.sent)
        self.overview = Overview()
        self.heads: list[bytes] = []
        self.refusals: list[Finding] = []
        self.charters: dict[int, Cid] = {1: evidence.genesis.charter}
        self.erasures: list[Erasure] = []
        self.last_of: dict[int, int] = {}
        self.blobs: dict[Cid, _Named] = {evidence.genesis.charter: _Named({"charter, version 1": {}}, always=True)}
        for done, (entry, _) in enumerate(evidence.entries):
            if done % 256 == 0:
                progress("replaying entries", done, len(evidence.entries))
            self._check(entry)
            self._note(entry.fact, entry.index, entry.block)
            history.record(entry)
            self.heads.append(history.head)
            self.overview.see(history, entry)

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

    def erasures_in(self, round_: int) -> dict[bytes, Erasure]:
        """Erasures of this round's updates, by digest."""
        return {erasure.fact.digest: erasure for erasure in self.erasures if erasure.fact.round == round_}

    def _note(self, fact: facts.Fact, index: int, block: int) -> None:
        history, number = self.history, getattr(fact, "round", None)
        if number is not None:
            self.last_of[number] = index
        if isinstance(fact, facts.CharterChanged):
            self.charters[fact.version] = fact.charter
        if isinstance(fact, facts.ErasureRecorded) and (known := history.rounds.get(fact.round)) is not None:
            update = known.updates.get(fact.member)
            # The contract takes any digest: only a blob of the member's own update is erased by such a record.
            if update is not None and fact.digest in (update.update.digest, update.key_blob):
                approved = any(
                    one.approve
                    and Role.AUDITOR & history.accounts[history.members[member].account].roles_in(fact.round)
                    for member, one in known.attestations.items()
                    if member in history.members
                )
                self.erasures.append(Erasure(fact, index, approved))
        member = getattr(fact, "member", None)
        for cid, role in references(fact):
            about = f"{role} of round {number}" if number is not None else role
            if isinstance(fact, facts.CharterChanged):
                about = f"charter, version {fact.version}"
            if isinstance(fact, facts.UpdateRecorded | facts.AttestationRecorded):
                about += f" by {party(history, fact.member)}"
            named = self.blobs.setdefault(cid, _Named())
            where = {"round": number, "entry": index, "block": block}
            named.places[about] = where | ({"member": party(history, member)} if member is not None else {})
            if number is None:
                named.always = True
            else:
                named.rounds.add(number)


@dataclass
class _Charters:
    """The limits of each version of the charter, read once."""

    store: Blobs
    cids: Mapping[int, Cid]
    findings: list[Finding] = field(default_factory=list)
    _limits: dict[int, Limits | None] = field(default_factory=dict)

    def limits(self, version: int) -> Limits | None:
        if version not in self._limits:
            self._limits[version] = self._read(self.cids.get(version))
        return self._limits[version]

    def _read(self, cid: Cid | None) -> Limits | None:
        try:
            return limits_of(self.store.get(cid, MAX_CHARTER_BYTES)) if cid else None
        except (FedledgerError, ValueError) as error:
            text = f"whether plans are within the charter's limits cannot be told: {unread(error)}"
        self.findings.append(incomplete(text, cid=cid, by="the governor, who put it in force"))
        return None


def _scope(replayed: _Replay, asked: Asked) -> Scope:
    """What is looked at, and what that leaves open."""
    numbers = set(replayed.history.rounds)
    if asked.rounds is None and asked.share is None and asked.since is None:
        return Scope()
    chosen = set(numbers)
    left = []
    if asked.rounds is not None:
        if not set(asked.rounds) & numbers:
            raise UsageError(
                f"none of these rounds is in this history, which has rounds up to {max(numbers, default=0)}"
            )
        chosen &= set(asked.rounds)
    if asked.since is not None:
        genesis = replayed.evidence.genesis.head()
        if asked.since != genesis and asked.since not in replayed.heads:
            since = None  # check 2 says that this head is not on this history
        else:
            since = replayed.heads.index(asked.since) if asked.since != genesis else -1
            chosen &= {number for number in numbers if replayed.last_of[number] > since}
            left.append(f"entries up to {since} were audited before, by whoever says so")
    if asked.share is not None:
        count = max(1, round(len(chosen) * asked.share)) if chosen else 0
        chosen = set(random.SystemRandom().sample(sorted(chosen), count))  # whoever cheats must not know which
        left.append(f"the rounds were chosen by chance ({asked.share:.0%}): ask for the same ones with --rounds")
    rest = len(numbers - chosen)
    left.insert(0, f"the blobs of {rest} of {len(numbers)} rounds were not hashed, nor these rounds settled again")
    return Scope(tuple(sorted(chosen)), asked.since, "; ".join(left))


# -------------------------------------------------------------- checks 6 and 9


def _check_blobs(
    replayed: _Replay, audits: Mapping[int, RoundAudit], scope: Scope, progress: Progress
) -> tuple[str, list[Finding]]:
    store = replayed.evidence.store
    hashed = set().union(*(one.hashed for one in audits.values()))
    looked_at = {
        cid: named
        for cid, named in replayed.blobs.items()
        if scope.rounds is None or named.always or named.rounds & set(scope.rounds)
    }
    erased: dict[bytes, Erasure] = {erasure.fact.digest: erasure for erasure in replayed.erasures}
    findings: list[Finding] = []
    for done, (cid, named) in enumerate(looked_at.items()):
        progress("hashing blobs", done, len(looked_at))
        if cid in hashed:
            continue
        try:
            store.verify(cid)
        except BlobMissingError:
            findings.append(_missing(cid, named, audits, erased.get(cid.digest)))
        except BlobMismatchedError:
            text = f"mismatched: the bytes stored as the {', the '.join(named.places)} are not what this CID says"
            by = "whoever keeps this store: its author is bound by the CID"
            findings.append(violated(text, cid=cid, by=by, **next(iter(named.places.values()))))
    return f"{len(looked_at)} blobs hashed and compared with their CIDs", findings


def _missing(cid: Cid, named: _Named, audits: Mapping[int, RoundAudit], erasure: Erasure | None) -> Finding:
    where: dict[str, Any] = {"cid": cid, **next(iter(named.places.values()))}
    what = ", ".join(named.places)
    if erasure is not None:
        reason = erasure.fact.reason.name.lower()
        text = f"erased by record: the {what} was erased by {erasure.fact.sender} ({reason}), entry {erasure.entry}"
        return noted(text, **where) if erasure.approved else incomplete(text, **where)
    claimed = [
        one.get("member") is not None and one["round"] in audits and one["member"].id in audits[one["round"]].claimed
        for one in named.places.values()
    ]
    if all(claimed):
        return noted(f"missing, as the round's manifest claims that it was: the {what}", **where)
    by = "whoever should keep it: ask its author, the aggregator or a mirror for it"
    return incomplete(f"missing: the {what}", by=by, **where)


def _check_objections(replayed: _Replay) -> tuple[str, list[Finding]]:
    history, findings = replayed.history, []
    for known in history.rounds.values():
        where: dict[str, Any] = {"round": known.number}
        findings += [
            noted("rejected the model", member=party(history, member), cid=attestation.report, **where)
            for member, attestation in known.attestations.items()
            if not attestation.approve
        ]
        findings += [
            noted(
                f"0x{erasure.digest.hex()} was recorded as erased ({erasure.reason.name.lower()})",
                member=party(history, erasure.member),
                by=erasure.sender,
                **where,
            )
            for erasure in known.erasures
        ]
        if isinstance(known.ended, facts.RoundAborted) and known.updates:
            ended = known.ended
            by = str(party(history, ended.aggregator)) if ended.aggregator else ended.sender
            reason = ended.reason.name.lower()
            findings.append(noted(f"aborted ({reason}) with {len(known.updates)} updates recorded", by=by, **where))
    return f"rejections, erasures and aborted rounds among {len(history.rounds)} rounds", findings
