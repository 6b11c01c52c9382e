"""The ledger's rules: which entry may come next. Pure.

`FederatedLedger.sol` enforces the same. Every refusal of the contract is a `Refused` of the same name here, so an
auditor can tell whether each entry was allowed when it was recorded, without trusting the node that served it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import ledger.facts as facts
from ledger.cid import Cid
from ledger.entries import Entry, Genesis
from ledger.errors import Refused
from ledger.facts import AbortReason, Address, ErasureReason, Fact, Role
from ledger.history import ZERO_ACCOUNT, Account, History, Round, Status


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


def replay(genesis: Genesis, entries: Iterable[Entry]) -> History:
    """The history of `entries`, from the start.

    Raises:
        Refused: At the first entry that the rules do not allow.
    """
    history = History(genesis)
    for entry in entries:
        apply(history, entry)
    return history


def apply(history: History, entry: Entry, call: Call | None = None) -> None:
    """Check and record.

    Raises:
        Refused: If the rules do not allow it; the state is then unchanged.
    """
    check(history, entry.fact, entry.time, call)
    history.record(entry)


def check(history: History, fact: Fact, time: int, call: Call | None = None) -> None:
    """Whether the rules allow `fact` as the next entry, in a block of that time.

    `call` says who calls and how, where it is known; the contract always knows it.

    Raises:
        Refused: With the name of the contract's error.
    """
    try:
        _check(history, fact, time, call)
    except Refused as refused:
        if refused.name == "MemberUnknown" and call and call.signer:
            raise Refused("SignatureInvalid", "no member's account signed it") from None
        raise


def _check(history: History, fact: Fact, time: int, call: Call | None) -> None:
    sender = call.sender.lower() if call else None
    actor = (call.signer or call.sender).lower() if call else None
    match fact:
        case facts.GovernanceTaken(governor):
            offered = governor == history.governance_offer != ZERO_ACCOUNT
            _require(offered, "GovernanceNotOffered", f"governance was not offered to {governor}")
        case facts.AccountTaken(member, account):
            known = history.members.get(member)
            offered = known is not None and known.offered == account != ZERO_ACCOUNT
            _require(offered, "AccountNotOffered", f"member {member} did not offer its place to {account}")
            _check_new_account(history, account)
        case facts.CharterAccepted() | facts.AccountOffered():
            _check_present(history, fact, actor)
        case facts.RoundOpened():
            _check_opening(history, fact, time, actor)
        case facts.UpdateRecorded():
            _check_update(history, fact, time, actor)
        case facts.RoundSettled() | facts.RoundAborted():
            _check_end(history, fact, time, actor, call.expected_head if call else None)
        case facts.AttestationRecorded():
            _check_attestation(history, fact, actor)
        case facts.ErasureRecorded():
            _check_erasure(history, fact)
        case facts.GrantRecorded():
            _check_grant(history, fact, actor)
        case _:
            _require(sender in (None, history.governor), "GovernorOnly", f"{sender} is not the governor")
            _check_governance(history, fact)
    for value in vars(fact).values():
        _require(not (isinstance(value, Cid) and value.digest == bytes(32)), "CidInvalid", "a digest is not zero")


def _check_governance(history: History, fact: Fact) -> None:
    match fact:
        case facts.GenesisRecorded():
            _require(history.genesis_model is None, "GenesisAlreadyRecorded", "there is one genesis model")
        case facts.CharterChanged(version=version):
            _expect(version, history.charter_version + 1, "charter's version")
        case facts.MemberAdmitted(member, account, roles, name):
            _check_new_account(history, account)
            _require(0 < roles <= 7, "MemberRolesInvalid", f"roles {int(roles)} are not within 1..7")
            _require(name != "", "MemberNameMissing", "a member needs a name")
            _expect(member, len(history.members) + 1, "member id")
        case facts.RolesChanged(member, roles):
            _check_member_id(history, member)
            _require(roles <= 7, "MemberRolesInvalid", f"roles {int(roles)} are not within 0..7")
        case facts.AccountReplaced(member, account):
            _check_member_id(history, member)
            _check_new_account(history, account)


def _check_present(history: History, fact: facts.CharterAccepted | facts.AccountOffered, actor: str | None) -> None:
    _present(history, fact.member, actor)
    if isinstance(fact, facts.CharterAccepted):
        _require(fact.charter == history.charter, "CharterOutdated", f"the charter in force is {history.charter}")
        _require(fact.age_key != bytes(32), "AgeKeyMissing", "a member publishes its age public key")
    elif fact.account != ZERO_ACCOUNT:
        _check_new_account(history, fact.account)


def _check_opening(history: History, fact: facts.RoundOpened, time: int, actor: str | None) -> None:
    number = history.latest_round + 1
    _check_standing(history, fact.aggregator, number, history.charter_version, Role.AGGREGATOR, actor)
    _require(history.open_round is None, "RoundStillOpen", f"round {history.latest_round} is open")
    base = history.model_of(fact.base_round)
    _require(base is not None, "BaseNotReleased", f"the model of round {fact.base_round} is not released")
    _require(fact.deadline > time, "WindowInvalid", "a round needs a window above 0 seconds")
    participants = history.count(Role.PARTICIPANT)
    inside = 0 < fact.quorum <= participants
    _require(inside, "QuorumInvalid", f"quorum {fact.quorum} is not within 1..{participants} participants")
    attesters = history.count(Role.AUDITOR | Role.PARTICIPANT if fact.participants_attest else Role.AUDITOR)
    _require(fact.approvals <= attesters, "ApprovalsInvalid", f"{fact.approvals} approvals by {attesters} members")
    _expect(fact.base, base, "base model")
    _expect(fact.round, number, "round")


def _check_update(history: History, fact: facts.UpdateRecorded, time: int, actor: str | None) -> None:
    known = _open_round(history, fact.round)
    late = time - known.opened.deadline
    _require(late <= 0, "RoundClosed", f"round {fact.round} closed {late} seconds before")
    _check_standing(history, fact.member, fact.round, known.charter_version, Role.PARTICIPANT, actor)
    again = fact.member in known.updates
    _require(not again, "UpdateAlreadyRecorded", f"member {fact.member} has an update in round {fact.round}")
    _require(fact.weight > 0, "WeightInvalid", "an update needs a weight above 0")


def _check_end(
    history: History,
    fact: facts.RoundSettled | facts.RoundAborted,
    time: int,
    actor: str | None,
    expected_head: bytes | None,
) -> None:
    known = _open_round(history, fact.round)
    opened, recorded = known.opened, len(known.updates)
    reason = fact.reason if isinstance(fact, facts.RoundAborted) else None
    _require(reason is not AbortReason.NONE, "AbortReasonMissing", "an abort has a reason")
    if reason is AbortReason.EXPIRED:
        left = opened.deadline + opened.grace - time
        _require(left < 0, "RoundNotExpired", f"only aggregators end round {fact.round} for another {left} seconds")
        _expect(fact.aggregator, 0, "aggregator of a round that expired")
    else:
        _check_standing(history, fact.aggregator, fact.round, known.charter_version, Role.AGGREGATOR, actor)
    if reason in (None, AbortReason.QUORUM):
        ended = time > opened.deadline or recorded >= known.eligible
        left = opened.deadline - time
        _require(ended, "RoundStillRunning", f"round {fact.round} takes updates for another {left} seconds")
        seen = expected_head is None or expected_head == history.head
        _require(seen, "HeadMoved", "entries were recorded after the head that the call expects")
    if isinstance(fact, facts.RoundAborted):
        fits = (fact.manifest is None) == (reason is not AbortReason.QUORUM)
        _require(fits, "CidInvalid", "an abort for lack of quorum has a manifest, and no other abort has one")
        return
    enough = fact.counted >= opened.quorum
    _require(enough, "QuorumNotMet", f"{fact.counted} counted updates are under the quorum of {opened.quorum}")
    _require(fact.counted <= recorded, "CountedExceedsRecorded", f"{fact.counted} counted, {recorded} recorded")


def _check_attestation(history: History, fact: facts.AttestationRecorded, actor: str | None) -> None:
    known = history.rounds.get(fact.round)
    if known is None or known.status not in (Status.SETTLED, Status.RELEASED):
        raise Refused("RoundNotSettled", f"round {fact.round} has no settled model")
    _check_standing(history, fact.member, fact.round, known.charter_version, known.attesters, actor)
    again = fact.member in known.attestations
    _require(not again, "AttestationAlreadyRecorded", f"member {fact.member} has attested to round {fact.round}")


def _check_erasure(history: History, fact: facts.ErasureRecorded) -> None:
    _check_member_id(history, fact.member)
    allowed = fact.sender in (history.members[fact.member].account, history.governor)
    _require(allowed, "OwnerOrGovernorOnly", f"{fact.sender} is neither member {fact.member} nor the governor")
    known = history.rounds.get(fact.round)
    if known is None:
        raise Refused("RoundUnknown", f"there is no round {fact.round}")
    _require(known.status is not Status.OPEN, "RoundStillOpen", f"round {fact.round} is open")
    _require(fact.digest != bytes(32), "DigestMissing", "an erasure names a blob's digest")
    _require(fact.reason is not ErasureReason.NONE, "ErasureReasonMissing", "an erasure has a reason")


def _check_grant(history: History, fact: facts.GrantRecorded, actor: str | None) -> None:
    account = _present(history, fact.member, actor)
    opens = bool(account.roles & (Role.AGGREGATOR | Role.AUDITOR))
    _require(opens, "MemberRoleMissing", f"member {fact.member} is no aggregator nor auditor")
    _check_member_id(history, fact.to)
    inside = 1 <= fact.first <= fact.last <= history.latest_round
    _require(inside, "RoundsInvalid", f"rounds {fact.first} to {fact.last} are not within 1..{history.latest_round}")
    still = history.open_round is not None and fact.last == history.latest_round
    _require(not still, "RoundStillOpen", f"round {fact.last} is open")


def _check_new_account(history: History, account: Address) -> None:
    _require(account != ZERO_ACCOUNT, "MemberAccountZero", "the zero account cannot be a member's")
    _require(account not in history.accounts, "MemberAccountTaken", f"{account} is, or was, a member's account")


def _check_member_id(history: History, member: int) -> None:
    _require(member in history.members, "MemberIdUnknown", f"there is no member {member}")


def _check_standing(history: History, member: int, round_: int, charter: int, roles: Role, actor: str | None) -> None:
    """The member may act in a round with one of `roles`, under the charter of that round."""
    account = _account(history, member, round_, actor)
    name = history.members[member].name
    _require(round_ <= account.until, "AccountOutdated", f"this account of {name} acts up to round {account.until}")
    named = " nor ".join((role.name or "").lower() for role in roles)
    _require(bool(account.roles_in(round_) & roles), "MemberRoleMissing", f"member {member} ({name}) is no {named}")
    _require(account.accepted >= charter, "CharterNotAccepted", f"{name} did not accept version {charter}")
    _require(account.since < round_, "MemberNotEligible", f"{name} acts in rounds after {account.since}")


def _present(history: History, member: int, actor: str | None) -> Account:
    """The account that acts for a member, which must be its present one."""
    account, present = _account(history, member, None, actor), history.members[member].account
    _require(account is history.accounts[present], "AccountOutdated", f"member {member} acts with {present} now")
    return account


def _account(history: History, member: int, round_: int | None, actor: str | None) -> Account:
    """The account that acts for a member: the actor's where it is known, or else the one of that round."""
    known, account = history.members.get(member), history.accounts.get(actor or "")
    if known is None or (actor and (account is None or account.member != member)):
        raise Refused("MemberUnknown", f"member {member} is not known, or not with account {actor}")
    if account is not None:
        return account
    accounts = [history.accounts[address] for address in known.accounts]
    return next((one for one in accounts if round_ is not None and round_ <= one.until), accounts[-1])


def _open_round(history: History, number: int) -> Round:
    known = history.rounds.get(number)
    if known is None or known.status is not Status.OPEN:
        raise Refused("RoundNotOpen", f"round {number} is not open")
    return known


def _expect(shown: object, computed: object, what: str) -> None:
    """What the contract computes itself: it can only differ where the entry was altered."""
    _require(shown == computed, "Impossible", f"the {what} is {shown}, the contract gives {computed}")


def _require(condition: bool, name: str, detail: str) -> None:
    if not condition:
        raise Refused(name, detail)
