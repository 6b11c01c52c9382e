"""Rehearsing a past round: the site trains for it again, and compares with what it posted. Nothing is posted or kept.

It shows, to whoever stands beside the site's own people, that the recorded update came from these data: its header
commits to them, salted with the site's secret, and the same data and secret give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ledger.cid import Cid
from ledger.errors import BlobMissingError, UnavailableError, UsageError
from ledger.history import Round
from ledger.logs import Log
from ledger.updates import TensorBlob, decode, decode_model, max_model_bytes, to_float64
from participant.posted import Posted
from participant.seeds import Seed
from participant.site import Trains, trained_update


@dataclass(frozen=True)
class Compared:
    """Two updates' tensors.

    Attributes:
        elements: How many all tensors have together.
        differing: How many of these differ.
        largest: The largest difference.
    """

    elements: int
    differing: int
    largest: float


@dataclass(frozen=True)
class Rehearsal:
    """What a site finds when it trains for a past round again.

    Attributes:
        round: The round.
        update: The update that it posted.
        witness: Whether these data, with a secret of the site's, give the witness in the update's header.
        examples: How many were trained on, as the header says, and how many are here.
        metrics: What the base model achieved, as the header says, and what it achieves now; None where it says nothing.
        tensors: The tensors that it posted and those of now; None where nothing was trained, for want of the witness.
    """

    round: int
    update: Cid
    witness: bool
    examples: tuple[int, int]
    metrics: tuple[Mapping[str, float], Mapping[str, float]] | None
    tensors: Compared | None

    @property
    def agrees(self) -> bool:
        """Whether the update of now is that one, byte for byte."""
        same = self.metrics is None or self.metrics[0] == self.metrics[1]
        trained = self.tensors is not None and not self.tensors.differing
        return self.witness and same and trained and self.examples[0] == self.examples[1]


def require_posted(posted: Posted, number: int) -> Round:
    """A round that has ended, and in which the site posted.

    Raises:
        UsageError: If it is none.
    """
    known = posted.history.rounds.get(number)
    if known is None:
        raise UsageError(f"there is no round {number}, the newest is {posted.history.latest_round}: name another")
    if posted.member not in known.updates:
        raise UsageError(f"member {posted.member} posted no update in round {number}: name a round in which it did")
    if known.ended is None:
        raise UsageError(f"round {number} is open: rehearse it once it has ended")
    return known


def rehearse(known: Round, trainer: Trains, posted: Posted, log: Log) -> Rehearsal:
    """Train for a round again; see `require_posted`.

    Args:
        known: The round.
        trainer: The site's data and training, as they are now.
        posted: What the site posted; with all age identities that it ever had.
        log: Told which earlier update cannot be read that it once rested on.

    Raises:
        UnavailableError: If the update, or what it was trained from, is not to be had any more.
        ViolationError: If the update is not what the round asks for, or what is stored is something else.
        UsageError: If the data or the task cannot be trained with, or the update commits to nothing.
    """
    recorded = _recorded(known, posted)
    said, plan = recorded.header, posted.plan(known)
    if plan.settlement == 1:
        raise UsageError(f"round {known.number} is of settlement 1, whose updates commit to nothing: name a later one")
    base = decode_model(posted.blobs.get(known.opened.base, limit=max_model_bytes(plan)), plan).tensors
    metrics = (said["metrics"], trainer.metrics(base)) if said["metrics"] else None
    seed = _seed(known, posted, trainer.fingerprint, said["witness"])
    tensors = None
    if seed is not None:
        again = decode(trained_update(known, trainer, seed, posted, log, metrics=metrics is not None))
        tensors = _compared(recorded, again)
    update, examples = known.updates[posted.member].update, (said["examples"], trainer.examples_by(plan))
    return Rehearsal(known.number, update, seed is not None, examples, metrics, tensors)


def _recorded(known: Round, posted: Posted) -> TensorBlob:
    try:
        recorded = posted.update(known)
    except BlobMissingError:
        if not any(erasure.member == posted.member for erasure in known.erasures):
            raise
        raise UnavailableError(
            f"the update of round {known.number} is erased, as the ledger records: there is nothing to compare with"
        ) from None
    if recorded is None:
        raise UnavailableError(
            f"none of the age keys here opens this member's update of round {known.number}: restore the one that it "
            "had then (fedledger key restore)"
        )
    return recorded


def _seed(known: Round, posted: Posted, data: bytes, witness: Any) -> Seed | None:
    """What training drew from then; whichever of the identities was the newest one."""
    seeds = [Seed.of(str(identity), known) for identity in reversed(posted.identities)]
    return next((seed for seed in seeds if seed.witness(data) == witness), None)


def _compared(recorded: TensorBlob, again: TensorBlob) -> Compared:
    elements, differing, largest = 0, 0, 0.0
    for name, stored in recorded.tensors.items():
        other, dtype = again.tensors[name], recorded.schema[name].dtype
        unlike = np.flatnonzero(stored.view(_BITS[stored.itemsize]) != other.view(_BITS[stored.itemsize]))
        elements, differing = elements + stored.size, differing + unlike.size
        if unlike.size:
            ways = np.abs(to_float64(stored[unlike], dtype) - to_float64(other[unlike], dtype))
            largest = max(largest, float(ways.max()))
    return Compared(elements, differing, largest)


_BITS = {2: np.uint16, 4: np.uint32}
