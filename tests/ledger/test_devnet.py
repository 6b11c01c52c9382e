"""The devnet: what a real node is to clients, on a chain that outlives its process and carries real time."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from web3 import Web3
from web3.exceptions import ContractLogicError

from ledger.chain.contract import LedgerContract
from ledger.chain.devnet import DevnetChain
from ledger.chain.devnet_rpc import DevnetRpc
from ledger.chain.rpc_server import MAX_BODY, answer
from ledger.cid import cid_of
from ledger.cli import main
from ledger.errors import Refused, UnavailableError
from ledger.facts import Role
from tests.anvil import Anvil
from tests.cli import Cli
from tests.devnet import COMMAND, Running, Threaded
from tests.world import PLAN

NOW = 1_800_000_000
CHARTER = cid_of(b"# Charter\n")
ETHER = 10**18
NOBODY = Web3.to_checksum_address("0x" + "ab" * 20)


@pytest.fixture
def devnet(tmp_path: Path) -> Iterator[Threaded]:
    with Threaded(tmp_path / "devnet", NOW) as running:
        yield running


def account(name: str) -> LocalAccount:
    made: LocalAccount = Account.from_key(keccak(name.encode()))
    return made


def create(chain: Threaded | Anvil, runtime: str) -> str:
    """Deploy code of at most 31 bytes, and give its address."""
    code = bytes.fromhex(runtime)
    store = bytes([0x5F + len(code), *code, 0x5F, 0x52, 0x60, len(code), 0x60, 32 - len(code), 0xF3])
    sent = chain.web3.eth.send_raw_transaction(signed(chain, data="0x" + store.hex()))
    return str(chain.web3.eth.wait_for_transaction_receipt(sent)["contractAddress"])


def signed(chain: Threaded | Anvil, name: str = "somebody", **fields: Any) -> bytes:
    """A transaction of an account that has ether."""
    sender = account(name)
    chain.fund(sender.address)
    said = {
        "chainId": chain.web3.eth.chain_id,
        "nonce": chain.web3.eth.get_transaction_count(sender.address),
        "gas": 200_000,
        "maxFeePerGas": 10 * 10**9,
        "maxPriorityFeePerGas": 10**9,
        **fields,
    }
    if "gasPrice" in fields:
        del said["maxFeePerGas"], said["maxPriorityFeePerGas"]
    return bytes(sender.sign_transaction(said).raw_transaction)


# ---------------------------------------------------------------- as a node


def test_a_federation_lives_on_it_and_its_audit_is_verified(devnet: Threaded, tmp_path: Path) -> None:
    cli = Cli(cast(Anvil, devnet), tmp_path)
    cli.found()
    cli.settled()
    cli.ok("auditor", "attest", "1")
    source = [
        "audit",
        devnet.url,
        "--ledger",
        cli.ledger,
        "--store",
        str(cli.path("blobs")),
        "--state",
        "none",
        "--json",
    ]
    result = CliRunner().invoke(main, [*source, "--identity", str(cli.state / "auditor" / "age.key")])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["verdict"] == "verified"
    assert cli.look("round", "show")["status"] == "released"


def test_what_the_contract_refuses_is_said_in_its_words(devnet: Threaded) -> None:
    governor, stranger = account("governor"), account("stranger")
    contract = LedgerContract.deploy(devnet.web3, governor, CHARTER)
    with pytest.raises(Refused, match="governance was not offered"):
        contract.take_governance(stranger)


def kind(value: Any) -> Any:
    """The form of a JSON value: what of it does not depend on the chain."""
    if isinstance(value, dict):
        return {key: "0x" if key in ("r", "s") else kind(one) for key, one in value.items()}
    if isinstance(value, list):
        return [kind(one) for one in value]
    if isinstance(value, str) and value.startswith("0x"):
        return len(value) if len(value) in (2 + 16, 2 + 40, 2 + 64, 2 + 512) else "0x"
    return type(value).__name__ if isinstance(value, str) else value


MORE = {"blockTimestamp", "blobGasPrice"}
"""What newer nodes say beyond the specification."""


def looked_at(chain: Threaded | Anvil) -> dict[str, Any]:
    """What a chain answers about one and the same history."""
    governor = account("governor")
    chain.fund(governor.address)
    contract = LedgerContract.deploy(chain.web3, governor, CHARTER)
    contract.admit(governor, "0x" + "ab" * 20, Role.PARTICIPANT, "Site 1")
    old = chain.web3.eth.send_raw_transaction(signed(chain, to=governor.address, gasPrice=10 * 10**9, value=1))
    chain.web3.eth.wait_for_transaction_receipt(old)
    (log,) = chain.rpc("eth_getLogs", {"address": contract.address, "fromBlock": "0x1", "toBlock": "latest"})
    sent, none = log["transactionHash"], "0x" + "00" * 32
    asked: list[tuple[Any, ...]] = [
        ("eth_getLogs", {"blockHash": log["blockHash"]}),
        ("eth_getTransactionByHash", sent),
        ("eth_getTransactionByHash", Web3.to_hex(old)),
        ("eth_getTransactionByHash", none),
        ("eth_getRawTransactionByHash", none),
        ("eth_getTransactionReceipt", sent),
        ("eth_getTransactionReceipt", Web3.to_hex(old)),
        ("eth_getTransactionReceipt", none),
        ("eth_getBlockByHash", log["blockHash"], False),
        ("eth_getBlockByHash", none, False),
        ("eth_getBlockByNumber", log["blockNumber"], True),
        ("eth_getBlockByNumber", "0xffff", True),
        ("eth_getCode", contract.address, "latest"),
        ("eth_getCode", governor.address, "latest"),
        ("eth_getStorageAt", contract.address, "0x0", "latest"),
        ("eth_syncing",),
        ("net_version",),
        ("eth_estimateGas", {"from": governor.address, "to": governor.address}),
        ("eth_call", {"to": governor.address}, "latest"),
    ]
    return {f"{number} {method}": chain.rpc(method, *given) for number, (method, *given) in enumerate(asked)}


def without(names: set[str], value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without(names, one) for key, one in value.items() if key not in names}
    return [without(names, one) for one in value] if isinstance(value, list) else value


def test_every_answer_has_the_form_that_a_real_nodes_has(devnet: Threaded, anvil: Anvil) -> None:
    before = anvil.snapshot()
    real = looked_at(anvil)
    anvil.revert(before)
    ours = looked_at(devnet)
    assert kind(without(MORE, ours)) == kind(without(MORE, real))


ECHO = "365f5f37365ffd"
"""Code that reverts with what it was called with."""


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x01",
        keccak(b"Error(string)")[:4] + encode(["string"], ["not today"]),
        keccak(b"Error(string)")[:4] + b"\xff" * 40,
        keccak(b"Panic(uint256)")[:4] + encode(["uint256"], [0x11]),
        keccak(b"NotGovernor(address)")[:4] + encode(["address"], ["0x" + "ab" * 20]),
    ],
    ids=["nothing", "a byte", "a reason", "no reason", "a panic", "an error of its own"],
)
@pytest.mark.parametrize("method", ["eth_call", "eth_estimateGas"])
def test_a_revert_reaches_web3_as_from_a_real_node(devnet: Threaded, anvil: Anvil, said: bytes, method: str) -> None:
    before = anvil.snapshot()
    errors = []
    for chain in (devnet, anvil):
        call: Any = {"to": create(chain, ECHO), "data": "0x" + said.hex()}
        with pytest.raises(ContractLogicError) as caught:
            chain.web3.eth.call(call) if method == "eth_call" else chain.web3.eth.estimate_gas(call)
        errors.append((type(caught.value), caught.value.data))
    anvil.revert(before)
    assert errors[0] == errors[1]
    raw = devnet.rpc(method, call | {"to": create(devnet, ECHO)})
    assert (raw["code"], raw["data"]) == (3, "0x" + said.hex())
    assert raw["message"].startswith("execution reverted")


def test_a_call_that_fails_without_a_revert_is_an_error_without_data(devnet: Threaded) -> None:
    invalid = devnet.rpc("eth_call", {"to": create(devnet, "fe")})
    assert invalid["code"] == -32000
    assert "InvalidInstruction" in invalid["message"]
    endless = devnet.rpc("eth_call", {"to": create(devnet, "5b5f56"), "gas": "0x5208"})
    assert endless["code"] == -32000
    assert "data" not in endless


def test_a_transaction_that_fails_in_its_block_is_recorded_as_failed(devnet: Threaded) -> None:
    sent = devnet.web3.eth.send_raw_transaction(signed(devnet, to=create(devnet, ECHO)))
    receipt = devnet.web3.eth.wait_for_transaction_receipt(sent)
    assert (receipt["status"], receipt["logs"]) == (0, [])


def test_an_estimate_is_enough_and_not_much_more(devnet: Threaded) -> None:
    governor = account("governor")
    contract = LedgerContract.deploy(devnet.web3, governor, CHARTER)
    receipt = contract.admit(governor, "0x" + "ab" * 20, Role.PARTICIPANT, "Site 1")
    limit = devnet.web3.eth.get_transaction(receipt["transactionHash"])["gas"]
    assert receipt["status"] == 1
    assert receipt["gasUsed"] <= limit < 1.3 * receipt["gasUsed"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"nonce": 0, "value": 1}, "nonce too low: next nonce 1, tx nonce 0"),
        ({"nonce": 7}, "nonce too high: next nonce 1, tx nonce 7"),
        ({"value": 101 * ETHER}, "insufficient funds for gas * price + value: have "),
        ({"chainId": 1}, "invalid chain id for signer: have 1 want 1337"),
        ({"chainId": 1, "gasPrice": 10**10}, "invalid chain id for signer: have 1 want 1337"),
        ({"maxFeePerGas": 6, "maxPriorityFeePerGas": 1}, "max fee per gas less than block base fee: maxFeePerGas: 6"),
        ({"gas": 20_000}, "intrinsic gas too low: have 20000, want 21000"),
        ({"gas": 30_000_001}, "exceeds block gas limit"),
        ({"maxPriorityFeePerGas": 2 * 10**10}, "max priority fee per gas higher than max fee per gas: "),
    ],
)
def test_a_transaction_that_can_be_in_no_block_is_refused_in_the_words_of_geth(
    devnet: Threaded, fields: dict[str, Any], said: str
) -> None:
    devnet.web3.eth.send_raw_transaction(signed(devnet, to=NOBODY))
    before = devnet.web3.eth.get_block("latest")["hash"]
    refused = devnet.rpc("eth_sendRawTransaction", "0x" + signed(devnet, **{"to": NOBODY, **fields}).hex())
    assert refused["code"] == -32000
    assert refused["message"].startswith(said)
    assert devnet.web3.eth.get_block("latest")["hash"] == before


def test_a_transaction_that_was_sent_already_is_known(devnet: Threaded) -> None:
    raw = "0x" + signed(devnet, to=NOBODY).hex()
    sent = devnet.rpc("eth_sendRawTransaction", raw)
    assert devnet.rpc("eth_sendRawTransaction", raw) == {"code": -32000, "message": "already known"}
    assert devnet.rpc("eth_getRawTransactionByHash", sent) == raw


@pytest.mark.parametrize("raw", ["0x", "0x00", "0x02", "0x02c0", "0xc0", "0x03" + "ff" * 100, "0x" + "f8" * 3000])
def test_what_is_no_transaction_is_refused(devnet: Threaded, raw: str) -> None:
    refused = devnet.rpc("eth_sendRawTransaction", raw)
    assert refused["code"] == -32000
    assert "this is no signed transaction" in refused["message"]


EMIT = "6020355f355f5fa200"
"""Code that logs with the two words that it is called with as its topics."""


def test_logs_are_found_by_range_address_and_topics(devnet: Threaded) -> None:
    one, two = create(devnet, EMIT), create(devnet, EMIT)
    words = [number.to_bytes(32, "big").hex() for number in range(4)]
    for number in range(12):
        at = (one, two)[number % 2]
        devnet.web3.eth.send_raw_transaction(
            signed(devnet, to=at, data="0x" + words[number % 3] + words[number % 4], gas=100_000)
        )
    every = devnet.rpc("eth_getLogs", {"fromBlock": "earliest", "toBlock": "latest"})
    assert [int(log["topics"][0], 16) for log in every] == [number % 3 for number in range(12)]
    assert [int(log["topics"][1], 16) for log in every] == [number % 4 for number in range(12)]
    low, high = (int(every[index]["blockNumber"], 16) for index in (3, 8))

    def found(**asked: Any) -> list[int]:
        return [
            every.index(log) for log in devnet.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"} | asked)
        ]

    topics = ["0x" + word for word in words]
    assert found(fromBlock=hex(low), toBlock=hex(high)) == [3, 4, 5, 6, 7, 8]
    assert found(fromBlock=hex(high), toBlock="0xffffff") == [8, 9, 10, 11]
    assert found(fromBlock="0xfffff", toBlock="0xffffff") == []
    assert found(address=one) == [0, 2, 4, 6, 8, 10]
    assert found(address=[one.lower(), two]) == list(range(12))
    assert found(address="0x" + "ab" * 20) == []
    assert found(topics=[topics[1]]) == [1, 4, 7, 10]
    assert found(topics=[None, topics[3]]) == [3, 7, 11]
    assert found(topics=[[topics[0], topics[1]], topics[0]]) == [0, 4]
    assert found(topics=[None, None, None]) == [], "no log has three topics"
    assert found(topics=[]) == list(range(12))
    assert devnet.rpc("eth_getLogs", {}) == every[-1:], "the latest block, if nothing is said"
    assert devnet.rpc("eth_getLogs", {"blockHash": every[5]["blockHash"]}) == [every[5]]
    assert devnet.rpc("eth_getLogs", {"fromBlock": "0x2", "toBlock": "0x1"})["code"] == -32602
    assert devnet.rpc("eth_getLogs", {"blockHash": "0x" + "00" * 32})["code"] == -32000


# ------------------------------------------------------------ time and ether

CLOCK = "425f5260205ff3"
"""Code that tells the time of its block."""


def test_calls_and_the_pending_block_see_the_present_time_while_nobody_sends(devnet: Threaded) -> None:
    clock: Any = {"to": create(devnet, CLOCK)}
    latest = devnet.web3.eth.get_block("latest")
    devnet.time = NOW + 3600
    assert int(devnet.web3.eth.get_block("pending")["timestamp"]) == NOW + 3600
    assert int(devnet.web3.eth.call(clock).hex(), 16) == NOW + 3600
    assert int(devnet.rpc("eth_call", clock, hex(latest["number"])), 16) == latest["timestamp"], "as it was then"
    assert devnet.web3.eth.get_block("latest") == latest
    devnet.web3.eth.send_raw_transaction(signed(devnet, to=NOBODY))
    assert devnet.web3.eth.get_block("latest")["timestamp"] == NOW + 3600


def test_time_never_goes_backwards(devnet: Threaded) -> None:
    times = []
    for devnet.time in (NOW, NOW, NOW - 3600, NOW + 10, NOW + 5):
        devnet.web3.eth.send_raw_transaction(signed(devnet, to=NOBODY))
        times.append(int(devnet.web3.eth.get_block("latest")["timestamp"]) - NOW)
    first = times[0]
    assert times == [first, first + 1, first + 2, 10, 11]


def test_a_rounds_deadline_passes_while_nobody_sends(devnet: Threaded, tmp_path: Path) -> None:
    cli = Cli(cast(Anvil, devnet), tmp_path)
    cli.found()
    cli.open(quorum=1)
    cli.ok("site 1", "round", "post", "1", cli.update(1), "--weight", "10")
    assert "round 1 still takes updates" in cli.refused(1, "aggregator", "round", "settle")
    devnet.time = devnet.web3.eth.get_block("latest")["timestamp"] + PLAN.window + 1
    cli.ok("aggregator", "round", "settle")


def test_whoever_asks_has_ether_once(devnet: Threaded) -> None:
    asking, other = account("asking").address, account("other").address
    assert devnet.web3.eth.get_transaction_count(asking, "pending") == 0
    blocks = devnet.web3.eth.block_number
    assert devnet.web3.eth.get_balance(asking) == 100 * ETHER
    assert devnet.web3.eth.get_balance(asking, "earliest") == 0, "it did not have it then"
    assert devnet.web3.eth.block_number == blocks
    code = create(devnet, CLOCK)
    assert devnet.rpc("eth_getBalance", code, "latest") == "0x0", "a contract is nobody who asks"
    assert devnet.rpc("eth_getBalance", other, "latest") == hex(100 * ETHER)
    spent = signed(devnet, "asking", to=other, value=60 * ETHER)
    devnet.web3.eth.send_raw_transaction(spent)
    assert devnet.web3.eth.get_balance(other) == 160 * ETHER
    assert 39 * ETHER < devnet.web3.eth.get_balance(asking) < 40 * ETHER


def test_every_block_is_final(devnet: Threaded) -> None:
    create(devnet, CLOCK)
    assert {devnet.web3.eth.get_block(tag)["hash"] for tag in ("latest", "safe", "finalized")} == {
        devnet.web3.eth.get_block(devnet.web3.eth.block_number)["hash"]
    }


# ------------------------------------------------------------------- restarts


def blocks_of(web3: Web3) -> list[str]:
    return [web3.eth.get_block(number)["hash"].hex() for number in range(web3.eth.block_number + 1)]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_the_same_chain_goes_on_after_a_restart_and_nothing_that_was_answered_is_lost(
    tmp_path: Path, how: signal.Signals
) -> None:
    governor = account("governor")
    with Running(tmp_path) as running:
        contract = LedgerContract.deploy(running.web3, governor, CHARTER)
        contract.admit(governor, "0x" + "00" * 19 + "01", Role.PARTICIPANT, "1")
        raw = signed(cast(Any, running), to=NOBODY)
        sent = running.rpc("eth_sendRawTransaction", "0x" + raw.hex())
        status, said = running.end(how)
        assert (status, said) == (-how if how is signal.SIGKILL else 0, "")
    with Running(tmp_path) as running:
        assert running.rpc("eth_getRawTransactionByHash", sent) == "0x" + raw.hex()
        before = blocks_of(running.web3)
        again = LedgerContract.attach(running.web3, contract.address)
        again.admit(governor, "0x" + "00" * 19 + "02", Role.PARTICIPANT, "2")
        assert [member.name for member in again.history().members.values()] == ["1", "2"]
        running.end(how)
    with Running(tmp_path) as running:
        after = blocks_of(running.web3)
        assert after[: len(before)] == before
        assert len(after) > len(before)


@pytest.mark.parametrize("answered", [1, 4, 9])
def test_a_kill_in_the_middle_of_it_loses_nothing_that_was_answered(tmp_path: Path, answered: int) -> None:
    sender, sent = account("somebody"), []
    with Running(tmp_path) as running:
        running.fund(sender.address)
        enough = threading.Event()

        def send() -> None:
            try:
                while True:
                    sent.append(running.web3.eth.send_raw_transaction(signed(cast(Any, running), to=NOBODY)))
                    if len(sent) == answered:
                        enough.set()
            except UnavailableError:
                return  # it is gone

        sending = threading.Thread(target=send)
        sending.start()
        assert enough.wait(60)
        running.end(signal.SIGKILL)
        sending.join()
    with Running(tmp_path) as running:
        nonces = [running.web3.eth.get_transaction(one)["nonce"] for one in sent]
        assert nonces == list(range(len(sent)))
        assert running.web3.eth.get_transaction_count(sender.address) in (len(sent), len(sent) + 1), (
            "the last unanswered"
        )
        running.web3.eth.send_raw_transaction(signed(cast(Any, running), to=NOBODY))


def test_what_fails_half_way_leaves_the_chain_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Threaded(tmp_path, NOW) as devnet:
        raw = "0x" + signed(devnet, to=NOBODY).hex()
        before = blocks_of(devnet.web3)
        with monkeypatch.context() as broken:
            broken.setattr("eth.db.chain.ChainDB._set_as_canonical_chain_head", lambda *_: 1 / 0)
            refused = devnet.rpc("eth_sendRawTransaction", raw)
        assert refused == {"code": -32603, "message": "this call cannot be answered (ZeroDivisionError)"}
        assert blocks_of(devnet.web3) == before
        assert (
            devnet.rpc("eth_sendRawTransaction", raw)
            == devnet.rpc("eth_getBlockByNumber", "latest", False)["transactions"][0]
        )


# --------------------------------------------------------------- the command


def refused(status: int, *arguments: str) -> str:
    """The one sentence with which the command ends."""
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
    assert ended.returncode == status, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.startswith("Error: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr.removeprefix("Error: ").strip()


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.1", "example.org", "", "127.0.0.1.example.org"])
def test_it_listens_on_this_machine_alone(tmp_path: Path, bind: str) -> None:
    said = refused(2, "--bind", bind, "--state", str(tmp_path))
    assert "is not an address of this machine alone: use 127.0.0.1, or say --unsafe-bind" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bind", ["127.0.0.2", "localhost", "::1"])
def test_it_listens_on_any_address_of_this_machine_alone(tmp_path: Path, bind: str) -> None:
    with Running(tmp_path, "--bind", bind) as running:
        assert running.web3.eth.chain_id == 1337


def test_another_address_has_to_be_asked_for(tmp_path: Path) -> None:
    with Running(tmp_path, "--bind", "0.0.0.0", "--unsafe-bind") as running:
        assert Web3(Web3.HTTPProvider(running.url.replace("0.0.0.0", "127.0.0.1"))).eth.chain_id == 1337


def test_one_devnet_runs_on_a_folder_and_one_on_a_port(tmp_path: Path) -> None:
    with Running(tmp_path / "one") as running:
        said = refused(3, "--state", str(tmp_path / "one"), "--port", "0")
        assert said == f"another devnet runs on {tmp_path / 'one'}: stop it, or name another folder with --state"
        port = running.url.rsplit(":", 1)[1]
        said = refused(3, "--state", str(tmp_path / "two"), "--port", port)
        assert said.startswith(f"the devnet cannot listen on 127.0.0.1, port {port} (Address already in use)")


def test_an_address_that_is_none_cannot_be_listened_on(tmp_path: Path) -> None:
    said = refused(3, "--state", str(tmp_path), "--bind", "192.0.2.1", "--unsafe-bind", "--port", "0")
    assert said.startswith("the devnet cannot listen on 192.0.2.1, port 0 (Cannot assign requested address)")


def test_a_damaged_chain_is_said_to_be_and_fresh_begins_another(tmp_path: Path) -> None:
    DevnetChain(tmp_path).close()
    file = tmp_path / "chain.sqlite"
    whole = file.read_bytes()
    for damaged in (b"no chain", whole[: len(whole) // 2], whole[:4096] + bytes(len(whole) - 4096)):
        file.write_bytes(damaged)
        said = refused(3, "--state", str(tmp_path), "--port", "0")
        assert said.startswith(f"{file} is damaged (")
        assert said.endswith("): begin anew with --fresh, or name another folder with --state")
    with Running(tmp_path, "--fresh") as running:
        assert running.web3.eth.block_number == 0


def test_a_state_folder_that_is_none_is_said_to_be() -> None:
    said = refused(3, "--state", "/dev/null/devnet", "--port", "0")
    assert said.startswith("/dev/null/devnet cannot hold a chain (Not a directory): name another folder")


def test_without_its_extra_it_says_what_to_install(tmp_path: Path) -> None:
    program = "import sys; sys.modules['eth'] = None; from ledger.cli import main; main()"
    arguments = ["devnet", "--state", str(tmp_path), "--port", "0"]
    ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "Error: the devnet needs eth: pip install 'fedledger[devnet]'\n"


# ------------------------------------------------------------ hostile clients


def call(method: Any = "eth_chainId", number: Any = 1, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method} | more


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevnetRpc]:
    rpc = DevnetRpc(DevnetChain(tmp_path_factory.mktemp("devnet")))
    yield rpc
    rpc.close()


def said_to(answers: DevnetRpc, body: bytes | str | Any) -> Any:
    if not isinstance(body, bytes | str):
        body = json.dumps(body)
    said = answer(body if isinstance(body, bytes) else body.encode(), answers)
    return None if said is None else json.loads(said)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"\xff\xfe", -32700),
        (b"{", -32700),
        (b"[" * 1_000_000, -32700),
        (b'{"a":' * 100_000, -32700),
        (b'{"jsonrpc": "2.0"} {}', -32700),
        ("null", -32600),
        ("1e999", -32600),
        ('"eth_chainId"', -32600),
        ([], -32600),
        ([call()] * 1001, -32600),
        ({}, -32600),
        (call(jsonrpc="1.0"), -32600),
        (call(method=None), -32600),
        (call(method=["eth_chainId"]), -32600),
        (call(number={"a": 1}), -32600),
        (call(number=1.5), -32600),
        (call(number=[[]]), -32600),
        (call(params={"a": 1}), -32602),
        (call(params="x"), -32602),
        (call(params=None), -32602),
        (call(params=[1]), -32602),
        (call("eth_getProof", params=["0x" + "00" * 20, [], "latest"]), -32601),
        (call("_grant", params=[]), -32601),
        (call("__class__", params=[]), -32601),
        (call("x" * 100_000), -32601),
    ],
)
def test_a_body_that_is_no_call_gets_the_error_of_json_rpc(answers: DevnetRpc, body: Any, code: int) -> None:
    said = said_to(answers, body)
    assert said["error"]["code"] == code
    assert set(said) == {"jsonrpc", "id", "error"}
    assert len(json.dumps(said)) < 500
    assert said_to(answers, call())["result"] == "0x539"


HUGE = "0x" + "f" * 5000
CODE = "0x" + "ab" * 20


@pytest.mark.parametrize(
    ("method", "parameters", "code"),
    [
        ("eth_getBalance", [], -32602),
        ("eth_getBalance", ["0x12"], -32602),
        ("eth_getBalance", [1], -32602),
        ("eth_getBalance", [None], -32602),
        ("eth_getBalance", [CODE, "newest"], -32602),
        ("eth_getBalance", [CODE, -1], -32602),
        ("eth_getBalance", [CODE, []], -32602),
        ("eth_getBalance", [CODE, {}], -32602),
        ("eth_getBalance", [CODE, HUGE], -32602),
        ("eth_getBalance", [CODE, "0x" + "f" * 64], -32000),
        ("eth_getStorageAt", [CODE, "0x1g", "latest"], -32602),
        ("eth_getBlockByNumber", ["-0x1", False], -32602),
        ("eth_getBlockByHash", ["0x12", False], -32602),
        ("eth_getTransactionReceipt", [HUGE], -32602),
        ("eth_getTransactionByHash", [{}], -32602),
        ("eth_sendRawTransaction", ["raw"], -32602),
        ("eth_sendRawTransaction", [None], -32602),
        ("eth_call", [[]], -32602),
        ("eth_call", [{"to": "0x"}], -32602),
        ("eth_call", [{"to": CODE, "value": "1"}], -32602),
        ("eth_call", [{"to": CODE, "data": "0x1"}], -32602),
        ("eth_call", [{"to": CODE}, "latest", {CODE: {"balance": "0x1"}}], -32602),
        ("eth_call", [{"to": CODE, "value": "0x" + "f" * 64}], -32000),
        ("eth_call", [{"to": CODE, "gas": "0x1"}], -32000),
        ("eth_estimateGas", [{"to": CODE, "gas": HUGE}], -32602),
        ("eth_getLogs", [[]], -32602),
        ("eth_getLogs", [{"address": "0x12"}], -32602),
        ("eth_getLogs", [{"address": {}}], -32602),
        ("eth_getLogs", [{"address": [[CODE]]}], -32602),
        ("eth_getLogs", [{"topics": "0x"}], -32602),
        ("eth_getLogs", [{"topics": [None] * 5}], -32602),
        ("eth_getLogs", [{"topics": [["0x12"]]}], -32602),
        ("eth_getLogs", [{"fromBlock": 1.5}], -32602),
    ],
)
def test_parameters_that_make_no_sense_are_refused_and_change_nothing(
    answers: DevnetRpc, method: str, parameters: list[Any], code: int
) -> None:
    before = said_to(answers, call("eth_blockNumber"))
    said = said_to(answers, call(method, params=parameters))
    assert said["error"]["code"] == code
    assert said["error"]["message"]
    assert len(json.dumps(said)) < 500
    assert said_to(answers, call("eth_blockNumber")) == before


def test_a_batch_is_answered_call_by_call_and_a_notification_not_at_all(answers: DevnetRpc) -> None:
    batch = [call(number="a"), call("none", 2), {"jsonrpc": "2.0", "method": "eth_chainId"}, 3, call(number=None)]
    said = said_to(answers, batch)
    assert [(one["id"], one.get("result"), one.get("error", {}).get("code")) for one in said] == [
        ("a", "0x539", None),
        (2, None, -32601),
        (None, None, -32600),
        (None, "0x539", None),
    ]
    assert said_to(answers, {"jsonrpc": "2.0", "method": "eth_chainId"}) is None
    assert said_to(answers, [{"jsonrpc": "2.0", "method": "eth_chainId"}]) is None


def posted(devnet: Threaded, body: bytes, headers: dict[str, str], method: str = "POST") -> tuple[int, bytes]:
    host, port = devnet.url.removeprefix("http://").split(":")
    with closing(http.client.HTTPConnection(host, int(port), timeout=10)) as connection:
        connection.putrequest(method, "/", skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answered = connection.getresponse()
        return answered.status, answered.read()


BODY = json.dumps(call()).encode()
LENGTH = {"Content-Length": str(len(BODY))}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (LENGTH, 200),
        ({**LENGTH, "Host": "localhost"}, 200),
        ({**LENGTH, "Host": "LOCALHOST:8545"}, 200),
        ({**LENGTH, "Host": "[::1]:8545"}, 200),
        ({**LENGTH, "Host": "evil.example"}, 403),
        ({**LENGTH, "Host": "evil.example:8545"}, 403),
        ({**LENGTH, "Host": "localhost.evil.example"}, 403),
        ({**LENGTH, "Host": "127.0.0.1@evil.example"}, 403),
        ({**LENGTH, "Host": "[::1"}, 403),
        ({**LENGTH, "Host": ""}, 403),
        ({**LENGTH, "Origin": "https://evil.example"}, 403),
        ({**LENGTH, "Origin": "null"}, 403),
        ({}, 411),
        ({"Transfer-Encoding": "chunked"}, 411),
        ({"Content-Length": "-1"}, 411),
        ({"Content-Length": "²"}, 411),
        ({"Content-Length": str(MAX_BODY + 1)}, 413),
        ({"Content-Length": "9" * 10_000}, 413),
    ],
)
def test_only_programs_on_this_machine_are_answered_and_only_so_many_bytes_read(
    devnet: Threaded, headers: dict[str, str], status: int
) -> None:
    headers = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    got, said = posted(devnet, BODY if "Content-Length" in headers else b"", headers)
    assert got == status
    assert (json.loads(said)["result"] == "0x539") if status == 200 else b"Traceback" not in said
    assert devnet.web3.eth.chain_id == 1337


def test_a_page_is_not_served_and_no_web_page_is_let_in(devnet: Threaded) -> None:
    assert posted(devnet, b"", {}, "GET")[0] == 501
    assert posted(devnet, b"", {"Origin": "https://evil.example"}, "OPTIONS")[0] == 501


def test_clients_that_go_away_or_say_nothing_keep_nobody_waiting(
    devnet: Threaded, capfd: pytest.CaptureFixture[str]
) -> None:
    host, port = devnet.url.removeprefix("http://").split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(20)]
    for one in silent[:10]:
        one.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        one.close()
    assert devnet.web3.eth.chain_id == 1337
    for one in silent[10:]:
        one.close()
    assert devnet.web3.eth.chain_id == 1337
    assert capfd.readouterr().err == ""


def test_many_clients_at_once_each_get_their_own_answer(devnet: Threaded) -> None:
    names = [f"client {number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda name: sent_by(devnet, name), names))
    assert sorted(receipts) == sorted({account(name).address for name in names})


def sent_by(devnet: Threaded, name: str) -> str:
    """The sender of a client's transaction, as its receipt says."""
    sent = devnet.web3.eth.send_raw_transaction(signed(devnet, name, to=NOBODY))
    return str(devnet.web3.eth.wait_for_transaction_receipt(sent)["from"])


def test_what_is_kept_cannot_be_opened_twice(tmp_path: Path) -> None:
    chain = DevnetChain(tmp_path)
    with pytest.raises(UnavailableError, match="another devnet runs on"):
        DevnetChain(tmp_path, fresh=True)
    chain.close()
    DevnetChain(tmp_path, clock=time.time).close()
