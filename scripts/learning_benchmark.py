"""What federated learning by this ledger's rules is worth: what scripts/bench learning measures.

Every site trains with the product's own trainer, every round is settled by the product's own settlement, in memory and
without a chain. Flower averages the same sites' tensors with its own function. Everything random follows from the seed.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from flwr.server.strategy.aggregate import aggregate
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from ledger.choices import CONTROL
from ledger.facts import Address, UpdateRecorded
from ledger.plan import Plan
from ledger.settlement import settle
from ledger.strategies import read_state
from ledger.updates import MODEL_HEADER, Place, decode, encode, to_float64, update_header
from participant import heart
from participant.controls import Controls
from participant.partition import dirichlet
from participant.site import sent
from participant.task import Task
from participant.tensors import Tensors
from participant.trainer import Trainer
from tests.ledger.test_settlement import Memory

SITES, ATTACKERS = 10, (0, 1, 2)
ALPHAS = (1.0, 0.1)
"""How alike the sites' digits are: of the symmetric Dirichlet distribution by which each class is spread over them."""

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Rows = tuple[Floats, Labels]


@dataclass(frozen=True)
class Problem:
    """Rows of several sites, rows to test on, and how they are learned.

    Attributes:
        sites: Each site's training rows.
        test: The rows on which every model is tested.
        sizes: The widths of the network: features, hidden units, outputs.
        training: The plan's ``training``.
        rounds: How many are played.
        clipping: The bound that the runs with clipping take.
    """

    sites: Sequence[Rows]
    test: Rows
    sizes: tuple[int, int, int]
    training: Mapping[str, float]
    rounds: int
    clipping: float


class Network(Task):
    """A network of one hidden layer on some rows."""

    def __init__(self, rows: Rows, sizes: tuple[int, int, int]) -> None:
        self.rows, self.sizes = rows, sizes

    def model(self) -> nn.Module:
        features, hidden, outputs = self.sizes
        return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

    def load(self, data: Path) -> Dataset[Any]:
        x, y = self.rows
        return TensorDataset(torch.from_numpy(x), torch.from_numpy(y))

    def split(self, dataset: Dataset[Any]) -> tuple[Any, Any]:
        return dataset, []  # what it is tested on is held out already


def hearts(seed: int) -> Problem:
    """The four hospitals."""
    splits = heart.load(seed)
    sites = [(one.train_x, one.train_y.astype(np.int64)) for one in splits.values()]
    pooled = heart.pool(splits)
    training = {"epochs": 5, "batch_size": 32, "learning_rate": 0.01}
    return Problem(sites, (pooled.test_x, pooled.test_y.astype(np.int64)), (heart.FEATURES, 16, 1), training, 20, 1.0)


def hearts_of_ten(seed: int) -> Problem:
    """The four hospitals' rows at ten sites: three of Cleveland's, three of Hungary's, two of each other's."""
    four, rng = hearts(seed), np.random.default_rng([seed, 1])
    sites = []
    for (x, y), count in zip(four.sites, (3, 3, 2, 2), strict=True):
        sites += [(x[rows], y[rows]) for rows in np.array_split(rng.permutation(len(y)), count)]
    return replace(four, sites=sites)


