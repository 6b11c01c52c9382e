"""A consortium of real processes: sites, aggregators and auditors, each with its own state, on one real node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from ledger.chain.contract import LedgerContract
from ledger.history import History
from tests.cli import Cli
from tests.e2e.running import WITHIN, Kill, Process

NOTHING: Mapping[str, str] = {}

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

    def train(self, model, dataset, training, seed):
        # In the order of the rows: chance, which depends on the round's opening, would make each history another one.
        optimizer = self.optimizer(list(model.parameters()), training)
        self.loss(model, dataset[:]).backward()
        optimizer.step()
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
            cli.age_key(name)
            cli.ok(name, "join")
        cli.file("task.py", TASK)
        for number, site in enumerate(self.sites):
            rows = [(x / 8, (x * 3 + number) % 8 / 8, float(x > 3)) for x in range(8)]
            cli.file(f"{site}.csv", "".join(f"{a},{b},{c}\n" for a, b, c in rows))
        model = cli.path("genesis.safetensors")
        made = cli.run("nobody", "task", "genesis", str(cli.path("task.py")), "--out", str(model))
        assert made.exit_code == 0, made.output
        cli.ok("governor", "round", "genesis", str(model))

    def plan(self, window: int = 600, quorum: int | None = None, grace: int = 86_400) -> str:
        text = PLAN.format(window=window, quorum=quorum or len(self.sites), grace=grace)
        return self.cli.file("plan.toml", text)

    # -------------------------------------------------------------- processes

    def start(
        self,
        party: str,
        *arguments: str,
        kill: Kill | None = None,
        skew: float = 0,
        environment: Mapping[str, str] = NOTHING,
    ) -> Process:
        """Start a command as a party; `kill` says when it dies, `skew` how wrong its clock is."""
        log = self.cli.path(f"{party} {len(self.processes)}.log")
        variables = {name: value for name, value in self.cli.variables(party).items() if value}
        self.processes.append(Process(party, list(arguments), {**variables, **environment}, log, kill, skew))
        return self.processes[-1]

    def participate(
        self,
        site: str,
        *more: str,
        kill: Kill | None = None,
        skew: float = 0,
        environment: Mapping[str, str] = NOTHING,
    ) -> Process:
        files = ["--task", str(self.cli.path("task.py")), "--data", str(self.cli.path(f"{site}.csv"))]
        arguments = ["participate", *files, "--poll", "0.2", "--yes", "--accept-plans", *more]
        return self.start(site, *arguments, kill=kill, skew=skew, environment=environment)

    def aggregate(
        self,
        *more: str,
        party: str = "aggregator",
        kill: Kill | None = None,
        environment: Mapping[str, str] = NOTHING,
    ) -> Process:
        arguments = ["aggregate", "--plan", str(self.cli.path("plan.toml")), "--poll", "0.2", "--yes", *more]
        return self.start(party, *arguments, kill=kill, environment=environment)

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """End all processes at the end, whatever happens."""
        try:
            yield
        finally:
            for process in self.processes:
                process.kill()
            self.processes.clear()

    # ---------------------------------------------------------------- looking

    @cached_property
    def _contract(self) -> LedgerContract:
        return LedgerContract.attach(self.cli.anvil.web3, self.cli.ledger)

    @property
    def history(self) -> History:
        return self._contract.history()

    def until(self, happened: Callable[[History], object], *needed: Process) -> History:
        """Wait until something has happened on the ledger; the processes needed for it must not end before."""
        deadline = time.monotonic() + WITHIN
        while not happened(history := self.history):
            for process in needed:
                assert process.status is None, f"{process.party} ended: {process.said}"
            assert time.monotonic() < deadline, [process.said for process in self.processes]
            time.sleep(0.1)
        return history

    def until_said(self, process: Process, text: str) -> None:
        """Wait until a process, which goes on, says something."""
        deadline = time.monotonic() + WITHIN
        while text not in process.said:
            assert process.status is None, f"{process.party} ended: {process.said}"
            assert time.monotonic() < deadline, process.said
            time.sleep(0.1)

    def audited(self) -> None:
        """The audit of the live ledger finds nothing wrong."""
        blobs = ("--store", self.cli.store, "--identity", str(self.cli.state / "aggregator" / "age.key"))
        result = self.cli.run("nobody", "audit", self.cli.anvil.url, "--ledger", self.cli.ledger, *blobs)
        assert result.exit_code == 0, result.output
