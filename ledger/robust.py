"""Averages that a few wrong updates cannot move at will: which are kept, how long they may be, the average. Pure.

Elements come in the blocks of `blocks`, all updates' together, so that memory does not grow with the model. Every sum
over elements is taken in one order (see `folded`), and every other step is one elementwise IEEE 754 operation of
float64: the same bytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ledger.choices import Krum, TrimmedMean
from ledger.plan import Plan
from ledger.threads import shared
from ledger.updates import Layout, Span, to_float64

Float64s = npt.NDArray[np.float64]

BLOCK = 1 << 12
"""Elements over which a sum is folded: a part of the rules."""
ROOM = 1 << 28
"""Bytes of updates that are read at a time; nothing that comes out depends on it."""


class Block(NamedTuple):
    """Elements of one tensor: from the `first` to before the `last`, counted through all tensors."""

    span: Span
    first: int
    last: int


Rows = Callable[[Block], Float64s]
"""The elements of a block, of every update: (updates, elements)."""
Parts = Callable[[int, int, int], bytes | memoryview]
"""Of a member's update, the bytes of its data from one to before another."""


@dataclass(frozen=True)
class Combined:
    """What comes of the updates of a round.

    Attributes:
        average: (elements,) in the order of the updates' layout: tensors, or differences where updates are these.
        kept: The members whose updates are averaged.
        norms: The L2 norms of the updates' differences from the base, by member; empty where the plan does not clip.
        distances: See `krum`, by member; empty where the plan does not filter.
    """

    average: Float64s
    kept: frozenset[int]
    norms: dict[int, float]
    distances: dict[int, float]


def combine(
    plan: Plan,
    layout: Layout,
    weights: Mapping[int, int],
    parts: Parts,
    base: Callable[[Block], Float64s],
    threads: int,
) -> Combined:
    """Filter, clip and average the updates of a round, as its plan says.

    Args:
        plan: The plan.
        layout: The updates' layout.
        weights: What each update weighs, by member in ascending order.
        parts: Gives their elements.
        base: Gives those of the base model, or zeros where the updates are differences from it.
        threads: On how many the average is computed; nothing that comes out depends on it.
    """
    members, norms, distances = list(weights), dict[int, float](), dict[int, float]()
    if plan.filter is not None or plan.clipping is not None:
        lengths, apart = _measured(layout, members, parts, base, plan.filter is not None)
        if plan.clipping is not None:
            norms = dict(zip(members, map(math.sqrt, lengths), strict=True))
        if plan.filter is not None:
            distances = dict(zip(members, krum(apart, plan.filter), strict=True))
            nearest = sorted(members, key=lambda member: (distances[member], member))
            members = sorted(nearest[: plan.filter.kept(len(members))])
    limit, average = plan.clipping or math.inf, np.zeros(layout.elements)
    shares = {member: limit / norms[member] for member in members if norms.get(member, 0.0) > limit}

    def clip_and_average(gathered: Sequence[Block], rows: Rows, numbers: range) -> list[None]:
        for block in gathered[numbers.start : numbers.stop]:
            values = rows(block)
            for row, member in enumerate(members):
                if member in shares:
                    start = base(block)
                    values[row] = start + (values[row] - start) * shares[member]
            average[block.first : block.last] = averaged(plan, values, [weights[member] for member in members])
        return []

    for gathered, rows in _gathered(layout, members, parts):
        shared(partial(clip_and_average, gathered, rows), len(gathered), threads)
    return Combined(average, frozenset(members), norms, distances)


def averaged(plan: Plan, values: Float64s, weights: Sequence[int]) -> Float64s:
    """The plan's average of several rows of values: (updates, elements) to (elements,). Sorts rows in place."""
    if plan.average.name == "mean":
        return _mean(values, weights)
    # Adding zero makes -0.0 to 0.0: sorting keeps no order between the two.
    values += 0.0
    values.sort(axis=0)
    count, cut = len(values), (len(values) - 1) // 2
    if isinstance(plan.average, TrimmedMean):
        cut = int(plan.average.share * count)
    middle = values[cut : count - cut]
    return _mean(middle, [1] * len(middle))


