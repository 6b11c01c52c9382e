"""Manifests, read from where blobs are; and what the server of a strategy remembers from round to round, by them."""

from __future__ import annotations

from ledger.cid import Cid
from ledger.errors import BlobTooLargeError, InvalidBlobError
from ledger.history import History, Round
from ledger.manifest import Manifest, max_manifest_bytes
from ledger.storage import Blobs


def read_manifest(known: Round, store: Blobs) -> Manifest | None:
    """The manifest of a round; None where it has none yet.

    Raises:
        UnavailableError: If it is not to be had.
        BlobMismatchedError: If what is stored is something else.
        BlobTooLargeError: If it is larger than one of so many updates can be.
        InvalidBlobError: If it is no manifest.
    """
    if known.ended is None or known.ended.manifest is None:
        return None
    most = max_manifest_bytes(len(known.updates), len(known.readers))
    return Manifest.decode(store.get(known.ended.manifest, most))


def state_in(manifest: Cid, store: Blobs, most: int) -> Cid | None:
    """The blob of what the server remembers, as a manifest of at most so many bytes names it; None if it names none.

    Raises:
        BlobMissingError: If the manifest is not there.
        BlobMismatchedError: If what is stored is something else.
    """
    try:
        return _state(Manifest.decode(store.get(manifest, most)))
    except (InvalidBlobError, BlobTooLargeError):
        return None  # the audit says so


def state_before(history: History, known: Round, store: Blobs) -> Cid | None:
    """The blob of what the server remembers before a round: after the one whose model is the base.

    Raises:
        BlobMissingError: If that round's manifest is not there.
        BlobMismatchedError: If what is stored is something else.
    """
    before = history.rounds.get(known.opened.base_round)
    try:
        manifest = read_manifest(before, store) if before else None
    except (InvalidBlobError, BlobTooLargeError):
        return None  # the audit says so
    return _state(manifest) if manifest else None


def _state(manifest: Manifest) -> Cid | None:
    return Cid.parse(manifest.state) if manifest.state else None
