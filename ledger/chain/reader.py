"""A ledger's entries as a node shows them: read in bounded ranges, resumed, and refolded to the contract's head.

What was read stays read as long as the last block of it is still the node's block of that number: a block commits to
all before it. Where the entries do not refold to the head, they are read again, each time with less that is taken for
granted: the node may only lag behind others, tell a wrong time with a log, or have taken a block back meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from time import sleep

from web3.contract.contract import Contract
from web3.exceptions import BlockNotFound, Web3Exception, Web3RPCError
from web3.types import BlockData, LogReceipt

from ledger.entries import Entry, Genesis, extend, fact_of
from ledger.errors import ViolationError
from ledger.receipts import Remembered

RANGE = 2000
"""The most blocks that are asked for at once."""

_PAUSES = (0.2, 0.4, 0.8)  # seconds before the entries are read again: nodes behind one address lag by about as much
_LIMIT_EXCEEDED = -32005
# How geth, Erigon, Besu, Nethermind and the providers say that there is too much in a range of blocks …
_TOO_MUCH = re.compile("range|results|limit|exceed|too (many|large|big|wide)|size|time.?out|timed out|cancel", re.I)
# … and that it goes on beyond what they have.
_BEHIND = re.compile("beyond|not found|cannot be found|unknown block|head block", re.I)


class EntryReader:
    """Reads the entries of one ledger.

    Attributes:
        block: The last block that was read, None if none was.
    """

    def __init__(self, contract: Contract, genesis: Genesis, deployed: int, known: Sequence[Remembered] = ()) -> None:
        """A reader that begins after what is known.

        Args:
            contract: The contract, on a node.
            genesis: What its first head binds.
            deployed: The block that deployed it.
            known: Its first entries with heads, all final, none of which need to be read.
        """
        self.block: int | None = None
        self._contract, self._web3 = contract, contract.w3
        self._genesis, self._deployed = genesis, deployed
        self._known = known
        self._pairs: list[Remembered] = []
        self._hash = b""  # of that block
        self._next: int | None = None  # the first block that was not read
        self._range = RANGE
        self._trusts_times = True  # of blocks, that stand with logs

    def shown(self) -> tuple[list[Remembered], bytes]:
        """Every entry that the node shows with the refolded head after it, and the head that it shows itself.

        They differ only if the node still shows it so after the last pause.
        """
        for pause in (*_PAUSES, None):
            try:
                if self._read(wait_for_more=pause is not None):
                    head = bytes(self._contract.functions.head().call(block_identifier=self.block))
                    if self._head() == head or pause is None:
                        return list(self._pairs), head
                    self._doubt()
            except Web3Exception:
                if pause is None:
                    raise
            sleep(pause or 0)
        raise AssertionError("the last look returns or raises")

    def entries(self) -> list[Entry]:
        """Every entry that the node shows; whether these are all, only the head tells."""
        self._read()
        return [entry for entry, _ in self._pairs]

    def _doubt(self) -> None:
        """Take less for granted: first the times in logs, and what was read; then what is known, too."""
        if not self._trusts_times:
            self._known = ()
        self._trusts_times = False
        self._forget()

    def _forget(self) -> None:
        self.block, self._next, self._pairs = None, None, []

    def _head(self) -> bytes:
        return self._pairs[-1][1] if self._pairs else self._genesis.head()

    def _read(self, wait_for_more: bool = False) -> bool:
        """Read on to the node's latest block; not where it has fewer blocks than before, and may only lag behind."""
        latest = self._web3.eth.get_block("latest")
        if self.block is not None:
            if wait_for_more and latest["number"] < self.block:
                return False
            if not self._stands(self.block, latest):
                self._forget()
        at = self._begin() if self._next is None else self._next
        while at <= latest["number"]:
            at = self._next = self._read_range(at, latest["number"])
        self.block, self._hash, self._next = latest["number"], bytes(latest["hash"]), at
        return True

    def _stands(self, block: int, latest: BlockData) -> bool:
        """Whether the last block that was read is still the node's."""
        if latest["number"] == block:
            return bytes(latest["hash"]) == self._hash
        try:
            return bytes(self._web3.eth.get_block(block)["hash"]) == self._hash
        except BlockNotFound:
            return False

    def _begin(self) -> int:
        """Begin with what is known, but for its last block: that one is read, to see whether the node has it."""
        count = len(self._known)
        if not count:
            return self._deployed
        last = self._known[-1][0].block
        while count and self._known[count - 1][0].block == last:
            count -= 1
        self._pairs = list(self._known[:count])
        return last

    def _read_range(self, first: int, last: int) -> int:
        """Read some blocks from `first` on; the first that was not read."""
        until = min(first + self._range - 1, last)
        try:
            logs = self._web3.eth.get_logs({"address": self._contract.address, "fromBlock": first, "toBlock": until})
        except Web3RPCError as error:
            if until == first or not _is_too_much(error):
                raise
            self._range = (until - first + 1) // 2
            return first
        times: dict[int, int] = {}
        pairs, head = list[Remembered](), self._head()
        for log in sorted(logs, key=lambda log: (log["blockNumber"], log["logIndex"])):
            entry = self._entry(len(self._pairs) + len(pairs), log, times)
            head = extend(head, entry)
            pairs.append((entry, head))
        self._pairs += pairs
        # Slowly: after a halving, some seven ranges are read before the limit is met again.
        self._range = min(self._range + self._range // 8 + 1, RANGE)
        return until + 1

    def _entry(self, index: int, log: LogReceipt, times: dict[int, int]) -> Entry:
        block, transaction = log["blockNumber"], log["transactionHash"].to_0x_hex()
        if block not in times:
            times[block] = self._time(log)
        try:
            fact = fact_of(b"".join(log["topics"]), bytes(log["data"]))
        except ValueError as error:
            raise ViolationError(f"the node shows a log that is no entry, in {transaction}: {error}") from None
        return Entry(index, fact, block, times[block], transaction)

    def _time(self, log: LogReceipt) -> int:
        """The time of a log's block: as some nodes tell it with the log, or else as the block tells it."""
        told = log.get("blockTimestamp") if self._trusts_times else None
        try:
            return int(told, 16) if isinstance(told, str) else int(told)  # type: ignore[call-overload]
        except (TypeError, ValueError):
            return self._web3.eth.get_block(log["blockNumber"])["timestamp"]


def _is_too_much(error: Web3RPCError) -> bool:
    told = (error.rpc_response or {}).get("error")
    if _BEHIND.search(str(told)):
        return False
    return (isinstance(told, dict) and told.get("code") == _LIMIT_EXCEEDED) or bool(_TOO_MUCH.search(str(told)))
