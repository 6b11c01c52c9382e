"""The audit: six checks over the evidence, each saying what it proves.

1. entries: the entries, refolded, give the head. Given a head known from elsewhere, no entry was dropped, repeated,
   reordered or edited; with the source's own head alone, the history is consistent with itself.
2. rules: every entry was allowed when it was recorded: membership, roles, windows, quorum, base models, approvals.
   The same rules as the contract's (`ledger.rules`), so this does not rest on the chain having enforced it.
3. blobs: every blob that the entries name is there (missing: not checked) and is what its CID says (if not: altered).
4. documents: every plan fits its round, every base model fits its plan, and every manifest accounts for every
   update of its round exactly once.
5. settlement: settling every round again gives the recorded model and manifest, byte for byte, and every exclusion is
   true. An update excluded as `unavailable` is the aggregator's claim and is listed as such.
6. objections: rejections, erasures, and aborted rounds that had updates, whoever won; listed, not judged.

Reports of attestations are hashed like every blob; what they say is for people.
What no check proves: that a site trained honestly on honest data, or that a history goes on beyond its head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ledger.arithmetic import self_test
from ledger.audit.evidence import Evidence
from ledger.audit.report import Check, Finding, Report, incomplete, noted, violated
from ledger.audit.rounds import RoundAudit, audit_round, who
from ledger.cid import Cid
from ledger.entries import Entry, extend
from ledger.errors import BlobMismatchedError, BlobMissingError, FedledgerError, Refused, ViolationError
from ledger.facts import (
    AttestationRecorded,
    CharterChanged,
    GenesisRecorded,
    RoundAborted,
    RoundOpened,
    RoundSettled,
    UpdateRecorded,
)
from ledger.history import History
from ledger.rules import check

Progress = Callable[[str, int, int], None]
"""Called with a check's name, how much of it is done, and how much there is."""


def audit(evidence: Evidence, head: bytes | None = None, progress: Progress = lambda *_: None) -> Report:
    """Run all checks; none stops at the first finding.

    Args:
        evidence: What a source shows.
        head: A head known from elsewhere than this source (32 bytes).
        progress: Told how far it is.

    Raises:
        UnavailableError: If this machine's arithmetic cannot be relied on.
    """
    self_test()
    history, refusals = _replay(evidence)
    rounds: dict[int, RoundAudit] = {}
    for number, known in history.rounds.items():
        progress("settlement", len(rounds), len(history.rounds))
        rounds[number] = audit_round(history, known, evidence.store)
    ended = sum(known.ended is not None for known in history.rounds.values())
    checks = (
        _check_entries(evidence, history, head),
        Check("rules", f"the contract's rules replayed over {len(evidence.entries)} entries", tuple(refusals)),
        _check_blobs(evidence, history, rounds, progress),
        Check(
            "documents",
            f"plans, base models and manifests of {len(rounds)} rounds",
            tuple(finding for outcome in rounds.values() for finding in outcome.documents),
        ),
        Check(
            "settlement",
            f"{ended} ended rounds, settled again and compared byte for byte",
            tuple(finding for outcome in rounds.values() for finding in outcome.settlement),
        ),
        _check_objections(history),
    )
    updates = sum(isinstance(entry.fact, UpdateRecorded) for entry, _ in evidence.entries)
    return Report(history.head, len(rounds), updates, checks)


def unreadable(error: FedledgerError) -> Report:
    """The report on a source that cannot be read at all."""
    finding = violated if isinstance(error, ViolationError) else incomplete
    return Report(None, 0, 0, (Check("source", "the source is read", (finding(str(error)),)),))


def _replay(evidence: Evidence) -> tuple[History, list[Finding]]:
    history = History(evidence.genesis)
    refusals = []
    for entry, _ in evidence.entries:
        try:
            check(history, entry.fact, entry.time)
        except Refused as refused:
            refusals.append(
                violated(f"{_describe(history, entry)}: the rules do not allow it: {refused.name}: {refused}")
            )
        history.record(entry)
    return history, refusals


