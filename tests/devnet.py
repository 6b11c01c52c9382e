"""The devnet for tests: as its own process, and in this one with a clock that a test sets."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from web3 import Web3

from ledger.chain.devnet import DevnetChain
from ledger.chain.devnet_rpc import DevnetRpc
from ledger.chain.node import connect
from ledger.chain.rpc_server import RpcServer

COMMAND = (sys.executable, "-c", "from ledger.cli import main; main()", "devnet")


class Served:
    """A devnet at `url`, with what tests of the command line ask of a chain.

    Attributes:
        url: Its endpoint.
        web3: A connection to it.
    """

    url: str
    web3: Web3

    def rpc(self, method: str, *parameters: Any) -> Any:
        """What it answers to a method, or the error."""
        answer = self.web3.provider.make_request(method, list(parameters))  # type: ignore[arg-type]
        return answer.get("result", answer.get("error"))

    def fund(self, account: str, ether: int = 100) -> None:
        """Whoever asks has ether."""
        assert ether == 0 or self.web3.eth.get_balance(Web3.to_checksum_address(account)) > 0


class Running(Served):
    """The command as a process of its own, on a free port, until the ``with`` block ends."""

    def __init__(self, state: Path, *options: str) -> None:
        self._process = subprocess.Popen(
            [*COMMAND, "--state", str(state), "--port", "0", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline().decode()
        found = re.match(r"The devnet listens on (http://\S+): chain id 1337, state in ", said)
        assert found, said + self.end(signal.SIGTERM)[1]
        self.url = found[1]
        self.web3 = connect(self.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals) -> tuple[int, str]:
        """End the process, and give its status and what it said on standard error."""
        if self._process.returncode is None:
            os.kill(self._process.pid, how)
        _, said = self._process.communicate()
        return self._process.returncode, said.decode()


class Threaded(Served):
    """A devnet in this process.

    Attributes:
        time: What its clock shows; the real time, until a test sets it.
    """

    def __init__(self, state: Path, time: float) -> None:
        self.time = time
        self.answers = DevnetRpc(DevnetChain(state, clock=lambda: self.time))
        self._server = RpcServer("127.0.0.1", 0, self.answers)
        self.url = self._server.url
        self.web3 = connect(self.url)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.answers.close()
