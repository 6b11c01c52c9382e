"""How a data set is split among sites that differ. Pure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.errors import UsageError

FEWEST = 10
"""The examples that a site has at least."""


def dirichlet(labels: npt.ArrayLike, sites: int, alpha: float, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """Split examples among sites of one size whose mixtures of classes differ (Hsu, Qi, Brown 2019).

    Each site draws its own mixture from a Dirichlet distribution around that of all examples, then one example after
    another from classes drawn from its mixture, without putting any back; a class that is used up is left out. Sites
    take turns, so that what is left over in the end falls to no one site. The same generator gives the same split, with
    the same version of numpy.

    Args:
        labels: (n,) the class of each example.
        sites: How many sites.
        alpha: How alike they are: below 1, a site has few classes; large, all sites have nearly the same mixture.
        rng: Decides.

    Returns:
        For each site, the numbers of its examples, ascending; each example is at one site.

    Raises:
        UsageError: If there are no 10 examples for each site, or alpha is no number above 0.
    """
    classes, kinds = np.unique(np.asarray(labels), return_inverse=True)
    if sites < 1 or len(kinds) < FEWEST * sites:
        raise UsageError(
            f"{len(kinds):,} examples cannot be split among {sites} sites of {FEWEST} or more: take "
            f"from 1 to {len(kinds) // FEWEST}"
        )
    if not (alpha > 0 and math.isfinite(alpha)):
        raise UsageError(f"alpha is {alpha}: take a number above 0, such as 0.5")
    left: list[list[Any]] = [list(rng.permutation(np.flatnonzero(kinds == kind))) for kind in range(len(classes))]
    prior = np.bincount(kinds) / len(kinds)
    mixtures = [rng.dirichlet(alpha * prior) for _ in range(sites)]
    chosen: list[list[int]] = [[] for _ in range(sites)]
    for turn in range(len(kinds)):
        remain = np.array([len(one) for one in left], np.float64)
        likely = mixtures[turn % sites] * (remain > 0)
        if not likely.sum() > 0:
            likely = remain
        kind = rng.choice(len(classes), p=likely / likely.sum())
        chosen[turn % sites].append(int(left[kind].pop()))
    return [np.sort(np.array(rows, np.int64)) for rows in chosen]
