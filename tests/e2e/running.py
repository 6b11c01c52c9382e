"""A fedledger command as a process of its own, forked from a server that has imported everything: it starts at once.

What runs is the product as it is. It can be killed (SIGKILL) right before or after it does something that lasts: the
effect's function is wrapped from outside; and it can have a clock that is wrong.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

WITHIN = 120.0
"""Seconds in which something that must happen happens, on a slow machine."""

EFFECTS = {
    "identity added": "ledger.cli.identities:add_identity",
    "goal written": "ledger.aggregating:goal",
    "update kept in the outbox": "participant.outbox:Outbox.keep",
    "blob stored": "ledger.storage.ipfs:IpfsStore.copy",
    "blob put": "ledger.storage.ipfs:IpfsStore.put",
    "blob pinned": "ledger.storage.ipfs:IpfsStore.pin",
    "transaction signed": "eth_account.signers.local:LocalAccount.sign_transaction",
    "transaction journalled": "ledger.chain.journal:Journal.add",
    "transaction sent": "web3.eth:Eth.send_raw_transaction",
    "transaction mined": "ledger.chain.sending:_Sender._wait",
    "transaction dropped": "ledger.chain.journal:Journal.drop",
    "history remembered": "ledger.receipts:StateFolder.remember",
    "receipt kept": "ledger.receipts:StateFolder.keep",
    "round settled": "ledger.aggregating:propose",
}
"""What lasts, and the function that does it, where it is called from."""
PRELOADED = ["torch", "ledger.cli", *sorted({place.partition(":")[0] for place in EFFECTS.values()})]
PRELOADED += [
    "participant.answering",
    "participant.trainer",
    "ledger.plan_file",
    "ledger.loop",
    "ledger.chain.refusals",
]


@dataclass(frozen=True)
class Kill:
    """When a process dies: ``before`` or ``after`` the nth time of an effect."""

    moment: str
    effect: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.moment} {self.effect} {self.nth}"

    def arm(self) -> None:
        """Wrap the effect's function in this process."""
        module, _, path = EFFECTS[self.effect].partition(":")
        owner: Any = import_module(module)
        *within, name = path.split(".")
        for part in within:
            owner = getattr(owner, part)
        original, calls = getattr(owner, name), 0

        def wrapped(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if (calls, self.moment) == (self.nth, "before"):
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*arguments, **named)
            if (calls, self.moment) == (self.nth, "after"):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, wrapped)


class Process:
    """A fedledger command of a party.

    Attributes:
        party: Who runs it.
        log: The file with all that it says.
    """

    def __init__(
        self,
        party: str,
        arguments: list[str],
        environment: Mapping[str, str],
        log: Path,
        kill: Kill | None = None,
        skew: float = 0,
    ) -> None:
        self.party, self.log = party, log
        log.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process: ForkServerProcess = context.Process(
            target=_run, args=(arguments, dict(environment), log, kill, skew), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, -9 if it was killed; None while it runs."""
        return self._process.exitcode

    def wait(self) -> int:
        """Its exit status, once it ends."""
        self._process.join(WITHIN)
        if self.status is None:
            self.kill()
            raise AssertionError(f"{self.party} does not end: {self.said}")
        return self.status

    def kill(self) -> None:
        self._process.kill()
        self._process.join()

    def stop(self) -> int:
        """Tell it to stop, as a service manager does."""
        self._process.terminate()
        return self.wait()

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")


def _run(arguments: list[str], environment: dict[str, str], log: Path, kill: Kill | None, skew: float) -> None:
    with open(log, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    if skew:
        true = time.time
        time.time = lambda: true() + skew
    if kill:
        kill.arm()
    from ledger.cli import main

    sys.argv = ["fedledger", *arguments]
    main()
