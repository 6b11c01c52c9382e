"""A chain for trying things out: py-evm, one block for each transaction, kept in a file (extra ``devnet``).

It carries real time, funds whoever asks for its balance, and never takes a block back. Its ether is of no worth.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eth.abc import BlockAPI, BlockHeaderAPI, SignedTransactionAPI, StateAPI
from eth.chains.base import MiningChain
from eth.constants import BLANK_ROOT_HASH, POST_MERGE_DIFFICULTY, POST_MERGE_MIX_HASH, POST_MERGE_NONCE, ZERO_ADDRESS
from eth.db.atomic import AtomicDB
from eth.db.backends.base import BaseDB
from eth.exceptions import HeaderNotFound, TransactionNotFound
from eth.vm.forks.prague import PragueVM
from eth.vm.forks.shanghai.withdrawals import Withdrawal
from eth_typing import Address, BlockNumber, Hash32

from ledger.errors import UnavailableError

CHAIN_ID = 1337
GAS_LIMIT = 30_000_000
GRANT = 100
"""Ether, for an account that asks and has none."""
_GWEI = 10**9
_FILE = "chain.sqlite"


class _Chain(MiningChain):
    chain_id = CHAIN_ID
    vm_configuration = ((BlockNumber(0), PragueVM),)

    def create_header_from_parent(self, parent_header: BlockHeaderAPI, **header_params: Any) -> BlockHeaderAPI:
        """The same limit of gas in every block."""
        return super().create_header_from_parent(parent_header, **{**header_params, "gas_limit": GAS_LIMIT})


class _Database(BaseDB):
    """py-evm's keys and values in a file; what was written since the last commit can be taken back as a whole."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, timeout=0, check_same_thread=False)
        self.connection.execute("PRAGMA synchronous = EXTRA")
        self.connection.execute("CREATE TABLE IF NOT EXISTS data (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

    def __getitem__(self, key: bytes) -> bytes:
        found = self.connection.execute("SELECT value FROM data WHERE key = ?", (key,)).fetchone()
        if found is None:
            raise KeyError(key)
        value: bytes = found[0]
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.connection.execute("INSERT OR REPLACE INTO data VALUES (?, ?)", (key, bytes(value)))

    def __delitem__(self, key: bytes) -> None:
        self.connection.execute("DELETE FROM data WHERE key = ?", (key,))

    def _exists(self, key: bytes) -> bool:
        return self.connection.execute("SELECT 1 FROM data WHERE key = ?", (key,)).fetchone() is not None


class DevnetChain:
    """A chain whose blocks are in a folder; for one process and one thread at a time.

    Args:
        folder: The folder; it is made.
        fresh: Forget the chain that is in there, and begin a new one.
        clock: Tells the time, in seconds since 1970.

    Raises:
        UnavailableError: If the folder cannot be used, another process uses it, or what is in it is damaged.
    """

    def __init__(self, folder: Path, fresh: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (folder / "lock").open("wb")
        except OSError as error:
            raise UnavailableError(f"{folder} cannot hold a chain ({error.strerror}): name another folder") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UnavailableError(
                f"another devnet runs on {folder}: stop it, or name another folder with --state"
            ) from None
        path = folder / _FILE
        if fresh:
            for part in folder.glob(f"{_FILE}*"):
                part.unlink()
        try:
            self._database = _Database(path)
            self._open()
        except (sqlite3.Error, KeyError, HeaderNotFound, ValueError) as error:
            self._lock.close()
            why = " ".join(str(error).split())
            raise UnavailableError(
                f"{path} is damaged ({why}): begin anew with --fresh, or name another folder with --state"
            ) from None

    def _open(self) -> None:
        """Go on where the file ends, or begin."""
        database = AtomicDB(self._database)
        if (problem := self._database.connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(problem)
        if self._database.connection.execute("SELECT 1 FROM data LIMIT 1").fetchone() is None:
            _Chain.from_genesis(database, _genesis(int(self._clock())), {})
            self._database.connection.commit()
        self._chain = _Chain(database)
        self.state_at(self.head)

    def close(self) -> None:
        """Leave the folder to others."""
        self._database.connection.close()
        self._lock.close()

    # ---------------------------------------------------------------- reading

    @property
    def base_fee(self) -> int:
        """The base fee of a block that would be made now, in wei for a unit of gas."""
        return self.pending().base_fee_per_gas or 0

    @property
    def head(self) -> BlockHeaderAPI:
        """The latest block's header."""
        return self._chain.get_canonical_head()

    def pending(self) -> BlockHeaderAPI:
        """The header of a block that would be made now: later than the latest, and not earlier than the clock."""
        head = self.head
        return self._chain.create_header_from_parent(head, timestamp=max(int(self._clock()), head.timestamp + 1))

    def header(self, number: int) -> BlockHeaderAPI | None:
        """The header of that block, None where there is none."""
        if number > self.head.block_number:
            return None
        return self._chain.get_canonical_block_header_by_number(BlockNumber(number))

    def header_of(self, block_hash: bytes) -> BlockHeaderAPI | None:
        """The header of the block with that hash, None where there is none."""
        try:
            return self._chain.get_block_header_by_hash(Hash32(block_hash))
        except HeaderNotFound:
            return None

    def block(self, header: BlockHeaderAPI) -> BlockAPI:
        """The block of that header."""
        return self._chain.get_block_by_header(header)

    def receipts(self, block: BlockAPI) -> Sequence[Any]:
        """The receipts of its transactions, in their order."""
        return block.get_receipts(self._chain.chaindb)

    def find(self, transaction: bytes) -> tuple[BlockHeaderAPI, int] | None:
        """The header of a transaction's block, and its place in there; None where there is no such transaction."""
        try:
            number, index = self._chain.get_canonical_transaction_index(Hash32(transaction))
        except TransactionNotFound:
            return None
        return self._chain.get_canonical_block_header_by_number(number), index

    def state_at(self, header: BlockHeaderAPI) -> StateAPI:
        """The state after a block, and the block's time and number for what is run in it; gas costs nothing there."""
        return self._chain.get_vm(header.copy(base_fee_per_gas=0)).state

    def unsigned(self, **fields: Any) -> Any:
        """A transaction that nobody has signed, to try things with."""
        return self._chain.create_unsigned_transaction(**fields)

    # ---------------------------------------------------------------- writing

    def decode(self, raw: bytes) -> SignedTransactionAPI:
        """A signed transaction from its bytes; raises whatever py-evm raises if they are none."""
        return self._chain.get_vm().get_transaction_builder().decode(raw)

    def mine(self, transaction: SignedTransactionAPI) -> None:
        """Make a block of a transaction; it is on disk when this returns.

        Raises:
            ValidationError: If the transaction is not valid; nothing has changed then.
        """
        with self._whole():
            self._chain.mine_all([transaction], mix_hash=os.urandom(32))

    def grant(self, account: bytes) -> None:
        """Make a block that gives an account ether, as the beacon chain pays out validators; it is on disk then."""
        with self._whole():
            self._chain.mine_all([], withdrawals=[Withdrawal(0, 0, Address(account), GRANT * _GWEI)])

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Keep all that a block writes, or nothing."""
        try:
            self._chain.header = self.pending()
            yield
            self._database.connection.commit()
        except BaseException:
            self._database.connection.rollback()
            self._chain = _Chain(AtomicDB(self._database))
            raise


def _genesis(now: int) -> dict[str, Any]:
    return {
        "coinbase": ZERO_ADDRESS,
        "difficulty": POST_MERGE_DIFFICULTY,
        "extra_data": b"fedledger devnet",
        "gas_limit": GAS_LIMIT,
        "mix_hash": POST_MERGE_MIX_HASH,
        "nonce": POST_MERGE_NONCE,
        "receipt_root": BLANK_ROOT_HASH,
        "timestamp": now,
        "transaction_root": BLANK_ROOT_HASH,
    }
