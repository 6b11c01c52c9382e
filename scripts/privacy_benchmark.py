"""How good the model of four hospitals is at an epsilon: what scripts/bench privacy measures.

Each run is a ledger on paper whose sites train as `fedledger participate` does and whose rounds are settled as
`fedledger aggregate` does; what a site has spent is read off its history. Numbers are standardised by constants, since
a hospital's own means would tell of its records.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset, TensorDataset

from ledger.plan import DpSgd, Plan, Training
from ledger.privacy import epsilons, spending, told
from ledger.updates import MODEL_HEADER, Place, decode_model, encode, update_header
from participant import heart
from participant.heart import Split
from participant.hospital import Hospital, total
from participant.task import Task
from participant.tensors import Tensors
from participant.trainer import Trainer
from participant.training import HIDDEN, initial, schema
from tests.paper import PaperLedger

ROUNDS, STEPS, RATE, CLIP, DELTA = 10, 4, 0.25, 1.0, 1e-5
"""The same for every epsilon and without privacy: out of half a dozen that were tried, and not the best for each."""
LEARNING_RATE = 0.3
EPSILONS = (None, 8.0, 4.0, 2.0, 1.0)
SEEDS = range(5)


class Records(Task):
    """A hospital's training rows, and the demo's network."""

    def __init__(self, split: Split) -> None:
        self.rows = split

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(heart.FEATURES, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1))

    def load(self, data: Path) -> Dataset[Any]:
        import torch

        return TensorDataset(torch.from_numpy(self.rows.train_x), torch.from_numpy(self.rows.train_y))

    def split(self, dataset: Dataset[Any]) -> tuple[Any, Any]:
        return dataset, []  # what it is tested on is held out already


def noise_for(epsilon: float) -> float:
    """The least noise multiplier, in hundredths, with which all rounds together spend no more than epsilon."""
    low, high = 30, 10_000
    while low < high:
        middle = (low + high) // 2
        spent, _ = epsilons(frozenset({((middle / 100, RATE), ROUNDS * STEPS)}), DELTA)
        low, high = (low, middle) if spent <= epsilon else (middle + 1, high)
    return low / 100


def privacy_of(epsilon: float | None) -> DpSgd | None:
    """What plans say of privacy; their budget is what the rounds may spend together."""
    if epsilon is None:
        return None
    noise = noise_for(epsilon)
    return DpSgd(clip=CLIP, noise_multiplier=noise, sampling_rate=RATE, local_steps=STEPS, delta=DELTA, budget=epsilon)


def play(privacy: DpSgd | None, seed: int) -> tuple[float, str]:
    """The AUC of the last model on all hospitals' test rows, and the epsilon that its history says all have spent."""
    splits = heart.load(seed, private=True)
    trainers = [Trainer(Records(split), Path(__file__)) for split in splits.values()]
    tensors = schema(heart.FEATURES)
    with tempfile.TemporaryDirectory() as temporary:
        genesis = encode(MODEL_HEADER, tensors, initial(heart.FEATURES, seed))
        ledger = PaperLedger(Path(temporary) / "history", len(splits), tensors, 1 << 20, genesis)
        training = Training(epochs=1, batch_size=32, learning_rate=LEARNING_RATE)
        ledger.plan = ledger.plan.model_copy(update={"training": training, "privacy": privacy})

        def update(member: int, place: Place) -> bytes:
            trainer, number = trainers[member - 1], place.round
            # A site has a secret to draw its seed from; here it must be the same in every run.
            trained = trainer.train(model(ledger), ledger.plan, seed * 1_000_003 + number * 1009 + member)
            return encode(update_header(place, member, trainer.examples), tensors, trained)

        for _ in range(ROUNDS):
            ledger.play_round(update, [trainer.examples for trainer in trainers])
        by_site = spending(ledger.history, lambda known: Plan.decode(ledger.store.get(known.opened.plan)), {ROUNDS})
        [spent] = {told(one.epsilon) for one in by_site}
        tests = [Hospital(name, split, [seed]).test(model(ledger)) for name, split in splits.items()]
        return total(tests).auc, spent


def model(ledger: PaperLedger) -> Tensors:
    """The newest released model."""
    newest = ledger.history.model_of(ledger.history.latest_released)
    assert newest is not None
    return decode_model(ledger.store.get(newest), ledger.plan).tensors


def measure() -> list[dict[str, Any]]:
    """A row for each epsilon."""
    rows = []
    for epsilon in EPSILONS:
        privacy = privacy_of(epsilon)
        runs = [play(privacy, seed) for seed in SEEDS]
        [spent] = {spent for _, spent in runs}
        scores = [auc for auc, _ in runs]
        rows.append(
            {
                "epsilon": epsilon,
                "spent": spent,
                "noise_multiplier": privacy.noise_multiplier if privacy else None,
                "auc": round(statistics.mean(scores), 4),
                "spread": round(statistics.stdev(scores), 4),
                "lowest": round(min(scores), 4),
                "highest": round(max(scores), 4),
            }
        )
    return rows


def main(as_json: bool) -> None:
    rows = measure()
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(
        f"{ROUNDS} rounds of {STEPS} steps, sampling rate {RATE:g}, clip {CLIP:g}, delta {DELTA:g}, {len(SEEDS)} seeds"
    )
    print("| epsilon | spent | noise multiplier | AUC, mean | standard deviation | lowest | highest |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        epsilon = "without" if row["epsilon"] is None else f"{row['epsilon']:g}"
        noise = "–" if row["noise_multiplier"] is None else f"{row['noise_multiplier']:.2f}"
        scores = " | ".join(f"{row[name]:.3f}" for name in ("auc", "spread", "lowest", "highest"))
        print(f"| {epsilon} | {row['spent']} | {noise} | {scores} |")
