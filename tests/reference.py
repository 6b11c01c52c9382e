"""Settlement computed again without numpy.

The plain mean in exact fractions, rounded after each operation as IEEE 754 says: to the last bit. Whatever else a plan
chooses, as its paper has it, in exact fractions that are rounded only where something is stored.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import NamedTuple


class Format(NamedTuple):
    """A binary floating-point format: bits of precision, exponent of the smallest subnormal, total bits."""

    precision: int
    smallest: int
    bits: int


F64 = Format(53, -1074, 64)
F32 = Format(24, -149, 32)
F16 = Format(11, -24, 16)
BF16 = Format(8, -133, 16)
FORMATS = {"F32": F32, "F16": F16, "BF16": BF16}


def rounded(value: Fraction, to: Format) -> Fraction:
    """To the nearest number of the format, ties to even (IEEE 754-2019, 4.3.1); values here never overflow."""
    unit = unit_of(value, to)
    return round(value / unit) * unit  # Fraction rounds to nearest, ties to even


def unit_of(value: Fraction, form: Format) -> Fraction:
    """How far apart the numbers of a format are there."""
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    return Fraction(2) ** max(exponent - form.precision + 1, form.smallest)


def bits_of(value: Fraction, negative_zero: bool, form: Format) -> int:
    """The bit pattern of a number that the format has."""
    if form is F32:
        single = -0.0 if value == 0 and negative_zero else float(value)
        return int.from_bytes(struct.pack("<f", single), "little")
    if form is F16:
        half = -0.0 if value == 0 and negative_zero else float(value)
        return int.from_bytes(struct.pack("<e", half), "little")
    return bits_of(value, negative_zero, F32) >> 16


def mean_bits(columns: Sequence[Sequence[float]], weights: Sequence[int], dtype: str) -> list[int]:
    """The weighted mean of several rows of values, as bit patterns of `dtype`."""
    out = []
    for column in columns:
        total = Fraction(0)
        for value, weight in zip(column, weights, strict=True):
            total = rounded(total + rounded(Fraction(value) * weight, F64), F64)
        mean = rounded(total / sum(weights), F64)
        narrow = rounded(mean, FORMATS[dtype])
        out.append(bits_of(narrow, math.copysign(1, mean) < 0, FORMATS[dtype]))
    return out


# ------------------------------------------------------------------- as the papers have it

Vector = list[Fraction]
"""All elements of a model."""


def root(value: Fraction) -> Fraction:
    """The square root, to 60 digits."""
    with localcontext(prec=60):
        return Fraction((Decimal(value.numerator) / Decimal(value.denominator)).sqrt())


def minus(one: Vector, other: Vector) -> Vector:
    return [a - b for a, b in zip(one, other, strict=True)]


def squared(vector: Vector) -> Fraction:
    """The squared L2 norm."""
    return sum((value * value for value in vector), Fraction(0))


def mean(rows: Sequence[Vector], weights: Sequence[int]) -> Vector:
    """McMahan et al. 2017, algorithm 1: the sum of n_k / n w_k."""
    total = sum(weights)
    return [
        sum((Fraction(weight, total) * value for value, weight in zip(column, weights, strict=True)), Fraction(0))
        for column in zip(*rows, strict=True)
    ]


def median(rows: Sequence[Vector]) -> Vector:
    """Yin et al. 2018, definition 1: the usual one-dimensional median of each coordinate."""
    out = []
    for column in map(sorted, zip(*rows, strict=True)):
        half, odd = divmod(len(column), 2)
        out.append(column[half] if odd else (column[half - 1] + column[half]) / 2)
    return out


def trimmed_mean(rows: Sequence[Vector], share: float) -> Vector:
    """Yin et al. 2018, definition 2: without the largest and the smallest beta fraction of each coordinate."""
    cut = math.floor(Fraction(share) * len(rows))
    kept = [sorted(column)[cut : len(rows) - cut] for column in zip(*rows, strict=True)]
    return [sum(column, Fraction(0)) / len(column) for column in kept]


def krum_scores(rows: Sequence[Vector], attackers: int) -> list[Fraction]:
    """Blanchard et al. 2017, section 4: of each the sum of squared distances to its n - f - 2 closest others."""
    scores = []
    for number, row in enumerate(rows):
        others = sorted(squared(minus(row, other)) for at, other in enumerate(rows) if at != number)
        scores.append(sum(others[: len(rows) - attackers - 2], Fraction(0)))
    return scores


def clipped(row: Vector, base: Vector, bound: Fraction) -> Vector:
    """McMahan et al. 2018, section 2: the difference times min(1, S / its norm)."""
    difference = minus(row, base)
    if squared(difference) <= bound * bound:
        return row
    share = bound / root(squared(difference))
    return [start + share * way for start, way in zip(base, difference, strict=True)]


@dataclass
class Server:
    """The server of a strategy; what it remembers is stored as float32, with which the paper's has nothing to do.

    Attributes:
        name: Of the strategy.
        rate: The server's learning rate, eta in the papers.
    """

    name: str
    rate: Fraction = Fraction(1)
    momentum: Fraction = Fraction(0)
    beta_1: Fraction = Fraction(0)
    beta_2: Fraction = Fraction(0)
    tau: Fraction = Fraction(0)
    rounds: int = 0
    first: Vector = field(default_factory=list)
    second: Vector = field(default_factory=list)
    control: Vector = field(default_factory=list)

    def step(self, model: Vector, difference: Vector) -> Vector:
        """The next model, from the updates' average difference from this one."""
        self.rounds += 1
        start = [Fraction(0)] * len(model)
        first, second = self.first or start, self.second or start
        square = [value * value for value in difference]
        way, rate = difference, self.rate
        if self.name == "fedavgm":  # Hsu et al. 2019, section 4.2: v = beta v + delta, w = w - v
            way = first = [self.momentum * old + new for old, new in zip(first, difference, strict=True)]
        elif self.name == "fedadagrad":  # Reddi et al. 2021, algorithm 2, with beta_1 = 0
            second = [old + new for old, new in zip(second, square, strict=True)]
        elif self.name in ("fedadam", "fedyogi"):  # the same algorithm
            pairs = zip(first, difference, strict=True)
            first = [self.beta_1 * old + (1 - self.beta_1) * new for old, new in pairs]
            pairs = zip(second, square, strict=True)
            if self.name == "fedadam":
                second = [self.beta_2 * old + (1 - self.beta_2) * new for old, new in pairs]
                # Kingma & Ba 2015, section 2, with t + 1 in the place of t: it is not in Reddi's algorithm.
                since = self.rounds + 1
                rate *= root(1 - self.beta_2**since) / (1 - self.beta_1**since)
            else:
                second = [old - (1 - self.beta_2) * new * ((old > new) - (old < new)) for old, new in pairs]
            way = first
        if self.name in ("fedadagrad", "fedadam", "fedyogi"):
            way = [one / (root(two) + self.tau) for one, two in zip(way, second, strict=True)]
        self.first = [rounded(value, F32) for value in first]
        self.second = [rounded(value, F32) for value in second]
        return [old + rate * new for old, new in zip(model, way, strict=True)]

    def controlled(self, change: Vector, participated: int, of: int) -> None:
        """Karimireddy et al. 2020, algorithm 1, line 17: c = c + |S| / N times the average change of the controls."""
        control = self.control or [Fraction(0)] * len(change)
        share = Fraction(participated, of)
        self.control = [rounded(old + share * new, F32) for old, new in zip(control, change, strict=True)]
