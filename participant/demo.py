"""The main job: play the rounds, leave a folder that anyone can audit, and what to compare the model with."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pyrage.x25519 import Identity

from ledger.audit.evidence import write_atomically, write_folder
from ledger.audit.observe import observe
from ledger.chain.contract import LedgerContract
from ledger.cid import Cid
from ledger.errors import UsageError
from participant import heart
from participant.cheats import Cheat, cast, tamper
from participant.federation import PLAN, Federation, Order, RoundResult, hospitals
from participant.hospital import Hospital, total
from participant.training import initial

CHEATED_ROUND = 3
IDENTITY = "auditor.key"
FILES = {
    *("artifact.json", "blobs", "code.hex", "entries.jsonl", "ledger.json", "summary.json", "transactions.jsonl"),
    IDENTITY,
}


@dataclass(frozen=True)
class Demo:
    """What the demo is asked to do.

    Attributes:
        out: The folder to leave behind; an earlier demo's is replaced.
        rounds: How many rounds to play.
        seed: Decides keys, splits of the data, first model and training.
        order: Given the hospitals' names, the order in which they post.
        cheat: The fraud to play, in round `CHEATED_ROUND` or the last one if there are fewer.
    """

    out: Path
    rounds: int
    seed: int
    order: Order
    cheat: Cheat | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        auditor: The auditor's age identity, which opens the updates.
        head: The ledger's head, as its members remember it (32 bytes).
        results: Round by round.
        baselines: See `baselines`.
    """

    auditor: Identity
    head: bytes
    results: list[RoundResult]
    baselines: dict[str, float]


def run(demo: Demo, on_round: Callable[[RoundResult], None] = lambda _: None) -> Outcome:
    """Play the demo and leave its folder behind.

    Raises:
        UsageError: If something else is in the way of the folder.
    """
    with _replaced(demo.out) as folder:
        federation = Federation(folder / "blobs", demo.seed)
        cheated = min(CHEATED_ROUND, demo.rounds)
        results: list[RoundResult] = []
        for number in range(1, demo.rounds + 1):
            sites, aggregator = cast(demo.cheat if number == cheated else None, federation.sites, federation.aggregator)
            results.append(federation.play(demo.order, sites, aggregator))
            on_round(results[-1])
        outcome = Outcome(
            federation.auditor_identity, federation.contract.head(), results, baselines(demo.seed, demo.rounds)
        )
        evidence = observe(federation.contract, federation.store)
        shown = tamper(demo.cheat, federation.store, evidence.entries, cheated)
        write_folder(folder, replace(evidence, entries=tuple(shown)))
        write_atomically(folder / IDENTITY, f"{federation.auditor_identity}\n".encode())
        write_atomically(folder / "summary.json", _summary(demo, federation.contract, outcome).encode())
    return outcome


@contextmanager
def _replaced(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` when all went well, and is gone when not."""
    out = out.resolve()
    if out == Path.cwd() or (out.exists() and not _is_ours(out)):
        raise UsageError(f"{out} is there and is no folder of an earlier demo: give another one with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        folder = work / "new"
        folder.mkdir()
        yield folder
        if out.exists():
            out.rename(work / "old")
        folder.rename(out)
    finally:
        shutil.rmtree(work)


def _is_ours(folder: Path) -> bool:
    """Whether there is nothing in it, or just what a demo left behind."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    return not names or (
        names | {IDENTITY} == FILES and all(_is_cid(path.name) for path in (folder / "blobs").iterdir())
    )


def _is_cid(name: str) -> bool:
    try:
        Cid.parse(name)
    except ValueError:
        return False
    return True


def baselines(seed: int, rounds: int) -> dict[str, float]:
    """What federated learning is compared with: the AUC on all test rows of models trained without it.

    Args:
        seed: As the federation's.
        rounds: As the federation's: as many epochs are trained.

    Returns:
        The AUC of a model trained by each hospital alone, and ``pooled``, of one trained on all rows in one place.
    """
    start = initial(heart.FEATURES, seed)
    training = PLAN.training.model_copy(update={"epochs": PLAN.training.epochs * rounds})
    four = hospitals(seed)
    pooled = Hospital("pooled", heart.pool(heart.load(seed)), [seed, len(four)])
    trained = {name: one.train(start, training, 0) for name, one in (four | {"pooled": pooled}).items()}
    return {name: total(one.test(model) for one in four.values()).auc for name, model in trained.items()}


def _summary(demo: Demo, contract: LedgerContract, outcome: Outcome) -> str:
    document = {
        "head": "0x" + outcome.head.hex(),
        "ledger": contract.genesis.ledger,
        "chain_id": contract.genesis.chain_id,
        "seed": demo.seed,
        "rounds": [result.document() for result in outcome.results],
        "baselines": outcome.baselines,
    }
    return json.dumps(document, indent=1) + "\n"
