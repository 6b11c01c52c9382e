"""The calls of a ledger's contract: the one that records a fact, and what those carry that relay signed ones. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from eth_hash.auto import keccak

import ledger.facts as facts
from ledger.chain.signing import SignedAcceptance, SignedUpdate, acceptance_signer, update_signer
from ledger.chain.transactions import SignedTransaction
from ledger.cid import DAG_PB, RAW, Cid
from ledger.entries import Entry, words
from ledger.facts import Address, Fact
from ledger.history import History, Round
from ledger.rules import Call

_CID = "(bytes32,uint8)"
CALLS: dict[type[Fact], tuple[str, tuple[str, ...]]] = {
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
    facts.GrantRecorded: (f"grant(uint16,uint32,uint32,{_CID})", ("to", "first", "last", "keys")),
}
"""The call that records a fact: the function, and where each argument comes from."""

RELAY = f"relayUpdates(uint32,({_CID},bytes32,uint64,bytes32,bytes32)[])"
ACCEPT_SIGNED = f"acceptSigned({_CID},bytes32,uint16,bytes32,bytes32)"
_SIGNED_UPDATE = 192  # bytes


@dataclass(frozen=True)
class Carried:
    """An update in a call that carries signed ones: what is signed, who signed it, and whose account that is."""

    asked: bytes
    signer: Address | None
    member: int | None


def direct_call(entry: Entry, transaction: SignedTransaction) -> Call | None:
    """The call, where the sender acts for itself and asks for exactly this entry."""
    fact = entry.fact
    function, arguments = CALLS[type(fact)]
    data = transaction.data
    expected_head = None
    if data[:4] != selector(function):
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
def selector(function: str) -> bytes:
    """The first bytes of every call of a function."""
    return keccak(function.encode())[:4]


def function_of(data: bytes) -> str:
    """The function that a call is of, for people."""
    functions = [*(function for function, _ in CALLS.values()), RELAY, ACCEPT_SIGNED]
    known = [function.split("(")[0] for function in functions if selector(function) == data[:4]]
    return known[0] if known else f"a function 0x{data[:4].hex()} that no ledger has"


def relayed(history: History, data: bytes) -> list[Carried]:
    """What a call that carries updates records: in its order, all but those of members that have one already."""
    start = 4 + int.from_bytes(data[36:68], "big")
    count, found, seen = int.from_bytes(data[start : start + 32], "big"), list[Carried](), set[int]()
    known = history.rounds.get(int.from_bytes(data[4:36], "big"))
    for at in range(start + 32, min(start + 32 + count * _SIGNED_UPDATE, len(data)), _SIGNED_UPDATE):
        asked, r, vs = data[at : at + 128], data[at + 128 : at + 160], data[at + 160 : at + 192]
        signer = _update_signer(history, known, asked, r, vs) if known else None
        member = member_of(history, signer)
        if known is None or member is None or not (member in known.updates or member in seen):
            found.append(Carried(data[4:36] + asked, signer, member))
        if member is not None:
            seen.add(member)
    return found


def signatures_within(
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


def member_of(history: History, account: Address | None) -> int | None:
    """The id of the member of which this is an account, None for a stranger's."""
    known = history.accounts.get(account or "")
    return known.member if known else None
