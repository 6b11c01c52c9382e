"""``fedledger round agree``."""

from __future__ import annotations

import sys

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.options import YES
from ledger.cli.output import document
from ledger.cli.round_views import known_round


@click.command()
@click.argument("number", metavar="N", type=click.IntRange(1, (1 << 32) - 1))
@connected(store=True)
@YES
def agree(connection: Connection, number: int) -> None:
    """Read the plan of round N, and say yes to it for this site: `fedledger participate`, which waits for it, goes on.

    The yes is kept in the state folder, nothing is recorded on the ledger. It holds for later rounds of the same plan.

    Exit status: 0 agreed; 1 what the node shows is not the ledger, or a no; 2 wrong use, such as a round that is over;
    3 node or plan cannot be had.
    """
    from ledger.agreement import Agreed, described
    from ledger.errors import UsageError
    from ledger.history import Status
    from ledger.plan import MAX_PLAN_BYTES, Plan

    view = connection.look()
    known, agreed = known_round(view.history, number), Agreed(connection.memory.folder)
    if known.status is not Status.OPEN or view.time > known.opened.deadline:
        raise UsageError(f"round {number} takes no updates any more: agree to the plan of one that is open")
    cid = known.opened.plan
    if there := cid in agreed.plans():
        click.echo(f"The plan of round {number} is agreed to already; nothing to do.", err=connection.as_json)
    else:
        plan = Plan.decode(connection.blobs.get(cid, limit=MAX_PLAN_BYTES))
        for line in described(view.history, known, plan, agreed.last(connection.blobs), view.time):
            click.echo(line, err=True)
        if not connection.yes:
            if not sys.stdin.isatty():
                raise UsageError(f"nobody is there to agree to the plan of round {number}: read it, and say --yes")
            click.confirm("Train by this plan?", abort=True, err=True)
        agreed.add(cid)
    if connection.as_json:
        document({"round": number, "plan": str(cid), "agreed_before": there})
    elif not there:
        click.echo(f"Agreed to the plan of round {number}: `fedledger participate` goes on with it.")
