"""The limits that a charter sets to plans, where it has them in a form that machines read. Pure.

A charter is a text for people. It may hold one block of limits:

    ```fedledger-limits
    {"min_quorum": 3, "min_approvals": 1}
    ```
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.plan import Plan

MAX_CHARTER_BYTES = 1 << 20
"""The largest charter that is read for its limits."""

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
Epsilon = Annotated[float, Field(ge=0, lt=1e6)]
_OPENING = re.compile(r"^[ \t>]*[`~]{3,}[ \t]*fedledger-limits", re.MULTILINE | re.IGNORECASE)
_BLOCK = re.compile(r"^```fedledger-limits[ \t]*\r?\n(.*?)^```[ \t]*\r?$", re.MULTILINE | re.DOTALL)


class Limits(BaseModel):
    """What a plan must keep to; what is left out is not limited.

    Attributes:
        min_quorum: The smallest quorum.
        min_approvals: The fewest approvals.
        max_rejections: The most rejections with which a model may be released.
        min_window: The shortest window, in seconds.
        max_window: The longest window, in seconds.
        max_weight: The highest cap of an update's weight.
        max_update_bytes: The largest update.
        max_epsilon: The highest budget of privacy; a plan that is not private, or has no budget, is above it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    min_quorum: Count | None = None
    min_approvals: Count | None = None
    max_rejections: Count | None = None
    min_window: Count | None = None
    max_window: Count | None = None
    max_weight: Count | None = None
    max_update_bytes: Count | None = None
    max_epsilon: Epsilon | None = None

    def exceeded(self, plan: Plan) -> list[str]:
        """What in a plan is outside of the limits, a phrase each."""
        values = {
            "quorum": plan.quorum,
            "approvals": plan.approvals,
            "rejections": plan.rejections,
            "window": plan.window,
            "weight": plan.weighting.most,
            "update_bytes": plan.max_update_bytes,
            "epsilon": plan.privacy.budget if plan.privacy and plan.privacy.budget is not None else math.inf,
        }
        found = []
        for name, limit in self.model_dump(exclude_none=True).items():
            most, _, what = name.partition("_")
            if values[what] > limit if most == "max" else values[what] < limit:
                found.append(f"{what} {_told(values[what])}, the charter's {name} is {_told(limit)}")
        return found


def _told(value: float) -> str:
    if value == math.inf:
        return "unlimited"
    return f"{value:g}" if isinstance(value, float) else str(value)


def limits_of(charter: bytes) -> Limits:
    """The limits in a charter; none where it has no block of them.

    Raises:
        ValueError: If the block is not one that can be read, or there are several.
    """
    text = charter.decode("utf-8", errors="replace")
    openings = len(_OPENING.findall(text))
    if openings > 1:
        raise ValueError(f"the charter has {openings} blocks of limits: it may have one")
    if not openings:
        return Limits()
    blocks = _BLOCK.findall(text)
    if not blocks:  # people would take it for limits, and nobody would keep to them
        raise ValueError(
            "the charter's limits cannot be read: their block is between a line ```fedledger-limits and a line ```"
        )
    try:
        limits = Limits.model_validate_json(blocks[0])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the block"
        raise ValueError(f"the charter's limits cannot be read: {place}: {first['msg']}") from None
    names = [name for name, _ in json.loads(blocks[0], object_pairs_hook=list)]
    if twice := sorted(name for name in set(names) if names.count(name) > 1):
        raise ValueError(f"the charter's limits cannot be read: {twice[0]} stands there more than once")
    return limits
