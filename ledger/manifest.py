"""The manifest: what settlement did with each update of a round. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import FailFast, Field

from ledger.documents import Document


def max_manifest_bytes(updates: int) -> int:
    """The most bytes that a manifest of this many updates can need."""
    return 4096 + 256 * updates


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
    NONFINITE = "nonfinite"
    """A value is NaN or infinite."""


class Row(Document):
    """One update: counted with a weight, or excluded for a reason; the other is null."""

    member: int
    update: Annotated[str, Field(pattern="^b[a-z2-7]{58}$")]
    weight: int | None
    excluded: Reason | None


class Manifest(Document):
    """Every update of a round, exactly once, in ascending member id.

    Attributes:
        model: The CID of the model; null where too few updates count.
    """

    TITLE: ClassVar[str] = "manifest"

    kind: Literal["manifest"] = "manifest"
    settlement: Literal[1] = 1
    chain_id: int
    ledger: str
    round: int
    plan: str
    base: str
    updates: Annotated[list[Row], FailFast()]
    counted: int
    model: str | None
