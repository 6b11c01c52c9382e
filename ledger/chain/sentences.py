"""What each refusal of the contract means to the person whose call it was, and what to do next: one sentence each.

The keys are the names of the contract's errors, the braces their parameters, as `_show` writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from web3 import Web3

from ledger.facts import Role

SENTENCES: dict[str, str] = {
    "GovernorOnly": "{caller} is not the governor: call with the governor's account, or have it offer governance",
    "GovernanceNotOffered": "governance was not offered to {caller}: the governor offers it first",
    "MemberUnknown": "{caller} is no member's account: call with the account that was admitted, or have the governor "
    "admit this one",
    "MemberIdUnknown": "there is no member {member}: look the id up in the list of members",
    "MemberRoleMissing": "member {member} is no {role} here: call with the account of one, or have the governor change "
    "the member's roles, which holds for rounds opened later",
    "MemberNotEligible": "this account of member {member} takes no part in round {round}, which opened before it could "
    "act: wait for the next round",
    "MemberAccountZero": "the zero account cannot be a member's: give an account that somebody has the key of",
    "MemberAccountTaken": "{account} is, or was, a member's account, and none is used twice: give a new one",
    "MemberRolesInvalid": "these are no roles for a member: give one or more of participant, aggregator and auditor",
    "MemberNameMissing": "a member needs a name: give 1 to 32 bytes of UTF-8",
    "AccountNotOffered": "member {member} did not offer its place to {caller}: its present account offers it first",
    "AccountOutdated": "this account acted for member {member} up to round {until}: call with the one that took over",
    "AgeKeyMissing": "an acceptance publishes an age public key: make one with age-keygen and give its age1… half",
    "CharterNotAccepted": "member {member} has not accepted version {version} of the charter: accept it, and take part "
    "in rounds opened after that",
    "CharterOutdated": "another charter is in force by now: read that one, and accept it",
    "SignatureInvalid": "the signature with index {index} is no member's, or is for another round, ledger or state of "
    "it: have it signed anew",
    "CidInvalid": "a CID is missing, is not that of a raw or dag-pb blob, or stands where none belongs (an abort has a "
    "manifest only for lack of a quorum): compute it from the blob's bytes",
    "GenesisAlreadyRecorded": "the genesis model is recorded already, once and for all: build on it, or deploy another "
    "ledger",
    "BaseNotReleased": "round {baseRound} has no released model to build on (0 stands for the genesis model, which the "
    "governor records): have it recorded or approved, or name another base",
    "WindowInvalid": "a round needs a window above 0 seconds: change the plan",
    "QuorumInvalid": "a quorum of {quorum} is not within 1 and the number of participants that have accepted the "
    "charter in force, {participants}: change the plan, or have more of them accept",
    "ApprovalsInvalid": "{approvals} approvals are more than members may attest, {attesters}: change the plan, or have "
    "more of them accept the charter in force",
    "RoundStillOpen": "round {round} is still open: settle or abort it first",
    "RoundNotOpen": "round {round} is not open: look for the newest round",
    "RoundClosed": "round {round} closed {deadline}: post to the next round",
    "RoundStillRunning": "by the latest block's time, round {round} still takes updates (its deadline: {deadline}): "
    "wait, or until every participant has posted",
    "RoundNotExpired": "round {round} expires {expiry}, and until then only aggregators can end it: wait, or ask one",
    "RoundNotSettled": "round {round} has no settled model to attest to: wait for its settlement",
    "RoundUnknown": "there is no round {round}: look for the newest round",
    "WeightInvalid": "an update needs a weight above 0: give the number of examples that it was trained on",
    "UpdateAlreadyRecorded": "member {member} has an update in round {round}, and none is ever replaced: post to the "
    "next round",
    "HeadMoved": "entries were recorded after those that this call had seen: read the ledger again, and repeat it",
    "QuorumNotMet": "the number of counted updates, {counted}, is under the round's quorum of {quorum}: abort the "
    "round for lack of a quorum",
    "CountedExceedsRecorded": "the settlement counts {counted} updates, and the round has {recorded}: settle again, "
    "from the ledger's entries",
    "AbortReasonMissing": "an abort needs a reason: give quorum, cancelled or expired",
    "AttestationAlreadyRecorded": "member {member} has attested to round {round}, once and for all: leave it at that",
    "ErasureReasonMissing": "an erasure needs a reason: give request, withdrawal or mistake",
    "DigestMissing": "an erasure names a blob: give its CID or digest",
    "OwnerOrGovernorOnly": "{caller} is neither the present account of the member whose update it is, nor the "
    "governor's: call with one of them",
    "RoundsInvalid": "rounds {first} to {last} are none that a grant is for: give a first and a last round, in order, "
    "within 1 and the newest",
}


def sentence(name: str, parameters: Mapping[str, Any], now: int | None) -> str:
    """The sentence for a refusal.

    Args:
        name: The contract's error.
        parameters: Its parameters by name.
        now: The chain's time, None where it is not known.
    """
    return SENTENCES[name].format(**{key: _show(key, value, now) for key, value in parameters.items()})


def moment(time: int, now: int | None) -> str:
    """A time of the chain, as it is seen at `now`: ``12 minutes ago (2026-11-24 16:03:00 UTC)``."""
    absolute = f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if now is None:
        return f"at {absolute}"
    return f"in {_span(time - now)} ({absolute})" if time > now else f"{_span(now - time)} ago ({absolute})"


def _span(seconds: int) -> str:
    """The two leading figures of a duration are enough to a person: ``119 minutes``, then ``2 hours``."""
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}s"
    return f"{seconds} second{'s' if seconds != 1 else ''}"


def _show(parameter: str, value: Any, now: int | None) -> str:
    match parameter:
        case "deadline" | "expiry":
            return moment(value, now)
        case "role":
            return " or ".join((role.name or "").lower() for role in Role(value))
        case "caller" | "account":
            return Web3.to_checksum_address(value)
    return str(value)
