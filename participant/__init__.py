"""A site: what it trains, and the loop that answers rounds.

`Task` is what a data scientist extends (`docs/task.md`); it is imported when it is asked for, since it brings torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from participant.task import Task

__all__ = ["Task"]


def __getattr__(name: str) -> Any:
    if name != "Task":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from participant.task import Task

    return Task
