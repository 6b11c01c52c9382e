"""``fedledger demo``."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from participant.demo import Outcome
    from participant.federation import RoundResult


@click.command()
@click.option("--rounds", type=click.IntRange(1, 1000), default=20, show_default=True, help="Rounds to play.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo-run"),
    show_default=True,
    help="Folder to leave behind; an earlier demo's is replaced.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Same seed, same model bytes."
)
@click.option(
    "--cheat",
    type=click.Choice(["participant", "aggregator", "storage", "node"]),
    help="Play one fraud: garbage posted as an update; an honest update left out of the average; "
    "a byte of a stored blob flipped; an event withheld.",
)
def demo(rounds: int, out: Path, seed: int, cheat: str | None) -> None:
    """Train, record, settle and audit, all on this machine: four hospitals, real records, an embedded chain.

    Ends with the exit status of the audit (see `fedledger audit --help`): 1 where a fraud made the history false.
    """
    try:
        from participant.cheats import Cheat
        from participant.demo import IDENTITY, Demo, run
    except ModuleNotFoundError as error:
        raise click.UsageError(f"the demo needs {error.name}: pip install 'fedledger[demo]'") from None
    from rich.progress import Progress

    from ledger.audit.checks import audit
    from ledger.audit.evidence import read_folder
    from ledger.audit.origin import Claims
    from ledger.cli.audit import progress, show

    with Progress(transient=True) as bar:
        task = bar.add_task("training", total=rounds)

        def on_round(result: RoundResult) -> None:
            if result.round == 1:
                bar.console.print("Four hospitals train one model, and every step is recorded. AUC on their test rows:")
            bar.console.print(_line(result), highlight=False, soft_wrap=True)
            bar.advance(task)

        asked = Demo(out, rounds, seed, _any_order, Cheat(cheat) if cheat else None)
        outcome = run(asked, on_round)
    _table(outcome)
    click.echo(f"The audit of {out}, from its entries and blobs alone, and a head that the hospitals remember:")
    with progress() as told:
        report = audit(read_folder(out), Claims(head=outcome.head), progress=told, identities=[outcome.auditor])
    show(report)
    again = f"fedledger audit {out} --identity {out / IDENTITY}"
    click.echo(f"Look into {out}, or check it again, in another process, as its auditor: {again}")
    raise click.exceptions.Exit(report.verdict.exit_status)


def _any_order(names: list[str]) -> list[str]:
    """Whoever is ready first posts first; the models do not depend on it."""
    return random.SystemRandom().sample(names, len(names))


def _line(result: RoundResult) -> str:
    scores = "  ".join(f"{name} {auc:.3f}" for name, auc in result.auc.items())
    parts = [f"round {result.round:>3}  {scores or 'no model'}"]
    parts += [f"{name} excluded: {reason}" for name, reason in result.excluded.items()]
    if result.model is not None and not result.released:
        parts.append("model rejected by the auditor")
    return "  ".join(parts)


def _table(outcome: Outcome) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="AUC on all hospitals' test rows")
    table.add_column("trained")
    table.add_column("AUC", justify="right")
    for name, auc in outcome.baselines.items():
        table.add_row("all rows in one place" if name == "pooled" else f"{name} alone", f"{auc:.3f}")
    last = outcome.results[-1].auc
    if last:
        table.add_row("federated, as recorded", f"{last['overall']:.3f}", style="bold")
    Console().print(table)
