"""What the commands share that go on until they are stopped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ledger.logs import Log

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


class SecondsType(click.FloatRange):
    """A time that ends: ``nan`` is in every range, by how it compares."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds."""
        seconds = float(super().convert(value, param, ctx))
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is no number of seconds: give one such as 2 or 0.5")
        return seconds


POLL = click.option(
    "--poll",
    type=SecondsType(0.05, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often to look at the ledger.",
)
LOG_FORMAT = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to write what happens, on standard error: for people, or a JSON document a line.",
)


def log_of(log_format: str) -> Log:
    """The log in that format."""
    from ledger.logs import Log

    return Log(log_format == "json")
