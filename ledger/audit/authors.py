"""Check 3: who asked for each entry, by its own signature. Pure.

An entry's transaction is signed, and so is an update or an acceptance that another carries. The call that would record
exactly this entry is written again from the entry, and compared with the call that was signed: then the entry is what
its author asked for, whoever runs the chain. A call that reached the ledger through another contract (a Safe, another
multisig) shows who sent it there, and not what that contract checked: such an entry is not provable in this way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, partial

from eth_hash.auto import keccak

import ledger.facts as facts
from ledger.audit.evidence import Sent
from ledger.audit.places import party, place
from ledger.audit.report import Finding, incomplete, noted, violated
from ledger.chain.signing import SignedAcceptance, SignedUpdate, acceptance_signer, update_signer
from ledger.chain.transactions import SignedTransaction
from ledger.entries import Entry, words
from ledger.errors import Refused
from ledger.facts import Address, Fact
from ledger.history import History
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
_SIGNED_UPDATE_WORDS = 6


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
        sent: The transactions that the source shows, by hash.
    """

    ledger: Address
    chain_id: int
    sent: Mapping[str, Sent]
    proven: int = 0
    findings: list[Finding] = field(default_factory=list)
    _transactions: dict[str, SignedTransaction] = field(default_factory=dict)
    _nonces: dict[Address, int] = field(default_factory=dict)
    _last: tuple[str, int] | None = None  # the transaction of the entry before, and its block
    _signers: set[Address] = field(default_factory=set)
    _through: list[tuple[Address, Finding]] = field(default_factory=list)

    def call(self, history: History, entry: Entry) -> Call | None:
        """The signed call that recorded the next entry after `history`; None where it does not show, which is noted."""
        if not self.sent:
            return None
        try:
            call = self._call(history, entry)
        except _NotShown as not_shown:
            self.findings.append(not_shown.finding)
            return None
        if call is not None:
            self.proven += 1
            self._signers.add(Address(call.signer or call.sender))
        return call

    def not_allowed(self, history: History, entry: Entry, call: Call, refused: Refused) -> None:
        """Take note that the rules allow the entry, and not to the account that signed it."""
        self.proven -= 1
        text, signed = f"who signed it may not do this: {refused}", call.signer or call.sender
        self.findings.append(violated(text, found=signed, by=OPERATORS, **place(history, entry)))

    def unproven(self, entries: int) -> list[Finding]:
        """What there is to say at the end, after so many entries."""
        if not self.sent and entries:
            text = "the source has no signed transactions: who is the author of the entries is not shown"
            return [incomplete(text)]
        return self.findings + self._through_contracts()

    def _through_contracts(self) -> list[Finding]:
        """What is to be said, at the end, of entries that reached the ledger through another contract."""
        return [
            incomplete(
                f"{finding.text}, although the account has signed for itself elsewhere: have its owner confirm it",
                **{name: getattr(finding, name) for name in ("round", "member", "cid", "entry", "block", "found")},
            )
            if account in self._signers
            else finding
            for account, finding in self._through
        ]

    def _call(self, history: History, entry: Entry) -> Call | None:
        """The call that recorded the entry, None where it came through another contract."""
        where = partial(place, history, entry)
        transaction, first = self._transaction(history, entry)
        if transaction.to != self.ledger:
            actor = _account_of(history, entry.fact)
            text = f"it came through the contract {transaction.to}: its author, {actor}, is not provable by a signature"
            self._through.append((actor, noted(text, found=f"sent by {transaction.sender}", **where())))
            return None
        if first and (last := self._nonces.get(transaction.sender, -1)) >= transaction.nonce:
            raise _NotShown(
                violated(
                    "a chain takes an account's transactions in the order of their numbers",
                    expected=f"a number above {last} of {transaction.sender}",
                    found=f"{transaction.nonce}, in {transaction.hash}",
                    by=OPERATORS,
                    **where(),
                )
            )
        self._nonces[transaction.sender] = max(transaction.nonce, self._nonces.get(transaction.sender, -1))
        direct = _direct(entry, transaction)
        call = direct or self._carried(history, entry, transaction)
        here = (entry.transaction, entry.block)
        if not first and (direct or here != self._last):
            text = "its transaction has recorded another entry before"
            raise _NotShown(violated(text, found=transaction.hash, by=OPERATORS, **where()))
        self._last = here
        if call is None:
            raise _NotShown(
                violated(
                    "the signed transaction does not ask for this",
                    expected=f"a call of {_CALLS[type(entry.fact)][0].split('(')[0]} with what the entry says",
                    found=f"a call of {_name(transaction.data)}, signed by {transaction.sender}",
                    by=OPERATORS,
                    **where(),
                )
            )
        sender = getattr(entry.fact, "sender", None)
        if isinstance(entry.fact, facts.AccountTaken | facts.GovernanceTaken):
            sender = entry.fact.account if isinstance(entry.fact, facts.AccountTaken) else entry.fact.governor
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
        if transaction.chain_id is None:
            raise _NotShown(incomplete(f"its transaction {name} was signed for no chain in particular", **where()))
        if transaction.chain_id != self.chain_id:
            text = "its transaction was signed for another chain"
            expected, found = str(self.chain_id), str(transaction.chain_id)
            raise _NotShown(violated(text, expected=expected, found=found, by=OPERATORS, **where()))
        self._transactions[name] = transaction
        return transaction, True

    def _carried(self, history: History, entry: Entry, transaction: SignedTransaction) -> Call | None:
        """The call of an entry whose member signed, and another carried it."""
        fact, where = entry.fact, partial(place, history, entry)
        match fact:
            case facts.UpdateRecorded() if known := history.rounds.get(fact.round):
                signatures = _relayed(transaction.data).get(words(fact, "round", "update", "key_blob", "weight"), [])
                signers = [
                    update_signer(
                        history.genesis,
                        fact.round,
                        known.opening_head,
                        SignedUpdate(fact.update, fact.key_blob, fact.weight, r, vs),
                    )
                    for r, vs in signatures
                ]
            case facts.CharterAccepted():
                nonce, r, vs = _accepted(transaction.data, words(fact, "charter", "age_key"))
                signed = SignedAcceptance(fact.charter, fact.age_key, nonce, r, vs)
                signers = [acceptance_signer(history.genesis, signed)] if r else []
            case _:
                return None
        if not signers:
            return None
        members = [history.accounts[signer].member for signer in signers if signer in history.accounts]
        if fact.member not in members:
            raise _NotShown(
                violated(
                    "its member did not sign it",
                    expected=f"a signature of {party(history, fact.member)} over this round of this history",
                    found=f"a signature of {' and '.join(str(signer or 'nobody') for signer in signers)}",
                    by=f"{transaction.sender}, who carried it, or {OPERATORS}",
                    **where(),
                )
            )
        signer = next(one for one in signers if one in history.accounts and history.accounts[one].member == fact.member)
        if isinstance(fact, facts.CharterAccepted) and history.accounts[signer or ""].acceptances != nonce:
            expected, found = f"acceptance {history.accounts[signer or ''].acceptances}", f"acceptance {nonce}"
            text = "its member signed another of its acceptances"
            raise _NotShown(violated(text, expected=expected, found=found, by=OPERATORS, **where()))
        return Call(transaction.sender, signer=signer)


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


