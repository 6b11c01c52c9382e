"""What the sites have spent of their examples' privacy, and whether it is within the budgets of the plans (check 5)."""

from __future__ import annotations

from collections.abc import Mapping

from ledger.audit.closed import RoundAudit
from ledger.audit.places import party
from ledger.audit.replay import Replay
from ledger.audit.report import Finding, incomplete, violated
from ledger.errors import UsageError
from ledger.history import Round
from ledger.plan import MAX_PLAN_BYTES, Plan
from ledger.privacy import Spending, spending, told


def check_budgets(replayed: Replay, audits: Mapping[int, RoundAudit]) -> tuple[list[Finding], Spending | None]:
    """Findings on the budgets of the rounds that were audited, and what was spent; None where it cannot be computed."""
    private = {number: one.plan.privacy for number, one in audits.items() if one.plan and one.plan.privacy}
    if not private:
        return [], {}
    history, store = replayed.history, replayed.evidence.store

    def plan_of(known: Round) -> Plan:
        read = audits.get(known.number, RoundAudit()).plan
        return read or Plan.decode(store.get(known.opened.plan, MAX_PLAN_BYTES))

    try:
        spent = {(one.round, one.member): one for one in spending(history, plan_of, private)}
    except UsageError as error:
        budgets = any(privacy.budget is not None for privacy in private.values())
        text = f"whether sites kept to the plans' privacy budgets cannot be told: {error}"
        return [incomplete(text)] if budgets else [], None
    findings = []
    for (number, member), one in spent.items():
        if one.budget is None:
            continue
        site = party(history, member)
        if one.epsilon is None:
            text = f"whether this site kept to the plan's privacy budget cannot be told: {one.unknown}"
            findings.append(incomplete(text, round=number, member=site))
        elif one.exceeds:
            expected, found = f"epsilon {one.budget:g} at most", f"epsilon {told(one.epsilon)}"
            text = f"with its update this site has spent more than the plan's privacy budget (delta {one.delta:g})"
            findings.append(violated(text, round=number, member=site, expected=expected, found=found, by=str(site)))
    return findings, spent
