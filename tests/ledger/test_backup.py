"""A backup has all the keys of a member, is read back before it is believed in, and takes the place of nothing."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest
from click.testing import CliRunner, Result
from eth_account import Account

from ledger.cli import backup, main
from ledger.cli.backup import Backup, read_backup, write_backup
from ledger.cli.identities import open_identities
from ledger.documents import canonical
from ledger.errors import UnavailableError, UsageError
from tests import age_js
from tests.ledger.test_identities import GOLDEN, PASSWORD, SEALED, SECRETS
from tests.terminal import on_a_terminal

BACKUP = GOLDEN.parent / "backup.age"
"""A backup of version 1 with the identities of `GOLDEN`, encrypted by age-encryption with little work."""
ITS_OWN = "battery staple"
ADDRESS = "0x983e67532a68063eD2857084302cA70a70B03044"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FEDLEDGER_")]:
        monkeypatch.delenv(name)
    Path("own").write_text(f"{ITS_OWN}\n")
    return tmp_path


def content() -> dict[str, object]:
    """What is in the golden backup, to be changed."""
    found, _ = read_backup(BACKUP, ITS_OWN)
    return found.model_dump(mode="json")


def run(*arguments: str, password: str | None = PASSWORD) -> Result:
    environment = {"FEDLEDGER_PASSWORD": password, "FEDLEDGER_STATE": "state"}
    result = CliRunner().invoke(main, ["key", *arguments], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert not any(secret in result.output for secret in (PASSWORD, ITS_OWN, "SECRET-KEY"))
    return result


def refused(*arguments: str, password: str | None = PASSWORD) -> str:
    """A command that must be refused in one sentence, and leave everything as it was."""
    before = files()
    result = run(*arguments, password=password)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert files() == before
    [line] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return line


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


def member() -> None:
    """The keys of the golden backup's member, where they are used."""
    Path("state").mkdir()
    Path("state/age.key").write_bytes(SEALED)
    Path("key.json").write_text(json.dumps(content()["keystore"], indent=2))


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_member_who_lost_everything_comes_back_with_a_backup_and_two_passwords() -> None:
    member()
    keystore, umask = json.loads(Path("key.json").read_text()), os.umask(0)
    try:
        told = json.loads(run("backup", "-o", "all.age", "--backup-password-file", "own", "--json").stdout)
        assert mode("all.age") == 0o600
        assert (told["backup"], told["address"], len(told["age_keys"])) == ("all.age", ADDRESS, 2)
        Path("key.json").unlink()
        Path("state/age.key").unlink()
        Path("state").rmdir()
        restored = json.loads(run("restore", "all.age", "--backup-password-file", "own", "--json").stdout)
    finally:
        os.umask(umask)
    assert restored == {"keystore": "key.json", "address": ADDRESS, "age_keys": told["age_keys"]}
    assert json.loads(Path("key.json").read_text()) == keystore
    assert [mode(path) for path in ("key.json", "state/age.key", "state")] == [0o600, 0o600, 0o700]
    assert sorted(files()) == ["all.age", "key.json", "own", "state/age.key"]


def test_a_backup_is_one_canonical_document_in_an_age_file() -> None:
    golden = age_js.open_with_passphrase(BACKUP.read_bytes(), ITS_OWN)
    assert golden == canonical(content())
    assert list(json.loads(golden)) == ["identities", "keystore", "kind", "version"]
    assert (json.loads(golden)["kind"], json.loads(golden)["version"]) == ("fedledger backup", 1)
    write_backup(Path("again.age"), read_backup(BACKUP, ITS_OWN)[0], ITS_OWN)
    assert pyrage.passphrase.decrypt(Path("again.age").read_bytes(), ITS_OWN) == golden


def test_a_backup_of_version_1_is_restored_for_ever() -> None:
    said = run("restore", str(BACKUP), "--backup-password-file", "own").stdout
    assert said.splitlines()[0] == f"Restored {BACKUP}: the keystore of {ADDRESS}"
    assert Account.from_key(Account.decrypt(json.loads(Path("key.json").read_text()), PASSWORD)).address == ADDRESS
    assert [str(one) for one in open_identities(Path("state/age.key"), lambda: PASSWORD)] == SECRETS


