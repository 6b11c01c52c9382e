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
from functools import partial
from typing import Any

import ledger.facts as facts
from ledger.audit.calls import (
    ACCEPT_SIGNED,
    CALLS,
    RELAY,
    Carried,
    direct_call,
    function_of,
    member_of,
    relayed,
    selector,
    signatures_within,
)
from ledger.audit.evidence import Sent
from ledger.audit.places import party, place
from ledger.audit.report import Finding, incomplete, violated
from ledger.chain.transactions import SignedTransaction
from ledger.entries import Entry, words
from ledger.errors import Refused
from ledger.facts import Address, Fact
from ledger.history import History
from ledger.rules import Call

OPERATORS = "whoever runs the chain or its node, or made this file"


class _NotShown(Exception):
    """The author does not show; carries the finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__()
        self.finding = finding


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
    _rest: deque[Carried] = field(default_factory=deque)  # what that transaction carries and no entry has shown yet

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
        direct = direct_call(entry, transaction)
        if direct and not first:
            text = "its transaction has recorded another entry before"
            raise _NotShown(violated(text, found=transaction.hash, by=OPERATORS, **where()))
        if direct and transaction.chain_id is None:
            text = f"its transaction {transaction.hash} was signed for no chain in particular"
            raise _NotShown(incomplete(text, **where()))
        if first and transaction.data[:4] == selector(RELAY):
            self._rest.extend(relayed(history, transaction.data))
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
            signers = signatures_within(history, fact, transaction.data)
            signer = next((one for one in signers if one and member_of(history, one) == fact.member), None)
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
        found = f"a call of {function_of(transaction.data)}, signed by {transaction.sender}"
        expected = f"a call of {CALLS[type(fact)][0].split('(')[0]} with what the entry says"
        text, signers = "the signed transaction does not ask for this", list[Address | None]()
        if isinstance(fact, facts.UpdateRecorded) and self._rest:
            carried = self._rest.popleft()
            asked = words(fact, "round", "update", "key_blob", "weight")
            signers = [carried.signer] if carried.asked == asked else []
        elif isinstance(fact, facts.CharterAccepted) and transaction.data[:4] == selector(ACCEPT_SIGNED):
            signers = signatures_within(history, fact, transaction.data)
        if signers and fact.member != member_of(history, signers[0]):  # type: ignore[union-attr]
            text, expected = "its member did not sign it", f"a signature of {where()['member']} for this history"
            found = f"a signature of {signers[0] or 'nobody'}, carried by {transaction.sender}"
        elif signers:
            return Call(transaction.sender, signer=signers[0])
        raise _NotShown(violated(text, expected=expected, found=found, by=OPERATORS, **where()))


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
