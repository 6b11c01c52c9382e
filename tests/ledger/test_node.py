"""A node that is slow, busy, closed or none at all: what is asked again, what is said, and what is never shown."""

import json
import logging
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hexbytes import HexBytes
from web3.exceptions import Web3RPCError

from ledger.chain import node
from ledger.chain.node import CONFIRMATIONS, TRIES, connect, final_block, shown
from ledger.errors import UnavailableError, UsageError
from tests.anvil import Anvil
from tests.node_server import HttpFault, NodeServer, RpcFault

KEY = "s3cr3t-k3y-0f-a-node"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited between tries, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(node, "sleep", waited.append)
    return waited


def failing(times: int, fault: Exception) -> Callable[[str, Any], str]:
    """A node that fails so many times, and then is of chain 7."""
    left = [fault] * times

    def answer(method: str, params: Any) -> str:
        if left:
            raise left.pop()
        return "0x7"

    return answer


BUSY = {
    "429": HttpFault(429),
    "502": HttpFault(502, b"<html>Bad Gateway"),
    "503": HttpFault(503),
    "504": HttpFault(504),
    "429 with an answer": HttpFault(
        429, b'{"id":1,"error":{"code":-32005,"message":"project ID request rate exceeded"}}'
    ),
    "-32005": RpcFault(-32005, "limit exceeded"),
    "in words": RpcFault(-32000, "Your app has exceeded its compute units per second capacity"),
    "in words, too": RpcFault(-32016, "over rate limit"),
}


@pytest.mark.parametrize("fault", BUSY.values(), ids=BUSY)
def test_a_busy_node_is_asked_again_after_a_pause(fault: Exception, pauses: list[float]) -> None:
    with NodeServer(failing(TRIES - 1, fault)) as server:
        assert connect(server.url).eth.chain_id == 7
        assert server.count("eth_chainId") == TRIES
    assert len(pauses) == TRIES - 1
    assert all(0 <= pause <= 10 for pause in pauses)


@pytest.mark.parametrize("fault", BUSY.values(), ids=BUSY)
def test_a_node_that_stays_busy_is_left_alone_and_said_to_be_unavailable(fault: Exception, pauses: list[float]) -> None:
    with NodeServer(failing(99, fault)) as server:
        with pytest.raises(UnavailableError, match=r"has too many requests to answer|does not answer"):
            assert connect(server.url).eth.chain_id
        assert server.count("eth_chainId") == TRIES


@pytest.mark.parametrize(("said", "waited"), [("2", 2), ("0", 0), ("86400", 10)])
def test_a_node_says_when_to_ask_again_and_is_waited_for_within_reason(
    said: str, waited: float, pauses: list[float]
) -> None:
    with NodeServer(failing(1, HttpFault(429, headers={"Retry-After": said}))) as server:
        assert connect(server.url).eth.chain_id == 7
    assert pauses == [waited]


@pytest.mark.parametrize("said", ["", "soon", "-1", "nan", "9" * 400, "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_time_that_is_no_number_of_seconds_is_ignored(said: str, pauses: list[float]) -> None:
    with NodeServer(failing(1, HttpFault(503, headers={"Retry-After": said}))) as server:
        assert connect(server.url).eth.chain_id == 7
    assert 0 <= pauses[0] <= 10


def test_an_error_that_stays_is_not_asked_for_again(pauses: list[float]) -> None:
    with NodeServer(failing(1, RpcFault(-32000, "execution reverted"))) as server:
        with pytest.raises(Web3RPCError, match="execution reverted"):
            assert connect(server.url).eth.chain_id
        assert server.count("eth_chainId") == 1
    assert not pauses


def test_an_error_that_comes_with_a_status_of_http_is_read_as_the_nodes_own() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32614,"message":"eth_getLogs is limited to a 10,000 range"}}'
    with NodeServer(failing(1, HttpFault(413, body))) as server, pytest.raises(Web3RPCError, match="10,000 range"):
        assert connect(server.url).eth.chain_id


