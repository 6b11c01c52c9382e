"""A hospital of the demo: it trains and tests on its own rows, and only tensors and counts leave it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ledger.plan import Training
from participant.heart import Split
from participant.training import Floats, Tensors, score, train

BINS = 1000


@dataclass(frozen=True)
class Counts:
    """How many test rows of either label a model scored into each of `BINS` equal bins of probability.

    Attributes:
        positives: (BINS,) rows with the label.
        negatives: (BINS,) rows without.
    """

    positives: npt.NDArray[np.int64]
    negatives: npt.NDArray[np.int64]

    @property
    def auc(self) -> float:
        """Area under the ROC curve: the share of pairs ranked right, a tie counting half (Hanley & McNeil 1982)."""
        below = np.cumsum(self.negatives) - self.negatives
        right = (self.positives * (below + self.negatives / 2)).sum()
        return float(right / (self.positives.sum() * self.negatives.sum()))


def total(counts: Iterable[Counts]) -> Counts:
    """The counts of several hospitals together."""
    parts = list(counts)
    return Counts(
        np.sum([part.positives for part in parts], axis=0), np.sum([part.negatives for part in parts], axis=0)
    )


class Hospital:
    """One hospital."""

    def __init__(self, name: str, split: Split, seed: Sequence[int]) -> None:
        """Take the hospital's rows.

        Args:
            name: Its name.
            split: Its rows.
            seed: Decides, with the round, the order in which it trains on them.
        """
        self.name = name
        self.__split = split
        self._seed = seed

    @property
    def examples(self) -> int:
        """How many rows it trains on."""
        return len(self.__split.train_y)

    @property
    def fingerprint(self) -> bytes:
        """A digest of the rows that it trains on."""
        return hashlib.sha256(self.__split.train_x.tobytes() + self.__split.train_y.tobytes()).digest()

    def train(self, start: dict[str, Floats], training: Training, round_: int) -> Tensors:
        """The tensors after training on its rows from `start`."""
        seed = int(np.random.SeedSequence([*self._seed, round_]).generate_state(1, np.uint64)[0] >> 1)
        return train(start, self.__split.train_x, self.__split.train_y, training, seed)

    def test(self, tensors: dict[str, Floats]) -> Counts:
        """How a model scores its test rows."""
        bins = np.minimum((score(tensors, self.__split.test_x) * BINS).astype(np.int64), BINS - 1)
        sick = self.__split.test_y > 0
        return Counts(np.bincount(bins[sick], minlength=BINS), np.bincount(bins[~sick], minlength=BINS))
