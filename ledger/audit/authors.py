"""Check 3: who asked for each entry, by its own signature. Pure.

An entry's transaction is signed, and so is an update or an acceptance that another carries. The call that would record
exactly this entry is written again from the entry, and compared with the call that was signed: then the entry is what
its author asked for, whoever runs the chain. A call that reached the ledger through another contract (a Safe, another
multisig) shows who sent it there, and not what that contract checked: such an entry is not provable in this way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

from eth_hash.auto import keccak

import ledger.facts as facts
from ledger.audit.evidence import Sent
from ledger.audit.places import party, place
from ledger.audit.report import Finding, incomplete, violated
from ledger.chain.signing import SignedAcceptance, SignedUpdate, acceptance_signer, update_signer
from ledger.chain.transactions import SignedTransaction
from ledger.cid import DAG_PB, RAW, Cid
from ledger.entries import Entry, words
from ledger.errors import Refused
from ledger.facts import Address, Fact
from ledger.history import History, Round
from ledger.rules import Call

OPERATORS = "whoever runs the chain or its node, or made this file"

_CID = "(bytes32,uint8)"
_CALLS: dict[type[Fact], tuple[str, tuple[str, ...]]] = {
    facts.GovernanceOffered: ("offerGovernance(address)", ("account",)),
    facts.GovernanceTaken: ("takeGovernance()", ()),
    facts.CharterChanged: (f"changeCharter({_CID})", ("charter",)),
    facts.MemberAdmitted: ("admit(address,uint8,bytes32)", ("account", "roles", "name")),
    facts.RolesChanged: ("changeRoles(uint16,uint8)", ("member", "roles")),
    facts.CharterAccepted: (f"accept({_CID},bytes32)", ("charter", "age_key")),
    facts.AccountOffered: ("offerAccount(address)", ("account",)),
    facts.AccountTaken: ("takeAccount(uint16)", ("member",)),
    facts.AccountReplaced: ("replaceAccount(uint16,address)", ("member", "account")),
    facts.GenesisRecorded: (f"recordGenesis({_CID})", ("model",)),
    facts.RoundOpened: (
        f"open({_CID},uint32,(uint32,uint32,uint16,uint16,uint16,bool))",
        ("plan", "base_round", "window", "grace", "quorum", "approvals", "rejections", "participants_attest"),
    ),
    facts.UpdateRecorded: (f"postUpdate(uint32,{_CID},bytes32,uint64)", ("round", "update", "key_blob", "weight")),
    facts.RoundSettled: (
        f"settle(uint32,bytes32,{_CID},{_CID},uint16)",
        ("round", "expected_head", "model", "manifest", "counted"),
    ),
    facts.RoundAborted: (
        f"abort(uint32,bytes32,uint8,{_CID})",
        ("round", "expected_head", "reason", "manifest"),
    ),
    facts.AttestationRecorded: (f"attest(uint32,bool,{_CID})", ("round", "approve", "report")),
    facts.ErasureRecorded: ("erase(uint32,uint16,bytes32,uint8)", ("round", "member", "digest", "reason")),
}
"""The call that records a fact: the function, and where each argument comes from."""

_RELAY = f"relayUpdates(uint32,({_CID},bytes32,uint64,bytes32,bytes32)[])"
_ACCEPT_SIGNED = f"acceptSigned({_CID},bytes32,uint16,bytes32,bytes32)"
_SIGNED_UPDATE = 192  # bytes


class _NotShown(Exception):
    """The author does not show; carries the finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__()
        self.finding = finding


@dataclass(frozen=True)
class _Carried:
    """An update in a call that carries signed ones: what is signed, who signed it, and whose account that is."""

    asked: bytes
    signer: Address | None
    member: int | None


