"""How the rows of one data set are split among sites that differ."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LEAST = 10  # examples of a site


def dirichlet(
    labels: npt.NDArray[np.int64], sites: int, alpha: float, rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Spread each class over the sites in shares of a symmetric Dirichlet distribution (Hsu et al. 2019)."""
    while True:
        parts: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(sites)]
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            cuts = (np.cumsum(rng.dirichlet([alpha] * sites))[:-1] * len(rows)).astype(np.int64)
            for part, some in zip(parts, np.split(rows, cuts), strict=True):
                part.append(some)
        split = [np.sort(np.concatenate(part)) for part in parts]
        if min(map(len, split)) >= LEAST:
            return split
