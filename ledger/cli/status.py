"""``fedledger status`` and ``fedledger watch``: where a ledger stands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.following import POLL
from ledger.cli.output import document, facts, plain
from ledger.cli.scores import figure_lines, newest_figures

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ledger.following import View
    from ledger.history import Round


@click.command()
@connected(store=True, opens=True)
def status(connection: Connection) -> None:
    """Show where the ledger stands: head, members, the newest round, what it waits for, how a model fared at the sites.

    The last is of the newest model of which this member can read it, as the sites say.

    Exit status: 0 done; 1 what the node shows is not the ledger; 2 wrong use; 3 the node cannot be reached.
    """
    view = connection.look()
    figures = newest_figures(connection, view.history)
    if connection.as_json:
        document(_described(connection, view, figures))
    else:
        facts(_lines(connection, view, figures))


@click.command()
@POLL
@connected(store=True, opens=True)
def watch(connection: Connection, poll: float) -> None:
    """Show where the ledger stands, live, until stopped (Ctrl-C). A node that answers no more is waited for.

    With --json, or where the output is no terminal, a document or a line is printed whenever something has changed.

    Exit status: 0 stopped; 1 what the node shows is not the ledger; 2 wrong use; 3 the node cannot be reached at first.
    """
    import sys

    from rich.live import Live
    from web3.exceptions import Web3Exception

    from ledger.errors import UnavailableError
    from ledger.logs import Log
    from ledger.loop import between, until_stopped

    connection.look()  # what is wrong from the start is said, and not waited for
    live = None if connection.as_json or not sys.stdout.isatty() else Live(auto_refresh=False)
    last, figures = "", dict[str, Any]()
    with until_stopped(Log()):
        if live:
            live.start()
        try:
            while True:
                try:
                    view = connection.look()
                except (UnavailableError, Web3Exception) as error:
                    if live:
                        live.update(f"{plain(str(error))}", refresh=True)
                else:
                    if (head := view.history.head.hex()) != last:
                        last, figures = head, newest_figures(connection, view.history)
                        if not live:
                            _print(connection, view, figures)
                    if live:
                        live.update(_table(connection, view, figures), refresh=True)
                time.sleep(between(poll, connection.follower.quiet))
        finally:
            if live:
                live.stop()


def _print(connection: Connection, view: View, figures: dict[str, Any]) -> None:
    if connection.as_json:
        import json

        click.echo(json.dumps(_described(connection, view, figures), ensure_ascii=False))
    else:
        click.echo(_sentence(view))


def _table(connection: Connection, view: View, figures: dict[str, Any]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in _lines(connection, view, figures):
        if value is not None:
            table.add_row(Text(name), Text(plain(str(value))))  # as they are: strangers' names are no markup
    return table


def _sentence(view: View) -> str:
    history = view.history
    newest = history.rounds.get(history.latest_round)
    told = f"round {newest.number} {_waits_for(view, newest)}" if newest else "no round yet"
    return f"entry {history.entries}, head 0x{history.head.hex()}: {told}"


def _lines(connection: Connection, view: View, figures: dict[str, Any]) -> list[tuple[str, object]]:
    from ledger.chain.sentences import moment

    history = view.history
    newest = history.rounds.get(history.latest_round)
    accepted = sum(
        history.accounts[member.account].accepted == history.charter_version for member in history.members.values()
    )
    pending = sum(one.status == "pending" for one in connection.memory.receipts())
    waits = sum(entry.block > view.final for entry, _ in view.entries)
    lines: list[tuple[str, object]] = [
        ("ledger", f"{connection.contract.address} on chain {history.genesis.chain_id}"),
        ("head", f"0x{history.head.hex()}"),
        ("entries", f"{history.entries}, {f'the last {waits} not final yet' if waits else 'all final'}"),
        ("charter", f"version {history.charter_version}, accepted by {accepted} of {len(history.members)} members"),
        ("receipts", f"{pending} of this member's own are not final yet" if pending else None),
        ("genesis", history.genesis_model.model if history.genesis_model else "not recorded yet"),
        ("rounds", _counts(list(history.rounds.values()))),
    ]
    if newest is not None:
        missing = _missing(view, newest)
        lines += [
            (f"round {newest.number}", _waits_for(view, newest)),
            ("deadline", moment(newest.opened.deadline, view.time) if newest.ended is None else None),
            ("no update of", missing or None),
        ]
    return lines + figure_lines(figures, {member.id: member.name for member in history.members.values()})


def _counts(rounds: list[Round]) -> str:
    from ledger.history import Status

    counts = [(sum(known.status is status for known in rounds), status.value) for status in Status]
    return ", ".join(f"{count} {status}" for count, status in counts if count) or "none yet"


def _waits_for(view: View, newest: Round) -> str:
    from ledger.history import Status

    have = f"{len(newest.updates)} of {newest.eligible} updates"
    match newest.status:
        case Status.OPEN if view.time <= newest.opened.deadline and len(newest.updates) < newest.eligible:
            return f"takes updates: {have}"
        case Status.OPEN:
            return f"waits for an aggregator to settle it: {have}"
        case Status.SETTLED:
            approvals = [one.approve for one in newest.attestations.values()].count(True)
            return f"settled with {have}, waits for approvals: {approvals} of {newest.opened.approvals}"
        case _:
            return f"{newest.status.value} with {have}"


def _missing(view: View, newest: Round) -> str:
    """The participants whose update an open round has not, as far as their roles tell."""
    from ledger.facts import Role

    if newest.ended is not None:
        return ""
    history = view.history
    return ", ".join(
        f"{member.id} {member.name}"
        for member in history.members.values()
        if member.id not in newest.updates
        and Role.PARTICIPANT in history.accounts[member.account].roles_in(newest.number)
        and history.accounts[member.account].since < newest.number
        and history.accounts[member.account].accepted >= newest.charter_version
    )


def _described(connection: Connection, view: View, figures: dict[str, Any]) -> dict[str, Any]:
    history = view.history
    newest = history.rounds.get(history.latest_round)
    receipts = [one.status for one in connection.memory.receipts()]
    return {
        "ledger": connection.contract.address,
        "chain_id": history.genesis.chain_id,
        "head": f"0x{history.head.hex()}",
        "entries": history.entries,
        "final": sum(entry.block <= view.final for entry, _ in view.entries),
        "charter_version": history.charter_version,
        "members": len(history.members),
        "receipts": {status: receipts.count(status) for status in ("final", "pending", "displaced")},
        "rounds": history.latest_round,
        "newest": newest
        and {
            "round": newest.number,
            "status": newest.status.value,
            "updates": len(newest.updates),
            "eligible": newest.eligible,
            "deadline": newest.opened.deadline,
            "time": view.time,
        },
        "figures": figures,
    }
