"""A task for any framework: numpy arrays go in and come out. Without torch."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy.typing as npt

from ledger.plan import Training
from participant.any_task import AnyTask

Arrays = dict[str, npt.NDArray[Any]]


class ArrayTask(AnyTask):
    """What a site trains and on what, in any framework; `initial`, `load` and `fit` are to be written.

    What rounds average are the arrays by name that `initial` gives: float32 or float16; float64 is rounded to float32.
    """

    @abstractmethod
    def initial(self) -> Arrays:
        """A new model's arrays, the same names, shapes and dtypes at all sites; chance is numpy's, and seeded."""

    @abstractmethod
    def fit(self, tensors: Arrays, examples: Any, training: Training, seed: int) -> Arrays:
        """Train for one round.

        Args:
            tensors: The base model's arrays, to be changed or not.
            examples: The part to train on; of an array that `load` gave, an array.
            training: The plan's: epochs, batch size, learning rate.
            seed: What decides all that is left to chance.

        Returns:
            The arrays after training, of the names and shapes of `tensors`.
        """

    def evaluate(self, tensors: Arrays, examples: Any) -> dict[str, float]:
        """How good a model is on some examples, by name; the default says nothing."""
        return {}