def digits(alpha: float, seed: int) -> Problem:
    """Handwritten digits at ten sites that have other shares of them."""
    rng = np.random.default_rng([seed, 2])
    x, y = load_digits(return_X_y=True)
    x, y, order = (x / 16).astype(np.float32), y.astype(np.int64), rng.permutation(len(y))
    test, train = order[: len(y) // 5], order[len(y) // 5 :]
    sites = [(x[train[rows]], y[train[rows]]) for rows in dirichlet(y[train], SITES, alpha, rng)]
    rate = 0.05 if alpha >= 1 else 0.02  # between sites that differ so much, SCAFFOLD diverges with the larger one
    training = {"epochs": 2, "batch_size": 32, "learning_rate": rate}
    return Problem(sites, (x[test], y[test]), (64, 32, 10), training, 20, 1.0)


# ------------------------------------------------------------------------------------------- one federation


Attack = Callable[[Tensors, Tensors, np.random.Generator], Tensors]
"""What an attacker sends: made of what it trained, and of the base model."""


def _from_base(factor: float) -> Attack:
    def attack(trained: Tensors, base: Tensors, rng: np.random.Generator) -> Tensors:
        return {name: (base[name] + factor * (trained[name] - base[name])).astype(np.float32) for name in trained}

    return attack


def _gaussian(trained: Tensors, base: Tensors, rng: np.random.Generator) -> Tensors:
    return {name: (base[name] + rng.normal(size=base[name].shape)).astype(np.float32) for name in trained}


def _honest(trained: Tensors, base: Tensors, rng: np.random.Generator) -> Tensors:
    return trained


ATTACKS: dict[str, tuple[bool, Attack]] = {
    "sign flip": (False, _from_base(-1.0)),
    "scaled": (True, _from_base(10.0)),
    "label flip": (True, _honest),
    "Gaussian": (False, _gaussian),
}
"""Whether attackers train on flipped labels, and what they send: the way back; ten times their way (model replacement,
Bagdasaryan et al. 2020); their way; the base and noise of standard deviation 1."""

EQUAL = {"weighting": {"by": "equal"}}
RULES: dict[str, dict[str, Any]] = {
    "mean": {},
    "clipping": {"clipping": True},
    "median": {"average": {"name": "median"}, **EQUAL},
    "trimmed mean": {"average": {"name": "trimmed-mean", "share": 0.2}, **EQUAL},
    "Krum": {"filter": {"attackers": 2, "keep": 1}},
    "multi-Krum": {"filter": {"attackers": 2}},
    "multi-Krum, clipping": {"filter": {"attackers": 2}, "clipping": True},
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "FedAvg": {},
    "FedProx, mu 0.1": {"strategy": {"name": "fedprox", "mu": 0.1}},
    "FedAvgM": {"strategy": {"name": "fedavgm"}},
    "FedAdagrad": {"strategy": {"name": "fedadagrad"}},
    "FedAdam": {"strategy": {"name": "fedadam", "server_learning_rate": 0.03}},
    "FedYogi": {"strategy": {"name": "fedyogi", "server_learning_rate": 0.03}},
    "SCAFFOLD": {"strategy": {"name": "scaffold"}},
}
WIRES: dict[str, dict[str, Any]] = {
    "tensors, float32": {},
    "differences, float32": {"wire": "F32"},
    "differences, float16": {"wire": "F16"},
    "differences, bfloat16": {"wire": "BF16"},
}


class Federation:
    """Sites that train by one plan, and the model that settlement makes of it."""

    def __init__(self, problem: Problem, seed: int, choices: Mapping[str, Any], flipped: int = 0) -> None:
        """Nothing is trained yet; the last `flipped` sites have labels that are not theirs."""
        self.problem, self.seed = problem, seed
        outputs = max(2, problem.sizes[2])
        rows = [
            (x, outputs - 1 - y if number >= len(problem.sites) - flipped else y)
            for number, (x, y) in enumerate(problem.sites)
        ]
        self.trainers = [Trainer(Network(one, problem.sizes), Path(".")) for one in rows]
        choices = dict(choices)
        if choices.get("clipping"):
            choices["clipping"] = problem.clipping
        self.plan = Plan.model_validate(
            {
                "tensors": {name: spec.model_dump() for name, spec in self.trainers[0].schema().items()},
                "training": dict(problem.training),
                "seal": "none",
                "max_update_bytes": 1 << 24,
                "window": 1,
                "quorum": len(rows),
                "approvals": 0,
                **choices,
            }
        )
        self.start = self.trainers[0].initial(seed)

    def trained(self, base: Tensors, number: int, site: int, controls: Controls) -> Tensors:
        """A site's tensors after a round."""
        seed = int(np.random.SeedSequence([self.seed, number, site]).generate_state(1, np.uint64)[0] >> 1)
        return self.trainers[site].train(base, self.plan, seed, controls=controls)

    def play(self, attack: Attack = _honest, attackers: int = 0) -> tuple[Tensors, int]:
        """The model after all rounds, and the bytes of an update."""
        blobs, rng, size = Memory(), np.random.default_rng([self.seed, 3]), 0
        base, state = blobs.put(encode(MODEL_HEADER, self.plan.tensors, self.start)), None
        plan, ledger = blobs.put(self.plan.encode()), Address("0x" + "00" * 20)
        own = [dict[str, npt.NDArray[np.float64]]() for _ in self.trainers]
        for number in range(1, self.problem.rounds + 1):
            place, tensors = Place(1, ledger, number, plan, base), decode(blobs.get(base)).tensors
            remembered = read_state(blobs.get(state), self.plan, number) if state else None
            server = {
                name.removeprefix(CONTROL): to_float64(values, "F32")
                for name, values in (remembered.tensors if remembered else {}).items()
            }
            updates = []
            for site, trainer in enumerate(self.trainers):
                made = self.trained(tensors, number, site, Controls(server, own[site]))
                if site >= len(self.trainers) - attackers:
                    made = attack({name: np.ravel(values) for name, values in made.items()}, tensors, rng)
                for name in self.plan.tensors if self.plan.strategy.name == "scaffold" else ():
                    before = own[site].get(name, np.zeros(made[CONTROL + name].size))
                    own[site][name] = before + to_float64(made[CONTROL + name], "F32")
                made = sent(made, tensors, self.plan)
                header = update_header(place, site + 1, trainer.examples)
                blob = encode(header, self.plan.update_tensors, made)
                size = len(blob)
                updates.append(UpdateRecorded(number, site + 1, blobs.put(blob), None, trainer.examples, ledger))
            settled = settle(place, self.plan, updates, blobs, (), state=state, eligible=len(updates))
            assert settled.model is not None, settled.details
            base, state = blobs.put(settled.model), blobs.put(settled.state) if settled.state else None
        return decode(blobs.get(base)).tensors, size

    def play_in_flower(self) -> Tensors:
        """The model after all rounds, averaged by Flower."""
        names, base = list(self.plan.tensors), self.start
        for number in range(1, self.problem.rounds + 1):
            results = []
            for site, trainer in enumerate(self.trainers):
                made = self.trained(base, number, site, Controls())
                results.append(([made[name] for name in names], trainer.examples))
            base = dict(zip(names, (one.astype(np.float32) for one in aggregate(results)), strict=True))
        return base

    def alone(self, rows: Rows) -> Tensors:
        """A model of some rows, trained as many epochs as all rounds have, without a federation."""
        training = self.plan.training.model_copy(update={"epochs": self.plan.training.epochs * self.problem.rounds})
        trainer = Trainer(Network(rows, self.problem.sizes), Path("."))
        return trainer.train(self.start, self.plan.model_copy(update={"training": training}), self.seed)


def tested(problem: Problem, tensors: Tensors) -> tuple[float, float]:
    """Accuracy and AUC (of each class against the others, averaged) on the test rows."""
    x, y = problem.test
    weights = [np.asarray(tensors[name], np.float64) for name in ("0.weight", "0.bias", "2.weight", "2.bias")]
    features, hidden, outputs = problem.sizes
    first = np.maximum(x @ weights[0].reshape(hidden, features).T + weights[1], 0)
    logits = first @ weights[2].reshape(outputs, hidden).T + weights[3]
    if outputs == 1:
        return float(((logits[:, 0] > 0) == y).mean()), float(roc_auc_score(y, logits[:, 0]))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return float((logits.argmax(axis=1) == y).mean()), float(roc_auc_score(y, shares, multi_class="ovr"))


# ----------------------------------------------------------------------------------------------- all runs

Result = dict[str, tuple[float, float]]
"""Accuracy and AUC, by what was run."""


def compared(make: Callable[[int], Problem], seed: int) -> Result:
    """Alone, pooled, in Flower, and by every strategy and wire."""
    problem = make(seed)
    plain, found = Federation(problem, seed, {}), Result()
    single = [tested(problem, plain.alone(rows)) for rows in problem.sites]
    found["alone, mean of the sites"] = (
        statistics.mean(accuracy for accuracy, _ in single),
        statistics.mean(auc for _, auc in single),
    )
    found["alone, best site"] = max(single, key=lambda one: one[1])
    together = np.concatenate([x for x, _ in problem.sites]), np.concatenate([y for _, y in problem.sites])
    found["pooled"] = tested(problem, plain.alone(together))
    found["FedAvg in Flower"] = tested(problem, plain.play_in_flower())
    for name, choices in STRATEGIES.items():
        found[name] = tested(problem, Federation(problem, seed, choices).play()[0])
    for name, choices in WIRES.items():
        tensors, size = Federation(problem, seed, choices).play()
        found[f"wire: {name}: {size:,} bytes"] = tested(problem, tensors)
    return found


def attacked(make: Callable[[int], Problem], seed: int) -> Result:
    """Every rule, under every attack of none, one and two of the sites."""
    problem, found = make(seed), Result()
    for rule, choices in RULES.items():
        for attackers in ATTACKERS:
            for name, (flips, attack) in ATTACKS.items() if attackers else {"none": (False, _honest)}.items():
                federation = Federation(problem, seed, choices, attackers if flips else 0)
                found[f"{rule}|{name}|{attackers}"] = tested(problem, federation.play(attack, attackers)[0])
    return found


RUNS: dict[str, tuple[Callable[[Callable[[int], Problem], int], Result], Callable[[int], Problem]]] = {
    "heart disease, four hospitals": (compared, hearts),
    **{f"digits, ten sites, alpha {alpha:g}": (compared, partial(digits, alpha)) for alpha in ALPHAS},
    "heart disease, ten sites, attacked": (attacked, hearts_of_ten),
    f"digits, ten sites, alpha {ALPHAS[0]:g}, attacked": (attacked, partial(digits, ALPHAS[0])),
}


def one(name: str, seed: int) -> Result:
    """One seed of one of the runs."""
    run, make = RUNS[name]
    return run(make, seed)


def main(as_json: bool, seeds: int) -> None:
    """Measure and print."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    with ProcessPoolExecutor(2) as pool:
        waiting = {name: [pool.submit(partial(one, name, seed)) for seed in range(seeds)] for name in RUNS}
        for name, futures in waiting.items():
            results = [future.result() for future in futures]
            print(f"{name}: {seeds} seeds done", file=sys.stderr)
            found[name] = {
                what: {"accuracy": [one[what][0] for one in results], "auc": [one[what][1] for one in results]}
                for what in results[0]
            }
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for name, runs in found.items():
        attacked_ = any("|" in what for what in runs)
        print(f"\n### {name}, {seeds} seeds\n")
        _print_attacks(runs) if attacked_ else _print_runs(runs)


def _print_runs(runs: dict[str, dict[str, list[float]]]) -> None:
    pooled = runs["pooled"]["auc"]
    print("| model | accuracy | AUC | AUC less pooled |\n|---|---|---|---|")
    for what, one in runs.items():
        less = _told([auc - best for auc, best in zip(one["auc"], pooled, strict=True)], "+.4f")
        print(f"| {what} | {_told(one['accuracy'], '.3f')} | {_told(one['auc'], '.4f')} | {less} |")


def _print_attacks(runs: dict[str, dict[str, list[float]]]) -> None:
    columns = ["none|0", *(f"{name}|{count}" for count in ATTACKERS[1:] for name in ATTACKS)]
    for measure in ("auc", "accuracy"):
        titles = " | ".join(
            f"{name}, {count}" if count != "0" else "none" for name, count in (c.split("|") for c in columns)
        )
        print(f"{measure if measure == 'accuracy' else 'AUC'} under attackers:\n\n| rule | {titles} |")
        print("|---" * (len(columns) + 1) + "|")
        for rule in RULES:
            values = (_told(runs[f"{rule}|{column}"][measure], ".3f") for column in columns)
            print(f"| {rule} | {' | '.join(values)} |")
        print()


def _told(values: Sequence[float], form: str) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{form}} ± {spread:.3f}"
