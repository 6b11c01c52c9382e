"""The audit: nine checks over the evidence. What each proves, on whose word, and what it leaves open: `meanings.py`.

1. ledger: the source is the ledger that it claims to be, and its code is the shipped contract, or an earlier one.
2. entries: the entries are complete and untouched up to a head that is known from elsewhere.
3. authors: every entry is what its author signed.
4. receipts: everything that members remember lies on this history.
5. rules: entries were allowed, plans are within the charter's limits, and sites within the plans' privacy budgets.
6. blobs: every blob is there, and is what its CID says.
7. documents: every plan, base model and manifest says what it must, and every exclusion is true.
8. settlement: settling every round again gives the recorded model, byte for byte.
9. objections: rejections, erasures and aborted rounds are listed, whoever won.

No check stops at its first finding, and no finding stops another check.
"""

from __future__ import annotations

import os
import random
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import ledger.facts as facts
from ledger.arithmetic import self_test
from ledger.audit.authors import OPERATORS
from ledger.audit.blobs import check_blobs
from ledger.audit.closed import RoundAudit
from ledger.audit.evidence import Evidence
from ledger.audit.meanings import MEANINGS
from ledger.audit.opening import granted
from ledger.audit.origin import Claims, check_code, check_entries, check_receipts
from ledger.audit.overview import MAX_REPORT_BYTES
from ledger.audit.places import party, unread
from ledger.audit.privacy import check_budgets
from ledger.audit.replay import Mention, Progress, Replay
from ledger.audit.report import Check, Finding, Ground, Report, Scope, incomplete, noted, violated
from ledger.audit.rounds import Access, audit_round
from ledger.charter import MAX_CHARTER_BYTES, Limits, limits_of
from ledger.cid import Cid
from ledger.documents import parse
from ledger.errors import FedledgerError, UsageError, ViolationError
from ledger.history import Round
from ledger.sealing import Identity
from ledger.storage import Blobs
from ledger.updates import Place

_SMALL, _LARGE = 1 << 16, 8 << 20  # bytes of a model: below, between and above, rounds are settled in different ways


@dataclass(frozen=True)
class Asked:
    """How much an audit is to look at.

    Attributes:
        rounds: Only the blobs of these rounds; None for all.
        share: Only those of this share of the rounds, chosen by chance; between 0 and 1.
        since: Only those of rounds in which something was recorded after this head (32 bytes).
        only_public: No more than what needs no key: rounds whose updates are sealed are not settled again.
    """

    rounds: Collection[int] | None = None
    share: float | None = None
    since: bytes | None = None
    only_public: bool = False


def audit(
    evidence: Evidence,
    claims: Claims | None = None,
    asked: Asked | None = None,
    progress: Progress = lambda *_: None,
    identities: Sequence[Identity] = (),
) -> Report:
    """Run all checks.

    Args:
        evidence: What a source shows.
        claims: What is known from elsewhere.
        asked: How much to look at; everything if not given.
        progress: Told how far it is.
        identities: The auditor's own age identities: they open sealed updates.

    Raises:
        UnavailableError: If this machine's arithmetic cannot be relied on.
        UsageError: If the rounds asked for are none of this history.
    """
    self_test()
    claims, asked = claims or Claims(), asked or Asked()
    replayed = Replay(evidence, progress, claims.contracts)
    history = replayed.history
    entries, grounds = check_entries(evidence, claims, history, replayed.heads)
    if replayed.authors.believed:
        text = f"your word on {len(claims.contracts)} contracts, in whose name are {replayed.authors.believed} entries"
        grounds = (*grounds, Ground("contract", text))
    scope = _scope(replayed, asked)
    charters = _Charters(evidence.store, replayed.charters)
    chosen = [known for number, known in history.rounds.items() if scope.rounds is None or number in scope.rounds]
    grants, unreadable = granted(history, evidence.store, identities)
    access = Access(identities, grants, asked.only_public)
    audits = _audit_rounds(replayed, chosen, charters, access, progress)
    for number, one in audits.items():
        if one.manifest is not None and one.manifest.state is not None:
            state = Mention("state", f"server's state after round {number}", number, entry=replayed.ended_at[number])
            replayed.mention(Cid.parse(one.manifest.state), state)
    if closed := sum(one.closed for one in audits.values()):
        scope = _left_closed(scope, closed, len(chosen))
    budgets, spent = check_budgets(replayed, audits)
    rules = [*replayed.refusals, *charters.findings, *_each(audits, "limits"), *budgets]
    ended = sum(known.ended is not None for known in chosen)
    results: tuple[tuple[str, list[Finding]], ...] = (
        check_code(evidence, claims),
        entries,
        (
            f"{replayed.authors.proven} of {len(evidence.entries)} entries by a signature",
            replayed.authors.finish(history),
        ),
        check_receipts(evidence, claims, replayed.heads),
        (f"the contract's rules replayed over {len(evidence.entries)} entries", rules),
        check_blobs(replayed, audits, scope, progress),
        (
            f"plans, base models and manifests of {len(audits)} rounds{_not_sealed(audits)}",
            _each(audits, "documents")
            + _check_reports(replayed, audits)
            + [incomplete(f"a grant to you cannot be read: {why}", cid=cid) for cid, why in unreadable.items()],
        ),
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
        overview.timeline(history, evidence, audits, spent),
    )


