"""Run a fedledger command that is killed (SIGKILL) right before or after it does something that lasts.

    python -m tests.e2e.crashing before "transaction sent" 1 participate --task …

kills the command before it sends its first transaction. What runs is the product as it is: the effect's function is
wrapped from outside.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any

EFFECTS = {
    "goal written": "ledger.aggregating:goal",
    "update kept in the outbox": "participant.outbox:Outbox.keep",
    "blob stored": "ledger.storage.ipfs:IpfsStore.copy",
    "blob put": "ledger.storage.ipfs:IpfsStore.put",
    "blob pinned": "ledger.storage.ipfs:IpfsStore.pin",
    "transaction signed": "eth_account.signers.local:LocalAccount.sign_transaction",
    "transaction journalled": "ledger.chain.journal:Journal.add",
    "transaction sent": "web3.eth:Eth.send_raw_transaction",
    "transaction mined": "ledger.chain.sending:_Sender._wait",
    "history remembered": "ledger.receipts:StateFolder.remember",
    "receipt kept": "ledger.receipts:StateFolder.keep",
    "round settled": "ledger.aggregator:propose",
}
"""What lasts, and the function that does it."""


def main() -> None:
    moment, effect, nth, *arguments = sys.argv[1:]
    _kill(moment, EFFECTS[effect], int(nth))
    from ledger.cli import main as fedledger

    sys.argv = ["fedledger", *arguments]
    fedledger()


def _kill(moment: str, place: str, nth: int) -> None:
    module, _, path = place.partition(":")
    owner: Any = import_module(module)
    *within, name = path.split(".")
    for part in within:
        owner = getattr(owner, part)
    original, calls = getattr(owner, name), 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if calls == nth and moment == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    main()
