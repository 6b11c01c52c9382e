"""What the commands share that go on until they are stopped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.options import PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.cli.connection import Connection
    from ledger.logs import Log
    from ledger.sealing import Identity

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
    help="How often to look at the ledger where nothing happens; sooner after something did.",
)
LOG_FORMAT = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to write what happens, on standard error: for people, or a JSON document a line.",
)


TENSORBOARD = click.option(
    "--tensorboard",
    type=PATH,
    metavar="DIR",
    help="Write curves for TensorBoard into a folder for this command alone: how the models fared at the sites.",
)


def draw_curves(
    connection: Connection, folder: Path | None, identities: Sequence[Identity], log: Log, member: int | None = None
) -> None:
    """From now on, write curves into a folder, if one is named, with every look at the ledger.

    Args:
        connection: The command's.
        folder: What ``--tensorboard`` names.
        identities: The member's own age identities.
        log: Told what cannot be written.
        member: See `ledger.curves.Curves`.

    Raises:
        UsageError: If nothing can be written there, or the extra `tensorboard` is not installed.
    """
    if folder is not None:
        from ledger.curves import Curves

        curves = Curves(folder, connection.blobs_at_once, identities, member, log)
        connection.follower.observers.append(curves.follow)


def log_of(log_format: str) -> Log:
    """The log in that format."""
    from ledger.logs import Log

    return Log(log_format == "json")
