"""Keys: encrypted from their first byte on disk, never written over, and no secret is ever repeated."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from eth_account import Account

from ledger.cli import main
from tests.terminal import on_a_terminal

SECRET = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"  # of the web3 documentation
ADDRESS = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"
PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FEDLEDGER_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def secret_file() -> str:
    Path("secret").write_text(f"0x{SECRET}\n")
    return "secret"


def run(*arguments: str, password: str | None = PASSWORD) -> Result:
    result = CliRunner().invoke(main, ["key", *arguments], env={"FEDLEDGER_PASSWORD": password})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert SECRET not in result.output
    assert PASSWORD not in result.output
    return result


def refused(*arguments: str, password: str | None = PASSWORD) -> str:
    result = run(*arguments, password=password)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    return result.stderr


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_new_key_is_in_a_keystore_that_its_password_opens_and_its_owner_alone_can_read() -> None:
    umask = os.umask(0)
    try:
        result = run("new", "--keystore", "keys/mine/key.json", "--json")
    finally:
        os.umask(umask)
    told = json.loads(result.stdout)
    assert told["keystore"] == "keys/mine/key.json"
    document = json.loads(Path("keys/mine/key.json").read_text())
    assert document["crypto"]["kdf"] == "scrypt"
    assert Account.from_key(Account.decrypt(document, PASSWORD)).address == told["address"]
    assert [mode(one) for one in ("keys", "keys/mine", "keys/mine/key.json")] == [0o700, 0o700, 0o600]
    assert os.listdir("keys/mine") == ["key.json"]


def test_an_imported_key_is_the_secret_keys_and_can_sign_for_its_address(secret_file: str) -> None:
    result = run("import", "--secret-file", secret_file)
    assert result.stdout == f"{ADDRESS}\n"
    assert Account.decrypt(json.loads(Path("key.json").read_text()), PASSWORD).hex() == SECRET
    assert "export FEDLEDGER_KEYSTORE=key.json" in result.stderr
    assert run("address", password=None).stdout == f"{ADDRESS}\n"


def test_a_key_is_kept_where_the_config_file_says(secret_file: str) -> None:
    Path("fedledger.toml").write_text('keystore = "keys/site.json"\npassword_file = "password"\n')
    Path("password").write_text(f"{PASSWORD}\n")
    assert run("import", "--secret-file", secret_file, password=None).output == f"{ADDRESS}\n"
    assert Account.decrypt(json.loads(Path("keys/site.json").read_text()), PASSWORD).hex() == SECRET
    assert ADDRESS in run("list").stdout


@pytest.mark.parametrize("there", [b"", b"{}", None])
def test_no_key_is_ever_written_over(there: bytes | None, secret_file: str) -> None:
    if there is None:
        Path("key.json").symlink_to("nowhere")
    else:
        Path("key.json").write_bytes(there)
    for command in (["new"], ["import", "--secret-file", secret_file]):
        assert "key.json is there already: name another file with --keystore" in refused(*command)
    assert there is None or Path("key.json").read_bytes() == there
    assert not Path("nowhere").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        SECRET[:-1],
        SECRET + "0",
        "0y" + SECRET,
        SECRET.replace("4", "g"),
        SECRET[:-2] + "²³",
        "0x0x" + SECRET[2:],
        "0" * 64,
        "f" * 64,
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
        "ef" * 10_000,
    ],
)
def test_what_is_no_secret_key_is_refused_without_being_repeated(text: str) -> None:
    Path("secret").write_text(text)
    said = refused("import", "--secret-file", "secret")
    assert (
        "secret is no secret key: give 64 hex digits" in said or "secret is a number that no secret key can be" in said
    )
    assert not text or text not in said
    assert os.listdir() == ["secret"]


def test_a_file_that_is_no_text_holds_no_secret_key() -> None:
    Path("secret").write_bytes(os.urandom(32) + b"\xff")
    assert "secret is no secret key" in refused("import", "--secret-file", "secret")


@pytest.mark.parametrize(
    ("arguments", "password", "said"),
    [
        (["new"], "", "an empty password does not protect key.json: choose another"),
        (["new"], None, "no password for key.json: give --password-file, or set FEDLEDGER_PASSWORD"),
        (["new", "--password-file", "none"], None, "none holds no password to read (No such file or directory)"),
        (["new", "--password-file", "empty"], None, "an empty password does not protect key.json"),
        (["new", "--keystore", "empty/key.json"], PASSWORD, "empty cannot be made"),
        (["new", "--keystore", "/dev/null/key.json"], PASSWORD, "/dev/null cannot be made"),
        (["new", "--keystore", "."], PASSWORD, ". is there already"),
        (["new", "--password", "x"], PASSWORD, "No such option"),
        (["import"], PASSWORD, "no secret key, and nobody to ask for it: give --secret-file"),
        (["import", "--secret-file", "none"], PASSWORD, "File 'none' does not exist"),
        (["address"], None, "there is no keystore to read at key.json (No such file or directory)"),
        (["address", "--keystore", "empty"], None, "empty is no keystore (JSON, version 3)"),
        (["list", "none"], None, "none is no folder to read (No such file or directory)"),
        (["list", "empty"], None, "empty is no folder to read (Not a directory)"),
    ],
)
def test_wrong_use_is_one_sentence_and_leaves_nothing(arguments: list[str], password: str | None, said: str) -> None:
    Path("empty").write_text("")
    assert said in refused(*arguments, password=password)
    assert os.listdir() == ["empty"]


def test_the_list_names_every_keystore_and_says_which_are_damaged(secret_file: str) -> None:
    run("import", "--secret-file", secret_file, "--keystore", "keys/b.json")
    good = Path("keys/b.json").read_text()
    nameless = json.loads(good)
    del nameless["address"]
    for name, text in {
        "UTC--2026--geth": good.replace('"crypto"', '"Crypto"').replace('"Crypto"', '"crypto"'),
        "a.json": good[: len(good) // 2],
        "c.json": json.dumps(nameless),
        "d.json": good.replace('"version": 3', '"version": 1'),
        "package.json": '{"name": "no keystore"}',
        "notes.txt": "my crypto keys",
        "large": good + " " * 100_000,
    }.items():
        Path("keys", name).write_text(text)
    Path("keys/folder.json").mkdir()
    os.mkfifo("keys/pipe.json")
    listed = json.loads(run("list", "keys", "--json").stdout)["keys"]
    assert {Path(row["file"]).name: row["address"] for row in listed} == {
        "UTC--2026--geth": ADDRESS,
        "a.json": None,
        "b.json": ADDRESS,
        "c.json": None,
        "d.json": None,
    }
    assert run("list", "keys").stdout.count("damaged, or no address in it") == 3
    assert "does not name its address" in refused("address", "--keystore", "keys/c.json")


def test_on_a_terminal_secret_and_password_are_asked_for_unseen_and_the_password_twice() -> None:
    status, said = on_a_terminal(["key", "import"], [SECRET, PASSWORD, "mistyped", PASSWORD, PASSWORD])
    assert status == 0, said
    assert "do not match" in said
    assert ADDRESS in said
    assert PASSWORD not in said
    assert SECRET not in said
    assert Account.decrypt(json.loads(Path("key.json").read_text()), PASSWORD).hex() == SECRET


def test_on_a_terminal_an_empty_password_is_refused() -> None:
    status, said = on_a_terminal(["key", "new"], ["", ""])
    assert status == 2, said
    assert "an empty password does not protect key.json" in said
