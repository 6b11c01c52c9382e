"""``fedledger governor``: who admits and suspends members."""

from __future__ import annotations

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.options import ADDRESS
from ledger.cli.output import address, document, facts, recorded

NOBODY = "0x" + "00" * 20


@click.group()
def governor() -> None:
    """See who governs, and hand governance over in two steps: offer, take."""


@governor.command()
@connected()
def show(connection: Connection) -> None:
    """Show who governs, and to whom governance is offered.

    Exit status: 0 done; 1 what the node shows is not the ledger; 2 wrong use; 3 the node cannot be reached.
    """
    history = connection.history()
    offered = history.governance_offer if history.governance_offer != NOBODY else None
    if connection.as_json:
        document({"governor": history.governor, "offered": offered})
    else:
        facts([("governor", address(history.governor)), ("offered to", address(offered) if offered else "nobody")])


@governor.command()
@click.argument("account", metavar="ADDRESS", type=ADDRESS)
@connected(writes=True)
def offer(connection: Connection, account: str) -> None:
    """Offer governance to ADDRESS, which must take it; until then the governor stays, and can withdraw the offer.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    contract, signer = connection.contract, connection.account
    connection.confirm(f"Offer governance to {account}?")
    note = f"{account} can take governance now: fedledger governor take"
    recorded(connection, contract.offer_governance(signer, account), note)


@governor.command()
@connected(writes=True)
def withdraw(connection: Connection) -> None:
    """Take the offer of governance back.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    contract, account = connection.contract, connection.account
    connection.confirm("Withdraw the offer of governance?")
    recorded(connection, contract.offer_governance(account, NOBODY))


@governor.command()
@connected(writes=True)
def take(connection: Connection) -> None:
    """Take the governance that was offered to this account.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    contract, account = connection.contract, connection.account
    connection.confirm(f"Take governance of {contract.address}, as {account.address}?")
    recorded(connection, contract.take_governance(account))
