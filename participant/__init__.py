"""A site: what it trains, and the loop that answers rounds.

`Task` is what a data scientist extends, or `ArrayTask` without torch (`docs/task.md`); each name is imported when it is
asked for, since most bring torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from participant.array_task import ArrayTask
    from participant.loading import load_model
    from participant.task import Task, balanced

__all__ = ["ArrayTask", "Task", "balanced", "load_model"]

_PLACES = {
    "ArrayTask": "participant.array_task",
    "Task": "participant.task",
    "balanced": "participant.task",
    "load_model": "participant.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
