"""What it costs to get from received updates to their average: what scripts/bench round measures.

In one process, in turn, again and again: `settle` over the stored updates; Flower over its own messages with the same
values; and the floor, which is the least that this machine needs to hash these bytes and to add these values.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # read when Flower is imported

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.common import Code, FitRes, NDArrays, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy.aggregate import aggregate, aggregate_inplace
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from measuring import apart, in_turn, memory

from ledger.cid import CHUNK, cid_of
from ledger.facts import Address, UpdateRecorded
from ledger.plan import Plan, TensorSpec, Training
from ledger.settlement import settle
from ledger.storage.folder import FolderStore
from ledger.updates import STEP, Place, decode_model, encode, update_header

CASES = ["1000000x10", "10000000x10", "10000000x40", "100000000x10", "10000x5000"]
"""Bytes of a model x sites."""
LAYERS = 2
"""A weight and a bias each."""
OTHER = "aggregate"
"""Which of Flower's ways `other` is: the one that adds before it divides, as ours does. See `Round.other`."""
RUNS = 7
CORES = os.cpu_count() or 1


class Round:
    """A round whose updates have arrived: ours as blobs in a folder, Flower's as messages in memory."""

    def __init__(self, folder: Path, size: int, sites: int) -> None:
        schema = {}
        for number in range(LAYERS):
            schema[f"{number}.weight"] = TensorSpec(dtype="F32", shape=[max(1, size // LAYERS // 4 // 64 - 1), 64])
            schema[f"{number}.bias"] = TensorSpec(dtype="F32", shape=[64])
        training = Training(epochs=1, batch_size=1, learning_rate=0.1)
        self.plan = Plan(
            tensors=schema, seal="none", training=training, max_update_bytes=1 << 40, window=1, quorum=1, approvals=0
        )
        self.place = Place(1337, Address("0x" + "5a" * 20), 1, cid_of(self.plan.encode()), cid_of(b"the base model"))
        self.store = FolderStore(folder)
        self.names = list(schema)
        self.updates: list[UpdateRecorded] = []
        self.parameters: list[tuple[Parameters, int]] = []
        self.records: list[RecordDict] = []
        self.blobs: list[memoryview] = []
        block = np.random.default_rng(0).standard_normal(1 << 16, dtype=np.float32)
        for member in range(1, sites + 1):
            examples = 10 + member % 7
            values = {name: np.resize(np.roll(block, member), spec.shape) for name, spec in schema.items()}
            blob = encode(update_header(self.place, member, examples), schema, values)
            cid = cid_of(blob)
            self.store.path(cid).write_bytes(blob)
            self.blobs.append(memoryview(blob))
            self.updates.append(UpdateRecorded(1, member, cid, None, examples, self.place.ledger))
            parameters = ndarrays_to_parameters(list(values.values()))
            self.parameters.append((parameters, examples))
            arrays = {
                name: Array("float32", tuple(values[name].shape), "numpy.ndarray", tensor)  # the same bytes again
                for name, tensor in zip(self.names, parameters.tensors, strict=True)
            }
            metrics = MetricRecord({"num-examples": examples})
            self.records.append(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}))

    def ours(self) -> bytes:
        """Read and hash every update, check its form, schema and numbers; their average as a blob, and its CID."""
        settlement = settle(self.place, self.plan, self.updates, self.store, (), threads=CORES)
        assert settlement.model is not None
        assert settlement.manifest.counted == len(self.updates)
        return settlement.model

    def other(self) -> dict[str, Callable[[], NDArrays]]:
        """Flower's ways to average: one for all strategies, that of FedAvg, and that of its newer interface.

        All add float32; the last two scale every update in place, and keep no update but the one that they add.
        """

        def in_place() -> NDArrays:
            status = Status(Code.OK, "")
            return aggregate_inplace([(None, FitRes(status, one, examples, {})) for one, examples in self.parameters])

        return {
            "aggregate": lambda: aggregate([(parameters_to_ndarrays(one), count) for one, count in self.parameters]),
            "aggregate_inplace": in_place,
            "aggregate_arrayrecords": lambda: [
                array.numpy() for array in aggregate_arrayrecords(self.records, "num-examples").values()
            ],
        }

    def floor(self, pool: ThreadPoolExecutor) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Hash all leaves; then multiply and add all values: both on all processors, from memory. Returns the sums."""
        leaves = [blob[at : at + CHUNK] for blob in self.blobs for at in range(0, len(blob), CHUNK)]
        list(pool.map(_hash, _shares(leaves)))
        elements = sum(int(np.prod(spec.shape)) for spec in self.plan.tensors.values())
        values = [np.frombuffer(blob, np.float32, elements, len(blob) - elements * 4) for blob in self.blobs]
        weights = [float(update.weight) for update in self.updates]
        sums = np.empty(elements)

        def add(starts: list[int]) -> None:
            products = np.empty(STEP)
            for start in starts:
                totals = sums[start : start + STEP]
                totals[:] = 0
                into = products[: totals.size]
                for one, weight in zip(values, weights, strict=True):
                    np.copyto(into, one[start : start + STEP])
                    np.multiply(into, weight, out=into)
                    np.add(totals, into, out=totals)

        list(pool.map(add, _shares(list(range(0, elements, STEP)))))
        return sums / sum(weights)


def _shares(work: list[Any]) -> list[list[Any]]:
    """The work, a part for each processor."""
    return [work[len(work) * at // CORES : len(work) * (at + 1) // CORES] for at in range(CORES)]


def _hash(leaves: list[memoryview]) -> None:
    for leaf in leaves:
        hashlib.sha256(leaf).digest()


def one(size: int, sites: int) -> None:
    """Measure one case, after a look whether all compute the same."""
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(CORES) as pool:
        round_ = Round(Path(temporary), size, sites)
        ways = round_.other()
        require_the_same(round_, pool)
        gc.freeze()  # the collector need not look through the thousands of messages that wait here, whoever works
        works = {"ours": round_.ours, **ways, "floor": lambda: round_.floor(pool)}
        ours_mb, other_mb = memory(round_.ours), {name: memory(way) for name, way in ways.items()}
        took = in_turn(works, RUNS)
    fastest = min(ways, key=lambda name: took[name])
    row = {
        "bytes": size,
        "sites": sites,
        "ours": took["ours"],
        "other": took[OTHER],
        "other_fastest": took[fastest],
        "floor": took["floor"],
        "ratio": {
            "other_over_ours": took[OTHER] / took["ours"],
            "other_fastest_over_ours": took[fastest] / took["ours"],
            "floor_over_ours": took["floor"] / took["ours"],
        },
        "other_by": {name: took[name] for name in ways},
        "ours_peak_mb": ours_mb,
        "other_peak_mb": other_mb,
    }
    print(json.dumps(row))


def require_the_same(round_: Round, pool: ThreadPoolExecutor) -> None:
    """The comparison is void unless all give the same average, but for rounding."""
    ours = decode_model(round_.ours(), round_.plan)
    assert (np.concatenate(list(ours.tensors.values())) == round_.floor(pool).astype(np.float32)).all()
    for name, way in round_.other().items():
        for tensor, other in zip(round_.names, way(), strict=True):
            close = np.allclose(ours.tensors[tensor], other.reshape(-1), rtol=1e-4, atol=1e-5)
            assert close, f"{tensor} is another average by {name}"


def main(as_json: bool, cases: list[str]) -> None:
    """Each case in a process of its own."""
    rows = [{"case": case, **apart("one-round", "--case", case)} for case in cases or CASES]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    columns = {
        "ours s": lambda row: f"{row['ours']:.4f}",
        "Flower s": lambda row: f"{row['other']:.4f}",
        "its fastest s": lambda row: f"{row['other_fastest']:.4f}",
        "floor s": lambda row: f"{row['floor']:.4f}",
        "Flower/ours": lambda row: f"{row['ratio']['other_over_ours']:.2f}",
        "fastest/ours": lambda row: f"{row['ratio']['other_fastest_over_ours']:.2f}",
        "floor/ours": lambda row: f"{row['ratio']['floor_over_ours']:.2f}",
        "ours MB": lambda row: f"{row['ours_peak_mb']:.0f}",
        "Flower MB": lambda row: f"{row['other_peak_mb'][OTHER]:.0f}",
    }
    print(f"{'bytes x sites':>16}" + "".join(f"{title:>14}" for title in columns))
    for row in rows:
        print(f"{row['case']:>16}" + "".join(f"{show(row):>14}" for show in columns.values()))