def test_too_many_logs_are_not_asked_for_again(pauses: list[float]) -> None:
    node = NodeServer(failing(1, RpcFault(-32005, "query returned more than 10000 results")))
    with node, pytest.raises(Web3RPCError, match="10000 results"):
        connect(node.url).eth.get_logs({"fromBlock": 0})
    assert not pauses


def test_a_connection_that_is_cut_is_made_again(pauses: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def cut_one_and_answer_one() -> None:
            server.accept()[0].close()
            with server.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(
                    b'HTTP/1.1 200 OK\r\nContent-Length: 39\r\n\r\n{"jsonrpc":"2.0","id":1,"result":"0x7"}'
                )

        thread = threading.Thread(target=cut_one_and_answer_one)
        thread.start()
        assert connect(f"http://127.0.0.1:{server.getsockname()[1]}").eth.chain_id == 7
        thread.join()
    assert len(pauses) == 1


def test_a_node_that_is_too_slow_is_asked_again_and_said_to_be_so(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "_TIMEOUT", (0.05, 0.05))
    done = threading.Event()
    with NodeServer(lambda *_: done.wait() and "0x7") as server:
        with pytest.raises(UnavailableError, match=r"does not answer \(no answer in time\)"):
            assert connect(server.url).eth.chain_id
        assert server.count("eth_chainId") == TRIES
        done.set()


def test_a_refused_connection_is_said_at_once(pauses: list[float]) -> None:
    with Anvil() as gone:
        gone.stop()
    with pytest.raises(UnavailableError, match=r"does not answer \(Connection refused\): start it, or name another"):
        assert connect(gone.url).eth.chain_id
    assert not pauses


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (HttpFault(401), r"wants a key \(401 Unauthorized\): put it in the URL"),
        (HttpFault(403, b'{"error":{"code":-32600,"message":"Must be authenticated!"}}'), "wants a key"),
        (HttpFault(404, b"<html>Not Found"), r"does not answer \(404 Not Found\)"),
        (HttpFault(301, headers={"Location": "http://127.0.0.1:1/"}), r"does not answer \(301 Moved Permanently\)"),
        (HttpFault(200, b"<html>Welcome"), "is no chain's node"),
        (HttpFault(200, b"[1]"), "is no chain's node"),
        (HttpFault(200, b"{}"), "is no chain's node"),
        (HttpFault(200, b"[" * 100_000), "is no chain's node"),
        (HttpFault(200, b"\xff"), "is no chain's node"),
    ],
)
def test_what_does_not_answer_as_a_node_is_said_in_one_sentence(fault: Exception, said: str) -> None:
    with NodeServer(failing(1, fault)) as server:
        with pytest.raises(UnavailableError, match=said):
            assert connect(server.url).eth.chain_id
        assert server.count("eth_chainId") == 1