def unreadable(error: FedledgerError) -> Report:
    """The report on a source that cannot be read at all."""
    finding = violated if isinstance(error, ViolationError) else incomplete
    check_one = Check(MEANINGS[0], "the source is read", (finding(str(error)),))
    return Report(None, None, 0, 0, 0, (check_one,))


def _each(audits: Mapping[int, RoundAudit], name: str) -> list[Finding]:
    return [finding for one in audits.values() for finding in getattr(one, name)]


def _audit_rounds(
    replayed: Replay, chosen: Sequence[Round], charters: _Charters, access: Access, progress: Progress
) -> dict[int, RoundAudit]:
    """Audit rounds, on all processors: large ones each on all of them, and those of middling size side by side.

    Small ones, of which Python does most of the work, gain nothing by that.
    """
    threads, store = os.cpu_count() or 1, replayed.evidence.store
    audits: dict[int, RoundAudit] = {}

    def one(known: Round, limits: Limits | None, share: int) -> RoundAudit:
        number = known.number
        carriers = {member: replayed.authors.carriers.get((number, member)) for member in known.updates}
        erasures = replayed.erasures_in(number)
        return audit_round(replayed.history, known, store, limits, erasures, carriers, share, access)

    with ThreadPoolExecutor(threads) as pool:
        started: list[tuple[int, Future[RoundAudit]]] = []
        for known in chosen:
            limits = charters.limits(known.charter_version)
            if _SMALL < (store.size(known.opened.base) or 0) < _LARGE:
                started.append((known.number, pool.submit(one, known, limits, 1)))
            else:
                audits[known.number] = one(known, limits, threads)
                progress("settling again", len(audits), len(chosen))
        for number, audited in started:
            audits[number] = audited.result()
            progress("settling again", len(audits), len(chosen))
    return dict(sorted(audits.items()))


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
        except FedledgerError as error:
            why, by = unread(error), None
        except ValueError as error:
            why, by = str(error), "the governor, who put it in force"
        text = f"whether plans are within the charter's limits cannot be told: {why}"
        self.findings.append(incomplete(text, cid=cid, by=by))
        return None


def _scope(replayed: Replay, asked: Asked) -> Scope:
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
            left.append(f"the first {since + 1} entries were audited before, by whoever says so")
    if asked.share is not None:
        count = max(1, round(len(chosen) * asked.share)) if chosen else 0
        chosen = set(random.SystemRandom().sample(sorted(chosen), count))  # whoever cheats must not know which
        left.append(f"the rounds were chosen by chance ({asked.share:.0%}): ask for the same ones with --rounds")
    if rest := len(numbers - chosen):
        what = "their blobs hashed, their plans compared with the charter, or they settled again"
        left.insert(0, f"{rest} of {len(numbers)} rounds were left out: neither were {what}")
    return Scope(tuple(sorted(chosen)), asked.since, "; ".join(left) or None)


def _not_sealed(audits: Mapping[int, RoundAudit]) -> str:
    """Said in any case: whoever finds such updates can read them."""
    count = sum(one.plan is not None and one.plan.seal == "none" for one in audits.values())
    return f", the updates of {count} of them NOT SEALED" if count else ""


def _left_closed(scope: Scope, closed: int, of: int) -> Scope:
    """What updates that stayed sealed leave open."""
    left = (
        f"the updates of {closed} of {of} rounds stayed sealed: whether they have the plan's form, are excluded for "
        "the reason that is said, and average to the recorded model, only a key shows"
    )
    return replace(scope, left_open="; ".join(filter(None, (scope.left_open, left))))


# ---------------------------------------------------------------- checks 7 and 9


def _check_reports(replayed: Replay, audits: Mapping[int, RoundAudit]) -> list[Finding]:
    """An attestation by fedledger's own report is to this model in this history: a transaction does not say so."""
    history, findings = replayed.history, []
    positions = {f"0x{head.hex()}": index for index, head in enumerate(replayed.heads)}
    for number in audits:
        known = history.rounds[number]
        place = {"kind": "report", **Place.of(history.genesis, known.opened).document()}
        for member, attestation in known.attestations.items():
            report = _own_report(replayed.evidence.store, attestation.report)
            if report is None:
                continue
            entry = replayed.attested_at[number, member]
            seen = positions.get(str(report["head"]))
            fits = seen is not None and replayed.ended_at.get(number, entry) <= seen < entry
            if not fits or any(report.get(name) != value for name, value in place.items()):
                where = {"round": number, "member": party(history, member), "cid": attestation.report, "entry": entry}
                text = "it attests to another model: its report is about another history, or another round"
                expected = f"a head of this history between entries {replayed.ended_at.get(number)} and {entry}"
                found = f"head {report.get('head')}, round {report.get('round')}"
                by = f"whoever attested, or {OPERATORS}"
                findings.append(violated(text, expected=expected, found=found, by=by, **where))
    return findings


def _own_report(store: Blobs, cid: Cid) -> dict[str, Any] | None:
    """A report in the form in which `ledger.audit.attest` writes it; None for any other, which is for people."""
    try:
        report = parse(store.get(cid, MAX_REPORT_BYTES))
    except (FedledgerError, ValueError):
        return None
    return report if isinstance(report, dict) and report.get("kind") == "report" and "head" in report else None


def _check_objections(replayed: Replay) -> tuple[str, list[Finding]]:
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
