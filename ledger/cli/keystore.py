"""Encrypted keystores (JSON, version 3, as geth, Besu and eth_account write them), and their passwords."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.files import create, make_folder
from ledger.errors import UsageError
from ledger.storage.folder import read_regular

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

MOST_WORK = 1 << 26
"""32 times what the usual keystores take, of scrypt with n 2^18, r 8 and p 1: half a minute."""
MOST = 1 << 16  # bytes of a keystore, which has about 500, of a password, or of a secret key


def read_keystore(path: Path) -> dict[str, Any]:
    """The document in a keystore file.

    Raises:
        UsageError: If there is none.
    """
    try:
        raw = read_regular(path, MOST)
    except OSError as error:
        raise UsageError(f"there is no keystore to read at {path} ({error.strerror}): name it") from None
    return parse_keystore(raw, path)


def parse_keystore(raw: bytes, path: Path) -> dict[str, Any]:
    """The document in a keystore's bytes.

    Raises:
        UsageError: If they are no keystore.
    """
    try:
        if len(raw) > MOST:
            raise ValueError
        document: dict[str, Any] = json.loads(raw)
        if document["version"] != 3:
            raise ValueError
        document["crypto"]["ciphertext"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{path} is no keystore (JSON, version 3): name another file") from None
    return document


def address_of(document: dict[str, Any], path: Path) -> str:
    """The address that a keystore names, with its checksum; only its password shows whether it is the key's.

    Raises:
        UsageError: If it names none.
    """
    from eth_utils.address import to_checksum_address

    named = str(document.get("address", ""))
    if not re.fullmatch("(0x)?[0-9a-fA-F]{40}", named):
        raise UsageError(f"{path} is a keystore that does not name its address: import its key again")
    return str(to_checksum_address("0x" + named.removeprefix("0x")))


def unlock(path: Path, password: Callable[[], str]) -> LocalAccount:
    """The account whose key a keystore holds.

    Args:
        path: The keystore.
        password: Gives its password; asked only if there is a keystore.

    Raises:
        UsageError: If there is no such keystore, or the password is not its own.
    """
    return account_in(read_keystore(path), path, password())


def account_in(document: dict[str, Any], path: Path, password: str) -> LocalAccount:
    """The account whose key is in a keystore's document.

    Raises:
        UsageError: If the password is not its own, or it is damaged.
    """
    from eth_account import Account

    try:
        if _work(document) > MOST_WORK:
            raise ValueError("to open it takes more work than for any other")
        account: LocalAccount = Account.from_key(Account.decrypt(document, password))
    except (ValueError, KeyError, TypeError, NotImplementedError, OverflowError) as error:
        if "MAC mismatch" in str(error):
            raise UsageError(f"the password does not open {path}: try another one") from None
        raise UsageError(f"{path} is a damaged keystore ({error}): name another file") from None
    if "address" in document and address_of(document, path) != account.address:
        raise UsageError(
            f"{path} is the keystore of {account.address}, and names another address: import its key again"
        )
    return account


def _work(document: dict[str, Any]) -> int:
    """What a keystore says that opening it takes: rounds of its key derivation."""
    parameters = document["crypto"]["kdfparams"]
    if "c" in parameters:
        return int(parameters["c"])
    return int(parameters["n"]) * int(parameters["r"]) * int(parameters["p"])


def password_of(path: Path, password_file: Path | None) -> str:
    """The password of a file that is encrypted, which is asked for where it is not given.

    Raises:
        UsageError: As `given_password`.
    """
    password = given_password(path, password_file)
    if password is None:
        password = str(click.prompt(f"Password of {path}", hide_input=True, err=True))
    return password


def new_password(path: Path, password: str | None) -> str:
    """A new file's password: the one given, else asked for twice.

    Raises:
        UsageError: If it is empty.
    """
    if password is None:
        prompt = f"New password for {path}"
        password = str(click.prompt(prompt, hide_input=True, confirmation_prompt=True, default="", err=True))
    if not password:
        raise UsageError(f"an empty password does not protect {path}: choose another")
    return password


def given_password(path: Path, password_file: Path | None) -> str | None:
    """The password from its file or the environment, None where it can be asked for.

    Raises:
        UsageError: If the file cannot be read, or there is no password and nobody to ask.
    """
    if password_file:
        return read_password(password_file)
    if (password := os.environ.get("FEDLEDGER_PASSWORD")) is not None:
        return password
    if not sys.stdin.isatty():
        raise UsageError(f"no password for {path}: give --password-file, or set FEDLEDGER_PASSWORD")
    return None


def read_password(file: Path) -> str:
    """The password in a file.

    Raises:
        UsageError: If the file cannot be read.
    """
    try:
        return read_regular(file, MOST).decode("utf-8").removesuffix("\n")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise UsageError(f"{file} holds no password to read ({why}): name another file") from None


def read_secret(file: Path | None) -> LocalAccount:
    """The account of a secret key, from a file or from whoever is asked; no message repeats it.

    Raises:
        UsageError: If it is none.
    """
    from eth_account import Account

    if file is not None:
        try:
            text = read_regular(file, MOST).decode("utf-8")
        except (OSError, ValueError):
            text = ""
    elif sys.stdin.isatty():
        text = str(click.prompt("Secret key (64 hex digits)", hide_input=True, err=True))
    else:
        raise UsageError("no secret key, and nobody to ask for it: give --secret-file")
    where = file or "what was given"
    if not re.fullmatch("(0x)?[0-9a-fA-F]{64}", text.strip()):
        raise UsageError(f"{where} is no secret key: give 64 hex digits, with or without 0x before them")
    try:
        account: LocalAccount = Account.from_key("0x" + text.strip().removeprefix("0x"))
    except ValueError:
        raise UsageError(f"{where} is a number that no secret key can be: give another") from None
    return account


def write_keystore(path: Path, account: LocalAccount, password: Callable[[], str]) -> None:
    """Write a new keystore that only its owner can read; folders above it are made for its owner alone.

    Args:
        path: The file.
        account: The account whose key it holds.
        password: Gives the password; asked only where no file is yet.

    Raises:
        UsageError: If something is there already, or it cannot be written.
    """
    from eth_account import Account

    instead = "name another file with --keystore; a key that is lost cannot be restored"
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already: {instead}")
    document = Account.encrypt(account.key, password())
    make_folder(path.parent)
    create(path, (json.dumps(document) + "\n").encode(), 0o600, instead)


def keystores(folder: Path) -> list[tuple[Path, str | None]]:
    """The keystores in a folder, by name: file and address, None where it is damaged or does not name one.

    Raises:
        UsageError: If there is no such folder.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise UsageError(f"{folder} is no folder to read ({error.strerror}): name another") from None
    found: list[tuple[Path, str | None]] = []
    for path in files:
        try:
            with path.open("rb") as file:
                raw = file.read(MOST + 1)
        except OSError:
            continue
        if len(raw) <= MOST and b'"crypto"' in raw.lower() and raw.lstrip().startswith(b"{"):
            try:
                found.append((path, address_of(parse_keystore(raw, path), path)))
            except UsageError:
                found.append((path, None))
    return found
