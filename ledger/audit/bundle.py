"""The bundle: the folder with all evidence in one file, and its blobs with it."""

from __future__ import annotations

from pathlib import Path

from ledger.audit.evidence import Evidence, files, read_evidence
from ledger.audit.places import references
from ledger.cid import Cid
from ledger.errors import BlobMismatchedError, UnavailableError
from ledger.manifest import max_manifest_bytes
from ledger.manifests import state_in
from ledger.sealing import MOST_RECIPIENTS
from ledger.storage.car import Written, write_car
from ledger.storage.car_store import CarStore

MAX_MANIFEST_BYTES = max_manifest_bytes(1 << 16, MOST_RECIPIENTS)


def write_bundle(path: Path, evidence: Evidence) -> Written:
    """Write evidence and all blobs that its entries name; the same history gives the same bytes.

    Raises:
        OSError: If the file cannot be written.
    """
    return write_car(path, files(evidence), blobs_of(evidence), evidence.store)


def read_bundle(path: Path) -> Evidence:
    """Read what `write_bundle` wrote, or a daemon's export of it.

    Raises:
        UsageError: If the file is no bundle.
        UnavailableError: If a part of it that is needed first is missing.
        ViolationError: If such a part was altered.
    """
    car = CarStore(path)
    most = path.stat().st_size  # a file is no larger than what holds it
    return read_evidence(lambda name: car.file(name, most), car)


def blobs_of(evidence: Evidence) -> set[Cid]:
    """All blobs that the entries name, and those that the server remembers, which the manifests name."""
    named = {cid: role for entry, _ in evidence.entries for cid, role in references(entry.fact)}
    states = (_state_in(cid, evidence) for cid, role in named.items() if role == "manifest")
    return {evidence.genesis.charter, *named, *(state for state in states if state is not None)}


def _state_in(manifest: Cid, evidence: Evidence) -> Cid | None:
    try:
        return state_in(manifest, evidence.store, MAX_MANIFEST_BYTES)
    except (UnavailableError, BlobMismatchedError):
        return None  # it goes as it is
