"""The measurements behind scripts/bench."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from measuring import apart, in_turn, peak, reset_peak
from pyrage.x25519 import Identity

from ledger.age import read_age_key
from ledger.audit.bundle import blobs_of
from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.facts import UpdateRecorded
from ledger.plan import TensorSpec
from ledger.sealing import open_into, open_key, open_update, seal, seal_into
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
SIZES = [1, 10, 100]  # MB of an update
RUNS = 5
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
            rows.append({"history": name} | apart("one", "--folder", str(folder)))
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
    most = peak()
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
        "peak_mb": most,
        "bound_mb": 3 * max(sizes) / 1e6 + 200,
    }
    print(json.dumps(row))


def seals(as_json: bool) -> None:
    """How fast an update is sealed and opened, next to sha256 of it; each size in a process of its own."""
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as temporary:
            (Path(temporary) / "update").write_bytes(os.urandom(size * 1_000_000))
            rows.append({"mb": size} | apart("one-seal", "--folder", temporary))
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    titles = ["seal MB/s", "open MB/s", "sha256 MB/s", "seal/sha256", "open/sha256", "seal takes MB", "open takes MB"]
    print(f"{'update MB':>9}" + "".join(f"{title:>15}" for title in titles))
    for row in rows:
        speeds = "".join(f"{row[name]:>15,.0f}" for name in ("seal_mb_per_s", "open_mb_per_s", "sha256_mb_per_s"))
        ratios = "".join(f"{row[name]:>15.2f}" for name in ("seal_of_sha256", "open_of_sha256"))
        memory = "".join(f"{row[name]:>15.1f}" for name in ("seal_peak_mb", "open_peak_mb"))
        print(f"{row['mb']:>9}{speeds}{ratios}{memory}")


def one_seal(folder: Path) -> None:
    """Seal and open one update: first from file to file, for the memory; then in memory, for the speed."""
    reader = Identity.generate()
    to = [read_age_key(str(reader.to_public()))]
    with (folder / "update").open("rb") as source, (folder / "sealed").open("wb") as sink:
        before = reset_peak()
        key_blob = seal_into(source, sink, to)
        seal_peak = peak() - before
    key = open_key(key_blob, [reader]) or ""
    with (folder / "sealed").open("rb") as source, (folder / "opened").open("wb") as sink:
        before = reset_peak()
        assert open_into(source, sink, key)
        open_peak = peak() - before
    update = (folder / "update").read_bytes()
    assert (folder / "opened").read_bytes() == update
    sealed = seal(update, to)
    key = open_key(sealed.key_blob or b"", [reader]) or ""
    works: dict[str, Callable[[], object]] = {
        "seal": lambda: seal(update, to),
        "open": lambda: open_update(sealed.update, key),
        "sha256": lambda: hashlib.sha256(update).digest(),
    }
    took = in_turn(works, RUNS)
    row = {f"{name}_mb_per_s": len(update) / seconds / 1e6 for name, seconds in took.items()}
    row |= {f"{name}_of_sha256": took["sha256"] / took[name] for name in ("seal", "open")}
    print(json.dumps(row | {"seal_peak_mb": seal_peak, "open_peak_mb": open_peak}))


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
    parser.add_argument(
        "what",
        choices=["gas", "audit", "privacy", "seal", "round", "overhead", "learning", "one", "one-seal", "one-round"],
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--case", action="append", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, default=10, help="of bench learning: how many times all is run")
    arguments = parser.parse_args()
    match arguments.what:
        case "gas":
            gas(arguments.json)
        case "audit":
            audits(arguments.json)
        case "privacy":
            from privacy_benchmark import main as privacy  # torch takes a while, and no other measurement needs it

            privacy(arguments.json)
        case "seal":
            seals(arguments.json)
        case "round":
            from round_benchmark import main as rounds  # Flower takes a while, too

            rounds(arguments.json, arguments.case)
        case "overhead":
            from overhead_benchmark import main as overhead

            overhead(arguments.json, arguments.case, arguments.seconds)
        case "learning":
            from learning_benchmark import main as learning

            learning(arguments.json, arguments.seeds)
        case "one":
            one(arguments.folder)
        case "one-seal":
            one_seal(arguments.folder)
        case "one-round":
            from round_benchmark import one as one_round

            size, sites = map(int, arguments.case[0].split("x"))
            one_round(size, sites)


if __name__ == "__main__":
    main()
