"""The audit's memory is bounded by one blob, not by how many a bundle holds: shown under a limit of the system's."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from ledger.audit.bundle import write_bundle
from ledger.audit.evidence import read_folder
from ledger.cid import CHUNK
from ledger.plan import TensorSpec
from ledger.updates import Place, encode, update_header
from tests.paper import PaperLedger

NIGHTLY = settings().max_examples > 1000
MIB = 1 << 20
BLOB = (16 if NIGHTLY else 4) * MIB
LIMIT = 288 * MIB
"""At night: of a whole process, Python and numpy with it, of which an audit of next to nothing takes half."""

HEADROOM = 64 * MIB
"""Every day: above what an audit of next to nothing takes."""

LIMITED = """
import resource, sys
limit = int(sys.argv.pop(1))
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
from ledger.cli import main
try:
    main()
finally:
    print(next(line for line in open("/proc/self/status") if line.startswith("VmPeak:")), file=sys.stderr)
"""


def bundle(folder: Path, blob: int, size: int) -> Path:
    """A bundle of at least this many bytes: rounds of six updates and their model, of `blob` bytes each."""
    elements = blob // 4
    ledger = PaperLedger(folder / "paper", 6, {"w": TensorSpec(dtype="F32", shape=[elements])}, blob + 4096)
    repeated = np.resize(np.random.default_rng(0).standard_normal(1 << 16, dtype=np.float32), elements)

    def update(member: int, place: Place) -> bytes:
        values = repeated.copy()
        marks = values[:: CHUNK // 16]
        marks[:] = (place.round * 10 + member) * 1000 + np.arange(len(marks))  # so that no leaf is there twice
        return encode(update_header(place, member, 10), ledger.plan.tensors, {"w": values})

    for _ in range(-(-size // (7 * blob))):
        ledger.play_round(update)
    path = folder / "history.car"
    write_bundle(path, read_folder(ledger.write()))
    shutil.rmtree(folder / "paper")
    assert path.stat().st_size >= size
    return path


def audited(path: Path, limit: int = 0) -> tuple[subprocess.CompletedProcess[str], int]:
    """Audit under a limit of address space, and give the most that was taken, in bytes."""
    command = [sys.executable, "-c", LIMITED, str(limit), "audit", str(path), "--state", str(path.parent)]
    # Each thread, and each of its arenas, reserves address space that it does not use.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return result, int(result.stderr.split("VmPeak:")[1].split()[0]) * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone afterwards, with all that is large in it."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_a_bundle_ten_times_as_large_as_the_memory_is_audited(folder: Path) -> None:
    (folder / "small").mkdir()
    small, least = audited(bundle(folder / "small", 64, 1))
    assert small.returncode == 0, small.stderr
    limit = LIMIT if NIGHTLY else least + HEADROOM
    (folder / "large").mkdir()
    path = bundle(folder / "large", BLOB, 10 * (LIMIT if NIGHTLY else HEADROOM))
    result, most = audited(path, limit)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1].startswith("Verified: ")
    assert most <= limit


def test_the_limit_is_one(folder: Path) -> None:
    path = bundle(folder, 16 * MIB, 1)
    _, most = audited(path)
    result, _ = audited(path, most - 32 * MIB)
    assert result.returncode == 3
    assert "memory" in result.stdout + result.stderr
