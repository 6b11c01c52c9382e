"""``fedledger task``: write a task, check it before a round is at stake, and make the genesis model from it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.options import JSON, PATH
from ledger.cli.output import document, facts
from participant.built_in import NAMES
from participant.cli.policies import POLICY, policy_file
from participant.cli.tasks import TaskType

if TYPE_CHECKING:
    from participant.check import Checked

TASK = click.argument("file", metavar="TASK", type=TaskType(PATH))


@click.group()
def task() -> None:
    """Write the task that a site trains, and try it out; no ledger is needed."""


@task.command()
@click.argument("file", metavar="FILE", type=PATH)
def new(file: Path) -> None:
    """Write an example of a task to FILE, to be changed: it trains on a CSV whose last column is the label.

    Exit status: 0 written; 2 FILE is there already, or its folder is not; 3 it cannot be written.
    """
    example = Path(__file__).parents[1] / "example.py"
    _write(file, example.read_bytes())
    click.echo(f"Wrote {file}: put your model and data in, then: fedledger task check {file} --data PATH")


@task.command()
@TASK
@click.option("--data", type=PATH, metavar="PATH", required=True, help="The site's data, as the task loads it.")
@click.option("--plan", "plan_file", type=PATH, metavar="PLAN_FILE", help="The plan (TOML or JSON) that it is to fit.")
@POLICY
@JSON
def check(file: Path, data: Path, plan_file: Path | None, policy: Path | None, as_json: bool) -> None:
    """Load TASK and its data, train one step, and say what is wrong before a round is at stake.

    TASK is a Python file, or a built-in task: heart, digits. The file is run, and trained on the first batch only: what
    is wrong with later examples does not show. Nothing is kept or sent. A task that the site's policy does not allow is
    not run; a plan outside of it is said.

    Exit status: 0 it can answer rounds; 2 something in task, data or plan is wrong, or not within the policy.
    """
    from participant.check import check as checked
    from participant.task_file import load_task, read_task

    source, own = read_task(file), policy_file(policy)
    digest = own.require_task(source)
    with redirect_stdout(sys.stderr):  # what the user's code prints is not what this command says
        found = checked(load_task(file, source), data, plan_file, own)
    within = str(own.path) if own.required else None
    if as_json:
        from dataclasses import asdict

        document({"task": digest, "policy": within, **asdict(found)})
        return
    facts([("task", f"sha256 {digest}"), *_told(found)])
    if within:
        click.echo(f"{'Task and plan are' if plan_file else 'The task is'} within the policy {within}.")
    for note in found.notes:
        click.echo(f"Note: {note}")
    click.echo(f"{file} can answer rounds.")


@task.command()
@TASK
@click.option(
    "--out",
    type=PATH,
    metavar="MODEL_FILE",
    default=Path("model.safetensors"),
    show_default=True,
    help="What to write.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Same seed, same bytes, same torch."
)
def genesis(file: Path, out: Path, seed: int) -> None:
    """Write a new model of TASK, for `fedledger round genesis`: a Python file, or a built-in task: heart, digits.

    Exit status: 0 written; 2 something in the task is wrong, MODEL_FILE is there already, or its folder is not; 3 it
    cannot be written.
    """
    from ledger.cid import cid_of
    from participant.task_file import load_task
    from participant.trainer import genesis as genesis_of

    _check_absent(out)
    blob = genesis_of(load_task(file), seed)
    _write(out, blob)
    facts([("model", out), ("bytes", f"{len(blob):,}"), ("cid", cid_of(blob))])
    click.echo(f"The governor records it: fedledger round genesis {out}")


@task.command()
@click.argument("name", type=click.Choice(NAMES))
@click.argument("folder", metavar="FOLDER", type=PATH)
@click.option(
    "--sites", type=click.IntRange(1), metavar="N", help="Of the digits: among how many sites; 4 if not given."
)
@click.option(
    "--alpha",
    type=click.FloatRange(0, min_open=True),
    metavar="A",
    help="Of the digits: how alike the sites are; below 1, each has few digits; 0.5 if not given.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), metavar="S", help="Of the digits: decides the split; 0 if not given."
)
def data(name: str, folder: Path, sites: int | None, alpha: float | None, seed: int | None) -> None:
    """Write the data of a built-in task into FOLDER, a CSV file for each site: one header line, the label last.

    heart: the records of four hospitals. digits: those of scikit-learn, split among sites of one size whose mixtures of
    digits are drawn from a Dirichlet distribution.

    Exit status: 0 written; 2 a file is there already, the folder cannot be made, what it needs is not installed, or the
    digits cannot be split so; 3 it cannot be written.
    """
    from ledger.cli.files import make_folder
    from ledger.errors import UsageError
    from participant.data_sets import digits_files, heart_files

    if name == "heart":
        if (sites, alpha, seed) != (None, None, None):
            raise UsageError("heart is the records of four hospitals: leave --sites, --alpha and --seed out")
        files = heart_files()
    else:
        files = digits_files(
            4 if sites is None else sites, 0.5 if alpha is None else alpha, 0 if seed is None else seed
        )
    make_folder(folder)
    paths = {folder / file: text for file, text in files.items()}
    for path in paths:
        _check_absent(path)
    for path, text in paths.items():
        _write(path, text.encode())
        click.echo(f"{path}: {text.count(chr(10)) - 1:,} examples")
    click.echo(f"Try one out: fedledger task check {name} --data {next(iter(paths))}")


def _told(found: Checked) -> Iterator[tuple[str, object]]:
    yield "examples", f"{found.examples:,} to train on, {found.held_out:,} held out"
    yield "update", f"{found.tensors:,} tensors, at most {found.update_bytes:,} bytes"
    for name, value in found.before.items():
        step = "one step on it" if found.delta is None else "one private step"
        yield name, f"{value:.4g} on the first batch, {found.after.get(name, float('nan')):.4g} after {step}"
    yield "a step", _time(found.step_seconds)
    yield "an epoch", f"about {_time(found.epoch_seconds)}"
    yield "a round", f"about {_time(found.round_seconds)} of training"
    if found.delta is not None:
        spent = "unlimited" if found.epsilon is None else f"{found.epsilon:.3f}"
        yield "epsilon", f"{spent} for one round, at delta {found.delta:g}"


def _time(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "less than 1 ms"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _check_absent(path: Path) -> None:
    from ledger.errors import UsageError

    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} is there already, and nothing is written over it: name another file")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder to write {path.name} into: name a file in one that is there")


def _write(path: Path, content: bytes) -> None:
    from ledger.storage.folder import replacing

    _check_absent(path)
    with replacing(path) as written:
        written.write(content)
