"""``fedledger participate``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.following import FOLDER, LOG_FORMAT, POLL, TENSORBOARD, draw_curves, log_of
from ledger.cli.options import FILE, PATH
from ledger.cli.output import document, facts
from participant.cli.policies import POLICY, policy_file
from participant.cli.tasks import TaskType

if TYPE_CHECKING:
    from ledger.logs import Log
    from participant.rehearsing import Rehearsal


@click.command()
@click.option(
    "--task",
    metavar="TASK",
    type=TaskType(FILE),
    required=True,
    help="The Python file with the site's task, or a built-in task: heart, digits.",
)
@click.option("--data", metavar="PATH", type=PATH, required=True, help="The site's records, as the task reads them.")
@click.option(
    "--rehearse",
    type=click.IntRange(1),
    metavar="ROUND",
    help="Post nothing: train for this past round again, and compare with what was posted.",
)
@click.option("--once", is_flag=True, help="Stop once one round is answered and the update is final.")
@click.option("--handover", type=FOLDER, help="Post nothing: leave signed updates in this folder, for others to relay.")
@POLICY
@click.option("--accept-plans", is_flag=True, help="Agree to every plan that charter and policy allow; do not ask.")
@TENSORBOARD
@POLL
@LOG_FORMAT
@connected(writes=True, store=True)
def participate(
    connection: Connection,
    task: Path,
    data: Path,
    rehearse: int | None,
    once: bool,
    handover: Path | None,
    policy: Path | None,
    accept_plans: bool,
    tensorboard: Path | None,
    poll: float,
    log_format: str,
) -> None:
    """Answer every round, until stopped: train on the records, store the update, post its hash.

    What leaves the site is the update alone, sealed to the round's aggregators and auditors unless the plan says
    otherwise, by the plan and within the limits of the charter that was accepted. It trains for no round that the
    site's policy does not allow, and by no plan that a person here has not agreed to: it shows what changed and asks,
    or, without a terminal, waits for `fedledger round agree`.

    Started again after it died, the same command goes on: no update is posted twice, and none is lost.

    With --rehearse it trains for a past round again, from these records and the site's own secret, and tells whether
    that gives the update that was posted, byte for byte. Nothing is posted or kept; policy and people are not asked.

    \b
    Exit status:
      0  one round is answered (--once), or it was told to stop (Ctrl-C, SIGTERM); rehearsed: all bytes agree
      1  the node shows another history than before, or one that breaks the rules; rehearsed: something differs
      2  wrong use: such as a task, data or policy that cannot be used, or an account that is no member's
      3  not all could be written; rehearsed: the update, or what it was trained from, is not to be had
    """
    from ledger.agreement import Agreed
    from ledger.errors import UsageError
    from ledger.loop import alone, repeat, until_stopped
    from participant.answering import Answering
    from participant.cli.terminal import Terminal
    from participant.consent import Consent
    from participant.task_file import load_task, read_task
    from participant.trainer import Trainer

    if rehearse is not None and (once or handover):
        raise UsageError("--rehearse posts nothing: leave out --once and --handover")
    follower, log, account = connection.follower, log_of(log_format), connection.account
    member = follower.look().history.member_by_account(account.address)
    if member is None:
        raise UsageError(f"{account.address} is no member's account: have the governor admit it, then `fedledger join`")
    if rehearse is not None:
        _rehearse(connection, member.id, rehearse, task, data, log)
        return
    source, own = read_task(task), policy_file(policy)
    digest = own.require_task(source)
    trainer, identities = Trainer(load_task(task, source), data), connection.identities
    connection.confirm(f"Answer rounds of {follower.contract.address} as member {member.id} ({member.name})?")
    with alone(follower.memory.folder, "participate"), until_stopped(log):
        follower.adopt(member.id)
        draw_curves(connection, tensorboard, identities, log, member.id)
        log.info("participating", ledger=follower.contract.address, member=member.id, examples=trainer.examples)
        consent = Consent(own, digest, Agreed(follower.memory.folder), Terminal(), log, accept_plans)
        site = Answering(follower, connection.blobs, account, trainer, log, once, handover, consent, identities)
        repeat(site.step, log, poll, lambda: follower.quiet)


def _rehearse(connection: Connection, member: int, number: int, task: Path, data: Path, log: Log) -> None:
    from participant.posted import Posted
    from participant.rehearsing import rehearse, require_posted
    from participant.task_file import load_task
    from participant.trainer import Trainer

    posted = Posted(connection.history(), member, connection.blobs, connection.identities)
    known = require_posted(posted, number)
    with redirect_stdout(sys.stderr):  # what the user's code prints is not what this command says
        found = rehearse(known, Trainer(load_task(task), data), posted, log)
    if connection.as_json:
        document({"agrees": found.agrees, **asdict(found), "update": str(found.update)})
    else:
        facts(_told(found))
        click.echo("It is the update that was posted, byte for byte." if found.agrees else "IT IS ANOTHER UPDATE.")
    if not found.agrees:
        raise click.exceptions.Exit(1)


def _told(found: Rehearsal) -> Iterator[tuple[str, object]]:
    yield "round", found.round
    yield "update", found.update
    yield "witness", "agrees" if found.witness else "differs: other data, or another secret, than was trained with"
    then, now = found.examples
    yield "examples", f"agree: {now:,}" if then == now else f"differ: {then:,} then, {now:,} now"
    if found.metrics is None:
        yield "metrics", "none were posted"
    else:
        before, after = (", ".join(f"{name} {value:.6g}" for name, value in one.items()) for one in found.metrics)
        yield (
            "metrics",
            f"agree: {after}" if found.metrics[0] == found.metrics[1] else f"differ: {before} then, {after} now",
        )
    tensors = found.tensors
    if tensors is None:
        yield "tensors", "not trained: without the secret and the data of then they would be others"
    elif not tensors.differing:
        yield "tensors", f"agree: {tensors.elements:,} elements"
    else:
        yield (
            "tensors",
            f"differ: {tensors.differing:,} of {tensors.elements:,} elements, {tensors.largest:.3g} at most: another "
            "machine, task or version of a library, or a training that is not reproducible",
        )