def test_who_has_no_identities_has_a_backup_of_the_keystore_alone_and_is_told_so() -> None:
    member()
    Path("state/age.key").unlink()
    made = run("backup", "-o", "all.age", "--backup-password-file", "own")
    assert "Warning: there is no state/age.key, so that the backup is of the keystore alone" in made.stderr
    Path("key.json").unlink()
    assert run("restore", "all.age", "--backup-password-file", "own").exit_code == 0
    assert sorted(files()) == ["all.age", "key.json", "own"]


def test_on_a_terminal_the_backups_password_is_asked_for_twice_and_the_keystores_once() -> None:
    member()
    asked = [PASSWORD, ITS_OWN, "mistyped", ITS_OWN, ITS_OWN]
    status, said = on_a_terminal(["key", "backup", "-o", "all.age", "--state", "state"], asked)
    assert status == 0, said
    assert "do not match" in said
    Path("key.json").unlink()
    status, said = on_a_terminal(["key", "restore", "all.age", "--state", "other"], [ITS_OWN, PASSWORD])
    assert status == 0, said
    assert PASSWORD not in said
    assert ITS_OWN not in said
    assert [str(one) for one in open_identities(Path("other/age.key"), lambda: PASSWORD)] == SECRETS


# -------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("-o own --backup-password-file own", "own is there already: name another file"),
        ("-o link --backup-password-file own", "link is there already: name another file"),
        ("-o none/all.age --backup-password-file own", "none/all.age cannot be written"),
        ("-o all.age", "no password for all.age: give --backup-password-file"),
        ("-o all.age --backup-password-file none", "none holds no password to read"),
        ("-o all.age --backup-password-file empty", "an empty password does not protect all.age"),
        ("-o all.age --backup-password-file own --keystore none", "there is no keystore to read at none"),
        ("-o all.age --backup-password-file own --keystore own", "own is no keystore"),
        ("-o all.age --backup-password-file own --password-file own", "the password does not open key.json"),
        ("-o all.age --backup-password-file own --state bad", "bad/age.key holds no age identity"),
    ],
)
def test_what_cannot_be_backed_up_is_one_sentence_and_leaves_no_backup(arguments: str, said: str) -> None:
    member()
    Path("empty").touch()
    Path("link").symlink_to("nowhere")
    Path("bad").mkdir()
    Path("bad/age.key").touch()
    assert said in refused("backup", *arguments.split())
    assert not Path("nowhere").exists()


def test_identities_with_another_password_than_the_keystores_are_not_left_out() -> None:
    member()
    Path("state/age.key").write_bytes(BACKUP.read_bytes())
    said = refused("backup", "-o", "all.age", "--backup-password-file", "own")
    assert "the password does not open state/age.key" in said


@pytest.mark.parametrize("change", [lambda sealed: sealed[:-1], lambda sealed: b"", lambda sealed: SEALED])
def test_a_backup_that_is_not_read_back_as_it_was_written_is_not_kept(
    change: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = read_backup(BACKUP, ITS_OWN)
    monkeypatch.setattr(backup, "encrypted", lambda content, password: change(BACKUP.read_bytes()))  # a disk that lies
    with pytest.raises(UnavailableError, match="is not read back as it was written"):
        write_backup(Path("all.age"), found, ITS_OWN)
    assert sorted(files()) == ["own"]


def sealed(**changes: object) -> bytes:
    """A backup with changes."""
    return age_js.seal_with_passphrase(canonical(content() | changes), ITS_OWN)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "is not encrypted with a password, or is damaged"),
    "its content as it is": (lambda: canonical(content()), "is not encrypted with a password"),
    "one cut short": (lambda: BACKUP.read_bytes()[:-1], "is damaged"),
    "one that is altered": (lambda: BACKUP.read_bytes()[:-1] + b"\0", "is damaged"),
    "one with another password": (lambda: SEALED, "the password does not open"),
    "something else": (lambda: age_js.seal_with_passphrase(b"hello", ITS_OWN), "is no backup of a member"),
    "another kind": (lambda: sealed(kind="fedledger"), "is no backup of a member"),
    "a later version": (lambda: sealed(version=2), "is no backup of a member (version 1)"),
    "more than is known": (lambda: sealed(more=1), "is no backup of a member"),
    "no list of identities": (lambda: sealed(identities="none"), "is no backup of a member"),
    "an identity that is none": (lambda: sealed(identities=[*SECRETS, SECRETS[0][:-1]]), "is no backup of a member"),
    "a keystore that is none": (lambda: sealed(keystore={"version": 3}), "is no keystore"),
    "one too large": (lambda: b"\0" * (1 << 22), "cannot be read as a backup"),
    "another form of JSON": (
        lambda: age_js.seal_with_passphrase(json.dumps(content()).encode(), ITS_OWN),
        "is no backup of a member",
    ),
}


