"""The data that the built-in tasks are tried out with, as one CSV file for each site."""

from __future__ import annotations

import numpy as np

from ledger.errors import UsageError
from participant import heart
from participant.partition import dirichlet


def heart_files() -> dict[str, str]:
    """The records of the four hospitals, by the name of the file.

    Raises:
        UsageError: If the data set is not installed.
    """
    return {f"{name.lower().replace(' ', '-')}.csv": heart.csv_of(name) for name in heart.HOSPITALS}


def digits_files(sites: int, alpha: float, seed: int) -> dict[str, str]:
    """Scikit-learn's digits (1,797 of them), split among sites, by the name of the file; see `dirichlet`.

    Raises:
        UsageError: If scikit-learn is not installed, or `dirichlet` cannot split them so.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise UsageError("the digits need scikit-learn: pip install 'fedledger[digits]'") from None
    pixels, labels = load_digits(return_X_y=True)
    rows = np.column_stack([pixels, labels]).astype(np.int64)
    header = [*(f"{row} {column}" for row in range(8) for column in range(8)), "digit"]
    parts = dirichlet(labels, sites, alpha, np.random.default_rng(seed))
    return {
        f"site-{number}.csv": "".join(",".join(map(str, row)) + "\n" for row in [header, *rows[part]])
        for number, part in enumerate(parts, 1)
    }
