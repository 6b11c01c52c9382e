"""The keys of a round's sealed updates, as far as an auditor's own identities lead to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ledger.age import show_age_key
from ledger.audit.places import unread
from ledger.cid import RAW, Cid
from ledger.errors import BlobMismatchedError, BlobMissingError, BlobTooLargeError, FedledgerError, InvalidBlobError
from ledger.facts import UpdateRecorded
from ledger.history import History, Round
from ledger.manifest import Score
from ledger.manifests import read_manifest
from ledger.sealing import (
    MAX_KEY_BLOB_BYTES,
    Identity,
    Masked,
    mask,
    open_key,
    open_update,
    public_key,
    read_annex,
    read_grant,
    readers,
    unmask,
)
from ledger.storage import Blobs
from ledger.updates import Place


def max_grant_bytes(updates: int, rounds: int) -> int:
    """The most bytes that a grant of so many updates can need."""
    return 8192 + 128 * (updates + rounds)


@dataclass
class Opening:
    """What opens a round's updates.

    Attributes:
        keys: Their identities, by member id.
        granted: Whether these come from a grant: whoever gave it answers for them, and not the aggregator.
        scores: How the updates compare, as the annex says; None where it was not opened.
        absent: Why a key blob cannot be read without which a key is none, by member id.
        hashed: Key blobs that were read, and are what their CIDs say.
    """

    keys: dict[int, str] = field(default_factory=dict)
    granted: bool = False
    scores: Mapping[int, Score] | None = None
    absent: dict[int, FedledgerError] = field(default_factory=dict)
    hashed: set[Cid] = field(default_factory=set)


class NotNamedError(Exception):
    """None of the identities was named for the round."""


def opening(
    history: History,
    known: Round,
    annex: str,
    store: Blobs,
    identities: Sequence[Identity],
    grants: Sequence[Masked],
    most: int,
) -> Opening:
    """Find the keys of a round's updates: in its annex, or else in what was granted.

    Args:
        history: The whole history.
        known: The round.
        annex: Its manifest's annex.
        store: Where its blobs are.
        identities: The auditor's own.
        grants: What was granted to them of this round; see `granted`.
        most: The bytes that a sealed update can have.

    Raises:
        NotNamedError: If neither was made for any of the identities.
        ValueError: If the annex is none, or was not made for one of the identities, though it is a reader's.
    """
    opened = read_annex(annex, Place.of(history.genesis, known.opened), identities)
    if opened is None:
        own = {public_key(identity) for identity in identities}
        for member, key in readers(known).items():
            if show_age_key(key) in own:
                raise ValueError(f"it does not open to the key of member {member}, who was to read it")
        if not grants:
            raise NotNamedError
    found = Opening(granted=opened is None, scores=opened.scores if opened else None)
    for member, update in known.updates.items():
        candidates = [one[member] for one in ([opened.masked] if opened else grants) if member in one]
        if not candidates or update.key_blob is None:
            continue
        try:
            key_blob = _key_blob(store, update)
        except (BlobMissingError, BlobMismatchedError) as error:
            found.absent[member] = error
            continue
        found.hashed.add(Cid(update.key_blob, RAW))
        keys = [unmask(candidate, key_blob) for candidate in dict.fromkeys(candidates)]
        found.keys[member] = keys[0] if len(keys) == 1 else _that_opens(store, update, keys, most)
    return found


def _that_opens(store: Blobs, update: UpdateRecorded, keys: Sequence[str], most: int) -> str:
    """The key that opens an update, of several that were granted: one false grant more takes nothing away."""
    try:
        sealed = store.get(update.update, most)
    except (BlobMissingError, BlobMismatchedError, BlobTooLargeError):
        return keys[-1]
    return next((key for key in keys if open_update(sealed, key) is not None), keys[-1])


def handed_on(
    history: History, rounds: Sequence[Round], store: Blobs, identities: Sequence[Identity]
) -> dict[int, Masked]:
    """What some identities can hand on to others, by round: from key blobs, or else from annexes and grants.

    Raises:
        UnavailableError: If a manifest cannot be had.
    """
    grants, _ = granted(history, store, identities)
    found: dict[int, Masked] = {}
    for known in rounds:
        handed = [*grants.get(known.number, []), _annex(history, known, store, identities)]
        masked: dict[int, bytes] = {}
        for member, update in known.updates.items():
            if update.key_blob is None:
                continue
            try:
                key_blob = _key_blob(store, update)
            except (BlobMissingError, BlobMismatchedError):
                continue  # erased, or lost: there is nothing to hand on
            if (key := open_key(key_blob, identities)) is not None:
                masked[member] = mask(key, key_blob)
            elif any(member in one for one in handed):
                masked[member] = next(one[member] for one in reversed(handed) if member in one)
        if masked:
            found[known.number] = masked
    return found


def _annex(history: History, known: Round, store: Blobs, identities: Sequence[Identity]) -> Masked:
    """What a round's annex holds, if it opens."""
    try:
        manifest = read_manifest(known, store)
        annex = manifest.annex if manifest else None
        opened = read_annex(annex, Place.of(history.genesis, known.opened), identities) if annex else None
    except (InvalidBlobError, ValueError):
        return {}  # the audit says so
    return opened.masked if opened else {}


def granted(
    history: History, store: Blobs, identities: Sequence[Identity]
) -> tuple[dict[int, list[Masked]], dict[Cid, str]]:
    """What was granted to some identities, by round; and why a grant to them cannot be read, by its CID."""
    found: dict[int, list[Masked]] = {}
    unreadable: dict[Cid, str] = {}
    own = {public_key(identity) for identity in identities}
    for grant in history.grants:
        to = history.members.get(grant.to)
        if not own or to is None:
            continue
        granted_of = [
            len(known.updates) for number, known in history.rounds.items() if grant.first <= number <= grant.last
        ]
        most = max_grant_bytes(sum(granted_of), len(granted_of))
        try:
            rounds = read_grant(store.get(grant.keys, most), history.genesis, identities)
        except (FedledgerError, ValueError) as error:
            if to.age_key is not None and show_age_key(to.age_key) in own:
                unreadable[grant.keys] = unread(error)
            continue
        for number, masked in (rounds or {}).items():
            if grant.first <= number <= grant.last:
                found.setdefault(number, []).append(masked)
    return found, unreadable


def dispute(
    store: Blobs, update: UpdateRecorded, key: str | None, identities: Sequence[Identity], most: int
) -> bool | None:
    """What an auditor's own identities say to an aggregator that could not open an update.

    Args:
        store: Where the blobs are.
        update: The update, whose blobs are there.
        key: What the aggregator found in the key blob; None for nothing.
        identities: The auditor's.
        most: The bytes that a sealed update of the plan can have.

    Returns:
        None where they do not open the key blob, or the update is too large to count in any case: the claim stays a
        claim. True if it holds: what is in the key blob does not open the update. False if it does not: the key blob
        holds another key, or one that opens the update.
    """
    try:
        own = open_key(_key_blob(store, update), identities)
        if own is None:
            return None
        if key is not None:
            return own == key
        return open_update(store.get(update.update, most), own) is None
    except (BlobMissingError, BlobMismatchedError, BlobTooLargeError):
        return None


def _key_blob(store: Blobs, update: UpdateRecorded) -> bytes:
    return store.get(Cid(update.key_blob or bytes(32), RAW), MAX_KEY_BLOB_BYTES)