def _relayed(data: bytes) -> dict[bytes, list[tuple[bytes, bytes]]]:
    """The signatures in a call that carries updates, by what is signed: round, update, key blob and weight."""
    found: dict[bytes, list[tuple[bytes, bytes]]] = {}
    if data[:4] != _selector(_RELAY):
        return found
    round_, start, count = data[4:36], data[36:68], int.from_bytes(data[68:100], "big")
    if int.from_bytes(start, "big") != 64:
        return found  # in an unusual form, which no fedledger writes
    for number in range(min(count, len(data) // 32 // _SIGNED_UPDATE_WORDS)):
        at = 100 + number * 32 * _SIGNED_UPDATE_WORDS
        signed = data[at : at + 128]
        found.setdefault(round_ + signed, []).append((data[at + 128 : at + 160], data[at + 160 : at + 192]))
    return found


def _accepted(data: bytes, asked: bytes) -> tuple[int, bytes, bytes]:
    """Number and signature in a call that carries an acceptance of what is asked; an empty signature in another."""
    if data[:4] != _selector(_ACCEPT_SIGNED) or data[4 : 4 + len(asked)] != asked:
        return 0, b"", b""
    rest = data[4 + len(asked) :]
    return int.from_bytes(rest[:32], "big"), rest[32:64], rest[64:96]


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
