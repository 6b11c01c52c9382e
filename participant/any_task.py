"""What all tasks share, whatever trains them. Without torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from participant import examples


class AnyTask(ABC):
    """What a site trains on; extend `Task` (torch) or `ArrayTask` (anything else)."""

    @abstractmethod
    def load(self, data: Path) -> Any:
        """The examples in `data`, the path that ``--data`` names: anything with ``len`` and ``[]``."""

    def split(self, dataset: Any) -> tuple[Any, Any]:
        """The part of the examples to train on, and the part that is held out, on which models are evaluated.

        The default holds out every fifth example, by a fixed shuffle, or none of fewer than ten; another one should
        give the same parts every time, too.
        """
        return examples.split(dataset)
