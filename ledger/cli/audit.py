"""``fedledger audit``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.options import ADDRESS, FILE, PATH, PLAIN_HTTP, STATE, STORE, setting
from ledger.cli.output import plain
from ledger.cli.scores import figure_lines
from ledger.cli.sources import BLOCK_HASH, HEAD, known_elsewhere, read_source

if TYPE_CHECKING:
    from ledger.audit.replay import Progress
    from ledger.audit.report import Report

_STYLES = {"verified": ("✓", "green"), "violated": ("✗", "red"), "incomplete": ("?", "yellow")}


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--ledger", type=ADDRESS, metavar="0x…", envvar="FEDLEDGER_LEDGER", help="The ledger's address.")
@STORE
@PLAIN_HTTP
@click.option("--head", type=HEAD, metavar="0x…", help="A head of the ledger, known from elsewhere than SOURCE.")
@click.option("--provider", "providers", metavar="URL", multiple=True, help="Another node, to compare with.")
@click.option(
    "--receipts", type=PATH, multiple=True, help="What a member remembers: its state folder, or its receipts."
)
@BLOCK_HASH
@click.option(
    "--contract",
    "contracts",
    type=ADDRESS,
    metavar="0x…",
    multiple=True,
    help="An account that is a contract (a Safe).",
)
@STATE
@click.option("--recompile", is_flag=True, help="Compile the contract from its source, and compare the code.")
@click.option("--rounds", metavar="3-7", help="Look at the blobs of these rounds only; say 3, 3-7 or 1,4-6.")
@click.option("--sample", metavar="5%", help="Look at the blobs of this share of the rounds only, chosen by chance.")
@click.option(
    "--identity",
    "identity_files",
    type=FILE,
    metavar="FILE",
    multiple=True,
    help="An age identity of yours, such as your age.key: it opens sealed updates, as far as these were sealed to it.",
)
@setting("password_file", help="A file with the identity's password, where it is encrypted; else it is asked for.")
@click.option("--public", is_flag=True, help="Look only at what needs no key: sealed updates stay closed.")
@click.option("--since", type=HEAD, metavar="0x…", help="Continue from an audit that passed, up to this head.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@click.option("--html", type=PATH, metavar="FILE", help="Write the report as one HTML page, too.")
def audit(
    source: str,
    ledger: str | None,
    store: str,
    plain_http: bool,
    head: bytes | None,
    providers: tuple[str, ...],
    receipts: tuple[Path, ...],
    block_hash: bytes | None,
    contracts: tuple[str, ...],
    state: Path,
    recompile: bool,
    rounds: str | None,
    sample: str | None,
    identity_files: tuple[Path, ...],
    password_file: Path | None,
    public: bool,
    since: bytes | None,
    as_json: bool,
    html: Path | None,
) -> None:
    """Verify a whole training history: every entry, every blob, every model, computed again.

    SOURCE is a bundle (a file from `fedledger export`), a folder that the demo left behind, or a node's address
    (http://…, with --ledger and --store). It is read, never changed. Every blob is hashed, and every round is settled
    again, so it takes about as long as reading all blobs once.

    Updates are sealed, unless a plan says otherwise: --identity opens those that were sealed to you, or granted.
    Without it, entries, manifests and the models' form are checked, and the models not computed again, which is
    incomplete (3); say --public if that is all you want.

    That the history is complete rests on a head known from elsewhere: --head, --receipts, what this member remembers
    itself (--state), another node (--provider), or a block whose hash you trust (--block-hash). With none of these it
    only shows that the history is consistent with itself, and says so.

    \b
    Exit status:
      0  everything is verified
      1  there is evidence that something is wrong
      2  wrong use: SOURCE is nothing to audit, or an option cannot be read
      3  nothing wrong was found, but not all could be checked
    """
    from ledger.audit.checks import Asked, unreadable
    from ledger.audit.checks import audit as run
    from ledger.audit.evidence import write_atomically
    from ledger.audit.origin import Claims
    from ledger.cli.identities import read_identities
    from ledger.errors import FedledgerError, UsageError
    from ledger.facts import Address

    if html is not None:  # what is missing is said before a long audit starts
        from ledger.cli.files import require_writable

        require_writable(html, "report")
        from ledger.audit.html import render

    if public and identity_files:
        raise UsageError("--public leaves sealed updates closed, and --identity opens them: give one of the two")
    identities = [one for file in identity_files for one in read_identities(file, password_file)]
    asked = Asked(chosen_rounds(rounds), _share(sample), since, public)
    claims = Claims(
        ledger=Address(ledger.lower()) if ledger else None,
        head=head,
        block_hash=block_hash,
        since=since,
        contracts=frozenset(Address(one.lower()) for one in contracts),
    )
    if source in providers:
        raise UsageError(f"--provider {source} is the source itself: name another node")
    with progress() as told:
        try:
            evidence = read_source(source, ledger, store, plain_http, block_hash, told)
        except UsageError:
            raise
        except FedledgerError as error:
            report = unreadable(error)
        else:
            known = known_elsewhere(evidence, claims, providers, receipts, state, recompile)
            report = run(evidence, known, asked, told, identities)
    document = report.document()
    if html is not None:
        write_atomically(html, render(document).encode())
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        show(report)
    raise click.exceptions.Exit(report.verdict.exit_status)


def show(report: Report) -> None:
    """Print the checks one by one, on whose word it all rests, and the verdict in one sentence."""
    for check in report.checks:
        mark, colour = _STYLES[check.status]
        meaning = check.meaning
        click.echo(f"{click.style(mark, fg=colour)} {meaning.number} {meaning.name}: {check.summary}")
        for finding in check.findings:
            mark, colour = _STYLES[finding.verdict]
            click.echo("    " + (click.style(finding.sentence, fg=colour) if mark != "✓" else finding.sentence))
    _show_figures(report)
    for ground in report.rests_on:
        click.echo(plain(f"The head rests on {ground.text}"))
    click.echo(click.style(report.sentence(), fg=_STYLES[report.verdict][1], bold=True))


def _show_figures(report: Report) -> None:
    """How the newest model fared of which that is known; it is no check."""
    scored = [one for one in report.timeline if one["scores"] and one["scores"]["figures"]]
    if scored:
        told = {**scored[-1], "metrics": scored[-1]["scores"]["figures"], "why": None}
        (_, about), *lines = figure_lines(told, {one["id"]: one["name"] for one in report.members})
        click.echo(f"Figures {about}")
        for metric, figure in lines:
            click.echo(plain(f"    {metric.strip()}: {figure}"))


@contextmanager
def progress() -> Iterator[Progress]:
    """Rate and time left on the terminal, for `ledger.audit.checks.audit`; nothing where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, int] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for earlier in tasks.values():
                    bar.remove_task(earlier)  # type: ignore[arg-type]
                tasks.clear()
                tasks[what] = bar.add_task(what, total=total, rate="")
            speed = bar.tasks[-1].speed
            bar.update(tasks[what], completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")  # type: ignore[arg-type]

        yield told


def chosen_rounds(text: str | None) -> set[int] | None:
    """The rounds that ``--rounds`` names; None where it is not given.

    Raises:
        UsageError: If it names none.
    """
    from ledger.errors import UsageError

    if text is None:
        return None
    chosen: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch("([0-9]{1,10})(?:-([0-9]{1,10}))?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if first > last:
            raise UsageError(f"--rounds {text!r} names no rounds: say 3, 3-7 or 1,4-6")
        if last - first > 1 << 20:
            raise UsageError(f"--rounds {text!r} names more rounds than an audit can choose: say 3, 3-7 or 1,4-6")
        chosen |= set(range(first, last + 1))
    return chosen


def _share(text: str | None) -> float | None:
    from ledger.errors import UsageError

    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = 0
    if not text.endswith("%") or not 0 < share <= 1:
        raise UsageError(f"--sample {text!r} is no share of the rounds: say 5%")
    return share
