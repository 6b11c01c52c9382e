"""How good a classifier is: counted exactly, the same on every machine. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.errors import UsageError
from ledger.manifest import MOST_METRICS, are_metrics

IGNORED = -100
"""A label that torch's cross entropy leaves out."""


class Tally:
    """What a classifier gets right, batch by batch.

    Attributes:
        of_one_number: Whether it gives one number for each example.
    """

    def __init__(self) -> None:
        self.of_one_number = False
        self._right = self._seen = 0
        self._scores: list[npt.NDArray[Any]] = []
        self._labels: list[npt.NDArray[Any]] = []

    def add(self, outputs: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
        """Count a batch.

        Args:
            outputs: (n,) logits of label 1, or (n, classes).
            labels: (n,) the classes' numbers.
        """
        kept = labels != IGNORED
        outputs, labels = outputs[kept].astype(np.float64), labels[kept].astype(np.int64)
        self.of_one_number = outputs.ndim == 1
        predicted = outputs > 0 if self.of_one_number else outputs.argmax(1)
        self._right += int((predicted == labels).sum())
        self._seen += len(labels)
        if self.of_one_number or outputs.shape[1] == 2:
            self._scores.append(outputs if self.of_one_number else outputs[:, 1] - outputs[:, 0])
            self._labels.append(labels)

    @property
    def accuracy(self) -> float | None:
        """The share of examples whose class is the one with the largest output; None without any."""
        return self._right / self._seen if self._seen else None

    @property
    def auc(self) -> float | None:
        """See `auc`; None where there are more than two classes."""
        return auc(np.concatenate(self._scores), np.concatenate(self._labels)) if self._scores else None


def auc(scores: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float | None:
    """Area under the ROC curve: the share of pairs ranked right, a tie counting half (Hanley & McNeil 1982).

    Args:
        scores: (n,) higher for label 1.
        labels: (n,) 0 or 1.

    Returns:
        The area; None where one of the labels is absent.
    """
    _, place = np.unique(scores, return_inverse=True)
    positives, negatives = (
        np.bincount(place[labels == label], minlength=place.max(initial=-1) + 1) for label in (1, 0)
    )
    pairs = int(positives.sum()) * int(negatives.sum())
    below = np.cumsum(negatives) - negatives
    return int((positives * (2 * below + negatives)).sum()) / (2 * pairs) if pairs else None


def checked(found: Mapping[str, float]) -> dict[str, float]:
    """What an update's header takes of a task's measures: few numbers, with names that print.

    Numbers that it does not take, such as NaN or those beyond 2^53, are left out: by a base model that is far off, or
    has diverged, sites train all the same.

    Raises:
        UsageError: If there are too many, or a name is none.
    """
    if len(found) > MOST_METRICS:
        raise UsageError(f"it gives {len(found)} measures: give at most {MOST_METRICS}")
    for name in found:
        if not are_metrics({name: 0}):
            raise UsageError(f"the measure {name[:64]!r} is to have a name of 1 to 64 printable ASCII characters")
    return {name: value for name, value in found.items() if are_metrics({name: value})}
