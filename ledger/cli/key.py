"""``fedledger key``: a member's key, in an encrypted keystore."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.config import FILE_NAME, Config
from ledger.cli.options import FILE, JSON, PATH, setting

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

_DEFAULT = "key.json"
_KEYSTORE = setting("keystore", help=f"The keystore; {_DEFAULT}, beside the config file, if not given.")
_PASSWORD = setting("password_file")


@click.group()
def key() -> None:
    """Make, import and list keys: encrypted keystores (JSON, version 3), as geth, Besu and eth_account write them.

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


def _keep(
    context: click.Context, keystore: Path | None, password_file: Path | None, as_json: bool, account: LocalAccount
) -> None:
    """Write a key to a keystore, and say its address."""
    from ledger.cli.keystore import new_password, write_keystore

    path = _named(context, keystore)
    write_keystore(path, account, lambda: new_password(path, password_file))
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