@pytest.mark.parametrize(("made", "said"), BAD.values(), ids=BAD)
def test_what_is_no_backup_is_one_sentence_and_restores_nothing(made: Callable[[], bytes], said: str) -> None:
    Path("all.age").write_bytes(made())
    assert said in refused("restore", "all.age", "--backup-password-file", "own")


@pytest.mark.parametrize(
    ("arguments", "password", "said"),
    [
        ("", "wrong", "the password does not open key.json"),
        ("", None, "no password for key.json: give --password-file"),
        ("--keystore own", PASSWORD, "own is no keystore"),
        ("--keystore other.json", PASSWORD, "other.json is there already: name another file with --keystore"),
        ("--keystore link", PASSWORD, "there is no keystore to read at link"),
        ("--keystore own/key.json", PASSWORD, "own cannot be made"),
        ("--state there", PASSWORD, "there/age.key is there already: name another folder with --state"),
        ("--state own", PASSWORD, "own cannot be made"),
        ("--state /proc/sys", PASSWORD, "/proc/sys/age.key cannot be written"),
    ],
)
def test_what_cannot_be_restored_is_one_sentence_and_leaves_neither_file(
    arguments: str, password: str | None, said: str
) -> None:
    keystore = content()["keystore"]
    assert isinstance(keystore, dict)
    Path("other.json").write_text(json.dumps(keystore | {"id": "another"}))
    Path("link").symlink_to("nowhere")
    Path("there").mkdir()
    Path("there/age.key").touch()
    words = ["restore", str(BACKUP), "--backup-password-file", "own", *arguments.split()]
    assert said in refused(*words, password=password)


def test_nobody_is_asked_for_a_backups_password_where_nobody_is() -> None:
    assert f"no password for {BACKUP}: give --backup-password-file" in refused("restore", str(BACKUP))


DYING = """
import os, signal
from ledger.cli import backup, main

create = backup.create
def dying(path, *rest):
    create(path, *rest)
    os.kill(os.getpid(), signal.SIGKILL)
backup.create = dying
main()
"""


def test_who_was_killed_between_the_two_files_restores_again() -> None:
    words = ["key", "restore", str(BACKUP), "--backup-password-file", "own"]
    environment = os.environ | {"FEDLEDGER_PASSWORD": PASSWORD, "FEDLEDGER_STATE": "state"}
    died = subprocess.run([sys.executable, "-c", DYING, *words], env=environment)
    assert died.returncode == -signal.SIGKILL
    assert sorted(files()) == ["key.json", "own"]
    assert run(*words[1:]).exit_code == 0
    assert [str(one) for one in open_identities(Path("state/age.key"), lambda: PASSWORD)] == SECRETS


def test_a_lost_age_key_is_restored_beside_the_keystore_that_is_still_there() -> None:
    member()
    Path("state/age.key").unlink()
    before = Path("key.json").read_bytes()
    assert run("restore", str(BACKUP), "--backup-password-file", "own").exit_code == 0
    assert Path("key.json").read_bytes() == before
    assert sorted(files()) == ["key.json", "own", "state/age.key"]


def test_a_keystore_without_a_canonical_form_is_refused() -> None:
    found = Backup.of({"version": 3, "big": 1 << 60}, [pyrage.x25519.Identity.generate()])
    with pytest.raises(UsageError, match="the keystore cannot be backed up"):
        write_backup(Path("all.age"), found, ITS_OWN)