def test_a_node_that_does_not_prove_who_it_is_is_refused(tmp_path: Path) -> None:
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"]
    subprocess.run(["openssl", "req", "-x509", "-days", "1", *options, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server = NodeServer(lambda *_: "0x7")
    server.encrypt(context)
    with (
        server,
        pytest.raises(UnavailableError, match=r"does not prove who it is \(self.signed certificate\): compare"),
    ):
        assert connect(server.url).eth.chain_id


# ------------------------------------------------------------------------------------- which node


def test_a_node_of_the_chain_that_was_meant_is_taken(anvil: Anvil) -> None:
    assert connect(anvil.url, 31337).eth.chain_id == 31337


def test_a_node_of_another_chain_is_wrong_use_before_anything_else_is_asked() -> None:
    with NodeServer(lambda *_: "0x7") as server:
        with pytest.raises(UsageError, match=r"is of chain 7, fedledger.toml \(or --chain-id\) says 8: name another"):
            connect(server.url, 8)
        assert [method for method, _ in server.asked] == ["eth_chainId"]


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://localhost", "", "http://", "http://[::1", "http://a:b", "http://a:0"]
)
def test_an_address_that_is_no_nodes_is_wrong_use(url: str) -> None:
    with pytest.raises(UsageError, match="a node's address is http"):
        connect(url)


def test_blocks_of_a_proof_of_authority_chain_can_be_read() -> None:
    with Anvil() as anvil:
        plain = anvil.rpc("eth_getBlockByNumber", "latest", False)
    sealed = plain | {"extraData": "0x" + "5e" * 97}
    for block, field in ((plain, "extraData"), (sealed, "proofOfAuthorityData")):
        with NodeServer(lambda *_, block=block: block) as server:
            found: Any = connect(server.url).eth.get_block("latest")
        assert HexBytes(found[field]) == HexBytes(block["extraData"])


# ------------------------------------------------------------------------------------- keys in addresses


@pytest.mark.parametrize(
    "url",
    [
        f"https://node.example:8545/v2/{KEY}",
        f"https://node.example:8545/?key={KEY}",
        f"https://user:{KEY}@node.example:8545",
        f"https://{KEY}@node.example:8545/#{KEY}",
    ],
)
def test_only_scheme_host_and_port_of_an_address_are_shown(url: str) -> None:
    assert shown(url) == "https://node.example:8545"


def test_an_address_that_cannot_be_read_is_not_shown() -> None:
    assert KEY not in shown(f"http://[{KEY}")


@pytest.mark.parametrize("form", ["{0}/v2/{1}", "{0}/?key={1}", "http://user:{1}@{2}"])
@pytest.mark.parametrize(
    "fault",
    [
        HttpFault(401),
        HttpFault(404),
        HttpFault(503, headers={"Retry-After": "0"}),
        HttpFault(200, b"<html>"),
        RpcFault(-32000, f"error sending request for url (https://inner/{KEY})"),
        RpcFault(-32005, f"project {KEY} has too many requests"),
    ],
    ids=repr,
)
def test_a_key_in_the_address_is_in_no_message_and_no_log(
    form: str, fault: Exception, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with NodeServer(failing(99, fault)) as server, caplog.at_level(logging.DEBUG):
        web3 = connect(form.format(server.url, KEY, server.url.removeprefix("http://")))
        with pytest.raises((UnavailableError, Web3RPCError)) as refused:
            assert web3.eth.chain_id
        told = [str(refused.value), repr(refused.value), str(web3.provider), json.dumps(caplog.text)]
    assert not [text for text in told if KEY in text]


def test_a_key_in_an_address_without_a_node_is_in_no_message() -> None:
    with Anvil() as gone:
        gone.stop()
    with pytest.raises(UnavailableError) as refused:
        assert connect(f"{gone.url}/v2/{KEY}").eth.chain_id
    assert KEY not in str(refused.value)
    with pytest.raises(UsageError) as unusable:
        connect(f"wss://node.example/{KEY}")
    assert KEY not in str(unusable.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (-39001, "Unknown block"),
        (-32000, "finalized block not found"),
        (-32602, "invalid argument 0: hex string without 0x prefix"),
        (-32000, "finalised block not set"),
    ],
)
def test_where_the_node_knows_no_finalized_block_blocks_are_counted(code: int, message: str) -> None:
    with NodeServer(failing(99, RpcFault(code, message))) as server:
        assert final_block(connect(server.url), "finalized", 100) == 100 - CONFIRMATIONS


@pytest.mark.parametrize(
    ("code", "message"), [(-32603, "Internal error"), (-32000, "upstream timed out"), (-32000, "header not found")]
)
def test_a_node_that_fails_to_tell_what_is_final_is_not_taken_for_one_that_knows_none(code: int, message: str) -> None:
    with NodeServer(failing(99, RpcFault(code, message))) as server, pytest.raises(Web3RPCError, match=message):
        final_block(connect(server.url), "finalized", 100)
