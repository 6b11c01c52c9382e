"""``fedledger join``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ledger.cli.charter import accept_charter, age_key_of
from ledger.cli.connection import Connection, connected

if TYPE_CHECKING:
    from pathlib import Path

_MOST = 1 << 12  # bytes of a file with an age key, which has about 200


@click.command()
@click.option("--age-key", metavar="age1…", help="Your age public key; without it, one is made for you and kept.")
@click.option("--sign-only", is_flag=True, help="Print the signed acceptance, for another to relay: it needs no ether.")
@connected(writes=True, store=True)
def join(connection: Connection, age_key: str | None, sign_only: bool) -> None:
    """Take your place as an admitted member: read the charter, accept it, and publish your age key.

    The secret part of the age key is kept in age.key, in the state folder: back it up, and show it to nobody. Who has
    joined already, under the charter in force and with that key, has nothing left to do.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use, or not admitted yet; 3 node or blob cannot be had.
    """
    from ledger.errors import UsageError

    history, account = connection.history(), connection.account
    member = history.member_by_account(account.address)
    if member is None:
        raise UsageError(
            f"{account.address} is not admitted yet: send the address to the governor, who admits it with `fedledger "
            "member admit`, and join then"
        )
    age_key = age_key or own_age_key(connection.state_folder / "age.key")
    known = history.accounts[member.account]
    if known.accepted == history.charter_version and member.age_key == age_key_of(history, account.address, age_key):
        click.echo(f"Member {member.id} ({member.name}) has joined already; nothing to do.", err=connection.as_json)
        return
    accept_charter(connection, age_key, sign_only)


def own_age_key(file: Path) -> str:
    """The public part of the age key in a file, which is made if it is not there.

    Raises:
        UsageError: If the file holds no age key.
    """
    import pyrage

    from ledger.cli.files import create
    from ledger.errors import UsageError
    from ledger.storage.folder import read_regular

    if not os.path.lexists(file):
        identity = pyrage.x25519.Identity.generate()
        text = f"# public key: {identity.to_public()}\n{identity}\n"
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{file.parent} cannot be made ({error.strerror}): name another with --state") from None
        create(file, text.encode(), 0o600, "join again, it is used as it is")
    try:
        text = read_regular(file, _MOST).decode("utf-8")
        (line,) = (line for line in text.splitlines() if line and not line.startswith("#"))
        return str(pyrage.x25519.Identity.from_str(line).to_public())
    except (OSError, ValueError, pyrage.IdentityError):
        raise UsageError(f"{file} holds no age key: restore it from a copy, or move it away to have one made") from None
