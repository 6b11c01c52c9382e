"""How a model fared at the sites, in figures, as the sites say. Pure.

An update says what the model that its round is built on achieves at its site, before the site trains. So what the
updates of a round say is about the round's base: the model of its `base_round`, 0 being the genesis model.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ledger.manifest import Score

MOST_SHOWN = 6
"""Metrics that are shown to people: each site can name others. JSON has all of them."""


@dataclass(frozen=True)
class Said:
    """What one site says."""

    member: int
    value: float


@dataclass(frozen=True)
class Figure:
    """One metric of one model, over the sites that say it; each site counts once, however many examples it has.

    Attributes:
        sites: How many they are.
        mean: The mean over them.
        worst: Where the model fared worst; of equals, the lowest member id.
        best: Where it fared best, likewise.
        spread: The largest value less the smallest.
        deviation: The standard deviation over these sites.
    """

    sites: int
    mean: float
    worst: Said
    best: Said
    spread: float
    deviation: float

    def document(self) -> dict[str, Any]:
        """The figure in JSON."""
        return asdict(self)


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better: where its name begins or ends with ``loss`` or ``error``, in any case."""
    name = metric.lower()
    return name.startswith(("loss", "error")) or name.endswith(("loss", "error"))


def figures(scores: Mapping[int, Score]) -> dict[str, Figure]:
    """The figures of the model that a round was built on, by metric.

    Args:
        scores: Those of the round's updates, by member id.
    """
    said: dict[str, list[Said]] = {}
    for member, score in sorted(scores.items()):
        for metric, value in score.metrics.items():
            said.setdefault(metric, []).append(Said(member, float(value)))
    return {metric: _figure(values, lower_is_better(metric)) for metric, values in sorted(said.items())}


def foremost(sites: Mapping[str, int]) -> list[str]:
    """The metrics that people are shown, by name: `MOST_SHOWN` at most, those that most sites say.

    Args:
        sites: How many say it, by metric.
    """
    return sorted(sorted(sites, key=lambda metric: (-sites[metric], metric))[:MOST_SHOWN])


def _figure(said: list[Said], lower: bool) -> Figure:
    values = [one.value for one in said]
    least, most = min(said, key=lambda one: one.value), max(said, key=lambda one: one.value)
    return Figure(
        len(said),
        statistics.mean(values),  # exact, and rounded once
        most if lower else least,
        least if lower else most,
        most.value - least.value,
        statistics.pstdev(values),
    )
