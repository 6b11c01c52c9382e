"""``fedledger key``: a member's keys: of its account, in an encrypted keystore, and its age identities."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.config import FILE_NAME, Config
from ledger.cli.connection import IDENTITIES, Connection, connected, state_folder
from ledger.cli.options import FILE, JSON, PATH, STATE, setting

if TYPE_CHECKING:
    import pyrage
    from eth_account.signers.local import LocalAccount

_DEFAULT = "key.json"
_KEYSTORE = setting("keystore", help=f"The keystore; {_DEFAULT}, beside the config file, if not given.")
_PASSWORD = setting("password_file")
_BACKUP_PASSWORD = click.option(
    "--backup-password-file",
    type=PATH,
    metavar="FILE",
    help="A file with the backup's own password; without it, it is asked for.",
)


@click.group()
def key() -> None:
    """Make, import and list keys: encrypted keystores (JSON, version 3), as geth, Besu and eth_account write them.

    Renew the age key that `fedledger join` published; back up all keys of a member in one file, and restore them.

    A keystore's password comes from --password-file, else FEDLEDGER_PASSWORD, else it is asked for.
    """


@key.command()
@_KEYSTORE
@_PASSWORD
@JSON
@click.pass_context
def new(context: click.Context, keystore: Path | None, password_file: Path | None, as_json: bool) -> None:
    """Make a new key, and write it encrypted. Keep a copy of the file and its password: nobody can restore them.

    Exit status: 0 written; 2 wrong use, such as a keystore that is there already.
    """
    from eth_account import Account

    _keep(context, keystore, password_file, as_json, Account.create())


@key.command("import")
@click.option(
    "--secret-file", type=FILE, metavar="FILE", help="A file with the secret key; without it, it is asked for."
)
@_KEYSTORE
@_PASSWORD
@JSON
@click.pass_context
def import_(
    context: click.Context,
    secret_file: Path | None,
    keystore: Path | None,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Import a secret key (64 hex digits), and write it encrypted. Then delete the file that it came from.

    Exit status: 0 written; 2 wrong use, such as a keystore that is there already.
    """
    from ledger.cli.keystore import read_secret

    _keep(context, keystore, password_file, as_json, read_secret(secret_file))


@key.command("list")
@click.argument("folder", type=PATH, required=False)
@_KEYSTORE
@JSON
@click.pass_context
def list_(context: click.Context, folder: Path | None, keystore: Path | None, as_json: bool) -> None:
    """List the keystores in FOLDER, or in the folder of the configured keystore; no password is needed.

    A damaged one is listed as such. The address is what the file says: only its password shows that the key is in it.

    Exit status: 0 listed; 2 there is no such folder.
    """
    from ledger.cli.keystore import keystores
    from ledger.cli.output import document, table

    found = keystores(folder or _named(context, keystore).parent)
    if as_json:
        document({"keys": [{"file": str(path), "address": address} for path, address in found]})
    else:
        table(["address", "file"], [(address or "damaged, or no address in it", path) for path, address in found])


@key.command()
@_KEYSTORE
@JSON
@click.pass_context
def address(context: click.Context, keystore: Path | None, as_json: bool) -> None:
    """Print the address of the configured keystore, as the file says; no password is needed.

    Exit status: 0 printed; 2 there is no such keystore.
    """
    from ledger.cli.keystore import address_of, read_keystore

    path = _named(context, keystore)
    _tell(path, address_of(read_keystore(path), path), as_json)


@key.command()
@click.option("--sign-only", is_flag=True, help="Print the signed acceptance, for another to relay: it needs no ether.")
@connected(writes=True, store=True)
def rotate(connection: Connection, sign_only: bool) -> None:
    """Make a new age key and publish it, as `fedledger join` does: by accepting the charter in force with it.

    The identities before it stay in age.key, in the state folder: what was sealed to them is opened with them. A newest
    one that was not published yet, because that failed or is for another to relay, is published, and none is made.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use, or not joined yet; 3 node or blob cannot be had.
    """
    from ledger.age import read_age_key
    from ledger.cli.charter import accept_charter
    from ledger.cli.identities import add_identity
    from ledger.cli.join import admitted

    history, account = connection.history(), connection.account
    member, newest = admitted(history, account.address), connection.identities[-1]
    if member.age_key == read_age_key(str(newest.to_public())):
        newest = add_identity(connection.identity_file, connection.password)
    else:
        click.echo(f"The newest key in {connection.identity_file} is not published yet: no other is made", err=True)
    opened = history.open_round
    click.echo(
        f"Round {opened.number} is open, and keeps to the age key that was published before it opened"
        if opened
        else "No round is open: the next one that opens is the first with the new age key",
        err=True,
    )
    accept_charter(connection, str(newest.to_public()), sign_only)


