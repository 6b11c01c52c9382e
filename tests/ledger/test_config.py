"""The config file: it stands behind command and environment, and what is wrong with it is said in one sentence."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from ledger.cli import main
from ledger.cli.config import KEYS, Config, parse
from ledger.cli.connection import Connection, connected
from ledger.cli.options import SETTINGS

LEDGER = "0x15c603B7eaA8eE1a272a69C4af3462F926de777F"
SHOWN: list[Connection] = []


@click.command()
@connected(writes=True, store=True)
def show(connection: Connection) -> None:
    """What the options say."""
    SHOWN.append(connection)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test runs in a folder of its own, in which nothing is set."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("FEDLEDGER_")]:
        monkeypatch.delenv(name)
    SHOWN.clear()
    return tmp_path


def run(*arguments: str, config: Config | None = None, **environment: str) -> Result:
    needed = ["--rpc", "http://node", "--ledger", LEDGER.lower(), "--keystore", "key.json"]
    given = [*(() if config else needed), *arguments]
    return CliRunner().invoke(show, given, obj=config or Config(Path("fedledger.toml")), env=environment)


def shown(*arguments: str, config: Config | None = None, **environment: str) -> Connection:
    result = run(*arguments, config=config, **environment)
    assert result.exit_code == 0, result.output
    return SHOWN.pop()


def write(text: str, path: str = "fedledger.toml") -> Path:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")
    return Path(path)


WHOLE = f"""
role = "auditor"
rpc = "https://node.example:8545"
chain_id = 31337
ledger = "{LEDGER}"
store = "http://127.0.0.1:5001"
plain_http = true
keystore = "keys/key.json"
password_file = "/run/password"
state = "state"
finality = 12
max_fee = 0.5
policy = "policy.toml"
"""


def test_every_setting_can_stand_in_the_file_and_paths_are_relative_to_it() -> None:
    found = shown(config=Config(write(WHOLE, "site/fedledger.toml")))
    assert found == Connection(
        rpc="https://node.example:8545",
        chain_id=31337,
        ledger=LEDGER,
        state=Path("site/state"),
        finality="12",
        store="http://127.0.0.1:5001",
        plain_http=True,
        keystore=Path("site/keys/key.json"),
        password_file=Path("/run/password"),
        max_fee=500_000_000,
    )
    assert set(SETTINGS) | {"role"} == set(KEYS)


def test_the_command_is_heard_first_then_the_environment_then_the_file_then_the_default() -> None:
    assert shown().store == "blobs"
    write('store = "file"')
    assert shown().store == "file"
    assert shown(FEDLEDGER_STORE="environment").store == "environment"
    assert shown("--store", "command", FEDLEDGER_STORE="environment").store == "command"


def test_a_home_folder_in_the_file_is_the_members_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/site1")
    write('state = "~/state"')
    assert shown().state == Path("/home/site1/state")


def test_confirmations_is_another_name_of_finality() -> None:
    assert shown("--confirmations", "3").finality == "3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('rpc = "a"\n\n legder = "0x"', "fedledger.toml, line 3: unknown key 'legder': did you mean 'ledger'?"),
        ("chain-id = 1", "fedledger.toml, line 1: unknown key 'chain-id': did you mean 'chain_id'?"),
        ("colour = 1", "line 1: unknown key 'colour': known are role, rpc, chain_id, ledger, store,"),
        ("[storage]\nfolder = 1", "line 1: unknown key 'storage': did you mean 'store'?"),
        (
            'password = "x"',
            "line 1: secrets do not belong in fedledger.toml ('password'): take it out, and use password_",
        ),
        ('private_key = "x"', "secrets do not belong in fedledger.toml ('private_key')"),
        ('secret = "x"', "secrets do not belong in fedledger.toml ('secret')"),
        ('mnemonic = "x"', "secrets do not belong in fedledger.toml ('mnemonic')"),
        (
            'store_token = "x"',
            "secrets do not belong in fedledger.toml ('store_token'): take it out, and set FEDLEDGER_S",
        ),
        ('passwordfile = "x"', "unknown key 'passwordfile': did you mean 'password_file'?"),
        ("rpc = 1", "fedledger.toml, line 1: rpc is a whole number: give text in quotes"),
        ("rpc = true", "line 1: rpc is true or false: give text in quotes"),
        ("chain_id = true", "line 1: chain_id is true or false: give a whole number"),
        ('chain_id = "1"', "line 1: chain_id is text in quotes: give a whole number"),
        ('plain_http = "yes"', "line 1: plain_http is text in quotes: give true or false"),
        ("keystore = {}", "line 1: keystore is a table: give text in quotes"),
        ("keystore = []", "line 1: keystore is a list or a date: give text in quotes"),
        ("finality = 1.5", "line 1: finality is a number: give text in quotes or a whole number"),
        ('store = ""', "line 1: store is empty, or has letters that do not print"),
        ('rpc = "a\\u001b[2J"', "line 1: rpc is empty, or has letters that do not print"),
        ('role = "boss"', "line 1: role is 'boss': give participant, aggregator, auditor or governor"),
        ("rpc", "fedledger.toml is no TOML file (Expected '=' after a key in a key/value pair (at end of document))"),
        ('rpc = "a"\nrpc = "b"', "fedledger.toml is no TOML file (Cannot overwrite a value"),
        ("a = " + "[" * 100_000, "fedledger.toml is no TOML file ("),
    ],
)
def test_a_broken_file_is_wrong_use_and_one_sentence(text: str, said: str) -> None:
    write(text)
    result = CliRunner().invoke(main, ["member", "list"])
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert '"x"' not in result.output, "a secret"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('ledger = "0x12"', "fedledger.toml: ledger: '0x12' is no address: give 0x and 40 hex digits"),
        ("chain_id = 0", "fedledger.toml: chain_id: 0 is not in the range x>=1"),
        ('finality = "soon"', "fedledger.toml: finality: 'soon' does not say when a block is final: give finalized, "),
    ],
)
def test_a_value_that_its_option_does_not_take_names_file_and_key(text: str, said: str) -> None:
    write(text)
    ledger = {} if "ledger" in text else {"FEDLEDGER_LEDGER": LEDGER}
    result = CliRunner().invoke(main, ["member", "list"], env={"FEDLEDGER_RPC": "http://node", **ledger})
    assert result.exit_code == 2
    assert said in result.stderr


@pytest.mark.parametrize("price", ["0", "-1", "inf", "nan", "1e-10", "1e9", "1e999999999"])
def test_a_price_of_gas_is_a_number_above_0(price: str) -> None:
    write(f"max_fee = {price}")
    with pytest.raises(Exception, match=r"fedledger\.toml: max_fee: .* is no price of gas: give gwei above 0"):
        raise run().exception or AssertionError
    assert "is no price of gas" in run("--max-fee", price).output
    assert "is no price of gas" in run("--max-fee", "cheap").output


@pytest.mark.parametrize("raw", [b"rpc = \xff", b"\x00", b"\xef\xbb\xbfrpc = 1"])
def test_a_file_that_is_no_text_is_wrong_use(raw: bytes) -> None:
    with pytest.raises(Exception, match=r"^fedledger.toml is no TOML file \(.*\): correct it, or name another$"):
        parse(raw, Path("fedledger.toml"))


def test_help_needs_no_config_file_and_a_broken_one_does_not_matter() -> None:
    write("rpc")
    for arguments in (["--help"], ["member", "--help"], ["member", "list", "--help"], ["init", "--help"]):
        assert CliRunner().invoke(main, arguments).exit_code == 0
        assert CliRunner().invoke(main, arguments, env={"FEDLEDGER_CONFIG": "none.toml"}).exit_code == 0


def test_a_file_that_is_named_has_to_be_there() -> None:
    for given, environment in ((["--config", "none.toml"], {}), ([], {"FEDLEDGER_CONFIG": "none.toml"})):
        result = CliRunner().invoke(main, [*given, "member", "list"], env=environment)
        assert result.exit_code == 2
        assert "there is no config file to read at none.toml (No such file or directory): name another" in result.stderr


def test_a_file_that_is_named_is_read_instead_of_the_one_in_this_folder() -> None:
    write("rpc")
    write('rpc = "localhost"\nledger = "0x' + "11" * 20 + '"', "other/other.toml")
    result = CliRunner().invoke(main, ["--config", "other/other.toml", "member", "list"])
    assert "a node's address is http://" in result.stderr


def test_a_folder_in_the_files_place_is_wrong_use() -> None:
    Path("fedledger.toml").mkdir()
    result = CliRunner().invoke(main, ["member", "list"])
    assert result.exit_code == 2
    assert "there is no config file to read at fedledger.toml (Is a directory)" in result.stderr


# ------------------------------------------------------------------------- init


GIVEN = {
    "role": "aggregator",
    "rpc": 'http://[::1]:8545/a?b="c"',
    "chain_id": "1337",
    "ledger": LEDGER,
    "store": "my \\ blobs",
    "keystore": "schlüssel.json",
    "password_file": "/run/password",
    "state": "~/fed",
    "finality": "7",
    "max_fee": "0.000000001",
    "policy": "rules/policy.toml",
}


def init(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


OWN = {"keystore": "key.json", "state": "state"}


def test_init_writes_a_file_in_which_every_key_stands_and_what_was_not_given_is_beside_it_or_not_set() -> None:
    assert init("init").exit_code == 0
    text = Path("fedledger.toml").read_text(encoding="utf-8")
    assert Config(Path("fedledger.toml"), named=True).values == OWN
    in_force = "".join(line.removeprefix("# ") + "\n" for line in text.splitlines() if " = " in line)
    assert tuple(parse(in_force.encode(), Path("fedledger.toml"))) == KEYS, "the commented lines are settings, too"


def test_what_init_was_given_is_what_commands_read() -> None:
    options = [word for key, value in GIVEN.items() for word in ("--" + key.replace("_", "-"), value)]
    assert init("init", *options, "--plain-http").exit_code == 0
    expected: dict[str, str | bool] = {**GIVEN, "plain_http": True, "state": os.path.expanduser("~/fed")}
    found = Config(Path("fedledger.toml")).values
    assert found.pop("max_fee") == "1E-9"
    del expected["max_fee"]
    assert found == expected
    assert shown(config=Config(Path("fedledger.toml"))).max_fee == 1


def test_init_takes_what_the_environment_says_too() -> None:
    assert init("init", FEDLEDGER_RPC="http://node").exit_code == 0
    assert Config(Path("fedledger.toml")).values == OWN | {"rpc": "http://node"}


def test_init_writes_where_config_names_and_paths_stay_the_same_files() -> None:
    Path("site").mkdir()
    assert init("--config", "site/my.toml", "init", "--keystore", "keys/a.json", "--state", "/state").exit_code == 0
    found = Config(Path("site/my.toml")).values
    assert Path(str(found["keystore"])).resolve() == Path("keys/a.json").resolve()
    assert found["state"] == "/state"


def test_init_writes_over_nothing_unless_it_is_told_to() -> None:
    write("rpc")
    result = init("init")
    assert result.exit_code == 2
    assert "fedledger.toml is there already: change it, or write it anew with --force" in result.stderr
    assert Path("fedledger.toml").read_text() == "rpc"
    assert init("init", "--force", "--rpc", "http://node").exit_code == 0
    assert Config(Path("fedledger.toml")).values == OWN | {"rpc": "http://node"}
    assert os.listdir() == ["fedledger.toml"], "nothing half-written is left"


def test_init_gives_a_participant_a_policy_to_fill_in_beside_the_config_file_and_leaves_one_that_is_there() -> None:
    Path("site").mkdir()
    for role in ("aggregator", "participant"):
        result = init("--config", f"site/{role}.toml", "init", "--role", role)
        assert result.exit_code == 0
        assert ("Wrote site/policy.toml" in result.output) == (role == "participant")
        assert os.path.exists("site/policy.toml") == (role == "participant")
    Path("site/policy.toml").write_text("min_sites = 3\n")
    result = init("--config", "site/participant.toml", "init", "--role", "participant", "--force")
    assert (result.exit_code, result.output.splitlines()[1:]) == (
        0,
        ["site/policy.toml is there already, and stays as it is"],
    )
    assert Path("site/policy.toml").read_text() == "min_sites = 3\n"


def test_init_writes_no_policy_where_another_one_is_named() -> None:
    assert init("init", "--role", "participant", "--policy", "/etc/policy.toml").exit_code == 0
    assert os.listdir() == ["fedledger.toml"]
    assert Config(Path("fedledger.toml")).values["policy"] == "/etc/policy.toml"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["init", "--ledger", "0x12"], "'0x12' is no address"),
        (["init", "--role", "boss"], "'boss' is not one of"),
        (["init", "--max-fee", "free"], "'free' is no price of gas"),
        (["init", "--rpc", "a\x1b"], "rpc is empty, or has letters that do not print"),
        (
            ["--config", "none/fedledger.toml", "init"],
            "none/fedledger.toml cannot be written (No such file or directory)",
        ),
        (["--config", "/dev/null", "init"], "/dev/null is there already"),
    ],
)
def test_init_checks_what_it_is_given_and_writes_nothing_if_it_is_wrong(arguments: list[str], said: str) -> None:
    result = init(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert os.listdir() == []
