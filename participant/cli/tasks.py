"""A task on the command line: the name of a built-in one, or a file."""

from __future__ import annotations

from typing import Any

import click

from participant.built_in import built_in


class TaskType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """The file of a task: of a built-in one if it is exactly its name (``./heart`` is a file)."""

    name = "task"

    def __init__(self, file: click.Path) -> None:
        self._file = file

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Its path."""
        return built_in(str(value)) or self._file.convert(value, param, ctx)
