"""What the ledger adds to a round that trains for half a minute: what scripts/bench overhead measures.

Four hospitals train in processes of their own, as many at a time as there are processors. All that a round does beside
that is timed, step by step and one site after another, as if they shared one machine; so is the plain average of the
same tensors, which is all that a round without a ledger does beside training.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from measuring import seconds
from torch import nn
from torch.utils.data import Dataset

from ledger.cid import RAW, Cid
from ledger.plan import Plan, Training
from ledger.sealing import MAX_KEY_BLOB_BYTES, largest_sealed, seal_for
from ledger.storage import Store
from ledger.storage.ipfs import IpfsStore
from ledger.updates import decode, decode_model
from participant import heart
from participant.site import make_update
from participant.task import Task
from participant.tensors import Tensors
from participant.trainer import Trainer, genesis
from tests.anvil import Anvil
from tests.chains import Chain, Embedded
from tests.cli import Cli
from tests.e2e.consortium import Consortium
from tests.ipfs import Daemon
from tests.world import World, age_key, identity_of

MODELS = {"heart": [16], "10 MB": [1100, 2200]}
"""Units of the hidden layers: 1 KB and 10 MB of parameters."""
CHAINS = ["embedded", "anvil"]
STORES = ["folder", "ipfs", "two ipfs"]
"""Where blobs are: one folder or one IPFS node for all, or a node of the sites and one of the aggregator's."""
TRAINING = 30.0
"""Seconds."""
LOOPS = {"default": 2.0, "quick": 0.2}
"""Seconds between two looks at the ledger."""
LOOP_ROUNDS = 5
CORES = os.cpu_count() or 1


