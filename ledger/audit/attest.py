"""An auditor's word on a settled round: audited here, stored as a report, recorded on the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount

from ledger.arithmetic import self_test
from ledger.audit.closed import RoundAudit
from ledger.audit.opening import granted
from ledger.audit.places import unread
from ledger.audit.report import Finding, Verdict, incomplete, worst
from ledger.audit.rounds import Access, audit_round
from ledger.chain.contract import LedgerContract
from ledger.cid import Cid, cid_of
from ledger.documents import canonical
from ledger.errors import BlobMismatchedError, BlobMissingError, UsageError
from ledger.facts import RoundSettled
from ledger.history import History
from ledger.sealing import Identity
from ledger.storage import Store
from ledger.updates import Place


@dataclass(frozen=True)
class Examination:
    """What the audit of one round came to.

    Attributes:
        findings: What it found, in words.
        report: The blob of the report to attest with.
    """

    verdict: Verdict
    findings: list[str]
    report: bytes


def examine(
    history: History,
    store: Store,
    round_: int,
    quality: Mapping[str, float] | None = None,
    identities: Sequence[Identity] = (),
) -> Examination:
    """Audit a round; nothing is recorded.

    Args:
        history: The ledger's.
        store: Where its blobs are.
        round_: The round's number.
        quality: How good the auditor found the model, by measure, such as ``auc``; it stands in the report
            where the plan has that public.
        identities: The auditor's own age identities: they open sealed updates.

    Raises:
        UsageError: If there is no such round, or it has no settled model.
        UnavailableError: If this machine's arithmetic cannot be relied on.
    """
    if (known := history.rounds.get(round_)) is None:
        raise UsageError(f"there is no round {round_}: the newest is {history.latest_round}")
    if not isinstance(known.ended, RoundSettled):
        raise UsageError(f"round {round_} is {known.status.value}, it has no settled model to attest to: wait for one")
    self_test()
    # The report is for everybody, and a sealed update is not.
    access = Access(identities, granted(history, store, identities)[0], attesting=True)
    audited = audit_round(history, known, store, access=access)
    findings = audited.findings + _not_there(known.number, known.ended.model, audited, store)
    verdict = worst(finding.verdict for finding in findings)
    texts = [finding.sentence for finding in findings]
    report: dict[str, Any] = {
        "kind": "report",
        **Place.of(history.genesis, known.opened).document(),
        "head": "0x" + history.head.hex(),
        "verdict": verdict.value,
        "findings": texts,
    }
    if quality is not None and audited.plan is not None and audited.plan.public_quality:
        report["quality"] = dict(quality)
    return Examination(verdict, texts, canonical(report))


def _not_there(number: int, model: Cid, audited: RoundAudit, store: Store) -> list[Finding]:
    """Of what the next round would begin with, what is not there: nobody could build on what is approved now."""
    state = audited.manifest.state if audited.manifest else None
    findings = []
    for what, cid in [("its model", model), *([("the server's state after it", Cid.parse(state))] if state else [])]:
        try:
            store.verify(cid)
        except (BlobMissingError, BlobMismatchedError) as error:
            findings.append(incomplete(f"{what} cannot be read: {unread(error)}", cid=cid, round=number))
    return findings


def attest(
    contract: LedgerContract,
    store: Store,
    auditor: LocalAccount,
    round_: int,
    quality: Mapping[str, float] | None = None,
    identities: Sequence[Identity] = (),
) -> Verdict:
    """Audit a settled round and record the verdict: approved if verified, rejected if violated; see `examine`.

    Returns:
        What the audit found; nothing is recorded where it is incomplete.

    Raises:
        UsageError: If there is no such round, or it has no settled model.
        Refused: If the ledger does not take the attestation.
        ViolationError: If the node does not show the whole history.
    """
    examined = examine(contract.history(), store, round_, quality, identities)
    if examined.verdict is not Verdict.INCOMPLETE:
        approve = examined.verdict is Verdict.VERIFIED
        contract.storing(store, examined.report).attest(auditor, round_, approve, cid_of(examined.report))
    return examined.verdict
