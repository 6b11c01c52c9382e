"""The ledger's state machine in pure Python: entries in; members, rounds and the head out.

`FederatedLedger.sol` is the same machine. Every refusal of the contract is a `Refused` of the same name here, so an
auditor can tell whether each entry was allowed when it was recorded, without trusting the node that served it.
Whatever changes a member (roles, account, charter) acts on rounds that are opened later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum

from ledger.cid import Cid
from ledger.entries import Entry, Genesis, extend
from ledger.errors import Refused
from ledger.facts import (
    AbortReason,
    AccountOffered,
    AccountReplaced,
    AccountTaken,
    Address,
    AttestationRecorded,
    Bytes32,
    CharterAccepted,
    CharterChanged,
    ErasureReason,
    ErasureRecorded,
    Fact,
    GenesisRecorded,
    GovernanceOffered,
    GovernanceTaken,
    MemberAdmitted,
    Name,
    Role,
    RolesChanged,
    RoundAborted,
    RoundFact,
    RoundOpened,
    RoundSettled,
    UpdateRecorded,
)

ZERO_ACCOUNT = Address("0x" + "00" * 20)
NEVER = (1 << 32) - 1
"""The round until which an account acts that no other has replaced."""


@dataclass(frozen=True)
class Call:
    """What a call has and its entry has not.

    Attributes:
        sender: The account that calls.
        expected_head: The head that a settlement or an abort names; None for other calls.
        signer: The account that signed what another carries, None where the caller acts for itself.
    """

    sender: str
    expected_head: bytes | None = None
    signer: str | None = None


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
        updates: By member id, as recorded.
        ended: The settlement or the abort, None while the round is open.
        attestations: By member id.
        erasures: In their order.
    """

    opened: RoundOpened
    opened_at: int
    opening_head: bytes
    charter_version: int
    eligible: int
    status: Status = Status.OPEN
    updates: dict[int, UpdateRecorded] = field(default_factory=dict)
    ended: RoundSettled | RoundAborted | None = None
    attestations: dict[int, AttestationRecorded] = field(default_factory=dict)
    erasures: list[ErasureRecorded] = field(default_factory=list)

    @property
    def number(self) -> int:
        """The round's number."""
        return self.opened.round

    @property
    def attesters(self) -> Role:
        """The roles that may attest to its model."""
        return Role.AUDITOR | Role.PARTICIPANT if self.opened.participants_attest else Role.AUDITOR


