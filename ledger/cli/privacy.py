"""``fedledger privacy``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.audit import progress
from ledger.cli.connection import Connection, connected
from ledger.cli.output import document, table
from ledger.cli.sources import read_source

if TYPE_CHECKING:
    from ledger.history import History, Round
    from ledger.privacy import Spent
    from ledger.storage import Blobs

ITS_WORD = "That a site clipped and added noise at all is its word: no history shows it."


@click.command()
@click.argument("source", metavar="[SOURCE]", required=False)
@connected(store=True, required=False)
def privacy(connection: Connection, source: str | None) -> None:
    """Show how much of its examples' privacy each site has spent: epsilon, at the newest plan's delta.

    It is computed from the plans of all rounds in which a site's update is recorded, and from nothing that the site
    says. SOURCE is a bundle, a folder that the demo left behind, or a node's address, as for `fedledger audit`;
    without it, the ledger at --rpc is read. With --json, every round of every site is told. That a site clipped and
    added noise at all is its word: no history shows it.

    \b
    Exit status:
      0  all is known, and within the budgets of the plans
      1  a site has spent more than a plan's budget; or SOURCE is no history that a ledger allows
      2  wrong use: SOURCE is none, or a private plan is to be accounted for and dp-accounting is not installed
      3  a plan cannot be had, so that what a site has spent is unknown; or the node cannot be reached
    """
    from ledger.plan import MAX_PLAN_BYTES, Plan
    from ledger.privacy import spending

    history, blobs = _read(connection, source)
    plans: dict[int, Plan] = {}

    def plan_of(known: Round) -> Plan:
        if known.number not in plans:
            plans[known.number] = Plan.decode(blobs.get(known.opened.plan, MAX_PLAN_BYTES))
        return plans[known.number]

    spent = list(spending(history, plan_of))
    sites: dict[int, list[Spent]] = {}
    for one in spent:
        sites.setdefault(one.member, []).append(one)
    if connection.as_json:
        document(_document(history, sites))
    else:
        head = ("site", "rounds", "epsilon", "RDP", "delta", "budget", "left", "")
        table(head, (_row(history, listed) for _, listed in sorted(sites.items())))
        click.echo(ITS_WORD)
    for one in spent:
        if one.unknown is not None:
            click.echo(f"Unknown, round {one.round}, {_name(history, one.member)}: {one.unknown}", err=True)
    if any(one.exceeds for one in spent):
        raise click.exceptions.Exit(1)
    if any(one.unknown is not None for one in spent):
        raise click.exceptions.Exit(3)


def _read(connection: Connection, source: str | None) -> tuple[History, Blobs]:
    from ledger.errors import UsageError, ViolationError
    from ledger.rules import replay

    if source is None:
        if not connection.rpc or not connection.ledger:
            raise UsageError("no history is named: give SOURCE, or a node and a ledger with --rpc and --ledger")
        return connection.history(), connection.blobs
    with progress() as told:
        ledger = connection.ledger or None
        evidence = read_source(source, ledger, connection.store, connection.plain_http, None, told)
    history = replay(evidence.genesis, (entry for entry, _ in evidence.entries))
    if history.head != evidence.head:
        raise ViolationError(f"the entries of {source} do not lead to its head: see where with `fedledger audit`")
    return history, evidence.store


def _document(history: History, sites: dict[int, list[Spent]]) -> dict[str, Any]:
    from ledger.privacy import spent_document

    def rounds(listed: list[Spent]) -> Iterator[dict[str, Any]]:
        for one in listed:
            told = {name: value for name, value in spent_document(one).items() if name != "member"}
            terms = {"delta": one.delta, "budget": one.budget, "left": one.left, "exceeds": one.exceeds}
            yield {"round": one.round, **told, **terms, "unknown": one.unknown}

    return {
        "head": "0x" + history.head.hex(),
        "sites": [
            {"member": member, "name": _name(history, member), "rounds": list(rounds(listed))}
            for member, listed in sorted(sites.items())
        ],
        "note": ITS_WORD,
    }


def _row(history: History, listed: list[Spent]) -> tuple[object, ...]:
    from ledger.privacy import told

    last = listed[-1]
    over = [str(one.round) for one in listed if one.exceeds]
    return (
        f"{last.member} {_name(history, last.member)}",
        last.rounds,
        told(last.epsilon),
        told(last.rdp),
        "–" if last.delta is None else f"{last.delta:g}",
        "–" if last.budget is None else f"{last.budget:g}",
        "–" if last.left is None else f"{last.left:.3f}",
        f"over the budget in round {', '.join(over)}" if over else "",
    )


def _name(history: History, member: int) -> str:
    known = history.members.get(member)
    return known.name if known else "never admitted"