class Hospital(Task):
    """One hospital's training rows, and a network of so many hidden units."""

    def __init__(self, units: list[int], number: int) -> None:
        self.units, self.number = units, number

    def model(self) -> nn.Module:
        sizes = [heart.FEATURES, *self.units]
        hidden = [layer for pair in zip(sizes, self.units, strict=False) for layer in (nn.Linear(*pair), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(self.units[-1], 1))

    def load(self, data: Path) -> Dataset[Any]:
        import torch
        from torch.utils.data import TensorDataset

        split = list(heart.load(0).values())[self.number]
        return TensorDataset(torch.from_numpy(split.train_x), torch.from_numpy(split.train_y))


def train(units: list[int], number: int, base: Tensors, plan: Plan) -> Tensors:
    """A hospital's update; runs in a process of its own."""
    return Trainer(Hospital(units, number), Path(".")).train(base, plan, number)


@dataclass
class Clock:
    """Seconds by what they went to."""

    took: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.took[what] = self.took.get(what, 0.0) + time.perf_counter() - started


@dataclass(frozen=True)
class Setting:
    """A ledger, and where its parties keep blobs."""

    world: World
    sites: Store
    aggregator: Store
    hospitals: list[Trainer]

    def play(self, plan: Plan, training: Callable[[Tensors, Plan], list[Tensors]]) -> dict[str, float]:
        """Play a round; returns the seconds of its steps, and of the same without a ledger."""
        world, contract, clock = self.world, self.world.contract, Clock()
        history = contract.history()
        base = self._model(history.model_of(history.latest_released), plan)
        started = time.perf_counter()
        with clock("open"):
            world.aggregator.open(plan)
            history = contract.history()
            known = history.rounds[history.latest_round]
        with clock("training"):
            trained = training(base, plan)
        for number, account in enumerate(world.participants):
            examples = self.hospitals[number].examples
            with clock("make"):

                def again(_base: Tensors, _plan: Plan, mine: Tensors = trained[number]) -> Tensors:
                    return mine

                update = make_update(history.genesis, known, number + 1, examples, again, self.sites)
            with clock("seal"):
                sealed = seal_for(known, update, age_key(identity_of(account)))
            with clock("store"):
                cid, key_blob = self.sites.put(sealed.update), self.sites.put(sealed.key_blob or b"")
            with clock("post"):
                contract.post_update(account, known.number, cid, examples, key_blob.digest)
        with clock("fetch"):
            posted = contract.history().rounds[known.number].updates.values()
            for one in posted:
                self.aggregator.pin(one.update, largest_sealed(plan.max_update_bytes))
                self.aggregator.pin(Cid(one.key_blob or b"", RAW), MAX_KEY_BLOB_BYTES)
        with clock("settle"):
            proposal = world.aggregator.propose()
        with clock("publish"):
            world.aggregator.publish(proposal)
        whole = time.perf_counter() - started
        assert proposal.settlement.manifest.counted == len(trained)
        weights = [hospital.examples for hospital in self.hospitals]
        averaging = seconds(lambda: _average(trained, weights))
        return {**clock.took, "whole": whole, "averaging": averaging}

    def _model(self, cid: Cid | None, plan: Plan) -> Tensors:
        """A model, read where it was made, so that it has still to come to the sites."""
        assert cid is not None
        return decode_model(self.aggregator.get(cid), plan).tensors


def _average(trained: list[Tensors], weights: list[int]) -> Tensors:
    """What a round without a ledger does with the tensors."""
    sums = {name: np.zeros(array.shape) for name, array in trained[0].items()}
    for tensors, weight in zip(trained, weights, strict=True):
        for name, array in tensors.items():
            sums[name] += array * np.float64(weight)
    return {name: (total / sum(weights)).astype(np.float32) for name, total in sums.items()}


@contextmanager
def _setting(units: list[int], chain: str, store: str, folder: Path) -> Iterator[Setting]:
    with ExitStack() as running:
        node: Chain = Embedded() if chain == "embedded" else running.enter_context(Anvil())
        task = Hospital(units, 0)
        world = World(folder, len(heart.HOSPITALS), node, genesis(task, 0))
        sites: Store = world.store
        aggregator: Store = world.store
        if store != "folder":
            nodes = []
            for name in ("sites", "aggregator") if store == "two ipfs" else ("all",):
                (folder / name).mkdir()
                nodes.append(running.enter_context(Daemon(folder / name)))
            if len(nodes) > 1:
                nodes[1].connect(nodes[0])
            sites, aggregator = IpfsStore(nodes[0].url), IpfsStore(nodes[-1].url)
            for cid in map(Cid.parse, os.listdir(world.store.folder)):
                for one in (sites, aggregator):
                    one.copy(cid, world.store)
        world.aggregator = replace(world.aggregator, store=aggregator)
        hospitals = [Trainer(Hospital(units, number), folder) for number in range(len(heart.HOSPITALS))]
        yield Setting(world, sites, aggregator, hospitals)


def _plan(units: list[int], epochs: int) -> Plan:
    tensors = decode(genesis(Hospital(units, 0), 0)).schema
    training = Training(epochs=epochs, batch_size=32, learning_rate=1e-4)
    size = 1 << 24
    return Plan(tensors=tensors, training=training, max_update_bytes=size, window=3600, quorum=1, approvals=0)


def _row(model: str, chain: str, store: str, pool: ProcessPoolExecutor, epochs: int) -> dict[str, Any]:
    units = MODELS[model]

    def training(base: Tensors, plan: Plan) -> list[Tensors]:
        base = {name: np.array(array) for name, array in base.items()}
        jobs = [pool.submit(train, units, number, base, plan) for number in range(len(heart.HOSPITALS))]
        return [job.result() for job in jobs]

    with tempfile.TemporaryDirectory() as temporary, _setting(units, chain, store, Path(temporary)) as setting:
        setting.play(_plan(units, 1), training)  # what a process does for the first time only is no part of a round
        took = setting.play(_plan(units, epochs), training)
    whole, without = took.pop("whole"), took["training"] + took.pop("averaging")
    steps = {name: spent for name, spent in took.items() if name != "training"}
    added = whole - without
    return {
        "case": f"{model}/{chain}/{store}",
        "with_ledger": whole,
        "without": without,
        "ledger": added,
        "overhead": added / without,
        "steps": steps,
    }


def _epochs(units: list[int], pool: ProcessPoolExecutor, wanted: float) -> int:
    """As many as all hospitals together train for so many seconds, found out with all processors at work."""
    tried, took = 1, 0.0
    base = {
        name: np.array(array)
        for name, array in decode_model(genesis(Hospital(units, 0), 0), _plan(units, 1)).tensors.items()
    }

    def work() -> None:
        jobs = [pool.submit(train, units, number, base, _plan(units, tried)) for number in range(len(heart.HOSPITALS))]
        for job in jobs:
            job.result()

    work()
    while (took := seconds(work)) < wanted / 10:
        tried *= 2
    return max(1, round(tried * wanted / took))


def _loops(poll: float) -> float:
    """Seconds of a round of `fedledger aggregate` and `participate`, as processes on anvil; sites hardly train."""
    with tempfile.TemporaryDirectory() as temporary, Anvil() as anvil:
        names = [f"site {number}" for number in range(1, len(heart.HOSPITALS) + 1)]
        consortium = Consortium(Cli(anvil, Path(temporary)), names)
        consortium.found()
        consortium.plan()
        with consortium.stopping():
            looks = ("--poll", str(poll))
            processes = [consortium.participate(site, *looks) for site in names]
            processes.append(consortium.aggregate("--rounds", str(LOOP_ROUNDS + 1), *looks))
            ended = []
            for number in (1, LOOP_ROUNDS + 1):  # the first one, in which processes start, does not count
                consortium.until(lambda history, n=number: n in history.rounds and history.rounds[n].ended)
                ended.append(time.perf_counter())
    return (ended[1] - ended[0]) / LOOP_ROUNDS


def main(as_json: bool, cases: list[str], wanted: float | None) -> None:
    """Every model, on each chain with each store; then the loops."""
    cases = cases or [f"{model}/{chain}/{store}" for model in MODELS for chain in CHAINS for store in STORES] + [
        "loops"
    ]
    rows: list[dict[str, Any]] = []
    loops: Mapping[str, float] = {}
    epochs: dict[str, int] = {}
    with ProcessPoolExecutor(CORES, get_context("spawn")) as pool:
        for case in cases:
            if case == "loops":
                loops = {f"{poll:g}": _loops(poll) for poll in LOOPS.values()}
                continue
            model, chain, store = case.split("/")
            if model not in epochs:
                epochs[model] = _epochs(MODELS[model], pool, wanted or TRAINING)
            rows.append(_row(model, chain, store, pool, epochs[model]))
    if as_json:
        print(json.dumps({"rounds": rows, "loops": loops}, indent=1))
        return
    steps = list(rows[0]["steps"]) if rows else []
    print(f"{'model/chain/store':24}" + "".join(f"{name:>10}" for name in ("with s", "without", "overhead", *steps)))
    for row in rows:
        numbers = "".join(f"{row['steps'][name]:>10.3f}" for name in steps)
        print(f"{row['case']:24}{row['with_ledger']:>10.2f}{row['without']:>10.2f}{row['overhead']:>10.2%}{numbers}")
    for poll, spent in loops.items():
        print(f"loops that look every {poll} s: {spent:.2f} s for a round beside training")
