"""``fedledger participate``."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.following import FOLDER, LOG_FORMAT, POLL, log_of
from ledger.cli.options import FILE, PATH
from participant.cli.policies import POLICY, policy_file
from participant.cli.tasks import TaskType


@click.command()
@click.option(
    "--task",
    metavar="TASK",
    type=TaskType(FILE),
    required=True,
    help="The Python file with the site's task, or a built-in task: heart, digits.",
)
@click.option("--data", metavar="PATH", type=PATH, required=True, help="The site's records, as the task reads them.")
@click.option("--once", is_flag=True, help="Stop once one round is answered and the update is final.")
@click.option("--handover", type=FOLDER, help="Post nothing: leave signed updates in this folder, for others to relay.")
@POLICY
@click.option("--accept-plans", is_flag=True, help="Agree to every plan that charter and policy allow; do not ask.")
@POLL
@LOG_FORMAT
@connected(writes=True, store=True)
def participate(
    connection: Connection,
    task: Path,
    data: Path,
    once: bool,
    handover: Path | None,
    policy: Path | None,
    accept_plans: bool,
    poll: float,
    log_format: str,
) -> None:
    r"""Answer every round, until stopped: train on the records, store the update, post its hash.

    What leaves the site is the update alone, sealed to the round's aggregators and auditors unless the plan says
    otherwise, by the plan and within the limits of the charter that was accepted. It trains for no round that the
    site's policy does not allow, and by no plan that a person here has not agreed to: it shows what changed and asks,
    or, without a terminal, waits for `fedledger round agree`.

    Started again after it died, the same command goes on: no update is posted twice, and none is lost.

    \b
    Exit status:
      0  one round is answered (--once), or it was told to stop (Ctrl-C, SIGTERM)
      1  the node shows another history than before, or one that breaks the rules
      2  wrong use: such as a task, data or policy that cannot be used, or an account that is no member's
      3  not all could be written
    """
    from ledger.agreement import Agreed
    from ledger.errors import UsageError
    from ledger.loop import alone, repeat, until_stopped
    from participant.answering import Answering
    from participant.cli.terminal import Terminal
    from participant.consent import Consent
    from participant.task_file import load_task, read_task
    from participant.trainer import Trainer

    follower, log, account = connection.follower, log_of(log_format), connection.account
    member = follower.look().history.member_by_account(account.address)
    if member is None:
        raise UsageError(f"{account.address} is no member's account: have the governor admit it, then `fedledger join`")
    source, own = read_task(task), policy_file(policy)
    digest = own.require_task(source)
    trainer, identities = Trainer(load_task(task, source), data), connection.identities
    connection.confirm(f"Answer rounds of {follower.contract.address} as member {member.id} ({member.name})?")
    with alone(follower.memory.folder, "participate"), until_stopped(log):
        follower.adopt(member.id)
        log.info("participating", ledger=follower.contract.address, member=member.id, examples=trainer.examples)
        consent = Consent(own, digest, Agreed(follower.memory.folder), Terminal(), log, accept_plans)
        site = Answering(follower, connection.blobs, account, trainer, log, once, handover, consent, identities)
        repeat(site.step, log, poll)
