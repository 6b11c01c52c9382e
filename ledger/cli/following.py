"""What the commands share that go on until they are stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ledger.logs import Log

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
POLL = click.option(
    "--poll",
    type=click.FloatRange(0.05, 3600),
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
