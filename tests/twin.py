"""The contract and its pure twin side by side: the same calls, the same refusals, the same head."""

from collections.abc import Callable
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from web3 import Web3

from ledger.chain.contract import LedgerContract
from ledger.cid import Cid
from ledger.entries import (
    AbortReason,
    Address,
    AttestationRecorded,
    Entry,
    Fact,
    GenesisRecorded,
    MemberAdmitted,
    Name,
    Role,
    RoundAborted,
    RoundOpened,
    RoundSettled,
    UpdateRecorded,
    name_text,
)
from ledger.errors import Refused
from ledger.history import Call, History


@dataclass(frozen=True)
class Admit:
    account: str
    roles: int
    name: bytes


@dataclass(frozen=True)
class Genesis:
    model: Cid | None


@dataclass(frozen=True)
class Open:
    plan: Cid | None
    base_round: int = 0
    window: int = 600
    quorum: int = 1
    approvals: int = 1


@dataclass(frozen=True)
class Submit:
    round: int
    update: Cid | None
    weight: int = 10


@dataclass(frozen=True)
class Settle:
    round: int
    model: Cid | None
    manifest: Cid | None
    counted: int
    head: bytes | None = None


@dataclass(frozen=True)
class Abort:
    round: int
    reason: AbortReason
    manifest: Cid | None
    head: bytes | None = None


@dataclass(frozen=True)
class Attest:
    round: int
    approve: bool
    report: Cid | None


Action = Admit | Genesis | Open | Submit | Settle | Abort | Attest


@dataclass
class Twin:
    """A contract and a history that must stay equal."""

    contract: LedgerContract
    history: History

    def act(self, sender: LocalAccount, action: Action) -> str | None:
        """Call the contract and its twin; the name of the refusal that both give, None if both take it."""
        time = self.contract.web3.eth.get_block("pending")["timestamp"]
        fact, call = self._fact(sender, action, time)
        expected = _refusal(lambda: self.history.check(fact, time, call))
        found = _refusal(lambda: self._call(sender, action))
        assert found == expected, f"{action}: the contract says {found}, the history {expected}"
        if found is None:
            recorded = self.contract.entries()
            assert recorded[-1].fact == fact
            self.take(recorded[-1])
        return found

    def take(self, entry: Entry) -> None:
        self.history.apply(entry)
        assert self.history.head == self.contract.head()
        assert self.history.entries == entry.index + 1

    def _fact(self, sender: LocalAccount, action: Action, time: int) -> tuple[Fact, Call]:
        history = self.history
        known = history.member_by_account(sender.address)
        member = known.id if known else 0
        call = Call(sender.address)
        match action:
            case Admit(account, roles, name):
                number = len(history.members) + 1
                text = name_text(name) if name != bytes(32) else Name("")
                return MemberAdmitted(number, Address(account.lower()), Role(roles), text), call
            case Genesis(model):
                return GenesisRecorded(_cid(model)), call
            case Open(plan, base_round, window, quorum, approvals):
                base = history._released_model(base_round)
                opened = RoundOpened(
                    history.latest_round + 1,
                    member,
                    _cid(plan),
                    base_round,
                    base if isinstance(base, Cid) else ZERO,
                    time + window,
                    quorum,
                    approvals,
                )
                return opened, call
            case Submit(round_, update, weight):
                return UpdateRecorded(round_, member, _cid(update), weight), call
            case Settle(round_, model, manifest, counted, head):
                fact = RoundSettled(round_, member, _cid(model), _cid(manifest), counted)
                return fact, Call(sender.address, head or history.head)
            case Abort(round_, reason, manifest, head):
                return RoundAborted(round_, member, reason, manifest), Call(sender.address, head or history.head)
            case Attest(round_, approve, report):
                return AttestationRecorded(round_, member, approve, _cid(report)), call

    def _call(self, sender: LocalAccount, action: Action) -> None:
        contract, head = self.contract, self.history.head
        match action:
            case Admit(account, roles, name):
                contract._call(sender, "admit", Web3.to_checksum_address(account), roles, name)
            case Genesis(model):
                contract.record_genesis(sender, _cid(model))
            case Open(plan, base_round, window, quorum, approvals):
                contract.open(sender, _cid(plan), base_round, window, quorum, approvals)
            case Submit(round_, update, weight):
                contract.submit(sender, round_, _cid(update), weight)
            case Settle(round_, model, manifest, counted, expected):
                contract.settle(sender, round_, expected or head, _cid(model), _cid(manifest), counted)
            case Abort(round_, reason, manifest, expected):
                contract.abort(sender, round_, expected or head, reason, manifest)
            case Attest(round_, approve, report):
                contract.attest(sender, round_, approve, _cid(report))


ZERO = Cid(bytes(32), 0x55)
"""What no contract takes as a blob."""


def _refusal(attempt: Callable[[], object]) -> str | None:
    try:
        attempt()
    except Refused as refused:
        return refused.name
    return None


def _cid(cid: Cid | None) -> Cid:
    return cid or ZERO
