"""Follow a ledger: what its node shows now, compared with what its member has seen before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from web3 import Web3
from web3.types import TxReceipt

from ledger.chain.contract import LedgerContract
from ledger.chain.node import final_block, now
from ledger.cid import Cid
from ledger.errors import Refused, ViolationError
from ledger.facts import (
    AttestationRecorded,
    CharterAccepted,
    CharterChanged,
    GrantRecorded,
    RoundAborted,
    RoundOpened,
    RoundSettled,
    UpdateRecorded,
)
from ledger.history import History, Round
from ledger.receipts import Receipt, Remembered, StateFolder
from ledger.rules import apply


@dataclass(frozen=True)
class View:
    """A ledger at one moment.

    Attributes:
        history: After all entries.
        entries: Each with the head after it.
        final: The last block that is final.
        time: That of the block that comes next: the chain's, not this machine's.
        displaced: Receipts of this member whose entries are on the chain no more, since the last look.
    """

    history: History
    entries: list[Remembered]
    final: int
    time: int
    displaced: list[Receipt]

    @property
    def is_final(self) -> bool:
        """Whether all entries are final."""
        return not self.entries or self.entries[-1][0].block <= self.final

    def charter(self, version: int) -> Cid:
        """The charter of that version, in force or not any more."""
        changes = (entry.fact for entry, _ in self.entries if isinstance(entry.fact, CharterChanged))
        return next((fact.charter for fact in changes if fact.version == version), self.history.genesis.charter)

    def opened_for_good(self, known: Round) -> bool:
        """Whether a round's opening is final."""
        return any(head == known.opening_head for entry, head in reversed(self.entries) if entry.block <= self.final)


@dataclass
class Follower:
    """One member's view of one ledger, taken again and again.

    Attributes:
        contract: The ledger.
        memory: What the member remembers of it.
        finality: When a block is final, see `ledger.chain.node.final_block`.
        observers: Shown each view.
    """

    contract: LedgerContract
    memory: StateFolder
    finality: str
    observers: list[Callable[[View], None]] = field(default_factory=list)
    _replayed: list[Remembered] = field(default_factory=list, init=False, repr=False)
    _changed: float = field(default_factory=time.monotonic, init=False, repr=False)

    @cached_property
    def _history(self) -> History:
        return History(self.contract.genesis)

    def look(self) -> View:
        """Read the history, compare it with what is remembered, and remember what is new and final.

        Raises:
            Forked: If it does not extend what this member has seen.
            ViolationError: If the entries that it shows are not those of the contract's head, or the rules do not
                allow one of them.
        """
        web3 = self.contract.web3
        seen = self.memory.seen()  # before the node is asked: other commands of this member remember more meanwhile
        latest = web3.eth.block_number
        final = final_block(web3, self.finality, latest)
        shown = self.contract.refolded()
        self.memory.compare(seen, shown)
        if [head for _, head in shown[-1:]] != [head for _, head in self._replayed[-1:]]:
            self._changed = time.monotonic()
        history = self._replay(shown)
        displaced = self.memory.remember(shown, final, latest)
        view = View(history, shown, final, now(web3), displaced)
        for observe in self.observers:
            observe(view)
        return view

    @property
    def quiet(self) -> float:
        """Seconds since a look last showed something else than the one before."""
        return time.monotonic() - self._changed

    def recorded(self, receipt: TxReceipt) -> list[Remembered]:
        """A transaction's entries; they are kept as receipts of the member's own."""
        transaction = Web3.to_hex(receipt["transactionHash"])
        pairs = [pair for pair in self.look().entries if pair[0].transaction == transaction]
        self.memory.keep(pairs)
        return pairs

    def adopt(self, member: int) -> None:
        """Keep the receipts of all that a member recorded; those of a process that died before it could are missing."""
        self.memory.keep([(entry, head) for entry, head in self.look().entries if _author(entry.fact) == member])

    def _replay(self, shown: list[Remembered]) -> History:
        """The history after `shown`: what was replayed before is not replayed again, unless it was taken back."""
        done = len(self._replayed)
        if done > len(shown) or (done and shown[done - 1][1] != self._replayed[-1][1]):
            del self._history
            done = 0
        self._replayed = []
        for entry, _ in shown[done:]:
            try:
                apply(self._history, entry)
            except Refused as refused:
                del self._history  # it has entries that are not in `_replayed`
                raise ViolationError(
                    f"the node shows an entry {entry.index} ({type(entry.fact).__name__}) that the ledger's rules do "
                    f"not allow ({refused}): go no further, and use another node"
                ) from None
        self._replayed = shown
        return self._history


def _author(fact: object) -> int | None:
    match fact:
        case UpdateRecorded() | AttestationRecorded() | CharterAccepted() | GrantRecorded():
            return fact.member
        case RoundOpened() | RoundSettled() | RoundAborted():
            return fact.aggregator
    return None
