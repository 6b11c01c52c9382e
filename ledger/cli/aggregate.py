"""``fedledger aggregate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.following import FOLDER, LOG_FORMAT, POLL, TENSORBOARD, SecondsType, draw_curves, log_of
from ledger.cli.options import FILE

if TYPE_CHECKING:
    from ledger.aggregating import Plans


@click.command()
@click.option("--plan", metavar="PLAN_FILE", type=FILE, required=True, help="The plan of every round (TOML or JSON).")
@click.option("--rounds", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="Rounds to work on.")
@click.option("--once", is_flag=True, help="One round: the one that is open, or else the next.")
@click.option(
    "--relay", type=FOLDER, help="Carry the signed updates in this folder, of sites without ether, to the chain."
)
@click.option(
    "--patience",
    type=SecondsType(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait, once a round is over, for an update that is not to be had, before it is left out.",
)
@TENSORBOARD
@POLL
@LOG_FORMAT
@connected(writes=True, store=True)
def aggregate(
    connection: Connection,
    plan: Path,
    rounds: int,
    once: bool,
    relay: Path | None,
    patience: float,
    tensorboard: Path | None,
    poll: float,
    log_format: str,
) -> None:
    """Open rounds, wait, relay, fetch and verify updates, settle, publish: as many rounds as asked for.

    What is on the chain decides what is done next: started again after it died, the same command goes on. A round
    that is open already is settled first, whoever opened it. Where the plan asks for approvals, the next round waits
    for them.

    \b
    Exit status:
      0  all rounds have ended, or it was told to stop (Ctrl-C, SIGTERM)
      1  the node shows another history than before, or one that breaks the rules
      2  wrong use
      3  not all could be written
    """
    from ledger.aggregating import Aggregating, finished, goal
    from ledger.aggregator import Aggregator
    from ledger.errors import BlobMissingError, UnavailableError, UsageError
    from ledger.facts import Role
    from ledger.loop import alone, repeat, until_stopped

    follower, log = connection.follower, log_of(log_format)
    history, account = connection.history(), connection.account
    aggregator = Aggregator(follower.contract, connection.blobs, account, connection.own_identities)
    plans = _plans(connection, plan)
    member = history.member_by_account(account.address)
    if member is None or Role.AGGREGATOR not in history.accounts[member.account].roles:
        raise UsageError(f"{account.address} is no aggregator's account: have the governor admit it as one, then join")
    model = history.model_of(history.latest_released)
    if model is not None:
        try:
            plans(history, model)
        except BlobMissingError:
            raise  # the wrong store, most likely: that, and a bad plan, are better known now
        except UnavailableError as error:
            log.warn("no plan can be read yet", why=error)  # a store that is down is waited for
    many = 1 if once else rounds
    connection.confirm(
        f"Aggregate {many} round{'s' * (many > 1)} of {follower.contract.address}, as member {member.id}?"
    )
    folder = follower.memory.folder
    with alone(folder, "aggregate"), until_stopped(log):
        draw_curves(connection, tensorboard, aggregator.identities, log)
        done = history.latest_round - (1 if once and history.open_round else 0)
        last = goal(folder, done, many)
        follower.adopt(member.id)
        work = Aggregating(follower, aggregator, plans, last, log, relay, patience)
        log.info("aggregating", ledger=follower.contract.address, member=member.id, up_to_round=last)
        repeat(work.step, log, poll, lambda: follower.quiet)
        follower.adopt(member.id)  # what a killed process had on its way was recorded by the node, not by this one
        finished(folder)
        log.info("done", rounds=many)


def _plans(connection: Connection, file: Path) -> Plans:
    """The plan in the file, for a round on a base model; it has to keep to the limits of the charter in force."""
    from ledger.cid import Cid
    from ledger.cli.round import within_limits
    from ledger.history import History
    from ledger.plan import Plan
    from ledger.plan_file import read_plan

    def plan_on(history: History, model: Cid) -> Plan:
        plan = read_plan(file, lambda: connection.blobs.get(model))
        within_limits(connection, history.charter, plan, file)
        return plan

    return plan_on
