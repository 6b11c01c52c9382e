"""``fedledger charter``: the agreement in force, and who accepts it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.options import FILE
from ledger.cli.output import about, document, facts, plain, recorded

if TYPE_CHECKING:
    from ledger.history import History


@click.group()
def charter() -> None:
    """See, change and accept the data-use agreement that binds all members."""


@charter.command()
@connected(store=True)
def show(connection: Connection) -> None:
    """Show the charter in force, who has accepted it, and its text.

    Exit status: 0 done; 1 what the node shows is not the ledger; 2 wrong use; 3 node or blob cannot be had.
    """
    from ledger.charter import limits_of

    history = connection.history()
    accepted = [
        member
        for member in history.members.values()
        if history.accounts[member.account].accepted == history.charter_version
    ]
    blob = connection.blobs.get(history.charter)
    try:
        limits, told = limits_of(blob).model_dump(exclude_none=True), ""
    except ValueError as error:
        limits, told = None, str(error)
    if connection.as_json:
        members = [member.id for member in accepted]
        document(
            {
                "charter": str(history.charter),
                "version": history.charter_version,
                "accepted": members,
                "limits": limits,
                "text": _text(blob),
            }
        )
        return
    names = ", ".join(f"{member.id} {member.name}" for member in accepted)
    if limits is not None:
        told = ", ".join(f"{name} {limit}" for name, limit in limits.items()) or "none that machines read"
    facts(
        [
            ("charter", history.charter),
            ("version", history.charter_version),
            ("accepted by", names or "nobody yet"),
            ("limits to plans", told),
        ]
    )
    click.echo("\n" + plain(_readable(connection, history)))


@charter.command()
@click.argument("file", type=FILE)
@connected(writes=True, store=True)
def change(connection: Connection, file: Path) -> None:
    """Put the charter in FILE in force, for rounds opened later; members that do not accept it take no part in them.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    from ledger.cid import cid_of
    from ledger.errors import UsageError

    contract, account = connection.contract, connection.account
    history, text = connection.history(), read_charter(file)
    if cid_of(text) == history.charter:
        raise UsageError(f"{file} is the charter in force already: give another one")
    connection.confirm(f"Put {file} in force as version {history.charter_version + 1} of the charter?")
    receipt = contract.storing(connection.blobs, text).change_charter(account, cid_of(text))
    recorded(connection, receipt, "Every member accepts it now: fedledger charter accept")


@charter.command()
@click.option("--age-key", metavar="age1…", help="Your age public key; without it, the one that you published last.")
@click.option("--sign-only", is_flag=True, help="Print the signed acceptance, for another to relay: it needs no ether.")
@connected(writes=True, store=True)
def accept(connection: Connection, age_key: str | None, sign_only: bool) -> None:
    """Read the charter in force, accept it, and publish the age key to which blobs for you are sealed.

    Accepting again, with another key, publishes that one.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 node or blob cannot be had.
    """
    accept_charter(connection, age_key, sign_only)


def accept_charter(connection: Connection, age_key: str | None, sign_only: bool) -> None:
    """Show the charter in force, ask, and accept it; see ``fedledger charter accept``."""
    from ledger.chain.signed_files import AcceptanceFile

    contract, account = connection.contract, connection.account
    history = connection.history()
    key = age_key_of(history, account.address, age_key)
    text = _readable(connection, history)
    if not connection.yes:
        click.echo(plain(text) + f"\n\ncharter {history.charter}, version {history.charter_version}", err=True)
    connection.confirm(f"Accept this charter, as {account.address}?")
    if sign_only:
        document(AcceptanceFile.sign(account, history, history.charter, key).model_dump(mode="json"))
    else:
        recorded(connection, contract.accept(account, history.charter, key))


@charter.command()
@click.argument("file", type=FILE)
@connected(writes=True)
def relay(connection: Connection, file: Path) -> None:
    """Carry the signed acceptance in FILE, of a member without ether, to the chain.

    Exit status: 0 done; 1 it was altered, or the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    from ledger.chain.signed_files import AcceptanceFile

    contract, account = connection.contract, connection.account
    carried = AcceptanceFile.read(file)
    with about(file):
        signed = carried.checked(connection.history(), connection.now, account.address)
    connection.confirm(f"Carry {file} to the chain?")
    recorded(connection, contract.accept_signed(account, signed))


def read_charter(file: Path) -> bytes:
    """A charter that is to come into force.

    Raises:
        UsageError: If it is empty, larger than sites read one, or its limits to plans cannot be read.
    """
    from ledger.charter import MAX_CHARTER_BYTES, limits_of
    from ledger.errors import UsageError
    from ledger.storage.folder import read_regular

    try:
        text = read_regular(file, MAX_CHARTER_BYTES)
    except OSError as error:
        raise UsageError(f"{file} cannot be read as a charter ({error.strerror}): name another file") from None
    if not text.strip():
        raise UsageError(f"{file} is empty: a charter says what the members agree to")
    try:
        limits_of(text)
    except ValueError as error:
        raise UsageError(f"{file}: {error}; correct the block, or leave it out") from None
    return text


def age_key_of(history: History, address: str, given: str | None) -> bytes:
    """The age public key of a member (32 bytes): the one given, or the one that it has published.

    Raises:
        UsageError: If it is none.
    """
    from ledger.age import read_age_key
    from ledger.errors import UsageError

    if given is not None:
        try:
            return read_age_key(given)
        except ValueError as error:
            raise UsageError(f"--age-key: {error}") from None
    member = history.member_by_account(address)
    if member is None:
        raise UsageError(f"{address} is no member's account: have the governor admit it, then accept")
    if member.age_key is None:
        raise UsageError("you have not published an age key yet: make one with age-keygen and give --age-key age1…")
    return member.age_key


def _text(blob: bytes) -> str | None:
    try:
        return blob.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _readable(connection: Connection, history: History) -> str:
    """The charter's text, or where to read it."""
    text = _text(connection.blobs.get(history.charter))
    return text if text is not None else f"(It is no plain text: fetch {history.charter} from the store and open it)"
