"""The ledger's state: entries in; members, rounds and the head out. Pure.

`FederatedLedger.sol` keeps the same state. Whatever changes a member (roles, account, charter) acts on rounds that are
opened later.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

import ledger.facts as facts
from ledger.cid import Cid
from ledger.entries import Entry, Genesis, extend
from ledger.facts import Address, Bytes32, MembershipFact, Name, Role, RoundFact

ZERO_ACCOUNT = Address("0x" + "00" * 20)
NEVER = (1 << 32) - 1
"""The round until which an account acts that no other has replaced."""


@dataclass
class Account:
    """One account of a member, as the contract keeps it.

    Attributes:
        member: The member's id.
        roles: What it may do in rounds after `roles_since`; in rounds up to that, `roles_before`.
        since: It acts in rounds after this one.
        until: It acts in rounds up to this one.
        accepted: The version of the charter that was accepted last, 0 for none.
        acceptances: How many times a charter was accepted.
    """

    member: int
    roles: Role
    since: int
    roles_before: Role = Role(0)  # noqa: RUF009  # immutable
    roles_since: int = 0
    until: int = NEVER
    accepted: int = 0
    acceptances: int = 0

    def roles_in(self, round_: int) -> Role:
        """What it may do in a round."""
        return self.roles if round_ > self.roles_since else self.roles_before


@dataclass
class Member:
    """An admitted party.

    Attributes:
        account: Its present account.
        accounts: All its accounts, the oldest first.
        age_key: Its newest age public key, None before it accepted the charter.
        offered: The account to which it offered its place.
    """

    id: int
    name: Name
    account: Address
    accounts: list[Address]
    age_key: Bytes32 | None = None
    offered: Address = ZERO_ACCOUNT


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
        opening_head: The head right after it: signed updates name it.
        charter_version: The charter in force then.
        eligible: Participants that could post.
        readers: Age public keys of the aggregators and auditors that could act then, by member id.
        updates: By member id, as recorded.
        ended: The settlement or the abort, None while the round is open.
        attestations: By member id.
        erasures: In their order.
    """

    opened: facts.RoundOpened
    opened_at: int
    opening_head: bytes
    charter_version: int
    eligible: int
    readers: dict[int, Bytes32]
    status: Status = Status.OPEN
    updates: dict[int, facts.UpdateRecorded] = field(default_factory=dict)
    ended: facts.RoundSettled | facts.RoundAborted | None = None
    attestations: dict[int, facts.AttestationRecorded] = field(default_factory=dict)
    erasures: list[facts.ErasureRecorded] = field(default_factory=list)

    @property
    def number(self) -> int:
        """The round's number."""
        return self.opened.round

    def takes_more(self, time: int) -> bool:
        """Whether another update can be recorded, in a block of that time."""
        return self.ended is None and time <= self.opened.deadline and len(self.updates) < self.eligible

    @property
    def attesters(self) -> Role:
        """The roles that may attest to its model."""
        return Role.AUDITOR | Role.PARTICIPANT if self.opened.participants_attest else Role.AUDITOR


