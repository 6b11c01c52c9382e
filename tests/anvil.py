"""A real JSON-RPC node for tests: anvil, from the npm packages of ``scripts/tools``."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from web3 import Web3
from web3.types import RPCEndpoint, RPCResponse

from ledger.chain.node import Node

PACKAGES = Path(__file__).resolve().parent.parent / "scripts" / "tools" / "node_modules" / "@foundry-rs"
STARTS_WITHIN = 20.0


def binary() -> Path:
    """The node's program; the test is skipped where npm has not fetched it."""
    found = sorted(PACKAGES.glob("anvil-*/bin/anvil*"))
    if not found:
        pytest.skip("no anvil: `npm ci` in scripts/tools fetches it")
    return found[0]


class Anvil:
    """One chain of its own, on a free port of this machine, gone when the ``with`` block ends.

    Attributes:
        url: Its endpoint.
        web3: A connection to it.
    """

    def __init__(self, *options: str) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.web3 = Web3(Web3.HTTPProvider(self.url))
        self._command = [
            str(binary()),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--silent",
            *([] if "--hardfork" in options else ["--hardfork", "prague"]),
            *options,
        ]
        self.start()

    def start(self) -> None:
        """Start the node; with ``--state FILE`` it goes on where it was shut down."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + STARTS_WITHIN
        while not self.web3.is_connected():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"anvil did not answer at {self.url} within {STARTS_WITHIN:.0f} seconds")
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the node; nothing answers at `url` any more."""
        self._process.kill()
        self._process.wait()

    def shut_down(self) -> None:
        """End the node as its user would, so that it keeps its state."""
        self._process.terminate()
        self._process.wait(STARTS_WITHIN)

    def rpc(self, method: str, *parameters: Any) -> Any:
        """Call a method of anvil's own."""
        answer = self.web3.provider.make_request(method, list(parameters))  # type: ignore[arg-type]
        assert "error" not in answer, answer
        return answer["result"]

    def account(self, name: str) -> LocalAccount:
        """The account of that name, with ether."""
        account = self.key(name)
        self.fund(account.address)
        return account

    @staticmethod
    def key(name: str) -> LocalAccount:
        """The account of that name, with what it has."""
        account: LocalAccount = Account.from_key(keccak(name.encode()))
        return account

    def fund(self, account: str, ether: int = 100) -> None:
        """Set an account's balance."""
        self.rpc("anvil_setBalance", account, hex(Web3.to_wei(ether, "ether")))

    def pass_time(self, seconds: int) -> None:
        """Let time pass, and make a block."""
        self.rpc("evm_increaseTime", seconds)
        self.rpc("evm_mine")

    def mining(self, on: bool) -> None:
        """Whether every transaction has a block at once; else they wait for `mine`."""
        self.rpc("evm_setAutomine", on)

    def mine(self, blocks: int = 1) -> None:
        """Make blocks."""
        self.rpc("anvil_mine", hex(blocks))

    def waiting(self) -> list[dict[str, Any]]:
        """The transactions that wait for a block, each sender's by nonce."""
        senders = self.rpc("txpool_content")["pending"].values()
        return [one for nonces in senders for _, one in sorted(nonces.items(), key=lambda item: int(item[0]))]

    def reorganize(self, depth: int) -> None:
        """Take so many blocks back, with their transactions, and make as many empty ones."""
        self.rpc("anvil_reorg", depth, [])

    def next_time(self) -> int:
        """The time that the next block can have at the earliest."""
        return self.web3.eth.get_block("latest")["timestamp"] + 1

    def next_block_at(self, time: int) -> None:
        """Give the next block that time, and what the node estimates before it, too."""
        self.rpc("evm_mine", time)
        self.rpc("evm_setNextBlockTimestamp", time)

    def snapshot(self) -> object:
        """Remember the chain as it is; `revert` takes it back there, once."""
        return self.rpc("evm_snapshot")

    def revert(self, snapshot: object) -> None:
        """Take the chain back to a snapshot."""
        assert self.rpc("evm_revert", snapshot)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


Bend = Callable[[str, Any, Callable[[], Any]], Any]
"""Given a method, its parameters, and the question to the node: the node's answer as it arrives."""


class Bent(Node):
    """The way to a real node, on which questions and answers get lost, late or changed."""

    def __init__(self, url: str, bend: Bend) -> None:
        super().__init__(url)
        self._bend = bend

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        answer: RPCResponse = self._bend(method, params, lambda: super(Bent, self).make_request(method, params))
        return answer