@dataclass
class Authors:
    """Goes along with a replay and finds out each entry's author.

    Attributes:
        ledger: The ledger's address.
        chain_id: Its chain.
        sent: The transactions that the source shows, by hash.
        contracts: Accounts that the auditor knows to be contracts.
        proven: Entries whose author has signed.
        believed: Entries in the name of such a contract.
        findings: What is wrong, or does not show.
        carriers: Who signed the transaction that carried an update, by round and member.
    """

    ledger: Address
    chain_id: int
    sent: Mapping[str, Sent]
    contracts: frozenset[Address] = frozenset()
    proven: int = 0
    believed: int = 0
    findings: list[Finding] = field(default_factory=list)
    carriers: dict[tuple[int, int], Address] = field(default_factory=dict)
    _transactions: dict[str, SignedTransaction] = field(default_factory=dict)
    _nonces: dict[Address, int] = field(default_factory=dict)
    _last: tuple[str, int] | None = None  # the transaction of the entry before, and its block
    _rest: deque[_Carried] = field(default_factory=deque)  # what that transaction carries and no entry has shown yet

    def call(self, history: History, entry: Entry) -> Call | None:
        """The signed call that recorded the next entry after `history`; None where it does not show, which is noted."""
        if not self.sent:
            return None
        if self._last and self._last[0] != entry.transaction:
            self._require_all_carried(history)
        try:
            call = self._call(history, entry)
        except _NotShown as not_shown:
            self.findings.append(not_shown.finding)
            return None
        finally:
            self._last = (entry.transaction, entry.block)
        self.proven += call is not None
        return call

    def not_allowed(self, history: History, entry: Entry, call: Call, refused: Refused) -> None:
        """Take note that the rules allow the entry, and not to the account that signed it."""
        self.proven -= 1
        text, signed = f"who signed it may not do this: {refused}", call.signer or call.sender
        self.findings.append(violated(text, found=signed, by=OPERATORS, **place(history, entry)))

    def finish(self, history: History) -> list[Finding]:
        """What there is to say, at the end."""
        if not self.sent and history.entries:
            text = "the source has no signed transactions: who is the author of the entries is not shown"
            return [incomplete(text)]
        self._require_all_carried(history)
        if unused := [name for name in self.sent if name not in self._transactions]:
            text = f"the source has {len(unused)} signed transactions that recorded no entry, the first is {unused[0]}"
            self.findings.append(incomplete(text, by=OPERATORS))
        return self.findings

    def _require_all_carried(self, history: History) -> None:
        """Every update that a transaction carried is an entry, unless its member had one."""
        for one in self._rest:
            text = "a signed transaction carries its update, and no entry shows it: it was dropped"
            member = None if one.member is None else party(history, one.member)
            found = f"{self._last[0]}, signed by {one.signer}" if self._last else None
            self.findings.append(violated(text, member=member, found=found, by=OPERATORS))
        self._rest.clear()

    def _call(self, history: History, entry: Entry) -> Call | None:
        """The call that recorded the entry; None where its author is a contract that the auditor knows."""
        where = partial(place, history, entry)
        transaction, first = self._transaction(history, entry)
        self._require_place(entry, transaction, first, where)
        fact = entry.fact
        if isinstance(fact, facts.UpdateRecorded):
            self.carriers[fact.round, fact.member] = transaction.sender
        if transaction.to != self.ledger:
            return self._through(history, entry, transaction)
        direct = _direct(entry, transaction)
        if direct and not first:
            text = "its transaction has recorded another entry before"
            raise _NotShown(violated(text, found=transaction.hash, by=OPERATORS, **where()))
        if direct and transaction.chain_id is None:
            text = f"its transaction {transaction.hash} was signed for no chain in particular"
            raise _NotShown(incomplete(text, **where()))
        if first and transaction.data[:4] == _selector(_RELAY):
            self._rest.extend(_relayed(history, transaction.data))
        call = direct or self._carried(history, entry, transaction)
        sender = getattr(fact, "sender", None)
        if isinstance(fact, facts.AccountTaken | facts.GovernanceTaken):
            sender = fact.account if isinstance(fact, facts.AccountTaken) else fact.governor
        if sender not in (None, transaction.sender):
            text = "the entry names another sender than signed the transaction"
            raise _NotShown(violated(text, expected=sender, found=transaction.sender, by=OPERATORS, **where()))
        return call

    def _transaction(self, history: History, entry: Entry) -> tuple[SignedTransaction, bool]:
        """The entry's transaction, and whether this is its first entry."""
        where, name = partial(place, history, entry), entry.transaction
        if (known := self._transactions.get(name)) is not None:
            return known, False
        if (sent := self.sent.get(name)) is None:
            text = f"its signed transaction {name} is not in the source: who is its author is not shown"
            raise _NotShown(incomplete(text, **where()))
        try:
            transaction = SignedTransaction.parse(sent.raw)
        except ValueError as error:
            raise _NotShown(violated(f"its transaction {name} is {error}", by=OPERATORS, **where())) from None
        if transaction.hash != name:
            text = "the signed transaction beside it is another one"
            raise _NotShown(violated(text, expected=name, found=transaction.hash, by=OPERATORS, **where()))
        self._transactions[name] = transaction
        return transaction, True

    def _require_place(
        self, entry: Entry, transaction: SignedTransaction, first: bool, where: Callable[[], dict[str, Any]]
    ) -> None:
        """The transaction is of this chain, and in an order that a chain can have taken."""
        wrong: tuple[str, str | None, str] | None = None
        last = self._nonces.get(transaction.sender, -1)
        if transaction.chain_id not in (None, self.chain_id):
            text = "its transaction was signed for another chain"
            wrong = text, str(self.chain_id), str(transaction.chain_id)
        elif transaction.to == self.ledger and transaction.value:
            wrong = "its transaction carries ether, which the contract does not take", "0", str(transaction.value)
        elif not first and (entry.transaction, entry.block) != self._last:
            wrong = "its transaction has recorded another entry before", None, transaction.hash
        elif first and last >= transaction.nonce:
            text = "a chain takes an account's transactions in the order of their numbers"
            number = f"{transaction.nonce}, in {transaction.hash}"
            wrong = text, f"a number above {last} of {transaction.sender}", number
        self._nonces[transaction.sender] = max(transaction.nonce, last)
        if wrong is not None:
            text, expected, found = wrong
            raise _NotShown(violated(text, expected=expected, found=found, by=OPERATORS, **where()))

    def _through(self, history: History, entry: Entry, transaction: SignedTransaction) -> Call | None:
        """The call of an entry that reached the ledger through another contract; that contract is the sender."""
        fact, sent = entry.fact, f"sent by {transaction.sender}"
        if isinstance(fact, facts.UpdateRecorded | facts.CharterAccepted):
            signers = _signatures_within(history, fact, transaction.data)
            signer = next((one for one in signers if one and _member(history, one) == fact.member), None)
            if signer is not None:
                return Call(fact.sender, signer=signer)
        actor = _account_of(history, fact)
        if actor in self.contracts:
            self.believed += 1
            return None
        through = f"the contract {transaction.to}" if transaction.to else "a contract that it deployed"
        text = f"it came through {through}: that {actor} asked for it is not provable by a signature"
        hint = "if that account is a contract, such as a Safe, say so: --contract"
        raise _NotShown(incomplete(f"{text}; {hint}", found=sent, **place(history, entry)))

    def _carried(self, history: History, entry: Entry, transaction: SignedTransaction) -> Call:
        """The call of an entry whose member signed, and another carried it."""
        fact, where = entry.fact, partial(place, history, entry)
        found = f"a call of {_name(transaction.data)}, signed by {transaction.sender}"
        expected = f"a call of {_CALLS[type(fact)][0].split('(')[0]} with what the entry says"
        text, signers = "the signed transaction does not ask for this", list[Address | None]()
        if isinstance(fact, facts.UpdateRecorded) and self._rest:
            carried = self._rest.popleft()
            asked = words(fact, "round", "update", "key_blob", "weight")
            signers = [carried.signer] if carried.asked == asked else []
        elif isinstance(fact, facts.CharterAccepted) and transaction.data[:4] == _selector(_ACCEPT_SIGNED):
            signers = _signatures_within(history, fact, transaction.data)
        if signers and fact.member != _member(history, signers[0]):  # type: ignore[union-attr]
            text, expected = "its member did not sign it", f"a signature of {where()['member']} for this history"
            found = f"a signature of {signers[0] or 'nobody'}, carried by {transaction.sender}"
        elif signers:
            return Call(transaction.sender, signer=signers[0])
        raise _NotShown(violated(text, expected=expected, found=found, by=OPERATORS, **where()))


