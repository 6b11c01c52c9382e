"""One round, checked: its documents say what they must, and settling it again gives what was recorded."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.audit.report import Finding, incomplete, noted, violated
from ledger.cid import Cid, cid_of
from ledger.errors import (
    BlobMismatchedError,
    BlobMissingError,
    FedledgerError,
    InvalidBlobError,
    UnavailableError,
)
from ledger.facts import RoundAborted, RoundSettled
from ledger.history import History, Round
from ledger.manifest import Manifest, Reason, Row, max_manifest_bytes
from ledger.plan import MAX_PLAN_BYTES, Plan
from ledger.settlement import Settlement, settle
from ledger.storage import Store
from ledger.updates import Place, decode_model


@dataclass(frozen=True)
class RoundAudit:
    """What came out of one round.

    Attributes:
        documents: Findings on plan, base model and manifest.
        settlement: Findings on settling it again.
        claimed: Ids of the members whose update the manifest claims was unavailable.
    """

    documents: tuple[Finding, ...]
    settlement: tuple[Finding, ...] = ()
    claimed: frozenset[int] = frozenset()


def who(history: History, member: int) -> str:
    """A member as messages name it."""
    known = history.members.get(member)
    return f"member {member} ({known.name})" if known else f"member {member} (never admitted)"


def audit_round(history: History, known: Round, store: Store) -> RoundAudit:
    """Check one round as it is recorded in `history`."""
    documents: list[Finding] = []
    plan = _plan(history, known, store, documents)
    if plan is not None:
        documents += _base(history, known, plan, store)
    ended = known.ended
    if ended is None or ended.manifest is None:
        return RoundAudit(tuple(documents))
    lacking = incomplete(f"round {known.number} cannot be settled again without its plan and its manifest")
    try:
        manifest = Manifest.decode(store.get(ended.manifest, limit=max_manifest_bytes(len(known.updates))))
    except FedledgerError as error:
        author = f"{who(history, ended.aggregator)} published it"
        documents.append(_finding(f"round {known.number}: its manifest {ended.manifest}", error, author))
        return RoundAudit(tuple(documents), (lacking,))
    documents += _accounts(history, known, ended, manifest)
    claimed = frozenset(row.member for row in manifest.updates if row.excluded is Reason.UNAVAILABLE)
    if plan is None:
        return RoundAudit(tuple(documents), (lacking,), claimed)
    settlement = _settle_again(history, known, ended, plan, manifest, claimed, store)
    return RoundAudit(tuple(documents), tuple(settlement), claimed)


def _plan(history: History, known: Round, store: Store, findings: list[Finding]) -> Plan | None:
    opened = known.opened
    where = f"round {opened.round}: its plan {opened.plan}"
    try:
        plan = Plan.decode(store.get(opened.plan, limit=MAX_PLAN_BYTES))
    except FedledgerError as error:
        findings.append(_finding(where, error, f"{who(history, opened.aggregator)} opened the round with it"))
        return None
    for name, planned, recorded in (
        ("quorum", plan.quorum, opened.quorum),
        ("approvals", plan.approvals, opened.approvals),
        ("rejections", plan.rejections, opened.rejections),
        ("participants_attest", plan.participants_attest, opened.participants_attest),
        ("grace", plan.grace, opened.grace),
        ("deadline", known.opened_at + plan.window, opened.deadline),
    ):
        if planned != recorded:
            findings.append(
                violated(f"{where} says {name} {planned}, {who(history, opened.aggregator)} opened it with {recorded}")
            )
    return plan


def _base(history: History, known: Round, plan: Plan, store: Store) -> list[Finding]:
    opened = known.opened
    try:
        decode_model(store.get(opened.base, limit=plan.max_update_bytes), plan)
    except FedledgerError as error:
        opener = f"{who(history, opened.aggregator)} opened the round on it"
        return [_finding(f"round {opened.round}: its base {opened.base}", error, opener)]
    return []


def _accounts(history: History, known: Round, ended: RoundSettled | RoundAborted, manifest: Manifest) -> list[Finding]:
    """Every recorded update stands in the manifest exactly once, and nothing else does."""
    where, aggregator = f"round {known.number}", who(history, ended.aggregator)
    findings = []
    rows = [(row.member, row.update) for row in manifest.updates]
    recorded = {(update.member, str(update.update)) for update in known.updates.values()}
    for member, update in sorted(recorded):
        if (times := rows.count((member, update))) != 1:
            said = "is left out of" if times == 0 else f"stands {times} times in"
            findings.append(
                violated(
                    f"{where}: the update {update} of {who(history, member)} {said} the manifest {ended.manifest} "
                    f"that {aggregator} published; every recorded update stands in it exactly once"
                )
            )
    findings += [
        violated(
            f"{where}: the manifest {ended.manifest} of {aggregator} has an update {update} of "
            f"{who(history, member)} that no entry shows: the entry is withheld, or the update invented"
        )
        for member, update in sorted(set(rows) - recorded)
    ]
    if isinstance(ended, RoundSettled) and manifest.counted != ended.counted:
        findings.append(
            violated(
                f"{where}: {aggregator} settled with {ended.counted} counted updates, its manifest {ended.manifest} "
                f"says {manifest.counted}"
            )
        )
    return findings


def _settle_again(
    history: History,
    known: Round,
    ended: RoundSettled | RoundAborted,
    plan: Plan,
    manifest: Manifest,
    claimed: frozenset[int],
    store: Store,
) -> list[Finding]:
    where = f"round {known.number}"
    try:
        again = settle(Place.of(history.genesis, known.opened), plan, known.updates.values(), store, claimed)
    except (BlobMissingError, BlobMismatchedError) as error:
        members = [who(history, member) for member, update in known.updates.items() if update.update == error.cid]
        return [incomplete(f"{where} cannot be settled again: the update of {' and '.join(members)}: {error}")]
    except UnavailableError as error:
        return [incomplete(f"{where} cannot be settled again: {error}")]
    findings = _compare(history, known, ended, manifest, again)
    for row in again.manifest.updates:
        if row.excluded is not None:
            about = f"{where}: the update {row.update} of {who(history, row.member)} is excluded as {row.excluded}"
            if row.excluded is Reason.UNAVAILABLE:
                here = "its bytes are in this store now" if store.has(Cid.parse(row.update)) else "not verifiable here"
                findings.append(noted(f"{about}, claimed by {who(history, ended.aggregator)}; {here}"))
            elif row in manifest.updates:
                findings.append(noted(f"{about}: {again.details[row.member]}"))
    return findings


def _compare(
    history: History, known: Round, ended: RoundSettled | RoundAborted, manifest: Manifest, again: Settlement
) -> list[Finding]:
    where, aggregator = f"round {known.number}", who(history, ended.aggregator)
    findings = []
    recorded_rows = {row.member: row for row in manifest.updates}
    for row in again.manifest.updates:
        recorded = recorded_rows.get(row.member)
        if recorded is not None and recorded.update == row.update and recorded != row:
            detail = f" ({again.details[row.member]})" if row.member in again.details else ""
            findings.append(
                violated(
                    f"{where}: the manifest of {aggregator} says that the update {row.update} of "
                    f"{who(history, row.member)} is {_said(recorded)}; settled again, it is {_said(row)}{detail}"
                )
            )
    model = cid_of(again.model) if again.model is not None else None
    published = ended.model if isinstance(ended, RoundSettled) else None
    if model != published:
        said = "aborted the round for lack of a quorum" if published is None else f"published the model {published}"
        computed = "no model, for lack of a quorum" if model is None else f"the model {model}"
        findings.append(violated(f"{where}: {aggregator} {said}; settled again, it gives {computed}"))
    elif again.manifest != manifest and not findings:
        findings.append(
            violated(f"{where}: the manifest {ended.manifest} of {aggregator} is not what settling again gives")
        )
    return findings


def _said(row: Row) -> str:
    return f"excluded as {row.excluded}" if row.excluded is not None else f"counted with weight {row.weight}"


def _finding(where: str, error: FedledgerError, author: str) -> Finding:
    if isinstance(error, UnavailableError):
        return incomplete(f"{where}: {error}")
    if isinstance(error, InvalidBlobError):
        return violated(f"{where}: {error} ({author})")
    return violated(f"{where}: {error}")
