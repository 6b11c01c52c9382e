"""What a history looks like, for people: the members, and what became of each round and each update. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

import ledger.facts as facts
from ledger.audit.closed import RoundAudit
from ledger.audit.evidence import Evidence
from ledger.audit.places import references
from ledger.cid import Cid
from ledger.entries import Entry
from ledger.errors import FedledgerError
from ledger.facts import Role
from ledger.figures import figures
from ledger.history import History, Round, Status
from ledger.privacy import Spending, spent_document
from ledger.storage import Blobs

MAX_REPORT_BYTES = 1 << 20


class Quality(BaseModel):
    """The part of an attestation's report that says how good a model is, by measure, such as ``auc``."""

    model_config = ConfigDict(extra="ignore", strict=True)
    quality: dict[str, FiniteFloat]


@dataclass
class Overview:
    """Goes along with a replay, and notes what the state afterwards does not say."""

    _times: dict[int, dict[str, int]] = field(default_factory=dict)
    _posted: dict[tuple[int, int], int] = field(default_factory=dict)
    _eligible: dict[int, list[int]] = field(default_factory=dict)
    _transactions: dict[int, dict[str, None]] = field(default_factory=dict)

    def see(self, history: History, entry: Entry) -> None:
        """Take note of an entry, after `history` has recorded it."""
        number = getattr(entry.fact, "round", None)
        if number is None:
            return
        times = self._times.setdefault(number, {})
        self._transactions.setdefault(number, {})[entry.transaction] = None
        match entry.fact:
            case facts.RoundOpened():
                self._eligible[number] = _eligible(history)
            case facts.UpdateRecorded(member=member):
                self._posted[number, member] = entry.time
            case facts.RoundSettled() | facts.RoundAborted():
                times.setdefault("ended", entry.time)
        known = history.rounds.get(number)
        if known is not None and known.status is Status.RELEASED:
            times.setdefault("released", entry.time)

    def members(self, history: History) -> tuple[Mapping[str, Any], ...]:
        """The members as they are at the end."""
        return tuple(
            {
                "id": member.id,
                "name": member.name,
                "account": member.account,
                "roles": [(role.name or "").lower() for role in history.accounts[member.account].roles],
            }
            for member in history.members.values()
        )

    def timeline(
        self, history: History, evidence: Evidence, audits: Mapping[int, RoundAudit], spent: Spending | None
    ) -> tuple[Mapping[str, Any], ...]:
        """The rounds in their order."""
        return tuple(
            self._round(history, known, evidence, audits.get(known.number, RoundAudit()), spent)
            for known in history.rounds.values()
        )

    def _round(
        self, history: History, known: Round, evidence: Evidence, audit: RoundAudit, spent: Spending | None
    ) -> Mapping[str, Any]:
        number, ended = known.number, known.ended
        rows = {row.member: row for row in audit.manifest.updates} if audit.manifest else {}
        updates = []
        for member, update in sorted(known.updates.items()):
            row = rows.get(member)
            outcome = "recorded" if row is None else "counted" if row.excluded is None else "excluded"
            updates.append(
                {
                    "member": member,
                    "outcome": outcome,
                    "weight": row.weight if row else None,
                    "reason": row.excluded.value if row and row.excluded else None,
                    "cid": str(update.update),
                    "at": self._posted[number, member],
                    "relayed": getattr(history.member_by_account(update.sender), "id", None) != member,
                }
            )
        used = [evidence.sent.get(transaction) for transaction in self._transactions[number]]
        gas = [one.gas for one in used if one is not None and one.gas is not None]
        return {
            "round": number,
            "status": known.status.value,
            "opened_at": known.opened_at,
            "deadline": known.opened.deadline,
            "ended_at": self._times[number].get("ended"),
            "released_at": self._times[number].get("released"),
            "aggregator": ended.aggregator if ended else known.opened.aggregator,
            "base_round": known.opened.base_round,
            "model": str(ended.model) if isinstance(ended, facts.RoundSettled) else None,
            "state": str(state) if (state := _state(audit)) else None,
            "counted": ended.counted if isinstance(ended, facts.RoundSettled) else None,
            "eligible": self._eligible[number],
            "updates": updates,
            "attestations": [
                {"member": member, "approve": one.approve, "report": str(one.report)}
                for member, one in sorted(known.attestations.items())
            ],
            "quality": _quality(known, evidence.store) if audit.plan and audit.plan.public_quality else None,
            "scores": _scores(audit),
            "privacy": _privacy(known, audit, spent),
            "gas": sum(gas) if len(gas) == len(used) else None,
            "bytes": _bytes(known, _state(audit), evidence.store),
        }


def _eligible(history: History) -> list[int]:
    """The members that may post in a round that opens now."""
    accounts = {member.id: history.accounts[member.account] for member in history.members.values()}
    return [
        number
        for number, account in sorted(accounts.items())
        if Role.PARTICIPANT & account.roles and account.accepted == history.charter_version
    ]


def _quality(known: Round, store: Blobs) -> dict[str, float] | None:
    """What the first report that says it says of the model's quality: its attester's word."""
    for _, attestation in sorted(known.attestations.items()):
        try:
            return Quality.model_validate_json(store.get(attestation.report, MAX_REPORT_BYTES)).quality
        except (FedledgerError, ValidationError):
            continue
    return None


def _state(audit: RoundAudit) -> Cid | None:
    """The blob of what the server remembers, as far as the manifest could be read."""
    return Cid.parse(audit.manifest.state) if audit.manifest and audit.manifest.state else None


def _scores(audit: RoundAudit) -> dict[str, Any] | None:
    """How the updates compare, and, from what their sites say, how the round's base fared."""
    if audit.scores is None or audit.manifest is None:
        return None
    return {
        "sealed": audit.manifest.scores is None,
        "sites": {str(member): score.model_dump(mode="json") for member, score in sorted(audit.scores.items())},
        "figures": {metric: figure.document() for metric, figure in figures(audit.scores).items()},
    }


def _privacy(known: Round, audit: RoundAudit, spent: Spending | None) -> dict[str, Any] | None:
    """What a private plan says, and what each site has spent by it; None where the plan is not private, or not read."""
    if audit.plan is None or audit.plan.privacy is None:
        return None
    return {
        "delta": audit.plan.privacy.delta,
        "budget": audit.plan.privacy.budget,
        "spent": None if spent is None else [spent_document(spent[known.number, one]) for one in sorted(known.updates)],
    }


def _bytes(known: Round, state: Cid | None, store: Blobs) -> int | None:
    """The bytes of all blobs that the round's entries name, and its manifest; None where one is not there."""
    recorded: Iterable[facts.Fact] = [*known.updates.values(), *known.attestations.values()]
    named = [known.opened.plan, *(cid for fact in recorded for cid, _ in references(fact))]
    if known.ended is not None:
        named += [cid for cid, _ in references(known.ended)]
    if state is not None:
        named.append(state)
    sizes = [store.size(cid) for cid in dict.fromkeys(named)]
    return None if None in sizes else sum(size or 0 for size in sizes)
