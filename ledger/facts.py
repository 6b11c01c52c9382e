"""The facts: what each of the contract's events says, field by field, in the event's order. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import ClassVar, NewType, get_args

from eth_hash.auto import keccak

from ledger.cid import Cid

Address = NewType("Address", str)
"""An account, written in lower case: ``0x`` and 40 hex digits."""

Name = NewType("Name", str)
"""A member's name: 1 to 32 bytes of UTF-8 without NUL (see `ledger.entries.name_text`)."""


class Role(IntFlag):
    """What a member may do; a member may have several roles."""

    PARTICIPANT = 1
    AGGREGATOR = 2
    AUDITOR = 4


Bytes32 = NewType("Bytes32", bytes)
"""32 bytes: a digest or a public key."""


class AbortReason(IntEnum):
    """Why a round ended without a model; the contract refuses `NONE`."""

    NONE = 0
    QUORUM = 1
    CANCELLED = 2
    EXPIRED = 3


class ErasureReason(IntEnum):
    """Why a blob is to be erased; the contract refuses `NONE`."""

    NONE = 0
    REQUEST = 1
    WITHDRAWAL = 2
    MISTAKE = 3


@dataclass(frozen=True)
class GovernanceOffered:
    FIELDS: ClassVar[str] = "address"
    account: Address


@dataclass(frozen=True)
class GovernanceTaken:
    FIELDS: ClassVar[str] = "address"
    governor: Address


@dataclass(frozen=True)
class CharterChanged:
    FIELDS: ClassVar[str] = "uint16,(bytes32,uint8)"
    version: int
    charter: Cid


@dataclass(frozen=True)
class MemberAdmitted:
    FIELDS: ClassVar[str] = "uint16,address,uint8,bytes32"
    member: int
    account: Address
    roles: Role
    name: Name


@dataclass(frozen=True)
class RolesChanged:
    FIELDS: ClassVar[str] = "uint16,uint8"
    member: int
    roles: Role


@dataclass(frozen=True)
class CharterAccepted:
    FIELDS: ClassVar[str] = "uint16,(bytes32,uint8),bytes32,address"
    member: int
    charter: Cid
    age_key: Bytes32
    sender: Address


@dataclass(frozen=True)
class AccountOffered:
    FIELDS: ClassVar[str] = "uint16,address"
    member: int
    account: Address


@dataclass(frozen=True)
class AccountTaken:
    FIELDS: ClassVar[str] = "uint16,address"
    member: int
    account: Address


@dataclass(frozen=True)
class AccountReplaced:
    FIELDS: ClassVar[str] = "uint16,address"
    member: int
    account: Address


@dataclass(frozen=True)
class GenesisRecorded:
    FIELDS: ClassVar[str] = "(bytes32,uint8)"
    model: Cid


@dataclass(frozen=True)
class RoundOpened:
    FIELDS: ClassVar[str] = (
        "uint32,uint16,(bytes32,uint8),uint32,(bytes32,uint8),uint40,uint32,uint16,uint16,uint16,bool"
    )
    round: int
    aggregator: int
    plan: Cid
    base_round: int
    base: Cid
    deadline: int
    grace: int
    quorum: int
    approvals: int
    rejections: int
    participants_attest: bool


@dataclass(frozen=True)
class UpdateRecorded:
    FIELDS: ClassVar[str] = "uint32,uint16,(bytes32,uint8),bytes32,uint64,address"
    round: int
    member: int
    update: Cid
    key_blob: Bytes32 | None
    weight: int
    sender: Address


@dataclass(frozen=True)
class RoundSettled:
    FIELDS: ClassVar[str] = "uint32,uint16,(bytes32,uint8),(bytes32,uint8),uint16"
    round: int
    aggregator: int
    model: Cid
    manifest: Cid
    counted: int


@dataclass(frozen=True)
class RoundAborted:
    FIELDS: ClassVar[str] = "uint32,uint16,uint8,(bytes32,uint8),address"
    round: int
    aggregator: int
    reason: AbortReason
    manifest: Cid | None
    sender: Address


@dataclass(frozen=True)
class AttestationRecorded:
    FIELDS: ClassVar[str] = "uint32,uint16,bool,(bytes32,uint8)"
    round: int
    member: int
    approve: bool
    report: Cid


@dataclass(frozen=True)
class ErasureRecorded:
    FIELDS: ClassVar[str] = "uint32,uint16,bytes32,uint8,address"
    round: int
    member: int
    digest: Bytes32
    reason: ErasureReason
    sender: Address


@dataclass(frozen=True)
class GrantRecorded:
    FIELDS: ClassVar[str] = "uint16,uint16,uint32,uint32,(bytes32,uint8)"
    member: int
    to: int
    first: int
    last: int
    keys: Cid


Fact = (
    GovernanceOffered
    | GovernanceTaken
    | CharterChanged
    | MemberAdmitted
    | RolesChanged
    | CharterAccepted
    | AccountOffered
    | AccountTaken
    | AccountReplaced
    | GenesisRecorded
    | RoundOpened
    | UpdateRecorded
    | RoundSettled
    | RoundAborted
    | AttestationRecorded
    | ErasureRecorded
    | GrantRecorded
)
FACTS: dict[str, type[Fact]] = {fact.__name__: fact for fact in get_args(Fact)}
KINDS: dict[type[Fact], bytes] = {fact: keccak(f"{fact.__name__}({fact.FIELDS})".encode()) for fact in FACTS.values()}
"""An entry's kind: the topic of its event (32 bytes)."""
MembershipFact = RolesChanged | CharterAccepted | AccountOffered | AccountTaken | AccountReplaced
RoundFact = UpdateRecorded | RoundSettled | RoundAborted | AttestationRecorded | ErasureRecorded
