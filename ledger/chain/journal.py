"""Signed transactions that are on their way: kept in a file from before they are sent until they are in a block.

A line is a transaction's hash and its bytes, both ``0x`` and hex digits; sender, nonce, call and fees stand in these.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger.chain.nesting import read_rlp
from ledger.chain.transactions import SignedTransaction
from ledger.errors import UnavailableError
from ledger.storage.folder import open_regular, replacing


@dataclass(frozen=True)
class Pending:
    """A signed transaction that is on its way.

    Attributes:
        signed: What it says.
        raw: Its bytes.
        gas: The most gas that it may use.
        fee: The most that it pays for a unit of gas, in wei.
        priority: The part of it that goes to whoever makes the block; None where the chain has no such part.
    """

    signed: SignedTransaction
    raw: bytes
    gas: int
    fee: int
    priority: int | None

    @classmethod
    def parse(cls, raw: bytes) -> Pending:
        """Read the bytes of a transaction, of EIP-1559 or legacy.

        Raises:
            ValueError: If they are no signed transaction.
        """
        signed = SignedTransaction.parse(raw)
        if raw[0] == 2:
            priority, fee, gas = (int.from_bytes(field, "big") for field in read_rlp(raw[1:])[2:5])
            return cls(signed, raw, gas, fee, priority)
        fee, gas = (int.from_bytes(field, "big") for field in read_rlp(raw)[1:3])
        return cls(signed, raw, gas, fee, None)


class Journal:
    """The pending transactions in a file, or, without a file, in memory.

    Its methods raise UnavailableError if the file cannot be read or written, or is damaged.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._pending = self._read()

    @classmethod
    @contextmanager
    def locked(cls, path: Path | None) -> Iterator[Journal]:
        """The journal in a file, which no other process has before the ``with`` block ends."""
        if path is None:
            yield cls(None)
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = open(path.with_name(f"{path.name}.lock"), "a", encoding="utf-8")  # noqa: SIM115 - closed below
        except OSError as error:
            raise _unavailable(path, error) from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield cls(path)

    def pending(self, chain_id: int, account: str) -> dict[int, list[Pending]]:
        """The pending transactions of an account by ascending nonce; of each nonce in the order of signing."""
        found: dict[int, list[Pending]] = {}
        for one in sorted(self._pending, key=lambda one: one.signed.nonce):
            if (one.signed.chain_id, one.signed.sender) == (chain_id, account.lower()):
                found.setdefault(one.signed.nonce, []).append(one)
        return found

    def add(self, one: Pending) -> None:
        """Keep a transaction; it is on the disk when this returns."""
        self._write([*self._pending, one])

    def drop(self, gone: list[Pending]) -> None:
        """Keep them no longer."""
        if any(one in gone for one in self._pending):
            self._write([one for one in self._pending if one not in gone])

    def _read(self) -> list[Pending]:
        if self._path is None:
            return []
        try:
            with open_regular(self._path) as file:
                lines = file.read().split(b"\n")[:-1]  # half a line at the end was never finished
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unavailable(self._path, error) from None
        pending = []
        for number, line in enumerate(lines, 1):
            try:
                name, raw = line.decode("ascii").split(" ")
                pending.append(Pending.parse(bytes.fromhex(raw.removeprefix("0x"))))
                if pending[-1].signed.hash != name:
                    raise ValueError("the hash is not that of the transaction")
            except ValueError as error:
                raise UnavailableError(
                    f"line {number} of {self._path} is damaged ({error}): restore it from a copy, or delete the file "
                    "after making sure that no transaction of the account is pending"
                ) from None
        return pending

    def _write(self, pending: list[Pending]) -> None:
        if self._path is not None:
            try:
                with replacing(self._path) as file:
                    for one in pending:
                        file.write(f"{one.signed.hash} 0x{one.raw.hex()}\n".encode())
            except OSError as error:
                raise _unavailable(self._path, error) from None
        self._pending = pending


def _unavailable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"{path}, where signed transactions are kept, cannot be read and written ({error.strerror}): make it so, or "
        "name another folder with --state"
    )
