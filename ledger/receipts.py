"""What a member remembers of a ledger: all final entries that it has seen, and the receipts of its own.

A remembered entry is an entry with the head after it, and the head commits to all entries before: so one of them shows
whether another history is the same up to there. `find_fork` is pure; the rest keeps a folder for each ledger:

- ``seen.jsonl``: the final entries from the first on, a line each (`ledger.entries.to_line`); it only ever grows.
- ``receipts.jsonl``: the member's own entries, each line with its status; it is replaced as a whole.
- ``lock``: held by the command that writes.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias, cast

from ledger.entries import Entry, extend, from_line, to_line
from ledger.errors import Forked, UnavailableError, UsageError
from ledger.storage.folder import open_regular

SEEN, RECEIPTS, LOCK = "seen.jsonl", "receipts.jsonl", "lock"

Remembered: TypeAlias = tuple[Entry, bytes]
"""An entry, and the head after it (32 bytes)."""

Status: TypeAlias = Literal["pending", "final", "displaced"]
"""Not final yet; final; or not on the chain any more, which had to take a block back."""


@dataclass(frozen=True)
class Fork:
    """Where two histories part.

    Attributes:
        common: The last entry that both are known to have, None if there is none.
        remembered: The first entry remembered that is not the other side's.
        shown: What the other side shows in its place, None where its history ends before.
    """

    common: Remembered | None
    remembered: Remembered
    shown: Remembered | None

    def sentences(self) -> list[str]:
        """Last entry in common, first different one as remembered and as shown."""
        common, entry = self.common, self.remembered[0]
        told = [f"last in common: {_described(common)}" if common else "last in common: no entry"]
        if entry.index > (common[0].index + 1 if common else 0):
            told.append(
                "the entries up to the next one are not remembered: the histories part at one of them, or at it"
            )
        told.append(f"remembered:     {_described(self.remembered)}")
        told.append(f"shown instead:  {_described(self.shown) if self.shown else 'nothing, that history ends before'}")
        return told


def _described(remembered: Remembered) -> str:
    entry, head = remembered
    return f"entry {entry.index}, {type(entry.fact).__name__}, block {entry.block}, head 0x{head.hex()}"


def find_fork(remembered: Sequence[Remembered], shown: Sequence[Remembered]) -> Fork | None:
    """Where a history parts from what is remembered; None if all that is remembered lies on it.

    Args:
        remembered: Entries of one history, in any order, not necessarily all.
        shown: A whole history from its first entry on, with recomputed heads.
    """
    common = -1
    for entry, head in sorted(remembered, key=lambda pair: pair[0].index):
        at = entry.index
        if at < len(shown) and shown[at][1] == head:
            common = at
            continue
        # A head gives away the one before it: if that is the other side's, they part here and not earlier.
        if 0 < at <= len(shown) and extend(shown[at - 1][1], entry) == head:
            common = at - 1
        common = min(common, at - 1)
        return Fork(shown[common] if common >= 0 else None, (entry, head), shown[at] if at < len(shown) else None)
    return None


@dataclass(frozen=True)
class Receipt:
    """An entry of the member's own, the head after it (32 bytes), and what became of it."""

    entry: Entry
    head: bytes
    status: Status

    def to_line(self) -> str:
        """The line of ``receipts.jsonl``: that of the entry, with the status in front."""
        return f'{{"status": "{self.status}", {to_line(self.entry, self.head)[1:]}'

    @classmethod
    def from_line(cls, line: str) -> Receipt:
        """Read the line back; one without a status, as `to_line` of an entry writes it, is final.

        Raises:
            ValueError: If it is no such line.
        """
        status, rest = "final", line
        if found := re.match(r'\{"status": "(pending|final|displaced)", ', line):
            status, rest = found[1], "{" + line[found.end() :]
        return cls(*from_line(rest), cast(Status, status))


