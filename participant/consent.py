"""Whether this site trains for a round: what its policy file allows, and what a person here has said yes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ledger.agreement import Agreed, changes, described
from ledger.errors import UsageError
from ledger.following import View
from ledger.history import Member, Round
from ledger.logs import Log
from ledger.plan import Plan
from ledger.sealing import readers
from ledger.storage import Blobs
from participant.policy import Policy, PolicyFile


class Person(Protocol):
    """Somebody to ask, without waiting for the answer: what else is due goes on meanwhile."""

    @property
    def there(self) -> bool:
        """Whether they can be asked now."""

    def ask(self, text: str) -> None:
        """Ask; an answer to an earlier question counts no more."""

    def answer(self) -> bool | None:
        """What they said; None as long as they have not."""


@dataclass
class Consent:
    """What has to be said before a site trains.

    Attributes:
        policy: The site's own.
        task_digest: The sha256 of its task's file.
        agreed: The plans that a person has agreed to.
        person: Whom to ask for their yes.
        log: Told what is missing.
        accept_plans: Whether every plan is agreed to that the policy allows.
    """

    policy: PolicyFile
    task_digest: str
    agreed: Agreed
    person: Person
    log: Log
    accept_plans: bool = False
    _about: bytes = field(default=b"", init=False)
    """The opening of the round whose plan nobody has agreed to."""
    _before: Plan | None = field(default=None, init=False)
    """The plan that was agreed to before."""
    _asked: bool = field(default=False, init=False)
    """Whether the person was asked about it."""
    _policy: Policy | None = field(default=None, init=False)

    def given(self, view: View, known: Round, member: Member, plan: Plan, blobs: Blobs) -> bool | None:
        """Whether to train for a round; None as long as something is missing, which may come yet."""
        if not self._allowed(view, known, member, plan):
            return None
        cid = known.opened.plan
        if cid in self.agreed.plans():
            return True
        if self.accept_plans:
            self.agreed.add(cid)
            self.log.info("agreed to the plan, as --accept-plans says", round=known.number, plan=cid)
            return True
        answer = self._answer(view, known, plan, blobs)
        if answer:
            self.agreed.add(cid)
            self.log.info("a person agreed to the plan", round=known.number, plan=cid)
        return answer

    @property
    def tells_metrics(self) -> bool:
        """Whether the policy, as it was read for `given`, lets updates say how good their base model is here."""
        return self._policy is None or self._policy.metrics

    def _allowed(self, view: View, known: Round, member: Member, plan: Plan) -> bool:
        """Whether the policy allows a round."""
        try:
            policy = self._policy = self.policy.read()
        except UsageError as error:
            self.log.stuck("no round is trained for without a policy that can be read", round=known.number, why=error)
            return False
        if policy is None:
            return True
        others = [key for reader, key in readers(known).items() if reader != member.id]
        if refused := policy.refused(plan, known, others, self.task_digest):
            why, path = "; ".join(refused), self.policy.path
            self.log.stuck("this site's policy does not allow the round", round=known.number, why=why, policy=path)
        return not refused

    def _answer(self, view: View, known: Round, plan: Plan, blobs: Blobs) -> bool | None:
        """What a person says to a plan, asked here or told what to do."""
        if self._about != known.opening_head:
            self._about, self._before, self._asked = known.opening_head, self.agreed.last(blobs), False
        if not self.person.there:
            self._tell(known, plan)
            return None
        if not self._asked:
            lines = described(view.history, known, plan, self._before, view.time)
            self.person.ask("\n".join([*lines, "Train by this plan? [y/N]: "]))
            self._asked = True
        return self.person.answer()

    def _tell(self, known: Round, plan: Plan) -> None:
        """Say what a person is to do who is not here."""
        different = changes(self._before, plan) if self._before else {}
        self.log.stuck(
            "waiting for a person's yes to the plan" + (": UPDATES ARE NOT SEALED" if plan.seal == "none" else ""),
            round=known.number,
            plan=known.opened.plan,
            **({"changed": "; ".join(f"{key} {how}" for key, how in different.items())} if different else {}),
            do=f"`fedledger round agree {known.number}` shows it, and asks",
        )
