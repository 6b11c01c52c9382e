"""A member's age identities: a file of X25519 secret keys as age-keygen writes it, encrypted with a password by age.

Any age tool opens it (``age -d age.key``); a file that is not encrypted is read, too.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyrage

from ledger import passphrase
from ledger.cli.files import make_folder
from ledger.cli.keystore import password_of
from ledger.errors import UsageError
from ledger.storage.folder import read_regular, replacing

MOST = 1 << 15  # bytes of a file of identities; each has about 200
WORK = passphrase.WORK

_BEGINNING = b"age-encryption.org/"


def read_identities(file: Path, password_file: Path | None) -> list[pyrage.x25519.Identity]:
    """The identities in a file, the newest last; its password is the one given, or asked for, if it is encrypted.

    Raises:
        UsageError: If it cannot be read, its password is another one, or there is no identity in it.
    """
    return open_identities(file, lambda: password_of(file, password_file))


def open_identities(file: Path, password: Callable[[], str]) -> list[pyrage.x25519.Identity]:
    """The identities in a file, the newest last.

    Args:
        file: The file.
        password: Gives its password; asked only if it is encrypted.

    Raises:
        UsageError: As `read_identities`.
    """
    return _parsed(_text(file, password), file)


def add_identity(file: Path, password: str) -> pyrage.x25519.Identity:
    """Make an identity, and add it to a file, which is made if need be and encrypted in any case.

    What was in the file stays in it, and it has all or none of the new identity at every moment.

    Args:
        file: The file; folders above it are made for their owner alone.
        password: The file's.

    Raises:
        UsageError: If the file there is none of identities, or cannot be written.
    """
    identity = pyrage.x25519.Identity.generate()
    make_folder(file.parent)
    with _alone(file):
        before = ""
        if os.path.lexists(file):
            before = _text(file, lambda: password)
            _parsed(before, file)
        content = encrypted(before.rstrip() + "\n" * bool(before) + written(identity), password)
        if len(content) > MOST:
            raise UsageError(f"{file} is full: move it to where you keep it, and join again with a new one")
        try:
            with replacing(Path(os.path.realpath(file)), 0o600) as new:
                new.write(content)
        except OSError as error:
            raise UsageError(f"{file} cannot be written ({error.strerror}): make its folder yours") from None
    return identity


def written(identity: pyrage.x25519.Identity) -> str:
    """An identity as it stands in a file, made now."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"# created: {now}\n# public key: {identity.to_public()}\n{identity}\n"


def encrypted(content: bytes | str, password: str) -> bytes:
    """An age file that a password opens.

    Raises:
        UsageError: If there is too much to keep.
    """
    plain = content.encode() if isinstance(content, str) else content
    try:
        return passphrase.seal(plain, password, WORK)
    except UnicodeEncodeError:
        raise UsageError("the password is not text in UTF-8: choose another one") from None
    except ValueError as error:
        raise UsageError(
            f"what is to be encrypted is too much to keep ({error}): begin with a new state folder"
        ) from None


def decrypted(sealed: bytes, password: Callable[[], str], file: Path) -> bytes:
    """What an age file has in it that a password opens.

    Args:
        sealed: The file's bytes.
        password: Gives the password; asked only if it can be the right one.
        file: Where they are from.

    Raises:
        UsageError: If it is no such file, damaged, would take too much work, or has another password.
    """
    work = passphrase.work_of(sealed)
    if work is None:
        raise UsageError(f"{file} is not encrypted with a password, or is damaged: restore it from a copy")
    if work > passphrase.MOST_WORK:
        raise UsageError(
            f"to open {file} takes more work (2^{work}) than 2^{passphrase.MOST_WORK}: encrypt it anew with an age tool"
        )
    try:
        return passphrase.open_sealed(sealed, password())
    except passphrase.NotOpenedError:
        raise UsageError(f"the password does not open {file}: try another one") from None
    except UnicodeEncodeError:
        raise UsageError(f"the password for {file} is not text in UTF-8: give another one") from None
    except ValueError as error:
        raise UsageError(f"{file} is damaged ({error}): restore it from a copy") from None


def _text(file: Path, password: Callable[[], str]) -> str:
    try:
        raw = read_regular(file, MOST)
    except OSError as error:
        raise UsageError(f"{file} holds no age identity to read ({error.strerror}): restore it from a copy") from None
    if raw.startswith(_BEGINNING):
        raw = decrypted(raw, password, file)
    try:
        return raw.decode("utf-8")
    except ValueError:
        raise UsageError(f"{file} holds no age identity, and is no text in UTF-8: restore it from a copy") from None


def _parsed(text: str, file: Path) -> list[pyrage.x25519.Identity]:
    """The identities in a text; no message repeats a line of it."""
    identities: list[pyrage.x25519.Identity] = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line and not line.startswith("#"):
            try:
                identities.append(pyrage.x25519.Identity.from_str(line))
            except pyrage.IdentityError:
                raise UsageError(
                    f"{file} holds no age identity (X25519) in line {number}: restore it from a copy"
                ) from None
    if not identities:
        raise UsageError(f"{file} holds no age identity: restore it from a copy")
    return identities


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold the lock of a file's folder, so that no two commands add to the file at once and one of them in vain."""
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
