"""The manifest: what settlement did with each update of a round. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import FailFast, Field, SerializerFunctionWrapHandler, model_serializer

from ledger.documents import Document


def max_manifest_bytes(updates: int, readers: int) -> int:
    """The most bytes that a manifest of this many updates can need, its annex being sealed to so many readers."""
    return 8192 + 512 * updates + 256 * readers


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


CidText = Annotated[str, Field(pattern="^b[a-z2-7]{58}$")]


class Row(Document):
    """One update: counted with a weight, or excluded for a reason; the other is null."""

    member: int
    update: CidText
    weight: int | None
    excluded: Reason | None


class Manifest(Document):
    """Every update of a round, exactly once, in ascending member id.

    Attributes:
        settlement: The version of the rules, as the plan has it; 1 knows no `annex`.
        model: The CID of the model; null where too few updates count.
        annex: What is not for everybody: the keys of the sealed updates, see `ledger.sealing.write_annex`; null where
            updates are not sealed.
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
    annex: Annotated[str, Field(pattern="^[A-Za-z0-9+/]+={0,2}$")] | None = None

    @model_serializer(mode="wrap")
    def _as_its_version_has_it(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in write(self).items() if key != "annex" or self.settlement > 1}
