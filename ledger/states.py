"""What the server of a strategy remembers from round to round: which blob that is, by the manifests."""

from __future__ import annotations

from ledger.cid import Cid
from ledger.errors import BlobTooLargeError, InvalidBlobError
from ledger.history import History, Round
from ledger.manifest import Manifest, max_manifest_bytes
from ledger.storage import Blobs


def state_in(manifest: Cid, store: Blobs, most: int) -> Cid | None:
    """The blob of what the server remembers, as a manifest of at most so many bytes names it; None if it names none.

    Raises:
        BlobMissingError: If the manifest is not there.
        BlobMismatchedError: If what is stored is something else.
    """
    try:
        state = Manifest.decode(store.get(manifest, most)).state
    except (InvalidBlobError, BlobTooLargeError):
        return None  # the audit says so
    return Cid.parse(state) if state else None


def state_before(history: History, known: Round, store: Blobs) -> Cid | None:
    """The blob of what the server remembers before a round: after the one whose model is the base.

    Raises:
        BlobMissingError: If that round's manifest is not there.
        BlobMismatchedError: If what is stored is something else.
    """
    before = history.rounds.get(known.opened.base_round)
    if before is None or before.ended is None or before.ended.manifest is None:
        return None
    return state_in(before.ended.manifest, store, max_manifest_bytes(len(before.updates), len(before.readers)))