def _direct(entry: Entry, transaction: SignedTransaction) -> Call | None:
    """The call, where the sender acts for itself and asks for exactly this entry."""
    fact = entry.fact
    function, arguments = _CALLS[type(fact)]
    data = transaction.data
    expected_head = None
    if data[:4] != _selector(function):
        return None
    at = 4
    for name in arguments:
        if name == "expected_head":
            expected_head, at = data[at : at + 32], at + 32
            continue
        if name == "window" and isinstance(fact, facts.RoundOpened):
            asked = max(fact.deadline - entry.time, 0).to_bytes(32, "big")
        else:
            asked = words(fact, name)
        if data[at : at + len(asked)] != asked:
            return None
        at += len(asked)
    return Call(transaction.sender, expected_head)


@cache
def _selector(function: str) -> bytes:
    return keccak(function.encode())[:4]


def _name(data: bytes) -> str:
    """The function that a call is of, for people."""
    functions = [*(function for function, _ in _CALLS.values()), _RELAY, _ACCEPT_SIGNED]
    known = [function.split("(")[0] for function in functions if _selector(function) == data[:4]]
    return known[0] if known else f"a function 0x{data[:4].hex()} that no ledger has"


def _relayed(history: History, data: bytes) -> list[_Carried]:
    """What a call that carries updates records: in its order, all but those of members that have one already."""
    start = 4 + int.from_bytes(data[36:68], "big")
    count, found, seen = int.from_bytes(data[start : start + 32], "big"), list[_Carried](), set[int]()
    known = history.rounds.get(int.from_bytes(data[4:36], "big"))
    for at in range(start + 32, min(start + 32 + count * _SIGNED_UPDATE, len(data)), _SIGNED_UPDATE):
        asked, r, vs = data[at : at + 128], data[at + 128 : at + 160], data[at + 160 : at + 192]
        signer = _update_signer(history, known, asked, r, vs) if known else None
        member = _member(history, signer)
        if known is None or member is None or not (member in known.updates or member in seen):
            found.append(_Carried(data[4:36] + asked, signer, member))
        if member is not None:
            seen.add(member)
    return found


