"""The bundle: the folder with all evidence in one file, and its blobs with it."""

from __future__ import annotations

from pathlib import Path

from ledger.audit.evidence import Evidence, files, read_evidence
from ledger.audit.places import references
from ledger.cid import Cid
from ledger.storage.car import Written, write_car
from ledger.storage.car_store import CarStore


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
    """All blobs that the entries name."""
    named = {cid for entry, _ in evidence.entries for cid, _ in references(entry.fact)}
    return named | {evidence.genesis.charter}
