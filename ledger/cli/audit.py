"""``fedledger audit``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ledger.audit.checks import Progress
    from ledger.audit.report import Report

_STYLES = {"verified": ("✓", "green"), "violated": ("✗", "red"), "incomplete": ("?", "yellow")}


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--head", metavar="0x…", help="The ledger's head, known from elsewhere than SOURCE.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def audit(source: Path, head: str | None, as_json: bool) -> None:
    r"""Verify a whole training history: every entry, every blob, every model, computed again.

    SOURCE is the folder that the demo left behind. It is read, never changed. Every blob is hashed, and every round
    is settled again, so it takes about as long as all settlements took together.

    \b
    Exit status:
      0  everything is verified
      1  there is evidence that something is wrong
      2  wrong use: SOURCE is no such folder, or the head is none
      3  nothing wrong was found, but not all could be checked
    """
    from ledger.audit.checks import audit as run
    from ledger.audit.checks import unreadable
    from ledger.audit.evidence import read_folder, read_head
    from ledger.errors import FedledgerError, UsageError

    known_head = read_head(head) if head is not None else None
    try:
        with progress() as told:
            report = run(read_folder(source), known_head, told)
    except UsageError:
        raise
    except FedledgerError as error:
        report = unreadable(error)
    if as_json:
        click.echo(json.dumps(report.document(), indent=1))
    else:
        show(report)
    raise click.exceptions.Exit(report.verdict.exit_status)


def show(report: Report) -> None:
    """Print the checks one by one, and the verdict in one sentence."""
    for check in report.checks:
        mark, colour = _STYLES[check.status]
        click.echo(f"{click.style(mark, fg=colour)} {check.name}: {check.summary}")
        for finding in check.findings:
            mark, colour = _STYLES[finding.verdict]
            click.echo("    " + (click.style(finding.text, fg=colour) if mark != "✓" else finding.text))
    click.echo(click.style(report.sentence(), fg=_STYLES[report.verdict][1], bold=True))


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar on the terminal, for `ledger.audit.checks.audit`; nothing where standard error is no terminal."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True, disable=not Console(stderr=True).is_terminal) as bar:
        task = bar.add_task("audit")
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)