@key.command()
@click.option("-o", "--output", type=PATH, metavar="FILE", required=True, help="The backup to write: a new file.")
@_BACKUP_PASSWORD
@_KEYSTORE
@_PASSWORD
@STATE
@JSON
@click.pass_context
def backup(
    context: click.Context,
    output: Path,
    backup_password_file: Path | None,
    keystore: Path | None,
    password_file: Path | None,
    state: Path,
    as_json: bool,
) -> None:
    """Write all keys of a member to one file: the keystore as it is, and the age identities.

    The file is encrypted by age with a password of its own; in it the keystore keeps the one that it has: back that up
    elsewhere.

    Exit status: 0 written, and read back; 2 wrong use, such as a file that is there already; 3 it is not read back.
    """
    from ledger.cli.backup import Backup, write_backup
    from ledger.cli.identities import open_identities
    from ledger.cli.keystore import account_in, new_password, password_of, read_keystore
    from ledger.errors import UsageError

    if os.path.lexists(output):
        raise UsageError(f"{output} is there already: name another file")
    path, identity_file = _named(context, keystore), state_folder(state) / IDENTITIES
    document = read_keystore(path)
    password = password_of(path, password_file)
    account = account_in(document, path, password)
    identities = open_identities(identity_file, lambda: password) if os.path.lexists(identity_file) else []
    given = _backup_password(output, backup_password_file)
    write_backup(output, Backup.of(document, identities), new_password(output, given))
    _tell_all(f"Wrote {output}", {"backup": str(output)}, account, identities, as_json)
    if not identities:
        click.echo(f"Warning: there is no {identity_file}, so that the backup is of the keystore alone", err=True)


@key.command()
@click.argument("file", type=FILE)
@_BACKUP_PASSWORD
@_KEYSTORE
@_PASSWORD
@STATE
@JSON
@click.pass_context
def restore(
    context: click.Context,
    file: Path,
    backup_password_file: Path | None,
    keystore: Path | None,
    password_file: Path | None,
    state: Path,
    as_json: bool,
) -> None:
    """Write the keys in a backup to where none are yet: the keystore, and age.key in the state folder.

    The keystore has the password that it had when it was backed up, and age.key gets the same.

    Exit status: 0 written; 2 wrong use, such as a password that does not open it, or keys that are there already.
    """
    from ledger.cli import backup as backups
    from ledger.cli.keystore import password_of

    path, identity_file = _named(context, keystore), state_folder(state) / IDENTITIES
    given = _backup_password(file, backup_password_file)
    if given is None:
        given = str(click.prompt(f"Password of {file}", hide_input=True, err=True))
    found, identities = backups.read_backup(file, given)
    account = backups.restore(found, identities, path, identity_file, lambda: password_of(path, password_file))
    _tell_all(f"Restored {file}", {"keystore": str(path)}, account, identities, as_json)


def _backup_password(file: Path, password_file: Path | None) -> str | None:
    """A backup's password from its file, None where it can be asked for.

    Raises:
        UsageError: If the file cannot be read, or there is none and nobody to ask.
    """
    from ledger.cli.keystore import read_password
    from ledger.errors import UsageError

    if password_file:
        return read_password(password_file)
    if not sys.stdin.isatty():
        raise UsageError(f"no password for {file}: give --backup-password-file")
    return None


def _tell_all(
    done: str,
    where: dict[str, str],
    account: LocalAccount,
    identities: list[pyrage.x25519.Identity],
    as_json: bool,
) -> None:
    """Say which keys were backed up or restored."""
    from ledger.cli.output import document

    keys = [str(identity.to_public()) for identity in identities]
    if as_json:
        document({**where, "address": account.address, "age_keys": keys})
    else:
        click.echo(
            "\n".join([f"{done}: the keystore of {account.address}", *(f"  and the identity of {key}" for key in keys)])
        )


def _keep(
    context: click.Context, keystore: Path | None, password_file: Path | None, as_json: bool, account: LocalAccount
) -> None:
    """Write a key to a keystore, and say its address."""
    from ledger.cli.keystore import given_password, new_password, write_keystore

    path = _named(context, keystore)
    write_keystore(path, account, lambda: new_password(path, given_password(path, password_file)))
    _tell(path, account.address, as_json)
    if keystore is None and not as_json:
        click.echo(f"For the next commands: export FEDLEDGER_KEYSTORE={path}, or keystore in {FILE_NAME}", err=True)


def _named(context: click.Context, keystore: Path | None) -> Path:
    """The keystore that is meant."""
    config = context.find_object(Config)
    return keystore or (config.path.parent if config else Path()) / _DEFAULT


def _tell(path: Path, address: str, as_json: bool) -> None:
    from ledger.cli.output import document

    if as_json:
        document({"address": address, "keystore": str(path)})
    else:
        click.echo(address)