class StateFolder:
    """What one member remembers of one ledger.

    Every method raises UnavailableError if the folder cannot be read or written, or if a file in it is damaged: what
    cannot be compared is never taken for nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: list[Remembered] = []
        self._read = 0  # bytes of the file that are in `_seen`: it only ever grows

    @classmethod
    def of(cls, state: Path, chain_id: int, ledger: str) -> StateFolder:
        """The folder of a ledger in a member's state folder."""
        return cls(state / f"{chain_id}-{ledger.lower()}")

    def seen(self) -> list[Remembered]:
        """All final entries that were seen, from the first on; half a line at the end was never finished."""
        lines = self._lines(SEEN, self._read)
        for number, line in enumerate(lines, len(self._seen)):
            try:
                entry, head = from_line(line.decode())
                if entry.index != number:
                    raise ValueError(f"entry {entry.index} stands in the place of {number}")
                if number and extend(self._seen[-1][1], entry) != head:
                    raise ValueError("its head does not follow from the line before")
            except ValueError as error:
                raise self._damaged(SEEN, number + 1, error) from None
            self._seen.append((entry, head))
            self._read += len(line) + 1
        return list(self._seen)

    def receipts(self) -> list[Receipt]:
        """The receipts of the member's own entries, in the order of the entries."""
        receipts = []
        for number, line in enumerate(self._lines(RECEIPTS), 1):
            try:
                receipts.append(Receipt.from_line(line.decode()))
            except ValueError as error:
                raise self._damaged(RECEIPTS, number, error) from None
        seen = self.seen()
        for number, receipt in enumerate(receipts, 1):
            if receipt.status == "final" and not _has(seen, receipt.entry, receipt.head):
                raise self._damaged(RECEIPTS, number, f"final, and {SEEN} does not have it")
        return receipts

    def remember(self, shown: Sequence[Remembered], final: int, latest: int) -> list[Receipt]:
        """Remember the final entries of a history that extends what was seen, and what became of the receipts.

        Args:
            shown: The whole history.
            final: The last block that is final.
            latest: A block up to which the history has every entry.

        Returns:
            The receipts that are displaced since the last time.

        Raises:
            Forked: If another command has remembered another history meanwhile.
        """
        with self._locked():
            before, seen = self.receipts(), self.seen()
            self.compare(seen[: len(shown)], shown)
            fresh = [pair for pair in shown[len(seen) :] if pair[0].block <= final]
            if fresh:
                self._append(fresh)
            after = _renewed(before, shown, len(seen) + len(fresh), latest)
            if after != before:
                self._replace(after)
        return [receipt for receipt in after if receipt.status == "displaced" and receipt not in before]

    def compare(self, remembered: Sequence[Remembered], shown: Sequence[Remembered]) -> None:
        """Whether a history extends what is remembered, from the first entry on.

        Raises:
            Forked: If not.
        """
        if remembered and _has(shown, *remembered[-1]):
            return  # its head commits to all before
        if fork := find_fork(remembered, shown):
            raise Forked(fork, self.folder)

    def keep(self, own: Iterable[Remembered]) -> None:
        """Keep the receipts of entries of the member's own; one that is kept already stays as it is."""
        with self._locked():
            receipts, seen = self.receipts(), self.seen()
            kept = {receipt.head for receipt in receipts}
            fresh = [
                Receipt(entry, head, "final" if _has(seen, entry, head) else "pending")
                for entry, head in own
                if head not in kept
            ]
            if fresh:
                self._replace([*receipts, *fresh])

    # ------------------------------------------------------------------ files

    def _lines(self, name: str, start: int = 0) -> list[bytes]:
        try:
            with open_regular(self.folder / name) as file:
                file.seek(start)
                return file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unavailable(error) from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self.folder / LOCK, "a", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise self._unavailable(error) from None

    def _append(self, pairs: Iterable[Remembered]) -> None:
        descriptor = os.open(self.folder / SEEN, os.O_RDWR | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(self._read)  # half a line, of a command that was killed
            file.seek(0, os.SEEK_END)
            file.write(b"".join(to_line(*pair).encode() + b"\n" for pair in pairs))
            file.flush()
            os.fsync(file.fileno())
        self._sync()

    def _replace(self, receipts: Iterable[Receipt]) -> None:
        temporary = self.folder / f".{RECEIPTS}.part"
        with open(temporary, "wb") as file:
            ordered = sorted(receipts, key=lambda receipt: receipt.entry.index)
            file.write(b"".join(receipt.to_line().encode() + b"\n" for receipt in ordered))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.folder / RECEIPTS)
        self._sync()

    def _sync(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _unavailable(self, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"{self.folder}, where this member remembers the ledger, cannot be read and written ({error.strerror}): "
            "make it so, or name another folder with --state"
        )

    def _damaged(self, name: str, line: int, why: object) -> UnavailableError:
        return UnavailableError(
            f"line {line} of {self.folder / name} is damaged ({why}): restore it from a copy, or move the folder away "
            "and compare the ledger's head with another member's before going on"
        )


def _has(history: Sequence[Remembered], entry: Entry, head: bytes) -> bool:
    """Whether a history has an entry with this head after it."""
    return entry.index < len(history) and history[entry.index][1] == head


def _renewed(receipts: Sequence[Receipt], shown: Sequence[Remembered], final: int, latest: int) -> list[Receipt]:
    """What became of receipts in a history whose first `final` entries are final."""
    renewed: dict[bytes, Receipt] = {}
    for receipt in receipts:
        at, block = receipt.entry.index, receipt.entry.block
        there = [shown[at]] if at < len(shown) and shown[at][1] == receipt.head else []
        if receipt.status != "final" and not there:
            # A block that was taken back gives its transactions to a later one: other heads, and nothing is lost.
            there = [pair for pair in shown if pair[0].transaction == receipt.entry.transaction]
        if receipt.status == "final" or (not there and block > latest):
            renewed[receipt.head] = receipt
        elif not there:
            renewed[receipt.head] = replace(receipt, status="displaced")
        for entry, head in there:
            renewed[head] = Receipt(entry, head, "final" if entry.index < final else "pending")
    return list(renewed.values())


def read_receipts(path: Path) -> list[Remembered]:
    """The final entries that somebody remembers.

    Args:
        path: A ledger's folder in a member's state folder; its ``seen.jsonl``; or a file of receipts, one a line, as
            ``fedledger receipt show`` prints them.

    Raises:
        UsageError: If it is none of these, or has no final entry.
        UnavailableError: If it is a folder that is damaged.
    """
    if path.is_dir() or path.name == SEEN:
        remembered = StateFolder(path if path.is_dir() else path.parent).seen()
    else:
        remembered = [(one.entry, one.head) for one in _read_file(path) if one.status == "final"]
    if not remembered:
        raise UsageError(f"{path} remembers no final entry: give a ledger's folder of a state folder, or its receipts")
    return remembered


def _read_file(path: Path) -> list[Receipt]:
    try:
        with open_regular(path) as file:
            lines = file.read().split(b"\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): name a file of receipts") from None
    receipts = []
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                receipts.append(Receipt.from_line(line.decode().strip()))
        except ValueError as error:
            raise UsageError(f"line {number} of {path} is no receipt ({error}): have it sent again") from None
    return receipts


def chains(state: Path, ledger: str) -> list[int]:
    """The chains on which a state folder knows a ledger of that address."""
    names = (path.name.partition("-")[0] for path in state.glob(f"*-{ledger.lower()}"))
    return sorted(int(name) for name in names if name.isdecimal())
