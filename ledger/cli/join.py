"""``fedledger join``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ledger.cli.charter import accept_charter, age_key_of
from ledger.cli.connection import Connection, connected

if TYPE_CHECKING:
    from ledger.history import History, Member


@click.command()
@click.option("--age-key", metavar="age1…", help="Your age public key; without it, one is made for you and kept.")
@click.option("--sign-only", is_flag=True, help="Print the signed acceptance, for another to relay: it needs no ether.")
@connected(writes=True, store=True)
def join(connection: Connection, age_key: str | None, sign_only: bool) -> None:
    """Take your place as an admitted member: read the charter, accept it, and publish your age key.

    The secret part of the age key, its identity, is kept in age.key in the state folder, encrypted with the keystore's
    password: back it up (fedledger key backup). Who has joined already, under the charter in force and with the newest
    key in age.key, has nothing left to do.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use, or not admitted yet; 3 node or blob cannot be had.
    """
    history, account = connection.history(), connection.account
    member = admitted(history, account.address)
    if age_key is None:
        age_key = newest_age_key(connection)
    known = history.accounts[member.account]
    if known.accepted == history.charter_version and member.age_key == age_key_of(history, account.address, age_key):
        click.echo(f"Member {member.id} ({member.name}) has joined already; nothing to do.", err=connection.as_json)
        return
    accept_charter(connection, age_key, sign_only)


def admitted(history: History, account: str) -> Member:
    """The member whose account this is.

    Raises:
        UsageError: If it is none's.
    """
    from ledger.errors import UsageError

    member = history.member_by_account(account)
    if member is None:
        raise UsageError(
            f"{account} is not admitted yet: send the address to the governor, who admits it with `fedledger "
            "member admit`, and join then"
        )
    return member


def newest_age_key(connection: Connection) -> str:
    """The public part of the newest of the member's age identities; the first is made if there is none.

    Raises:
        UsageError: If the identities cannot be read or written.
    """
    from ledger.cli.identities import add_identity

    if os.path.lexists(connection.identity_file):
        return str(connection.identities[-1].to_public())
    return str(add_identity(connection.identity_file, connection.password).to_public())
