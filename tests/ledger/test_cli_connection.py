"""Node, ledger, key, password, confirmation: what is wrong with them is one sentence and the documented status."""

import json

import pytest

from tests.anvil import Anvil
from tests.cli import PASSWORD, Cli
from tests.terminal import on_a_terminal

TAKE = ("governor", "take")


def test_a_node_that_is_not_there_is_unavailable(cli: Cli) -> None:
    with Anvil() as gone:
        gone.stop()
    said = cli.refused(3, "nobody", "member", "list", environment={"FEDLEDGER_RPC": gone.url})
    assert said == f"the node at {gone.url} does not answer (Connection refused): start it, or name another"


@pytest.mark.parametrize(("url", "said"), [("localhost", "a node's address is http"), (None, "Missing option '--rpc'")])
def test_a_node_must_be_named_by_its_address(cli: Cli, url: str | None, said: str) -> None:
    assert said in cli.refused(2, "nobody", "member", "list", environment={"FEDLEDGER_RPC": url})


def test_an_address_without_code_is_wrong_use_and_other_code_is_a_violation(cli: Cli) -> None:
    empty = {"FEDLEDGER_LEDGER": cli.address("site 1")}
    assert cli.address("site 1") in cli.refused(2, "nobody", "member", "list", environment=empty)
    other = "0x" + "ab" * 20
    cli.anvil.rpc("anvil_setCode", other, "0x6001600155")
    assert "is not" in cli.refused(1, "nobody", "member", "list", environment={"FEDLEDGER_LEDGER": other})


def test_a_mistyped_address_is_found_by_its_checksum(cli: Cli) -> None:
    address = cli.address("site 1")
    typo = address.replace(address[-1], "0" if address[-1] != "0" else "1")
    said = cli.refused(2, "nobody", "member", "list", environment={"FEDLEDGER_LEDGER": typo})
    assert "its checksum does not fit: copy it again" in said


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"FEDLEDGER_KEYSTORE": "none.json"}, "there is no keystore to read at none.json (No such file or directory)"),
        ({"FEDLEDGER_KEYSTORE": None}, "Missing option '--keystore'"),
        ({"FEDLEDGER_KEYSTORE": "."}, "there is no keystore to read at . (Is a directory)"),
        ({"FEDLEDGER_PASSWORD_FILE": "none"}, "none holds no password to read (No such file or directory)"),
        ({"FEDLEDGER_PASSWORD_FILE": None}, "give --password-file, or set FEDLEDGER_PASSWORD"),
        ({"FEDLEDGER_PASSWORD_FILE": None, "FEDLEDGER_PASSWORD": "wrong"}, "the password does not open "),
        ({"FEDLEDGER_PASSWORD_FILE": None, "FEDLEDGER_PASSWORD": ""}, "the password does not open "),
    ],
)
def test_a_key_that_cannot_be_had_is_wrong_use(cli: Cli, environment: dict[str, str | None], said: str) -> None:
    assert said in cli.refused(2, "stranger", *TAKE, environment=environment)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 1}', '{"version": 3, "crypto": {}}', '"version"'])
def test_a_file_that_is_no_keystore_is_wrong_use(cli: Cli, content: str) -> None:
    keystore = {"FEDLEDGER_KEYSTORE": cli.file("broken.json", content)}
    assert "is no keystore (JSON, version 3)" in cli.refused(2, "stranger", *TAKE, environment=keystore)


@pytest.mark.parametrize("changes", [{"kdf": "none"}, {"ciphertext": "zz"}, {"kdfparams": {}}, {"mac": 5}])
def test_a_damaged_keystore_is_wrong_use(cli: Cli, changes: dict[str, object]) -> None:
    cli.party("stranger")
    document = json.loads(cli.path("stranger.json").read_text())
    document["crypto"] |= changes
    keystore = {"FEDLEDGER_KEYSTORE": cli.file("broken.json", json.dumps(document))}
    assert "is a damaged keystore" in cli.refused(2, "stranger", *TAKE, environment=keystore)


def test_the_password_comes_from_the_environment_too(cli: Cli) -> None:
    environment = {"FEDLEDGER_PASSWORD_FILE": None, "FEDLEDGER_PASSWORD": PASSWORD.strip()}
    assert "was not offered to" in cli.refused(1, "stranger", *TAKE, environment=environment)


def ask(cli: Cli, party: str, arguments: list[str], answers: list[str]) -> tuple[int, str]:
    """Run a command as a party that answers on a terminal."""
    cli.party(party)
    environment = {
        "FEDLEDGER_RPC": cli.anvil.url,
        "FEDLEDGER_LEDGER": cli.ledger,
        "FEDLEDGER_STORE": str(cli.path("blobs")),
        "FEDLEDGER_STATE": str(cli.state / party),
        "FEDLEDGER_KEYSTORE": str(cli.path(f"{party}.json")),
    }
    return on_a_terminal(arguments, answers, environment)


def test_on_a_terminal_the_password_is_asked_for_unseen_and_the_charter_is_read_before_it_is_accepted(
    cli: Cli,
) -> None:
    status, shown = ask(cli, "site 1", ["charter", "accept"], [PASSWORD.strip(), "y"])
    assert status == 0, shown
    assert "We agree." in shown
    assert "It cannot be undone. [y/N]:" in shown
    assert PASSWORD.strip() not in shown
    assert "Recorded CharterAccepted" in shown


def test_who_answers_no_records_nothing(cli: Cli) -> None:
    before = cli.anvil.web3.eth.block_number
    status, shown = ask(cli, "governor", ["member", "suspend", "1"], [PASSWORD.strip(), "n"])
    assert status == 1, shown
    assert "Aborted!" in shown
    assert cli.anvil.web3.eth.block_number == before


def test_a_node_of_another_chain_than_the_one_that_it_must_be_is_wrong_use(cli: Cli) -> None:
    chain = cli.anvil.web3.eth.chain_id
    said = cli.refused(2, "nobody", "member", "list", environment={"FEDLEDGER_CHAIN_ID": "1"})
    assert said == (
        f"the node at {cli.anvil.url} is of chain {chain}, fedledger.toml (or --chain-id) says 1: name another node, "
        "or correct it"
    )
    cli.look("member", "list", "--chain-id", str(chain))
