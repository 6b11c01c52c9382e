"""An auditor's word on a settled round: audited here, stored as a report, recorded on the ledger."""

from __future__ import annotations

from eth_account.signers.local import LocalAccount

from ledger.audit.report import Verdict, worst
from ledger.audit.rounds import audit_round
from ledger.chain.contract import LedgerContract
from ledger.documents import canonical
from ledger.errors import UsageError
from ledger.storage import Store
from ledger.updates import Place


def attest(contract: LedgerContract, store: Store, auditor: LocalAccount, round_: int) -> Verdict:
    """Audit a settled round and record the verdict: approved if verified, rejected if violated.

    Returns:
        What the audit found; nothing is recorded where it is incomplete.

    Raises:
        UsageError: If there is no such round.
        Refused: If the ledger does not take the attestation.
        ViolationError: If the node does not show the whole history.
    """
    history = contract.history()
    if (known := history.rounds.get(round_)) is None:
        raise UsageError(f"there is no round {round_}: the newest is {history.latest_round}")
    outcome = audit_round(history, known, store)
    findings = outcome.documents + outcome.settlement
    verdict = worst(finding.verdict for finding in findings)
    if verdict is not Verdict.INCOMPLETE:
        report = {
            "kind": "report",
            **Place.of(history.genesis, known.opened).document(),
            "head": "0x" + history.head.hex(),
            "verdict": verdict.value,
            "findings": [finding.text for finding in findings],
        }
        contract.attest(auditor, round_, verdict is Verdict.VERIFIED, store.put(canonical(report)))
    return verdict
