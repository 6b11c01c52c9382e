"""The manifest: what settlement did with each update of a round. Pure."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, FailFast, Field, SerializerFunctionWrapHandler, model_serializer

from ledger.cid import Cid
from ledger.documents import Document, MemberId


def max_manifest_bytes(updates: int, readers: int) -> int:
    """The most bytes that a manifest of this many updates can need, its annex being sealed to so many readers."""
    return 8192 + 8192 * updates + 256 * readers  # the scores, with the longest metrics, stand in it and in the annex


class Reason(StrEnum):
    """Why settlement excludes an update: the whole list."""

    UNAVAILABLE = "unavailable"
    """No bytes that hash to the CID were to be had: the aggregator's claim."""
    OVERSIZED = "oversized"
    """The blob is larger than the plan's cap."""
    MALFORMED = "malformed"
    """The blob is not in canonical form."""
    SCHEMA = "schema"
    """Other tensor names, dtypes or shapes than the plan's."""
    BINDING = "binding"
    """The header is not this member's for this round of this ledger."""
    UNOPENABLE = "unopenable"
    """The blob is sealed, and cannot be opened."""
    NONFINITE = "nonfinite"
    """A value is NaN or infinite."""
    FILTERED = "filtered"
    """The plan's filter left it out."""


CidText = Annotated[str, Field(pattern="^b[a-z2-7]{58}$")]
Named = Annotated[CidText, AfterValidator(lambda text: str(Cid.parse(text)))]
"""A CID that no entry has beside it: whoever reads the manifest looks for what it names."""


class Row(Document):
    """One update: averaged with a weight, or excluded for a reason; the other is null."""

    member: int
    update: CidText
    weight: int | None
    excluded: Reason | None


MOST_METRICS = 16


def are_metrics(said: object) -> bool:
    """Whether something can be an update's metrics: numbers below 2^53, as JSON takes them, by a few short names."""
    return (
        isinstance(said, dict)
        and len(said) <= MOST_METRICS
        and all(isinstance(name, str) and re.fullmatch("[ -~]{1,64}", name) for name in said)
        and all(type(value) in (int, float) and abs(value) < 1 << 53 for value in said.values())
    )


def _metrics(said: dict[str, float]) -> dict[str, float]:
    if not are_metrics(said):
        raise ValueError(
            f"to be at most {MOST_METRICS} numbers below 2^53, by names of 1 to 64 printable ASCII letters"
        )
    return said


class Score(Document):
    """How an update compares.

    Attributes:
        norm: The L2 norm of its difference from the base model, where the plan clips.
        distance: The sum of its squared distances to its closest neighbours, where the plan filters.
        metrics: What the base model achieved at its site, as its header says.
    """

    norm: float | None = None
    distance: float | None = None
    metrics: Annotated[dict[str, float], AfterValidator(_metrics)] = Field(default_factory=dict)


class Manifest(Document):
    """Every update of a round, exactly once, in ascending member id.

    Attributes:
        settlement: The version of the rules, as the plan has it; 1 has nothing of `_LATER`.
        counted: How many updates are as they must be: those that are averaged, and the filtered ones.
        model: The CID of the model; null where too few updates count.
        state: The CID of what the server remembers for the next round; null where that is nothing.
        scores: How the counted updates compare, by member id; null where they are not for everybody, or there are none.
        annex: What is not for everybody, see `ledger.sealing.write_annex`: the keys of the sealed updates, and their
            scores; null where updates are not sealed.
    """

    TITLE: ClassVar[str] = "manifest"

    kind: Literal["manifest"] = "manifest"
    settlement: Literal[1, 2]
    chain_id: int
    ledger: str
    round: int
    plan: str
    base: str
    updates: Annotated[list[Row], FailFast()]
    counted: int
    model: str | None
    state: Named | None = None
    scores: dict[MemberId, Score] | None = None
    annex: Annotated[str, Field(pattern="^[A-Za-z0-9+/]+={0,2}$")] | None = None

    @model_serializer(mode="wrap")
    def _as_its_version_has_it(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        later = _LATER if self.settlement == 1 else set()
        return {key: value for key, value in write(self).items() if key not in later}


_LATER = {"annex", "scores", "state"}
"""What only version 2 has."""