class History:
    """The state of a ledger after some entries.

    `record` takes an entry without asking whether it is allowed, so that an auditor can look at all of a history in
    which something is wrong; `ledger.rules` says what is allowed.
    """

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.head = genesis.head()
        self.entries = 0
        self.governor = genesis.governor
        self.governance_offer = ZERO_ACCOUNT
        self.charter = genesis.charter
        self.charter_version = 1
        self.members: dict[int, Member] = {}
        self.accounts: dict[str, Account] = {}
        self.rounds: dict[int, Round] = {}
        self.latest_round = 0
        self.genesis_model: facts.GenesisRecorded | None = None
        self.grants: list[facts.GrantRecorded] = []

    @property
    def open_round(self) -> Round | None:
        """The round that is open, if one is."""
        newest = self.rounds.get(self.latest_round)
        return newest if newest and newest.status is Status.OPEN else None

    @property
    def latest_released(self) -> int:
        """The newest round whose model is released; 0 stands for the genesis model."""
        return max((n for n, known in self.rounds.items() if known.status is Status.RELEASED), default=0)

    def model_of(self, round_: int) -> Cid | None:
        """The released model of a round, 0 being the genesis; None where there is none."""
        if round_ == 0:
            return self.genesis_model.model if self.genesis_model else None
        known = self.rounds.get(round_)
        released = known and known.status is Status.RELEASED and isinstance(known.ended, facts.RoundSettled)
        return known.ended.model if released else None  # type: ignore[union-attr]

    def member_by_account(self, account: str) -> Member | None:
        """The member of which this is an account, present or past; None for a stranger."""
        known = self.accounts.get(account.lower())
        return self.members.get(known.member) if known else None

    def count(self, roles: Role) -> int:
        """How many members with one of these roles have accepted the charter in force."""
        return len(self._acting(roles))

    def _acting(self, roles: Role) -> list[Member]:
        present = ((member, self.accounts[member.account]) for member in self.members.values())
        return [member for member, one in present if roles & one.roles and one.accepted == self.charter_version]

    def record(self, entry: Entry) -> None:
        """Take an entry as it is; facts about a member or a round that is not known only move the head."""
        self.head = extend(self.head, entry)
        self.entries += 1
        match fact := entry.fact:
            case facts.GovernanceOffered():
                self.governance_offer = fact.account
            case facts.GovernanceTaken():
                self.governor, self.governance_offer = fact.governor, ZERO_ACCOUNT
            case facts.CharterChanged():
                self.charter, self.charter_version = fact.charter, fact.version
            case facts.MemberAdmitted():
                self.members[fact.member] = Member(fact.member, fact.name, fact.account, [fact.account])
                self.accounts[fact.account] = Account(fact.member, fact.roles, self.latest_round)
            case (
                facts.RolesChanged()
                | facts.CharterAccepted()
                | facts.AccountOffered()
                | facts.AccountTaken()
                | facts.AccountReplaced()
            ):
                if member := self.members.get(fact.member):
                    self._record_membership(member, fact)
            case facts.GenesisRecorded():
                self.genesis_model = fact
            case facts.RoundOpened():
                eligible = self.count(Role.PARTICIPANT)
                acting = self._acting(Role.AGGREGATOR | Role.AUDITOR)
                readers = {member.id: member.age_key for member in acting if member.age_key is not None}
                self.rounds[fact.round] = Round(fact, entry.time, self.head, self.charter_version, eligible, readers)
                self.latest_round = max(self.latest_round, fact.round)
            case facts.GrantRecorded():
                self.grants.append(fact)
            case _:
                if known := self.rounds.get(fact.round):
                    _record_in_round(known, fact)

    def _record_membership(self, member: Member, fact: MembershipFact) -> None:
        account, latest = self.accounts[member.account], self.latest_round
        match fact:
            case facts.RolesChanged():
                # Two changes between the same rounds are one: what held before the first still holds up to here.
                # What held before an earlier change is not kept: the account does not act in rounds of that time.
                if account.roles_since != latest:
                    account.since = max(account.since, account.roles_since)
                    account.roles_before = account.roles
                account.roles, account.roles_since = fact.roles, latest
            case facts.CharterAccepted():
                # Who lets a round pass without having accepted its charter begins anew, for rounds opened later.
                newest = self.rounds.get(latest)
                if newest and account.accepted < newest.charter_version:
                    account.since = latest
                account.accepted = self.charter_version
                account.acceptances += 1
                member.age_key = fact.age_key
            case facts.AccountOffered():
                member.offered = fact.account
            case facts.AccountTaken() | facts.AccountReplaced():
                self.accounts[fact.account] = replace(account, since=latest, until=NEVER)
                account.until = latest
                member.account, member.offered = fact.account, ZERO_ACCOUNT
                member.accounts.append(fact.account)


def _record_in_round(known: Round, fact: RoundFact) -> None:
    match fact:
        case facts.UpdateRecorded():
            known.updates[fact.member] = fact
        case facts.RoundSettled():
            known.ended = fact
            known.status = Status.SETTLED if known.opened.approvals else Status.RELEASED
        case facts.RoundAborted():
            known.ended = fact
            known.status = Status.ABORTED
        case facts.AttestationRecorded():
            known.attestations[fact.member] = fact
            verdicts = [attestation.approve for attestation in known.attestations.values()]
            approved = verdicts.count(True) >= known.opened.approvals
            if known.status is Status.SETTLED and approved and verdicts.count(False) <= known.opened.rejections:
                known.status = Status.RELEASED
        case facts.ErasureRecorded():
            known.erasures.append(fact)
