"""``fedledger receipt``: what a member keeps of its own entries, and whether they are still on the chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.options import FILE
from ledger.cli.output import document, facts, table

if TYPE_CHECKING:
    from ledger.receipts import Receipt, StateFolder


@click.group()
def receipt() -> None:
    """List, show and verify the receipts of what this member recorded."""


@receipt.command("list")
@connected(node=False)
def list_(connection: Connection) -> None:
    """List the receipts of what this member recorded; it asks no node.

    A receipt is pending until its block is final, and displaced if the chain took that block back.

    Exit status: 0 done; 2 wrong use; 3 the state folder is damaged or cannot be read.
    """
    receipts = _folder(connection).receipts()
    if connection.as_json:
        document({"receipts": [_described(one) for one in receipts]})
        return
    table(
        ["entry", "kind", "block", "status", "head"],
        [
            (one.entry.index, type(one.entry.fact).__name__, one.entry.block, one.status, f"0x{one.head.hex()}")
            for one in receipts
        ],
    )


@receipt.command()
@click.argument("number", metavar="N", type=click.IntRange(0))
@connected(node=False)
def show(connection: Connection, number: int) -> None:
    """Show the receipt of entry N: one line, to be sent to an auditor as it is; it asks no node.

    Exit status: 0 done; 2 there is no such receipt; 3 the state folder is damaged or cannot be read.
    """
    from ledger.entries import to_line
    from ledger.errors import UsageError

    found = [one for one in _folder(connection).receipts() if one.entry.index == number]
    if not found:
        raise UsageError(f"there is no receipt of entry {number}: see `fedledger receipt list`")
    one = next((one for one in found if one.status != "displaced"), found[-1])
    if one.status != "final":
        click.echo(f"Warning: this receipt is {one.status}, and proves nothing", err=True)
    if connection.as_json:
        document(_described(one))
    else:
        click.echo(to_line(one.entry, one.head))


@receipt.command()
@click.argument("file", type=FILE, required=False)
@connected()
def verify(connection: Connection, file: Path | None) -> None:
    """Verify that all that this member remembers, or the receipts in FILE, lie on the history that the node shows.

    \b
    Exit status:
      0  all of it does
      1  the history is another one: last common and first different entry are shown
      2  wrong use
      3  nothing final was remembered before, the state folder is damaged, or the node cannot be reached
    """
    from ledger.errors import Forked, UnavailableError
    from ledger.receipts import find_fork, read_receipts

    remembered = connection.memory.seen() if file is None else read_receipts(file)
    history, shown = connection.history(), connection.look().entries
    if file is not None and (fork := find_fork(remembered, shown)):
        raise Forked(fork, file)
    if not remembered:
        raise UnavailableError(
            f"nothing final was remembered that the history could be compared with: compare its head, 0x"
            f"{history.head.hex()}, with another member's"
        )
    told: dict[str, Any] = {"verified": len(remembered), "entries": len(shown), "head": f"0x{history.head.hex()}"}
    if file is None:
        statuses = [one.status for one in connection.memory.receipts()]
        told |= {"receipts": {status: statuses.count(status) for status in ("final", "pending", "displaced")}}
    if connection.as_json:
        document(told)
        return
    what = f"receipts in {file}" if file else "remembered entries"
    facts(
        [
            ("verified", f"{len(remembered)} {what}"),
            ("entries", f"{len(shown)} on the node"),
            ("head", told["head"]),
            *((f"receipts {status}", count) for status, count in told.get("receipts", {}).items()),
        ]
    )


def _described(one: Receipt) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(one.to_line())
    return described


def _folder(connection: Connection) -> StateFolder:
    """The ledger's folder, found without a node."""
    from ledger.errors import UsageError
    from ledger.receipts import StateFolder, chains

    state, ledger, chain_id = connection.state_folder, connection.ledger, connection.chain_id
    known = chains(state, ledger)
    if not known or (chain_id is not None and chain_id not in known):
        where = f" on chain {chain_id}" if known else ""
        raise UsageError(f"{state} remembers nothing of {ledger}{where}: compare address and state folder")
    if chain_id is None and len(known) > 1:
        raise UsageError(f"{state} knows {ledger} on chains {', '.join(map(str, known))}: say which with --chain-id")
    return StateFolder.of(state, known[0] if chain_id is None else chain_id, ledger)