def _signatures_within(
    history: History, fact: facts.UpdateRecorded | facts.CharterAccepted, data: bytes
) -> list[Address | None]:
    """Who signed what an entry says, wherever in a call that stands with its signature."""
    if isinstance(fact, facts.UpdateRecorded):
        asked, known = words(fact, "update", "key_blob", "weight"), history.rounds.get(fact.round)
        if known is None or (at := data.find(asked)) < 0:
            return []
        rest = data[at + len(asked) :]
        return [_update_signer(history, known, asked, rest[:32], rest[32:64])]
    asked = words(fact, "charter", "age_key")
    if (at := data.find(asked)) < 0:
        return []
    rest = data[at + len(asked) :]
    nonce = int.from_bytes(rest[:32], "big")
    if nonce >= 1 << 16 or len(rest) < 96:
        return []
    signed = SignedAcceptance(fact.charter, fact.age_key, nonce, rest[32:64], rest[64:96])
    signer = acceptance_signer(history.genesis, signed)
    expected = history.accounts[signer].acceptances if signer in history.accounts else None
    return [signer if nonce == expected else None]


def _update_signer(history: History, known: Round, asked: bytes, r: bytes, vs: bytes) -> Address | None:
    """Who signed an update for a round, given its words: digest, codec, key blob and weight."""
    codec, weight = int.from_bytes(asked[32:64], "big"), int.from_bytes(asked[96:128], "big")
    if codec not in (RAW, DAG_PB) or weight >= 1 << 64 or len(vs) < 32:
        return None
    key_blob = asked[64:96] if any(asked[64:96]) else None
    signed = SignedUpdate(Cid(asked[:32], codec), key_blob, weight, r, vs)
    return update_signer(history.genesis, known.number, known.opening_head, signed)


def _member(history: History, account: Address | None) -> int | None:
    known = history.accounts.get(account or "")
    return known.member if known else None


def _account_of(history: History, fact: Fact) -> Address:
    """The account in whose name an entry was recorded."""
    match fact:
        case facts.GovernanceTaken(account) | facts.AccountTaken(account=account):
            return account
        case facts.ErasureRecorded(sender=account) | facts.RoundAborted(aggregator=0, sender=account):
            return account
        case facts.MemberAdmitted() | facts.RolesChanged() | facts.AccountReplaced():
            return history.governor
    number = next((getattr(fact, name) for name in ("member", "aggregator") if hasattr(fact, name)), None)
    known = history.members.get(number or 0)
    return known.account if known else history.governor
