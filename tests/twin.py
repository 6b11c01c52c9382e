"""The contract and its pure twin side by side: the same calls, the same refusals, the same head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from web3 import Web3

from ledger.chain.contract import LedgerContract, Terms
from ledger.chain.signing import SignedUpdate, sign_acceptance, sign_update
from ledger.cid import Cid
from ledger.entries import name_text
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
    GrantRecorded,
    MemberAdmitted,
    Name,
    Role,
    RolesChanged,
    RoundAborted,
    RoundOpened,
    RoundSettled,
    UpdateRecorded,
)
from ledger.history import History, Status
from ledger.rules import Call, apply, check
from tests.chains import Chain

AGE_KEY = Bytes32(b"\x09" * 32)
ZERO = Cid(bytes(32), 0x55)
"""What no contract takes as a blob."""


@dataclass(frozen=True)
class OfferGovernance:
    account: str


@dataclass(frozen=True)
class TakeGovernance:
    pass


@dataclass(frozen=True)
class ChangeCharter:
    charter: Cid


@dataclass(frozen=True)
class Admit:
    account: str
    roles: int
    name: bytes


@dataclass(frozen=True)
class ChangeRoles:
    member: int
    roles: int


@dataclass(frozen=True)
class ReplaceAccount:
    member: int
    account: str


@dataclass(frozen=True)
class Accept:
    """`signer` signs and the sender carries; None: the sender accepts for itself. `charter` None: the one in force."""

    charter: Cid | None = None
    age_key: Bytes32 = AGE_KEY
    signer: LocalAccount | None = None


@dataclass(frozen=True)
class OfferAccount:
    account: str


@dataclass(frozen=True)
class TakeAccount:
    member: int


@dataclass(frozen=True)
class Genesis:
    model: Cid


@dataclass(frozen=True)
class Open:
    plan: Cid
    base_round: int = 0
    window: int = 600
    quorum: int = 1
    approvals: int = 1
    rejections: int = 0
    participants_attest: bool = False
    grace: int = 60

    @property
    def terms(self) -> Terms:
        return Terms(self.window, self.grace, self.quorum, self.approvals, self.rejections, self.participants_attest)


@dataclass(frozen=True)
class Post:
    """`signer` signs and the sender carries; None: the sender posts for itself."""

    round: int
    update: Cid
    weight: int = 10
    key_blob: Bytes32 | None = None
    signer: LocalAccount | None = None


@dataclass(frozen=True)
class Settle:
    round: int
    model: Cid
    manifest: Cid
    counted: int
    head: bytes | None = None


@dataclass(frozen=True)
class Abort:
    round: int
    reason: AbortReason
    manifest: Cid | None = None
    head: bytes | None = None


@dataclass(frozen=True)
class Attest:
    round: int
    approve: bool
    report: Cid


@dataclass(frozen=True)
class Erase:
    round: int
    member: int
    digest: Bytes32 = AGE_KEY
    reason: ErasureReason = ErasureReason.REQUEST


@dataclass(frozen=True)
class Grant:
    to: int
    first: int
    last: int
    keys: Cid


Action = (
    OfferGovernance
    | TakeGovernance
    | ChangeCharter
    | Admit
    | ChangeRoles
    | ReplaceAccount
    | Accept
    | OfferAccount
    | TakeAccount
    | Genesis
    | Open
    | Post
    | Settle
    | Abort
    | Attest
    | Erase
    | Grant
)


@dataclass
class Twin:
    """A contract and a history that must stay equal.

    Attributes:
        time: The time of the next call, where a test wants one.
    """

    chain: Chain
    contract: LedgerContract
    history: History
    time: int | None = None

    def act(self, sender: LocalAccount, action: Action) -> str | None:
        """Call the contract and its twin; the name of the refusal that both give, None if both take it."""
        time, self.time = self.time or self.chain.next_time(), None
        self.chain.next_block_at(time)
        fact, call = self._fact(sender, action, time)
        expected = _refusal(lambda: check(self.history, fact, time, call))
        found = _refusal(lambda: self._call(sender, action))
        if expected == "UpdateAlreadyRecorded" and call.signer:
            expected = None  # in a batch it is skipped
        assert found == expected, f"{action}: the contract says {found}, the history {expected}"
        for entry in self.contract.entries()[self.history.entries :]:
            assert entry.fact == fact
            apply(self.history, entry, call)
        return found

    def compare(self) -> None:
        """Head, members and rounds agree."""
        history, functions = self.history, self.contract._contract.functions
        assert history.head == self.contract.head()
        assert history.entries == functions.entryCount().call()
        assert history.governor == functions.governor().call().lower()
        assert history.latest_round == functions.latestRound().call()
        accounts = [account.lower() for account in functions.accountsOf(1, 1000).call()]
        assert accounts == [member.account for member in history.members.values()]
        for address in {account for member in history.members.values() for account in member.accounts}:
            known, found = history.accounts[address], functions.memberOf(Web3.to_checksum_address(address)).call()
            shown = (known.member, known.roles, known.since, known.until, known.accepted, known.acceptances)
            assert shown == (found.id, found.roles, found.since, found.until, found.accepted, found.acceptances)
        for number, known_round in history.rounds.items():
            assert list(Status)[functions.roundOf(number).call().status - 1] is known_round.status
        latest, model = functions.latestModel().call()
        assert latest == history.latest_released
        assert (history.model_of(latest) or ZERO).digest == model.digest

    def _fact(self, sender: LocalAccount, action: Action, time: int) -> tuple[Fact, Call]:
        call = Call(sender.address)
        here = Address(sender.address.lower())
        match action:
            case OfferGovernance(account):
                return GovernanceOffered(_low(account)), call
            case TakeGovernance():
                return GovernanceTaken(here), call
            case ChangeCharter(charter):
                return CharterChanged(self.history.charter_version + 1, charter), call
            case Admit(account, roles, name):
                text = name_text(name) if name != bytes(32) else Name("")
                return MemberAdmitted(len(self.history.members) + 1, _low(account), Role(roles), text), call
            case ChangeRoles(member, roles):
                return RolesChanged(member, Role(roles)), call
            case ReplaceAccount(member, account):
                return AccountReplaced(member, _low(account)), call
            case Accept(charter, age_key, signer):
                fact = CharterAccepted(self._id(signer or sender), charter or self.history.charter, age_key, here)
                return fact, Call(sender.address, signer=signer.address if signer else None)
            case OfferAccount(account):
                return AccountOffered(self._id(sender), _low(account)), call
            case TakeAccount(member):
                return AccountTaken(member, here), call
            case _:
                return self._round_fact(sender, action, time)

    def _round_fact(self, sender: LocalAccount, action: Any, time: int) -> tuple[Fact, Call]:
        history, number = self.history, self._id(sender)
        here, call = Address(sender.address.lower()), Call(sender.address)
        match action:
            case Genesis(model):
                return GenesisRecorded(model), call
            case Open():
                opened = RoundOpened(
                    history.latest_round + 1,
                    number,
                    action.plan,
                    action.base_round,
                    history.model_of(action.base_round) or ZERO,
                    time + action.window,
                    action.grace,
                    action.quorum,
                    action.approvals,
                    action.rejections,
                    action.participants_attest,
                )
                return opened, call
            case Post(round_, update, weight, key_blob, signer):
                fact = UpdateRecorded(round_, self._id(signer or sender), update, key_blob, weight, here)
                return fact, Call(sender.address, signer=signer.address if signer else None)
            case Settle(round_, model, manifest, counted, head):
                settled = RoundSettled(round_, number, model, manifest, counted)
                return settled, Call(sender.address, head or history.head)
            case Abort(round_, reason, manifest, head):
                by = 0 if reason is AbortReason.EXPIRED else number
                return RoundAborted(round_, by, reason, manifest, here), Call(sender.address, head or history.head)
            case Attest(round_, approve, report):
                return AttestationRecorded(round_, number, approve, report), call
            case Erase(round_, member, digest, reason):
                return ErasureRecorded(round_, member, digest, reason, here), call
            case Grant(to, first, last, keys):
                return GrantRecorded(number, to, first, last, keys), call
        raise TypeError(action)

    def _call(self, sender: LocalAccount, action: Action) -> None:
        contract, head = self.contract, self.history.head
        match action:
            case OfferGovernance(account):
                contract.offer_governance(sender, account)
            case TakeGovernance():
                contract.take_governance(sender)
            case ChangeCharter(charter):
                contract.change_charter(sender, charter)
            case Admit(account, roles, name):
                contract._call(sender, "admit", Web3.to_checksum_address(account), roles, name)
            case ChangeRoles(member, roles):
                contract._call(sender, "changeRoles", member, roles)
            case ReplaceAccount(member, account):
                contract.replace_account(sender, member, account)
            case Accept(charter, age_key, None):
                contract.accept(sender, charter or self.history.charter, age_key)
            case Accept(charter, age_key, signer) if signer:
                contract.accept_signed(sender, self.signed_acceptance(signer, charter, age_key))
            case OfferAccount(account):
                contract.offer_account(sender, account)
            case TakeAccount(member):
                contract.take_account(sender, member)
            case Genesis(model):
                contract.record_genesis(sender, model)
            case Open(plan, base_round):
                contract.open(sender, plan, base_round, action.terms)
            case Post(round_, update, weight, key_blob, None):
                contract.post_update(sender, round_, update, weight, key_blob)
            case Post(round_):
                contract.relay_updates(sender, round_, [self.signed_update(action)])
            case Settle(round_, model, manifest, counted, expected):
                contract.settle(sender, round_, expected or head, model, manifest, counted)
            case Abort(round_, reason, manifest, expected):
                contract.abort(sender, round_, expected or head, reason, manifest)
            case Attest(round_, approve, report):
                contract.attest(sender, round_, approve, report)
            case Erase(round_, member, digest, reason):
                contract.erase(sender, round_, member, digest, reason)
            case Grant(to, first, last, keys):
                contract.grant(sender, to, first, last, keys)

    def signed_update(self, action: Post) -> SignedUpdate:
        assert action.signer is not None
        known = self.history.rounds.get(action.round)
        opening = known.opening_head if known else bytes(32)
        return sign_update(
            action.signer, self.history.genesis, action.round, opening, action.update, action.weight, action.key_blob
        )

    def signed_acceptance(self, signer: LocalAccount, charter: Cid | None, age_key: bytes) -> Any:
        account = self.history.accounts.get(signer.address.lower())
        nonce = account.acceptances if account else 0
        return sign_acceptance(signer, self.history.genesis, charter or self.history.charter, age_key, nonce)

    def _id(self, account: LocalAccount) -> int:
        known = self.history.member_by_account(account.address)
        return known.id if known else 0


def _low(account: str) -> Address:
    return Address(account.lower())


def _refusal(attempt: Callable[[], object]) -> str | None:
    try:
        attempt()
    except Refused as refused:
        return refused.name
    return None
