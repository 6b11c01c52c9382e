"""The measurements behind scripts/bench."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from ledger.audit.bundle import blobs_of
from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.facts import UpdateRecorded
from ledger.plan import TensorSpec
from tests.anvil import Anvil
from tests.gas import measure  # the tests compare the same measurement with its snapshot
from tests.paper import PaperLedger

HISTORIES = {
    # name: floats in an update, sites, rounds
    "1 KB x 2,500": (160, 100, 25),
    "1 KB x 10,000": (160, 100, 100),
    "1 MB x 500": (260_000, 10, 50),
    "100 MB x 10": (26_000_000, 10, 1),
}
LEAF, STEP = 1 << 20, 1 << 15


def gas(as_json: bool) -> None:
    """What each call of the contract costs, on a real node."""
    with Anvil() as chain:
        costs = measure(chain)
    if as_json:
        print(json.dumps(costs, indent=1))
    else:
        for call, cost in costs.items():
            print(f"{call:40}{cost:>12,}")


def audits(as_json: bool) -> None:
    """How fast an audit is, next to the floor of this machine; each history in a process of its own."""
    rows = []
    for name, (floats, sites, rounds) in HISTORIES.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "history"
            ledger = PaperLedger(folder, sites, {"w": TensorSpec(dtype="F32", shape=[floats])}, 1 << 30)
            for _ in range(rounds):
                ledger.play_round()
            ledger.write()
            command = [sys.executable, __file__, "one", "--folder", str(folder)]
            rows.append({"history": name} | json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(
        f"{'history':16}{'updates/s':>12}{'MB/s':>10}{'floor MB/s':>12}{'of floor':>10}{'peak MB':>10}{'bound MB':>10}"
    )
    for row in rows:
        speeds = f"{row['updates_per_s']:>12,.0f}{row['mb_per_s']:>10,.1f}{row['floor_mb_per_s']:>12,.0f}"
        memory = f"{row['peak_mb']:>10,.0f}{row['bound_mb']:>10,.0f}"
        print(f"{row['history']:16}{speeds}{row['of_floor']:>10.0%}{memory}")


def one(folder: Path) -> None:
    """Audit one history, then measure the floor: the same bytes hashed, then the same values multiplied and added."""
    started = time.perf_counter()
    evidence = read_folder(folder)
    report = audit(evidence)
    took = time.perf_counter() - started
    peak = _peak()
    assert report.verdict == "verified"
    updates = {entry.fact.update for entry, _ in evidence.entries if isinstance(entry.fact, UpdateRecorded)}
    sizes, floor = [], 0.0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for cid in blobs_of(evidence):
            blob = evidence.store.get(cid)
            sizes.append(len(blob))
            floor += _timed(pool, _hash, memoryview(blob), LEAF)
            if cid in updates:
                values = np.frombuffer(blob, np.float32, (len(blob) - 512) // 4, 512)
                floor += _timed(pool, _add, values, STEP)
    total = sum(sizes)
    row: dict[str, Any] = {
        "updates": len(updates),
        "bytes": total,
        "seconds": took,
        "updates_per_s": len(updates) / took,
        "mb_per_s": total / took / 1e6,
        "floor_mb_per_s": total / floor / 1e6,
        "of_floor": floor / took,
        "peak_mb": peak,
        "bound_mb": 3 * max(sizes) / 1e6 + 200,
    }
    print(json.dumps(row))


def _peak() -> float:
    """The most memory that this program has had, in MB; what ``getrusage`` tells is its parent's, too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024 / 1e6  # type: ignore[index]


def _timed(pool: ThreadPoolExecutor, work: Callable[[Any, int], None], values: Any, step: int) -> float:
    """Seconds that the work takes on all processors, each with its own part."""
    parts = os.cpu_count() or 1 if len(values) > step else 1
    share = -(-len(values) // parts)
    cut = [values[at : at + share] for at in range(0, len(values), share)]
    started = time.perf_counter()
    list(pool.map(lambda part: work(part, step), cut)) if parts > 1 else work(cut[0], step)
    return time.perf_counter() - started


def _hash(part: memoryview, step: int) -> None:
    for at in range(0, len(part), step):
        hashlib.sha256(part[at : at + step]).digest()


def _add(part: np.ndarray[Any, np.dtype[np.float32]], step: int) -> None:
    totals, products = np.zeros(step), np.empty(step)
    for at in range(0, len(part), step):
        values = part[at : at + step]
        into = products[: len(values)]
        np.copyto(into, values)
        np.multiply(into, np.float64(10), out=into)
        np.add(totals[: len(values)], into, out=totals[: len(values)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("what", choices=["gas", "audit", "privacy", "one"])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    match arguments.what:
        case "gas":
            gas(arguments.json)
        case "audit":
            audits(arguments.json)
        case "privacy":
            from privacy_benchmark import main as privacy  # torch takes a while, and no other measurement needs it

            privacy(arguments.json)
        case "one":
            one(arguments.folder)


if __name__ == "__main__":
    main()