def _check_entries(evidence: Evidence, history: History, head: bytes | None) -> Check:
    findings = [violated(f"{text}: it was altered") for text in evidence.unreadable]
    before, block, time = evidence.genesis.head(), 0, 0
    all_indexes = {entry.index for entry, _ in evidence.entries}
    seen: set[int] = set()
    for entry, shown in evidence.entries:
        if entry.index in seen:
            findings.append(violated(f"{_describe(history, entry)}: it stands there a second time"))
        elif entry.index > 0 and entry.index - 1 not in seen:
            lost = "is missing" if entry.index - 1 not in all_indexes else "is not in its place"
            findings.append(violated(f"entry {entry.index - 1} {lost} before {_describe(history, entry)}"))
        elif extend(before, entry) != shown:
            findings.append(
                violated(f"{_describe(history, entry)}: it does not lead from the head before it to the head after it")
            )
        if entry.block < block or entry.time < time or (entry.block == block and entry.time != time):
            findings.append(violated(f"{_describe(history, entry)}: block and time do not follow those before it"))
        seen.add(entry.index)
        before, block, time = shown, entry.block, entry.time
    expected = evidence.head if head is None else head
    whose = "the head that the source itself records" if head is None else "the head given"
    if history.head != expected:
        findings.append(
            violated(
                f"{len(evidence.entries)} entries refold to head 0x{history.head.hex()}, {whose} is "
                f"0x{expected.hex()}: an entry was dropped, repeated, reordered or edited, or it is another history"
            )
        )
    elif head is None:
        findings.append(
            noted("the history is consistent with itself; compare the head with one known from elsewhere (--head)")
        )
    if head is not None and evidence.head != head:
        findings.append(violated(f"the source records 0x{evidence.head.hex()} as its head, the head given is another"))
    return Check("entries", f"{len(evidence.entries)} entries refolded and compared with {whose}", tuple(findings))


def _check_blobs(evidence: Evidence, history: History, rounds: Mapping[int, RoundAudit], progress: Progress) -> Check:
    roles: dict[Cid, dict[str, None]] = {evidence.genesis.charter: {"charter, version 1": None}}
    claimed: set[str] = set()
    for entry, _ in evidence.entries:
        for cid, role in _references(history, entry):
            roles.setdefault(cid, {})[role] = None
            match entry.fact:
                case UpdateRecorded() as fact if fact.round in rounds and fact.member in rounds[fact.round].claimed:
                    claimed.add(role)
    findings: list[Finding] = []
    for done, cid in enumerate(roles):
        progress("blobs", done, len(roles))
        named = f"blob {cid} ({', '.join(roles[cid])})"
        try:
            evidence.store.verify(cid)
        except BlobMissingError:
            if roles[cid].keys() <= claimed:
                findings.append(noted(f"{named} is missing, as the round's manifest claims that it was"))
            else:
                findings.append(incomplete(f"{named} is missing: ask its owner, the aggregator or a mirror for it"))
        except BlobMismatchedError:
            findings.append(violated(f"{named} is not what its CID says: the stored bytes were altered or cut short"))
    return Check("blobs", f"{len(roles)} blobs hashed and compared with their CIDs", tuple(findings))


def _references(history: History, entry: Entry) -> Iterable[tuple[Cid, str]]:
    """The blobs that an entry names, and as what."""
    match entry.fact:
        case CharterChanged() as fact:
            yield fact.charter, f"charter, version {fact.version}"
        case GenesisRecorded(model):
            yield model, "genesis model"
        case RoundOpened() as fact:
            yield fact.plan, f"plan of round {fact.round}"
            yield fact.base, f"base of round {fact.round}"
        case UpdateRecorded() as fact:
            yield fact.update, f"update of round {fact.round} by {who(history, fact.member)}"
        case RoundSettled() as fact:
            yield fact.model, f"model of round {fact.round}"
            yield fact.manifest, f"manifest of round {fact.round}"
        case RoundAborted(manifest=manifest) as fact:
            if manifest is not None:
                yield manifest, f"manifest of round {fact.round}"
        case AttestationRecorded() as fact:
            yield fact.report, f"report on round {fact.round} by {who(history, fact.member)}"


def _check_objections(history: History) -> Check:
    findings = []
    for known in history.rounds.values():
        findings += [
            noted(f"round {known.number}: {who(history, member)} rejected the model, report {attestation.report}")
            for member, attestation in known.attestations.items()
            if not attestation.approve
        ]
        findings += [
            noted(
                f"round {known.number}: {erasure.sender} had 0x{erasure.digest.hex()} "
                f"of {who(history, erasure.member)} erased ({erasure.reason.name.lower()})"
            )
            for erasure in known.erasures
        ]
        if isinstance(known.ended, RoundAborted) and known.updates:
            by = who(history, known.ended.aggregator) if known.ended.aggregator else known.ended.sender
            findings.append(
                noted(
                    f"round {known.number}: {by} aborted it "
                    f"({known.ended.reason.name.lower()}) with {len(known.updates)} updates recorded"
                )
            )
    return Check(
        "objections", f"rejections, erasures and aborted rounds among {len(history.rounds)} rounds", tuple(findings)
    )


def _describe(history: History, entry: Entry) -> str:
    fact = entry.fact
    parts = [f"entry {entry.index}", type(fact).__name__]
    if (round_ := getattr(fact, "round", None)) is not None:
        parts.append(f"round {round_}")
    for field in ("member", "aggregator"):
        if (number := getattr(fact, field, None)) is not None:
            parts.append(who(history, number))
    parts += [str(cid) for cid, role in _references(history, entry) if not role.startswith("base")]
    return ", ".join([*parts, f"block {entry.block}"])
