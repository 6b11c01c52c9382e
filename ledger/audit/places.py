"""Where a finding is: the round, member, blob, entry and block that it names. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ledger.facts as facts
from ledger.audit.report import Party
from ledger.cid import RAW, Cid
from ledger.entries import Entry
from ledger.errors import BlobMismatchedError, BlobMissingError
from ledger.facts import Fact
from ledger.history import History


@dataclass(frozen=True)
class Erasure:
    """An erasure that is on record.

    Attributes:
        fact: What was recorded.
        entry: The index of its entry.
        approved: Whether an auditor had approved the round's model before.
    """

    fact: facts.ErasureRecorded
    entry: int
    approved: bool


def party(history: History, member: int) -> Party:
    """A member as findings name it, with its present account."""
    known = history.members.get(member)
    return Party(member, known.name, known.account) if known else Party(member, None, None)


def place(history: History, entry: Entry) -> dict[str, Any]:
    """The place of a finding about an entry, as the fields of `Finding`."""
    fact = entry.fact
    blobs = references(fact)
    member = next((getattr(fact, name) for name in ("member", "aggregator") if getattr(fact, name, 0)), None)
    return {
        "round": getattr(fact, "round", None),
        "member": None if member is None else party(history, member),
        "cid": blobs[0][0] if blobs else None,
        "entry": entry.index,
        "block": entry.block,
    }


def unread(error: Exception) -> str:
    """Why a blob cannot be read; the same words wherever it is kept, so that the same history has the same findings."""
    match error:
        case BlobMissingError():
            return "it is missing"
        case BlobMismatchedError():
            return "the bytes stored are not what its CID names"
        case _:
            return str(error)


def references(fact: Fact) -> list[tuple[Cid, str]]:
    """The blobs that an entry names, the foremost first, and as what."""
    match fact:
        case facts.CharterChanged():
            return [(fact.charter, "charter")]
        case facts.GenesisRecorded(model):
            return [(model, "genesis model")]
        case facts.RoundOpened():
            return [(fact.plan, "plan"), (fact.base, "base")]
        case facts.UpdateRecorded():
            keys = [] if fact.key_blob is None else [(Cid(fact.key_blob, RAW), "key blob")]
            return [(fact.update, "update"), *keys]
        case facts.RoundSettled():
            return [(fact.model, "model"), (fact.manifest, "manifest")]
        case facts.RoundAborted(manifest=manifest) if manifest is not None:
            return [(manifest, "manifest")]
        case facts.AttestationRecorded():
            return [(fact.report, "report")]
        case facts.GrantRecorded():
            return [(fact.keys, "grant")]
        case _:
            return []
