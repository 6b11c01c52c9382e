"""A consortium of real processes: sites, aggregators and auditors, each with its own state, on one real node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ledger.chain.contract import LedgerContract
from ledger.history import History
from tests.cli import AGE_KEY, Cli

ROOT = Path(__file__).resolve().parents[2]
NOTHING: Mapping[str, str] = {}
FEDLEDGER = str(Path(sys.executable).with_name("fedledger"))
WITHIN = 120.0
"""Seconds in which something that must happen happens, on a slow machine."""

TASK = """
import csv
from pathlib import Path

import torch
from participant import Task


class Line(Task):
    def model(self):
        return torch.nn.Linear(2, 1)

    def load(self, data: Path):
        rows = [[float(cell) for cell in row] for row in csv.reader(data.open())]
        table = torch.tensor(rows)
        return torch.utils.data.TensorDataset(table[:, :2], table[:, 2])
"""
PLAN = """
window = {window}
quorum = {quorum}
grace = {grace}
approvals = 0

[training]
epochs = 1
batch_size = 4
learning_rate = 0.1
"""


@dataclass
class Process:
    """A fedledger process of a party."""

    party: str
    popen: subprocess.Popen[bytes]
    log: Path

    def wait(self) -> int:
        """Its exit status."""
        try:
            return self.popen.wait(WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.party} does not end: {self.said}") from None

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> int:
        """Tell it to stop, as a service manager does."""
        self.popen.send_signal(signal.SIGTERM)
        return self.wait()

    @property
    def runs(self) -> bool:
        return self.popen.poll() is None

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")


@dataclass
class Consortium:
    """A ledger with sites and an aggregator, made through the command line.

    Attributes:
        cli: Their commands, in this process.
        sites: Their names.
    """

    cli: Cli
    sites: list[str] = field(default_factory=lambda: ["site 1", "site 2"])
    processes: list[Process] = field(default_factory=list)

    def found(self, *more: tuple[str, str]) -> None:
        """Deploy, admit, join, and record the genesis model; `more` are further members and their roles."""
        cli, charter = self.cli, self.cli.file("charter.md", "# Charter\n")
        cli.ledger = cli.ok("governor", "deploy", "--charter", charter)["ledger"]
        for name, role in [*((site, "participant") for site in self.sites), ("aggregator", "aggregator"), *more]:
            cli.ok("governor", "member", "admit", cli.address(name), "--name", name, "--role", role)
            cli.ok(name, "join", "--age-key", AGE_KEY)
        cli.file("task.py", TASK)
        for number, site in enumerate(self.sites):
            rows = [(x / 8, (x * 3 + number) % 8 / 8, float(x > 3)) for x in range(8)]
            cli.file(f"{site}.csv", "".join(f"{a},{b},{c}\n" for a, b, c in rows))
        model = cli.path("genesis.safetensors")
        self.run("nobody", "task", "genesis", str(cli.path("task.py")), "--out", str(model))
        cli.ok("governor", "round", "genesis", str(model))

    def plan(self, window: int = 600, quorum: int | None = None, grace: int = 86_400) -> str:
        text = PLAN.format(window=window, quorum=quorum or len(self.sites), grace=grace)
        return self.cli.file("plan.toml", text)

    # -------------------------------------------------------------- processes

    def start(
        self,
        party: str,
        *arguments: str,
        killed: tuple[str, str, int] | None = None,
        skew: float = 0,
        environment: Mapping[str, str] = NOTHING,
    ) -> Process:
        """Start a command as a party.

        `killed` says before or after what, and which time (see `tests.e2e.crashing`); `skew` how wrong its clock is.
        """
        program = [FEDLEDGER]
        if killed:
            program = [sys.executable, "-m", "tests.e2e.crashing", *map(str, killed)]
        if skew:
            program = [sys.executable, "-m", "tests.e2e.skewed", str(skew)]
        log = self.cli.path(f"{party} {len(self.processes)}.log")
        variables = {name: value for name, value in self.cli.variables(party).items() if value}
        with open(log, "wb") as file:
            popen = subprocess.Popen(
                [*program, *arguments],
                cwd=ROOT,
                env={**os.environ, **variables, **environment},
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
            )
        self.processes.append(Process(party, popen, log))
        return self.processes[-1]

    def run(self, party: str, *arguments: str) -> str:
        """Run a command that must end with 0; what it says."""
        process = self.start(party, *arguments)
        assert process.wait() == 0, process.said
        return process.said

    def participate(
        self,
        site: str,
        *more: str,
        killed: tuple[str, str, int] | None = None,
        skew: float = 0,
        environment: Mapping[str, str] = NOTHING,
    ) -> Process:
        task, data = self.cli.path("task.py"), self.cli.path(f"{site}.csv")
        arguments = ["participate", "--task", str(task), "--data", str(data), "--poll", "0.2", "--yes", *more]
        return self.start(site, *arguments, killed=killed, skew=skew, environment=environment)

    def aggregate(self, *more: str, party: str = "aggregator", killed: tuple[str, str, int] | None = None) -> Process:
        arguments = ["aggregate", "--plan", str(self.cli.path("plan.toml")), "--poll", "0.2", "--yes", *more]
        return self.start(party, *arguments, killed=killed)

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """End all processes at the end, whatever happens."""
        try:
            yield
        finally:
            for process in self.processes:
                if process.runs:
                    process.kill()
            self.processes.clear()

    # ---------------------------------------------------------------- looking

    @property
    def history(self) -> History:
        return LedgerContract.attach(self.cli.anvil.web3, self.cli.ledger).history()

    def until(self, happened: Callable[[History], object], *needed: Process) -> History:
        """Wait until something has happened on the ledger; the processes needed for it must not end before."""
        deadline = time.monotonic() + WITHIN
        while not happened(history := self.history):
            for process in needed:
                assert process.runs, f"{process.party} ended: {process.said}"
            assert time.monotonic() < deadline, [process.said for process in self.processes]
            time.sleep(0.1)
        return history

    def audited(self) -> None:
        """The audit of the live ledger finds nothing wrong."""
        blobs = ("--store", self.cli.store)
        result = self.cli.run("nobody", "audit", self.cli.anvil.url, "--ledger", self.cli.ledger, *blobs)
        assert result.exit_code == 0, result.output
