"""Settlement computed again without numpy: exact fractions, rounded after each operation as IEEE 754 says."""

import math
import struct
from collections.abc import Sequence
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
    if value == 0:
        return value
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - to.precision + 1, to.smallest)
    return round(value / unit) * unit  # Fraction rounds to nearest, ties to even


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
