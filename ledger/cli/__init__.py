"""The command line: one file per command, found through the entry-point group ``fedledger.commands``.

A command's module imports click alone; what it works with is imported when it runs, so that help is there at once.
"""

from __future__ import annotations

import io
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from ledger import __version__
from ledger.cli.config import FILE_NAME, Config
from ledger.errors import FedledgerError

GROUP = "fedledger.commands"


class Commands(click.Group):
    """The commands of all installed packages; every error of ours ends in one sentence and its exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in alphabetical order."""
        return sorted(entry_points(group=GROUP).names)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name, None if there is none."""
        command: click.Command | None = next((found.load() for found in entry_points(group=GROUP, name=name)), None)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except FedledgerError as error:
            raise _Failure(str(error), error.exit_status) from error
        except BrokenPipeError:
            raise  # whoever read the output has seen enough; click ends quietly
        except OSError as error:
            what, why = error.filename or "what the system is asked for", error.strerror or error
            raise _Failure(f"{what} cannot be read or written ({why}): make it so, or name another", 3) from error
        except MemoryError as error:
            raise _Failure("this machine's memory does not suffice: try a larger one", 3) from error
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            # A defect of ours must not look like a verdict: exit status 1 says that something is wrong in a history.
            place = traceback.extract_tb(error.__traceback__)[-1]
            found = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
            raise _Failure(f"a defect in fedledger, please report it: {found}", 3) from error


class _Failure(click.ClickException):
    """One sentence on standard error, and an exit status."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_code = exit_status  # type: ignore[misc]  # click reads it from the exception it caught


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fedledger")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="FEDLEDGER_CONFIG",
    show_envvar=True,
    help=f"What the shared options are where nothing else says it; {FILE_NAME} in this folder, if it is there.",
)
@click.pass_context
def main(context: click.Context, config: Path | None) -> None:
    """Train one model together, and let anyone audit how it came about.

    Exit status: 0 done; 1 evidence that something is wrong; 2 wrong use; 3 something could not be checked or reached.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where a terminal cannot show a ✓, the verdict matters more
    context.obj = Config(config or Path(FILE_NAME), named=config is not None)
