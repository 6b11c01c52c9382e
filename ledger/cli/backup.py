"""A member's backup: keystore and age identities in one file, encrypted with a password of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pyrage

from ledger.cli.files import create, make_folder
from ledger.cli.identities import decrypted, encrypted, written
from ledger.cli.keystore import account_in, parse_keystore, read_keystore
from ledger.documents import Document
from ledger.errors import InvalidBlobError, UnavailableError, UsageError
from ledger.storage.folder import read_regular

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

MOST = 1 << 17  # bytes of a backup: more than a file of identities and a keystore can have


class Backup(Document):
    """What a backup has in it.

    Attributes:
        keystore: The keystore's document, encrypted as it is.
        identities: The age identities, the newest last.
    """

    TITLE: ClassVar[str] = "backup"

    kind: Literal["fedledger backup"]
    version: Literal[1]
    keystore: dict[str, Any]
    identities: list[str]

    @classmethod
    def of(cls, keystore: dict[str, Any], identities: list[pyrage.x25519.Identity]) -> Backup:
        """The backup of a member."""
        texts = [str(identity) for identity in identities]
        return cls(kind="fedledger backup", version=1, keystore=keystore, identities=texts)


def write_backup(file: Path, backup: Backup, password: str) -> None:
    """Write a backup to a new file that only its owner can read, and read it again.

    Raises:
        UsageError: If something is there already, or it cannot be written.
        UnavailableError: If it is not read back as it was written; then it is not there.
    """
    try:
        content = backup.encode()
    except ValueError as error:
        raise UsageError(f"the keystore cannot be backed up ({error}): import its key again") from None
    create(file, encrypted(content, password), 0o600, "name another file")
    try:
        same = read_backup(file, password)[0] == backup
    except UsageError:
        same = False
    if not same:
        file.unlink()
        raise UnavailableError(f"{file} was written, and is not read back as it was written: name one on another disk")


def read_backup(file: Path, password: str) -> tuple[Backup, list[pyrage.x25519.Identity]]:
    """A backup, and the identities in it; no message repeats what is in it.

    Raises:
        UsageError: If it is none, is damaged, or has another password.
    """
    try:
        sealed = read_regular(file, MOST)
    except OSError as error:
        raise UsageError(f"{file} cannot be read as a backup ({error.strerror}): name another file") from None
    content = decrypted(sealed, lambda: password, file)
    try:
        backup = Backup.decode(content)
        identities = [pyrage.x25519.Identity.from_str(text) for text in backup.identities]
    except (InvalidBlobError, pyrage.IdentityError):
        raise UsageError(f"{file} opens, and is no backup of a member (version 1): name another file") from None
    parse_keystore(json.dumps(backup.keystore).encode(), file)
    return backup, identities


def restore(
    backup: Backup,
    identities: list[pyrage.x25519.Identity],
    keystore: Path,
    identity_file: Path,
    password: Callable[[], str],
) -> LocalAccount:
    """Write what a backup has in it to where nothing is yet, all of it or nothing, and give the account.

    A keystore that is there already and is the backup's stays as it is, so that a restoring that was killed can be
    done again.

    Args:
        backup: The backup.
        identities: Its identities.
        keystore: Where the keystore is to be.
        identity_file: Where the identities are to be, encrypted with the keystore's password.
        password: Gives the keystore's password; asked only if nothing is in the way.

    Raises:
        UsageError: If something is there, the password is another one, or a file cannot be written.
    """
    if identities and os.path.lexists(identity_file):
        raise UsageError(f"{identity_file} is there already: name another folder with --state")
    there = os.path.lexists(keystore)
    if there and not (identities and read_keystore(keystore) == backup.keystore):
        raise UsageError(f"{keystore} is there already: name another file with --keystore")
    given = password()
    account = account_in(backup.keystore, keystore, given)
    sealed = encrypted("".join(map(written, identities)), given) if identities else b""
    make_folder(keystore.parent)
    make_folder(identity_file.parent)
    if not there:
        create(keystore, (json.dumps(backup.keystore) + "\n").encode(), 0o600, "name another file with --keystore")
    if identities:
        try:
            create(identity_file, sealed, 0o600, "name another folder with --state")
        except UsageError:
            if not there:
                keystore.unlink()
            raise
    return account
