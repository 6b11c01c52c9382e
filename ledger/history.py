"""The ledger's state machine in pure Python: entries in; members, rounds and the head out.

`FederatedLedger.sol` is the same machine. Every refusal of the contract is a `Refused` of the same name here, so an
auditor can tell whether each entry was allowed when it was recorded, without trusting the node that served it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from ledger.cid import Cid
from ledger.entries import (
    AbortReason,
    Address,
    AttestationRecorded,
    Entry,
    Fact,
    Genesis,
    GenesisRecorded,
    MemberAdmitted,
    Name,
    Role,
    RoundAborted,
    RoundOpened,
    RoundSettled,
    UpdateRecorded,
    extend,
)
from ledger.errors import Refused

_ZERO_ACCOUNT = "0x" + "00" * 20


@dataclass(frozen=True)
class Call:
    """What a call has and its entry has not.

    Attributes:
        sender: The account that calls.
        expected_head: The head that a settlement or an abort names; None for other calls.
    """

    sender: str
    expected_head: bytes | None = None


@dataclass(frozen=True)
class Member:
    """An admitted party.

    Attributes:
        since: The newest round at admission; the member acts in later rounds only.
    """

    id: int
    account: Address
    roles: Role
    name: Name
    since: int


class Status(Enum):
    """Where a round stands."""

    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"
    ABORTED = "aborted"


@dataclass
class Round:
    """One round and what was recorded in it.

    Attributes:
        opened: The fact that opened it.
        opened_at: The time of that block.
        eligible: Participants admitted when it opened.
        updates: By member id, as recorded.
        ended: The settlement or the abort, None while the round is open.
        attestations: By the auditor's member id.
    """

    opened: RoundOpened
    opened_at: int
    eligible: int
    status: Status = Status.OPEN
    updates: dict[int, UpdateRecorded] = field(default_factory=dict)
    ended: RoundSettled | RoundAborted | None = None
    attestations: dict[int, AttestationRecorded] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """The round's number."""
        return self.opened.round


