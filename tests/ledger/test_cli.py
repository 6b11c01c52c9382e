"""The command line: help for everything, one sentence for bad input, the documented exit status, no traceback."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from ledger.audit.meanings import MEANINGS
from ledger.cid import cid_of
from ledger.cli import main
from tests.world import PLAN, World


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands below and including this one, each with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from walk(below, (*path, name))


COMMANDS = dict(walk(main))
SINGLE = [path for path, command in COMMANDS.items() if not isinstance(command, click.Group)]
MANUAL = (Path(__file__).resolve().parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")


def test_the_commands_are_these() -> None:
    assert {path[0] for path in SINGLE} >= {
        "attest",
        "audit",
        "charter",
        "demo",
        "deploy",
        "devnet",
        "export",
        "governor",
        "init",
        "key",
        "member",
        "model",
        "receipt",
        "round",
        "task",
    }
    assert len(SINGLE) >= 30


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_help_and_every_option_too(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.help
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name
    shown = run(*path, "--help")
    assert shown.exit_code == 0
    assert "\\b" not in shown.output, "lists stay lists"


@pytest.mark.parametrize("path", SINGLE, ids=" ".join)
def test_every_command_stands_in_the_manual_with_its_options_an_example_and_what_it_ends_with(
    path: tuple[str, ...],
) -> None:
    name = " ".join(("fedledger", *path))
    assert f"\n### {name}\n" in MANUAL
    section = MANUAL.split(f"\n### {name}\n")[1].split("\n### ")[0].split("\n## ")[0]
    assert f"$ {name}" in section, "an example"
    assert "Exit status" in section
    shared = {
        "--rpc",
        "--chain-id",
        "--ledger",
        "--state",
        "--finality",
        "--confirmations",
        "--store",
        "--plain-http",
        "--keystore",
        "--password-file",
        "--max-fee",
        "--yes",
        "--json",
    }
    options = {one for parameter in COMMANDS[path].params for one in parameter.opts if one.startswith("--")}
    assert {one for one in options - shared if one not in section} == set()


OFF_CHAIN = {"audit", "demo", "devnet", "export", "init", "key", "task"}
"""They read a history wherever it is, or make one, or get things ready, and record nothing on a ledger."""
ON_CHAIN = [path for path in SINGLE if path[0] not in OFF_CHAIN or path == ("key", "rotate")]


@pytest.mark.parametrize("path", ON_CHAIN, ids=" ".join)
def test_commands_that_reach_a_ledger_share_their_options(path: tuple[str, ...]) -> None:
    options = {one for parameter in COMMANDS[path].params for one in parameter.opts}
    offline = path in [("receipt", "list"), ("receipt", "show")]
    assert "--json" in options
    assert ("--rpc" in options) != offline
    assert "--state" in options, "what reads a ledger compares it with what is remembered"
    assert ("--finality" in options) == ("--rpc" in options and path != ("deploy",))
    writes = path[-1] not in ("show", "list", "verify", "status", "watch", "mirror", "agree", "privacy", "pull")
    assert writes == ({"--keystore", "--password-file", "--max-fee", "--yes"} <= options)
    assert "--chain-id" in options
    assert "--password" not in options, "it would stand in the list of processes"


def test_exit_statuses_are_documented_in_help() -> None:
    assert "Exit status: 0 done; 1 evidence" in run("--help").output
    for status in ("0  everything is verified", "1  there is evidence", "2  wrong use", "3  nothing wrong was found"):
        assert status in run("audit", "--help").output


def test_a_verified_audit_prints_check_by_check_and_one_sentence(recorded: World) -> None:
    result = run("audit", str(recorded.folder))
    assert result.exit_code == 0
    names = [line.split(":")[0] for line in result.output.splitlines() if line[0] in "✓✗?"]
    assert names == [f"✓ {meaning.number} {meaning.name}" for meaning in MEANINGS]
    assert len(names) == 9
    assert result.output.splitlines()[-1].startswith("Verified: ")


def test_a_violated_audit_says_which_checks_failed(history_folder: Path) -> None:
    blob = next((history_folder / "blobs").iterdir())
    blob.write_bytes(blob.read_bytes() + b"!")
    result = run("audit", str(history_folder))
    assert result.exit_code == 1
    assert "✗ 6 blobs: " in result.output
    assert f"blob {blob.name}: mismatched: " in result.output
    assert result.output.splitlines()[-1].startswith("Violated: ")


def test_an_incomplete_audit_says_what_is_missing(history_folder: Path) -> None:
    blob = history_folder / "blobs" / str(cid_of(PLAN.encode()))
    blob.unlink()
    result = run("audit", str(history_folder))
    assert result.exit_code == 3
    assert "? 6 blobs: " in result.output
    assert f"blob {blob.name}: missing: " in result.output
    assert result.output.splitlines()[-1].startswith("Incomplete: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit"], "Missing argument 'SOURCE'"),
        (["audit", "no-such-source"], "no-such-source is not there: give a bundle, a folder, or a node's address"),
        (["audit", ".", "--head", "0x12"], "a head is 0x and 64 hex digits"),
        (["audit", ".", "--head", "0x" + "AB" * 32], "a head is 0x and 64 hex digits"),
        (["audit", ".", "--since", "0x12"], "a head is 0x and 64 hex digits"),
        (["audit", ".", "--block-hash", "0x12"], "a head is 0x and 64 hex digits"),
        (["export", "no-such-source", "-o", "history.car"], "no-such-source is not there: give a bundle"),
        (["export", "."], "Missing option '-o'"),
        (["demo", "--rounds", "0"], "0 is not in the range"),
        (["demo", "--cheat", "everybody"], "'everybody' is not one of"),
        (["demo", "--seed", "-1"], "-1 is not in the range"),
        (["federate"], "No such command 'federate'"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_status_2(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_a_demo_does_not_write_over_what_is_not_a_demo(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    result = run("demo", "--rounds", "1", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "is no folder of an earlier demo" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_cannot_be_made_is_one_sentence_and_exit_status_3() -> None:
    result = run("demo", "--rounds", "1", "--out", "/dev/null/demo")
    assert result.exit_code == 3
    assert "/dev/null" in result.output