def _mean(values: Float64s, weights: Sequence[int]) -> Float64s:
    total = np.zeros(values.shape[1])
    for row, weight in zip(values, weights, strict=True):
        total += row * np.float64(weight)
    return total / np.float64(sum(weights))


def krum(distances: Float64s, rule: Krum) -> list[float]:
    """Of each update the sum of its squared distances to its closest neighbours, as many as Krum takes.

    Args:
        distances: (n, n) squared distances.
        rule: The rule; with n updates and f attackers, n - f - 2 neighbours are closest, one at least.
    """
    neighbours = max(1, len(distances) - rule.attackers - 2)
    return [_added(np.sort(np.delete(row, number))[:neighbours].tolist()) for number, row in enumerate(distances)]


def _added(numbers: Sequence[float]) -> float:
    total = 0.0  # one after the other; what Python's sum does has changed between its versions
    for number in numbers:
        total += number
    return total


def folded(squares: Float64s) -> Float64s:
    """The sums of rows of up to `BLOCK` values, (rows, values) to (rows,).

    A row is filled with zeros up to `BLOCK`; then its second half is added to its first one, until one value is left.
    The zeros beyond the next power of two are left away: they change no sum of squares, and take most of the time
    where tensors are small.
    """
    width = 1 << (squares.shape[1] - 1).bit_length()
    filled = np.zeros((len(squares), width))
    filled[:, : squares.shape[1]] = squares
    while width > 1:
        width //= 2
        filled[:, :width] += filled[:, width : 2 * width]
    return filled[:, 0].copy()


def _measured(
    layout: Layout, members: Sequence[int], parts: Parts, base: Callable[[Block], Float64s], pairs: bool
) -> tuple[list[float], Float64s]:
    """The squared norms of the updates' differences from the base, and of those from each other if asked for."""
    count = len(members)
    lengths, apart = np.zeros(count), np.zeros((count, count))
    for gathered, rows in _gathered(layout, members, parts):
        for block in gathered:
            values = rows(block)
            lengths += folded(np.square(values - base(block)))
            for row in range(count - 1 if pairs else 0):
                apart[row, row + 1 :] += folded(np.square(values[row + 1 :] - values[row]))
    return lengths.tolist(), apart + apart.T


def blocks(layout: Layout) -> Iterator[Block]:
    """All elements, `BLOCK` at a time, from the start of each tensor."""
    for span in layout.spans:
        for first in range(span.first, span.last, BLOCK):
            yield Block(span, first, min(first + BLOCK, span.last))


def _gathered(layout: Layout, members: Sequence[int], parts: Parts) -> Iterator[tuple[list[Block], Rows]]:
    """As many blocks at a time as there is room for, and what gives their elements."""
    most, together = max(1, ROOM // max(1, len(members))), list[Block]()
    for block in blocks(layout):
        if together and layout.at(block.span, block.last) - layout.at(together[0].span, together[0].first) > most:
            yield together, _rows(layout, together, members, parts)
            together = []
        together.append(block)
    if together:
        yield together, _rows(layout, together, members, parts)


def _rows(layout: Layout, together: Sequence[Block], members: Sequence[int], parts: Parts) -> Rows:
    start = layout.at(together[0].span, together[0].first)
    end = layout.at(together[-1].span, together[-1].last)
    read = [parts(member, start, end) for member in members]

    def rows(block: Block) -> Float64s:
        values = np.empty((len(read), block.last - block.first))
        for row, part in zip(values, read, strict=True):
            stored = layout.stored(block.span, part, layout.at(block.span, block.first) - start, len(row))
            to_float64(stored, block.span.dtype, row)
        return values

    return rows
