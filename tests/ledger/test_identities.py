"""Age identities: encrypted so that every age tool opens them, added to and never lost, and no message repeats one."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pyrage
import pytest

from ledger.cli.identities import MOST, add_identity, open_identities, read_identities
from ledger.errors import UsageError
from ledger.passphrase import MOST_WORK
from tests import age_js

PASSWORD = "correct horse"
GOLDEN = Path(__file__).parent / "golden" / "age.key"
"""Two identities, the newest last, encrypted by age-encryption with little work."""
SECRETS = [
    "AGE-SECRET-KEY-1PPH6STWHXLYE6305SSGUA8TYZC2FSLZQ27G7E6QS7DT3A4EL2RXSQCU9EM",
    "AGE-SECRET-KEY-1A6Y70A56PGRAD5EG978N8Y44A0XQ6NCLTXYWLDYMF7QG3K6S84RQFC6Q7W",
]
SEALED = GOLDEN.read_bytes()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "age.key"


def known(password: str = PASSWORD) -> Callable[[], str]:
    return lambda: password


def never() -> str:
    raise AssertionError("nobody is to be asked for a password")


def secrets(file: Path) -> list[str]:
    return [str(identity) for identity in open_identities(file, known())]


def working(work: str, sealed: bytes = SEALED) -> bytes:
    """An encrypted file that says of itself that opening it takes 2^`work`."""
    first, stanza, rest = sealed.split(b"\n", 2)
    return b"\n".join([first, b" ".join([*stanza.split()[:3], work.encode()]), rest])


def with_line(line: str) -> str:
    return f"{SECRETS[0]}\n{line}\n"


# ------------------------------------------------------------------------------------------------ opening


def test_a_file_that_another_implementation_encrypted_is_opened(file: Path) -> None:
    assert secrets(GOLDEN) == SECRETS
    file.write_bytes(age_js.seal_with_passphrase("\n".join(SECRETS).encode(), PASSWORD))
    assert secrets(file) == SECRETS


def test_what_we_write_another_implementation_opens(file: Path) -> None:
    made = add_identity(file, PASSWORD)
    assert str(made) in age_js.open_with_passphrase(file.read_bytes(), PASSWORD).decode().splitlines()


@pytest.mark.parametrize("text", ["\n".join(SECRETS), f"# mine\r\n\r\n {SECRETS[0]}\r\n  # newer\r\n{SECRETS[1]}"])
def test_a_file_that_is_not_encrypted_is_read_and_no_password_is_asked_for(text: str, file: Path) -> None:
    file.write_text(text, newline="")
    assert [str(identity) for identity in open_identities(file, never)] == SECRETS


def test_the_password_of_an_identity_file_comes_from_where_a_keystores_does(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(PASSWORD + "\n")
    monkeypatch.setenv("FEDLEDGER_PASSWORD", "wrong")
    assert [str(identity) for identity in read_identities(GOLDEN, file)] == SECRETS
    monkeypatch.setenv("FEDLEDGER_PASSWORD", PASSWORD)
    assert [str(identity) for identity in read_identities(GOLDEN, None)] == SECRETS


BAD: dict[str, tuple[bytes | str, str]] = {
    "nothing": ("", "holds no age identity:"),
    "only comments": ("# one\n\n# two\n", "holds no age identity:"),
    "something else": ("hello\n", "holds no age identity (X25519) in line 1"),
    "a public key": (with_line("age1f6wg7lgd5rwdw6fcqzpwg9q4gftjld9n9rd7ffh9zufxcd6qp9tqcf42sm"), "in line 2"),
    "a mistyped identity": (with_line(SECRETS[1].replace("Y70", "Y07")), "in line 2"),
    "half an identity": (with_line(SECRETS[1][:-1]), "in line 2"),
    "two in a line": (f"{SECRETS[0]} {SECRETS[1]}", "in line 1"),
    "a plugin's": (with_line("AGE-PLUGIN-YUBIKEY-1QQPQQQQ"), "in line 2"),
    "bytes": (b"\xff\x00" * 40, "is no text in UTF-8"),
    "a null": (f"{SECRETS[0]}\0", "in line 1"),
    "too large": (SECRETS[0] + "\n" * MOST, "more than 32,768 bytes"),
    "one sealed to a key": (
        pyrage.encrypt(SECRETS[0].encode(), [pyrage.x25519.Identity.generate().to_public()]),
        "is not encrypted with a password, or is damaged",
    ),
    "one of a later version": (SEALED.replace(b"/v1", b"/v2"), "or is damaged"),
    "one cut in its head": (SEALED[:60], "or is damaged"),
    "one cut in its content": (SEALED[:-1], "is damaged (MAC check failed)"),
    "one with more at its end": (SEALED + b"\0", "is damaged (MAC check failed)"),
    "one with an altered content": (SEALED[:-1] + bytes([SEALED[-1] ^ 1]), "is damaged (MAC check failed)"),
    "one with an altered head": (re.sub(rb"--- .", b"--- x", SEALED), "is damaged (its header was altered)"),
    "one with another work": (working("5"), "the password does not open"),
    "one without work": (working("0"), "or is damaged"),
    "one with no number for its work": (working("04"), "or is damaged"),
    "one with too much work": (working(str(MOST_WORK + 1)), "takes more work (2^21) than"),
    "one with endless work": (working("63"), "takes more work (2^63) than"),
    "one with a number of work without end": (working("9" * 10_000), "or is damaged"),
    "one with two passwords": (
        re.sub(rb"(-> scrypt \S+ )4(\n.*\n)", rb"\g<1>4\g<2>\g<1>24\g<2>", SEALED),
        "or is damaged",
    ),
}


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
def test_what_holds_no_identity_is_one_sentence_that_repeats_none_and_nothing_is_added_to_it(
    content: bytes | str, said: str, file: Path
) -> None:
    raw = content.encode() if isinstance(content, str) else content
    file.write_bytes(raw)
    for attempt in (lambda: open_identities(file, known()), lambda: add_identity(file, PASSWORD)):
        with pytest.raises(UsageError) as refusal:
            attempt()
        assert said in str(refusal.value)
        assert str(file) in str(refusal.value)
        assert "SECRET-KEY" not in str(refusal.value)
        assert PASSWORD not in str(refusal.value)
        assert len(str(refusal.value).splitlines()) == 1
    assert file.read_bytes() == raw
    assert os.listdir(file.parent) == ["age.key"]


@pytest.mark.parametrize(("password", "said"), [("wrong", "does not open"), ("", "does not open"), ("\udcff", "UTF-8")])
def test_another_password_opens_nothing_and_is_not_repeated(password: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as refusal:
        open_identities(GOLDEN, known(password))
    assert "wrong" not in str(refusal.value)


def test_nobody_is_asked_for_the_password_of_what_it_cannot_open(file: Path) -> None:
    file.write_bytes(working("63"))
    with pytest.raises(UsageError, match="takes more work"):
        open_identities(file, never)


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path), lambda path: None])
def test_what_is_no_file_holds_no_identity(put: Callable[[Path], object], file: Path) -> None:
    put(file)
    with pytest.raises(UsageError, match="holds no age identity to read"):
        open_identities(file, never)


# ------------------------------------------------------------------------------------------------- adding


def test_an_added_identity_is_the_newest_and_everything_that_was_in_the_file_stays(file: Path) -> None:
    text = f"# brought from home\n{SECRETS[0]}\n# newer\n{SECRETS[1]}"
    file.write_text(text)
    made = add_identity(file, PASSWORD)
    plain = pyrage.passphrase.decrypt(file.read_bytes(), PASSWORD).decode()
    assert re.fullmatch(
        f"{text}\n# created: ....-..-..T..:..:..[+]00:00\n# public key: {made.to_public()}\n{made}\n", plain
    )


def test_a_new_file_is_its_owners_alone_and_encrypted_from_its_first_byte_on(tmp_path: Path) -> None:
    file, umask = tmp_path / "state" / "mine" / "age.key", os.umask(0)
    try:
        add_identity(file, PASSWORD)
        file.chmod(0o644)
        add_identity(file, PASSWORD)
    finally:
        os.umask(umask)
    assert file.read_bytes().startswith(b"age-encryption.org/v1\n-> scrypt ")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent, file.parent.parent)] == [
        0o600,
        0o700,
        0o700,
    ]
    assert os.listdir(file.parent) == ["age.key"]


def test_a_link_to_where_the_identities_are_stays_one(tmp_path: Path, file: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_bytes(SEALED)
    file.symlink_to(kept)
    made = add_identity(file, PASSWORD)
    assert file.is_symlink()
    assert secrets(kept) == [*SECRETS, str(made)]


def test_with_another_password_nothing_is_added(file: Path) -> None:
    file.write_bytes(SEALED)
    with pytest.raises(UsageError, match="the password does not open"):
        add_identity(file, "wrong")
    assert file.read_bytes() == SEALED


DYING = """
import os, signal, sys
from pathlib import Path
from ledger.cli.identities import add_identity

replace, moment = os.replace, sys.argv[2]
def dying(*arguments):
    if moment == "after":
        replace(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = dying
add_identity(Path(sys.argv[1]), sys.argv[3])
"""


@pytest.mark.parametrize(("moment", "added"), [("before", 0), ("after", 1)])
def test_who_dies_while_adding_has_all_that_was_there_and_all_or_nothing_of_the_new(
    moment: str, added: int, file: Path
) -> None:
    file.write_bytes(SEALED)
    died = subprocess.run([sys.executable, "-c", DYING, str(file), moment, PASSWORD])
    assert died.returncode == -signal.SIGKILL
    there = secrets(file)
    assert there[:2] == SECRETS
    assert len(there) == 2 + added
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in file.parent.iterdir() if path != file)


def test_two_who_add_at_once_lose_neither(file: Path) -> None:
    made: list[str] = []
    threads = [Thread(target=lambda: made.append(str(add_identity(file, PASSWORD)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(secrets(file)) == sorted(made)
    assert len(made) == 2