class History:
    """The state of a ledger after some entries.

    `check` says whether an entry is allowed next; `record` takes it without asking, so that an auditor can look at
    all of a history in which something is wrong; `apply` does both.
    """

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.head = genesis.head()
        self.entries = 0
        self.members: dict[int, Member] = {}
        self.rounds: dict[int, Round] = {}
        self.genesis_model: GenesisRecorded | None = None

    @classmethod
    def of(cls, genesis: Genesis, entries: Iterable[Entry]) -> History:
        """Replay `entries` from the start.

        Raises:
            Refused: At the first entry that the rules do not allow.
        """
        history = cls(genesis)
        for entry in entries:
            history.apply(entry)
        return history

    # ------------------------------------------------------------------ views

    @property
    def latest_round(self) -> int:
        """The newest round's number, 0 before the first."""
        return max(self.rounds, default=0)

    @property
    def open_round(self) -> Round | None:
        """The round that is open, if one is."""
        newest = self.rounds.get(self.latest_round)
        return newest if newest and newest.status is Status.OPEN else None

    @property
    def latest_released(self) -> int:
        """The newest round whose model is released; 0 stands for the genesis model."""
        return max((n for n, known in self.rounds.items() if known.status is Status.RELEASED), default=0)

    def member_by_account(self, account: str) -> Member | None:
        """The member with this account, None for a stranger."""
        return next((member for member in self.members.values() if member.account == account.lower()), None)

    # ------------------------------------------------------------------ rules

    def apply(self, entry: Entry, call: Call | None = None) -> None:
        """Check and record.

        Raises:
            Refused: If the rules do not allow it; the state is then unchanged.
        """
        self.check(entry.fact, entry.time, call)
        self.record(entry)

    def check(self, fact: Fact, time: int, call: Call | None = None) -> None:
        """Whether the rules allow `fact` as the next entry.

        Args:
            fact: What would be recorded.
            time: The block's time.
            call: Who calls and how, where it is known; the contract always knows it.

        Raises:
            Refused: With the name of the contract's error.
        """
        sender = call.sender.lower() if call else None
        match fact:
            case MemberAdmitted():
                self._check_governor(sender)
                self._check_admission(fact)
            case GenesisRecorded():
                self._check_governor(sender)
                _require(self.genesis_model is None, "GenesisAlreadyRecorded", "there is one genesis model")
            case RoundOpened():
                self._check_member(fact.aggregator, Role.AGGREGATOR, sender)
                self._check_opening(fact, time)
            case UpdateRecorded():
                self._check_member(fact.member, Role.PARTICIPANT, sender)
                self._check_update(fact, time)
            case RoundSettled() | RoundAborted():
                self._check_member(fact.aggregator, Role.AGGREGATOR, sender)
                self._check_end(fact, time, call.expected_head if call else None)
            case AttestationRecorded():
                self._check_member(fact.auditor, Role.AUDITOR, sender)
                self._check_attestation(fact)
        for cid in vars(fact).values():
            _require(not (isinstance(cid, Cid) and cid.digest == bytes(32)), "CidInvalid", "a digest is not zero")

    def _check_governor(self, sender: str | None) -> None:
        _require(sender is None or sender == self.genesis.governor, "GovernorOnly", f"{sender} is not the governor")

    def _check_member(self, number: int, role: Role, sender: str | None) -> None:
        member = self.members.get(number)
        if sender is not None:
            by_account = self.member_by_account(sender)
            member = by_account if by_account and by_account.id == number else None
        if member is None:
            raise Refused(
                "MemberUnknown", f"there is no member {number}" + (f" with account {sender}" if sender else "")
            )
        _require(role in member.roles, "MemberRoleMissing", f"member {number} ({member.name}) is no {_role_name(role)}")

    def _check_admission(self, fact: MemberAdmitted) -> None:
        _require(fact.account != _ZERO_ACCOUNT, "MemberAccountZero", "the zero account cannot be a member")
        _require(
            self.member_by_account(fact.account) is None, "MemberAccountTaken", f"{fact.account} is a member already"
        )
        _require(0 < fact.roles <= 7, "MemberRolesInvalid", f"roles {int(fact.roles)} are not within 1..7")
        _require(fact.name != "", "MemberNameMissing", "a member needs a name")
        self._expect(fact.member, len(self.members) + 1, "member id")

    def _check_opening(self, fact: RoundOpened, time: int) -> None:
        running = self.open_round
        _require(running is None, "RoundStillOpen", f"round {self.latest_round} is open")
        base = self._released_model(fact.base_round)
        _require(base is not None, "BaseNotReleased", f"the model of round {fact.base_round} is not released")
        _require(fact.deadline > time, "WindowInvalid", "a round needs a window above 0 seconds")
        participants = self._count(Role.PARTICIPANT)
        _require(
            0 < fact.quorum <= participants,
            "QuorumInvalid",
            f"quorum {fact.quorum} is not within 1..{participants} participants",
        )
        auditors = self._count(Role.AUDITOR)
        _require(
            fact.approvals <= auditors,
            "ApprovalsInvalid",
            f"{fact.approvals} approvals cannot come from {auditors} auditors",
        )
        self._expect(fact.base, base, "base model")
        self._expect(fact.round, self.latest_round + 1, "round")

    def _check_update(self, fact: UpdateRecorded, time: int) -> None:
        known = self._open_round(fact.round)
        self._check_eligible(fact.member, fact.round)
        _require(
            time <= known.opened.deadline,
            "RoundClosed",
            f"round {fact.round} closed {time - known.opened.deadline} seconds before",
        )
        _require(
            fact.member not in known.updates,
            "UpdateAlreadyRecorded",
            f"member {fact.member} has an update in round {fact.round}",
        )
        _require(fact.weight > 0, "WeightInvalid", "an update needs a weight above 0")

    def _check_end(self, fact: RoundSettled | RoundAborted, time: int, expected_head: bytes | None) -> None:
        known = self._open_round(fact.round)
        recorded = len(known.updates)
        reason = fact.reason if isinstance(fact, RoundAborted) else None
        _require(reason is not AbortReason.NONE, "AbortReasonMissing", "an abort has a reason")
        cancelled = reason is AbortReason.CANCELLED
        _require(
            cancelled or time > known.opened.deadline or recorded >= known.eligible,
            "RoundStillRunning",
            f"round {fact.round} takes updates for another {known.opened.deadline - time} seconds",
        )
        _require(
            cancelled or expected_head is None or expected_head == self.head,
            "HeadMoved",
            "entries were recorded after the head that the call expects",
        )
        if isinstance(fact, RoundAborted):
            fits = (fact.manifest is None) == cancelled
            _require(fits, "CidInvalid", "an abort for lack of quorum has a manifest, and no other abort has one")
            return
        _require(
            fact.counted >= known.opened.quorum,
            "QuorumNotMet",
            f"{fact.counted} counted updates are under the quorum of {known.opened.quorum}",
        )
        _require(
            fact.counted <= recorded,
            "CountedExceedsRecorded",
            f"{fact.counted} counted updates, {recorded} recorded",
        )

    def _check_attestation(self, fact: AttestationRecorded) -> None:
        known = self.rounds.get(fact.round)
        if known is None or known.status not in (Status.SETTLED, Status.RELEASED):
            raise Refused("RoundNotSettled", f"round {fact.round} has no settled model")
        self._check_eligible(fact.auditor, fact.round)
        _require(
            fact.auditor not in known.attestations,
            "AttestationAlreadyRecorded",
            f"member {fact.auditor} has attested to round {fact.round}",
        )

    def _check_eligible(self, number: int, round_: int) -> None:
        _require(
            self.members[number].since < round_,
            "MemberNotEligible",
            f"member {number} was admitted after round {round_} opened",
        )

    def _open_round(self, number: int) -> Round:
        known = self.rounds.get(number)
        if known is None or known.status is not Status.OPEN:
            raise Refused("RoundNotOpen", f"round {number} is not open")
        return known

    def _released_model(self, number: int) -> object | None:
        if number == 0:
            return self.genesis_model.model if self.genesis_model else None
        known = self.rounds.get(number)
        if known and known.status is Status.RELEASED and isinstance(known.ended, RoundSettled):
            return known.ended.model
        return None

    def _count(self, role: Role) -> int:
        return sum(role in member.roles for member in self.members.values())

    @staticmethod
    def _expect(shown: object, computed: object, what: str) -> None:
        """What the contract computes itself: it can only differ where the entry was altered."""
        _require(shown == computed, "Impossible", f"the {what} is {shown}, the contract gives {computed}")

    # ----------------------------------------------------------------- record

    def record(self, entry: Entry) -> None:
        """Take an entry as it is; facts about a round that is not known only move the head."""
        self.head = extend(self.head, entry)
        self.entries += 1
        match entry.fact:
            case MemberAdmitted() as fact:
                self.members[fact.member] = Member(fact.member, fact.account, fact.roles, fact.name, self.latest_round)
            case GenesisRecorded() as fact:
                self.genesis_model = fact
            case RoundOpened() as fact:
                self.rounds[fact.round] = Round(fact, entry.time, self._count(Role.PARTICIPANT))
            case UpdateRecorded() | RoundSettled() | RoundAborted() | AttestationRecorded() as fact:
                if known := self.rounds.get(fact.round):
                    _record_in_round(known, fact)


def _record_in_round(known: Round, fact: UpdateRecorded | RoundSettled | RoundAborted | AttestationRecorded) -> None:
    match fact:
        case UpdateRecorded():
            known.updates[fact.member] = fact
        case RoundSettled():
            known.ended = fact
            known.status = Status.SETTLED if known.opened.approvals else Status.RELEASED
        case RoundAborted():
            known.ended = fact
            known.status = Status.ABORTED
        case AttestationRecorded():
            known.attestations[fact.auditor] = fact
            verdicts = [attestation.approve for attestation in known.attestations.values()]
            settled = isinstance(known.ended, RoundSettled)
            if settled and verdicts.count(True) >= known.opened.approvals and False not in verdicts:
                known.status = Status.RELEASED


def _role_name(role: Role) -> str:
    return (role.name or str(role)).lower()


def _require(condition: bool, name: str, detail: str) -> None:
    if not condition:
        raise Refused(name, detail)