class History:
    """The state of a ledger after some entries.

    `check` says whether an entry is allowed next; `record` takes it without asking, so that an auditor can look at
    all of a history in which something is wrong; `apply` does both.
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

    def model_of(self, round_: int) -> Cid | None:
        """The released model of a round, 0 being the genesis; None where there is none."""
        if round_ == 0:
            return self.genesis_model.model if self.genesis_model else None
        known = self.rounds.get(round_)
        released = known and known.status is Status.RELEASED and isinstance(known.ended, RoundSettled)
        return known.ended.model if released else None  # type: ignore[union-attr]

    def member_by_account(self, account: str) -> Member | None:
        """The member of which this is an account, present or past; None for a stranger."""
        known = self.accounts.get(account.lower())
        return self.members.get(known.member) if known else None

    def count(self, roles: Role) -> int:
        """How many members with one of these roles have accepted the charter in force."""
        present = (self.accounts[member.account] for member in self.members.values())
        return sum(bool(roles & one.roles) and one.accepted == self.charter_version for one in present)

    # ------------------------------------------------------------------ rules

    def apply(self, entry: Entry, call: Call | None = None) -> None:
        """Check and record.

        Raises:
            Refused: If the rules do not allow it; the state is then unchanged.
        """
        self.check(entry.fact, entry.time, call)
        self.record(entry)

    def check(self, fact: Fact, time: int, call: Call | None = None) -> None:
        """Whether the rules allow `fact` as the next entry, in a block of that time.

        `call` says who calls and how, where it is known; the contract always knows it.

        Raises:
            Refused: With the name of the contract's error.
        """
        try:
            self._check(fact, time, call)
        except Refused as refused:
            if refused.name == "MemberUnknown" and call and call.signer:
                raise Refused("SignatureInvalid", "no member's account signed it") from None
            raise

    def _check(self, fact: Fact, time: int, call: Call | None) -> None:
        sender = call.sender.lower() if call else None
        actor = (call.signer or call.sender).lower() if call else None
        match fact:
            case GovernanceTaken(governor):
                offered = governor == self.governance_offer != ZERO_ACCOUNT
                _require(offered, "GovernanceNotOffered", f"governance was not offered to {governor}")
            case CharterAccepted() | AccountOffered() | AccountTaken():
                self._check_membership(fact, actor)
            case RoundOpened():
                self._check_opening(fact, time, actor)
            case UpdateRecorded():
                self._check_update(fact, time, actor)
            case RoundSettled() | RoundAborted():
                self._check_end(fact, time, actor, call.expected_head if call else None)
            case AttestationRecorded():
                self._check_attestation(fact, actor)
            case ErasureRecorded():
                self._check_erasure(fact)
            case _:
                _require(sender in (None, self.governor), "GovernorOnly", f"{sender} is not the governor")
                self._check_governance(fact)
        for value in vars(fact).values():
            _require(not (isinstance(value, Cid) and value.digest == bytes(32)), "CidInvalid", "a digest is not zero")

    def _check_governance(self, fact: Fact) -> None:
        match fact:
            case GenesisRecorded():
                _require(self.genesis_model is None, "GenesisAlreadyRecorded", "there is one genesis model")
            case CharterChanged(version=version):
                _expect(version, self.charter_version + 1, "charter's version")
            case MemberAdmitted(member, account, roles, name):
                self._check_new_account(account)
                _require(0 < roles <= 7, "MemberRolesInvalid", f"roles {int(roles)} are not within 1..7")
                _require(name != "", "MemberNameMissing", "a member needs a name")
                _expect(member, len(self.members) + 1, "member id")
            case RolesChanged(member, roles):
                self._check_member_id(member)
                _require(roles <= 7, "MemberRolesInvalid", f"roles {int(roles)} are not within 0..7")
            case AccountReplaced(member, account):
                self._check_member_id(member)
                self._check_new_account(account)

    def _check_membership(self, fact: CharterAccepted | AccountOffered | AccountTaken, actor: str | None) -> None:
        if isinstance(fact, AccountTaken):
            member = self.members.get(fact.member)
            offered = member is not None and member.offered == fact.account != ZERO_ACCOUNT
            _require(offered, "AccountNotOffered", f"member {fact.member} did not offer its place to {fact.account}")
            self._check_new_account(fact.account)
            return
        account, present = self._account(fact.member, None, actor), self.members[fact.member].account
        current = account is self.accounts[present]
        _require(current, "AccountOutdated", f"member {fact.member} acts with {present} now")
        if isinstance(fact, CharterAccepted):
            _require(fact.charter == self.charter, "CharterOutdated", f"the charter in force is {self.charter}")
            _require(fact.age_key != bytes(32), "AgeKeyMissing", "a member publishes its age public key")
        elif fact.account != ZERO_ACCOUNT:
            self._check_new_account(fact.account)

    def _check_opening(self, fact: RoundOpened, time: int, actor: str | None) -> None:
        number = self.latest_round + 1
        self._check_standing(fact.aggregator, number, self.charter_version, Role.AGGREGATOR, actor)
        _require(self.open_round is None, "RoundStillOpen", f"round {self.latest_round} is open")
        base = self.model_of(fact.base_round)
        _require(base is not None, "BaseNotReleased", f"the model of round {fact.base_round} is not released")
        _require(fact.deadline > time, "WindowInvalid", "a round needs a window above 0 seconds")
        participants = self.count(Role.PARTICIPANT)
        inside = 0 < fact.quorum <= participants
        _require(inside, "QuorumInvalid", f"quorum {fact.quorum} is not within 1..{participants} participants")
        attesters = self.count(Role.AUDITOR | Role.PARTICIPANT if fact.participants_attest else Role.AUDITOR)
        _require(fact.approvals <= attesters, "ApprovalsInvalid", f"{fact.approvals} approvals by {attesters} members")
        _expect(fact.base, base, "base model")
        _expect(fact.round, number, "round")

    def _check_update(self, fact: UpdateRecorded, time: int, actor: str | None) -> None:
        known = self._open_round(fact.round)
        late = time - known.opened.deadline
        _require(late <= 0, "RoundClosed", f"round {fact.round} closed {late} seconds before")
        self._check_standing(fact.member, fact.round, known.charter_version, Role.PARTICIPANT, actor)
        again = fact.member in known.updates
        _require(not again, "UpdateAlreadyRecorded", f"member {fact.member} has an update in round {fact.round}")
        _require(fact.weight > 0, "WeightInvalid", "an update needs a weight above 0")

    def _check_end(
        self, fact: RoundSettled | RoundAborted, time: int, actor: str | None, expected_head: bytes | None
    ) -> None:
        known = self._open_round(fact.round)
        opened, recorded = known.opened, len(known.updates)
        reason = fact.reason if isinstance(fact, RoundAborted) else None
        _require(reason is not AbortReason.NONE, "AbortReasonMissing", "an abort has a reason")
        if reason is AbortReason.EXPIRED:
            left = opened.deadline + opened.grace - time
            _require(left < 0, "RoundNotExpired", f"only aggregators end round {fact.round} for another {left} seconds")
            _expect(fact.aggregator, 0, "aggregator of a round that expired")
        else:
            self._check_standing(fact.aggregator, fact.round, known.charter_version, Role.AGGREGATOR, actor)
        if reason in (None, AbortReason.QUORUM):
            ended = time > opened.deadline or recorded >= known.eligible
            left = opened.deadline - time
            _require(ended, "RoundStillRunning", f"round {fact.round} takes updates for another {left} seconds")
            seen = expected_head is None or expected_head == self.head
            _require(seen, "HeadMoved", "entries were recorded after the head that the call expects")
        if isinstance(fact, RoundAborted):
            fits = (fact.manifest is None) == (reason is not AbortReason.QUORUM)
            _require(fits, "CidInvalid", "an abort for lack of quorum has a manifest, and no other abort has one")
            return
        enough = fact.counted >= opened.quorum
        _require(enough, "QuorumNotMet", f"{fact.counted} counted updates are under the quorum of {opened.quorum}")
        _require(fact.counted <= recorded, "CountedExceedsRecorded", f"{fact.counted} counted, {recorded} recorded")

    def _check_attestation(self, fact: AttestationRecorded, actor: str | None) -> None:
        known = self.rounds.get(fact.round)
        if known is None or known.status not in (Status.SETTLED, Status.RELEASED):
            raise Refused("RoundNotSettled", f"round {fact.round} has no settled model")
        self._check_standing(fact.member, fact.round, known.charter_version, known.attesters, actor)
        again = fact.member in known.attestations
        _require(not again, "AttestationAlreadyRecorded", f"member {fact.member} has attested to round {fact.round}")

    def _check_erasure(self, fact: ErasureRecorded) -> None:
        self._check_member_id(fact.member)
        allowed = fact.sender in (self.members[fact.member].account, self.governor)
        _require(allowed, "OwnerOrGovernorOnly", f"{fact.sender} is neither member {fact.member} nor the governor")
        known = self.rounds.get(fact.round)
        if known is None:
            raise Refused("RoundUnknown", f"there is no round {fact.round}")
        _require(known.status is not Status.OPEN, "RoundStillOpen", f"round {fact.round} is open")
        _require(fact.digest != bytes(32), "DigestMissing", "an erasure names a blob's digest")
        _require(fact.reason is not ErasureReason.NONE, "ErasureReasonMissing", "an erasure has a reason")

    def _check_new_account(self, account: Address) -> None:
        _require(account != ZERO_ACCOUNT, "MemberAccountZero", "the zero account cannot be a member's")
        _require(account not in self.accounts, "MemberAccountTaken", f"{account} is, or was, a member's account")

    def _check_member_id(self, member: int) -> None:
        _require(member in self.members, "MemberIdUnknown", f"there is no member {member}")

    def _check_standing(self, member: int, round_: int, charter: int, roles: Role, actor: str | None) -> None:
        """The member may act in a round with one of `roles`, under the charter of that round."""
        account = self._account(member, round_, actor)
        name = self.members[member].name
        _require(round_ <= account.until, "AccountOutdated", f"this account of {name} acts up to round {account.until}")
        named = " nor ".join((role.name or "").lower() for role in roles)
        _require(bool(account.roles_in(round_) & roles), "MemberRoleMissing", f"member {member} ({name}) is no {named}")
        _require(account.accepted >= charter, "CharterNotAccepted", f"{name} did not accept version {charter}")
        _require(
            account.since < round_,
            "MemberNotEligible",
            f"member {member} ({name}) acts in rounds after {account.since}",
        )

    def _account(self, member: int, round_: int | None, actor: str | None) -> Account:
        """The account that acts for a member: the actor's where it is known, or else the one of that round."""
        known, account = self.members.get(member), self.accounts.get(actor or "")
        if known is None or (actor and (account is None or account.member != member)):
            raise Refused("MemberUnknown", f"member {member} is not known, or not with account {actor}")
        if account is not None:
            return account
        accounts = [self.accounts[address] for address in known.accounts]
        return next((one for one in accounts if round_ is not None and round_ <= one.until), accounts[-1])

    def _open_round(self, number: int) -> Round:
        known = self.rounds.get(number)
        if known is None or known.status is not Status.OPEN:
            raise Refused("RoundNotOpen", f"round {number} is not open")
        return known

    # ----------------------------------------------------------------- record

    def record(self, entry: Entry) -> None:
        """Take an entry as it is; facts about a member or a round that is not known only move the head."""
        self.head = extend(self.head, entry)
        self.entries += 1
        match fact := entry.fact:
            case GovernanceOffered():
                self.governance_offer = fact.account
            case GovernanceTaken():
                self.governor, self.governance_offer = fact.governor, ZERO_ACCOUNT
            case CharterChanged():
                self.charter, self.charter_version = fact.charter, fact.version
            case MemberAdmitted():
                self.members[fact.member] = Member(fact.member, fact.name, fact.account, [fact.account])
                self.accounts[fact.account] = Account(fact.member, fact.roles, self.latest_round)
            case RolesChanged() | CharterAccepted() | AccountOffered() | AccountTaken() | AccountReplaced():
                if member := self.members.get(fact.member):
                    self._record_membership(member, fact)
            case GenesisRecorded():
                self.genesis_model = fact
            case RoundOpened():
                eligible = self.count(Role.PARTICIPANT)
                self.rounds[fact.round] = Round(fact, entry.time, self.head, self.charter_version, eligible)
            case _:
                if known := self.rounds.get(fact.round):
                    _record_in_round(known, fact)

    def _record_membership(
        self, member: Member, fact: RolesChanged | CharterAccepted | AccountOffered | AccountTaken | AccountReplaced
    ) -> None:
        account, latest = self.accounts[member.account], self.latest_round
        match fact:
            case RolesChanged():
                # Two changes between the same rounds are one: what held before the first still holds up to here.
                # What held before an earlier change is not kept: the account does not act in rounds of that time.
                if account.roles_since != latest:
                    account.since = max(account.since, account.roles_since)
                    account.roles_before = account.roles
                account.roles, account.roles_since = fact.roles, latest
            case CharterAccepted():
                # Who lets a round pass without having accepted its charter begins anew, for rounds opened later.
                newest = self.rounds.get(latest)
                if account.accepted == 0 or (newest and account.accepted < newest.charter_version):
                    account.since = latest
                account.accepted = self.charter_version
                account.acceptances += 1
                member.age_key = fact.age_key
            case AccountOffered():
                member.offered = fact.account
            case AccountTaken() | AccountReplaced():
                self.accounts[fact.account] = replace(account, since=latest, until=NEVER)
                account.until = latest
                member.account, member.offered = fact.account, ZERO_ACCOUNT
                member.accounts.append(fact.account)


def _record_in_round(known: Round, fact: RoundFact) -> None:
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
            known.attestations[fact.member] = fact
            verdicts = [attestation.approve for attestation in known.attestations.values()]
            approved = verdicts.count(True) >= known.opened.approvals
            if known.status is Status.SETTLED and approved and verdicts.count(False) <= known.opened.rejections:
                known.status = Status.RELEASED
        case ErasureRecorded():
            known.erasures.append(fact)


def _expect(shown: object, computed: object, what: str) -> None:
    """What the contract computes itself: it can only differ where the entry was altered."""
    _require(shown == computed, "Impossible", f"the {what} is {shown}, the contract gives {computed}")


def _require(condition: bool, name: str, detail: str) -> None:
    if not condition:
        raise Refused(name, detail)
