"""What an audit looks at, and the folder that keeps it: ``ledger.json``, ``entries.jsonl`` and ``blobs/``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ledger.cid import Cid
from ledger.documents import read_json
from ledger.entries import (
    MAX_CHAIN_ID,
    Entry,
    Genesis,
    extend,
    from_line,
    read_address,
    to_line,
)
from ledger.errors import UnavailableError, UsageError, ViolationError
from ledger.storage import Store
from ledger.storage.folder import FolderStore, open_regular


@dataclass(frozen=True)
class Evidence:
    """A history as some source shows it; nothing in here is believed before it is checked.

    Attributes:
        genesis: What the first head should bind.
        head: The head that the source itself records (32 bytes).
        entries: The entries in the source's order, each with the head that the source shows after it.
        unreadable: What the source shows in place of entries that cannot be read.
        store: Where the blobs are.
    """

    genesis: Genesis
    head: bytes
    entries: tuple[tuple[Entry, bytes], ...]
    unreadable: tuple[str, ...]
    store: Store


def write_folder(folder: Path, genesis: Genesis, entries: Iterable[Entry], head: bytes) -> None:
    """Write all that an audit needs beside ``blobs/``.

    Args:
        folder: The folder; its blobs are there already.
        genesis: The ledger's.
        entries: As the chain's node shows them.
        head: From elsewhere than the node that showed the entries, where there is such a place.
    """
    text = "".join(line + "\n" for line in _lines(genesis, entries))
    write_atomically(folder / "entries.jsonl", text)
    described = {
        "chain_id": genesis.chain_id,
        "ledger": genesis.ledger,
        "governor": genesis.governor,
        "charter": str(genesis.charter),
        "head": "0x" + head.hex(),
    }
    write_atomically(folder / "ledger.json", json.dumps(described, indent=1) + "\n")


def _lines(genesis: Genesis, entries: Iterable[Entry]) -> Iterator[str]:
    head = genesis.head()
    for entry in entries:
        head = extend(head, entry)
        yield to_line(entry, head)


def read_folder(folder: Path) -> Evidence:
    """Read what `write_folder` wrote.

    Raises:
        UsageError: If there is no such folder.
        UnavailableError: If a part of it is missing.
        ViolationError: If ``ledger.json`` is not what `write_folder` writes.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give the folder that the demo or an export left behind")
    genesis, head = _read_ledger(_read(folder / "ledger.json"))
    entries, unreadable = [], []
    for number, line in enumerate(_read(folder / "entries.jsonl").removesuffix("\n").split("\n"), 1):
        try:
            entries.append(from_line(line))
        except ValueError as error:
            unreadable.append(f"line {number} of entries.jsonl: {error}")
    return Evidence(genesis, head, tuple(entries), tuple(unreadable), FolderStore(folder / "blobs"))


def _read(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file.read().decode("utf-8")
    except OSError as error:
        why = f"{path} is missing or cannot be read ({error.strerror}): get the folder again"
        raise UnavailableError(why) from None
    except UnicodeDecodeError as error:
        raise ViolationError(f"{path} is not text in UTF-8 ({error}): it was altered; get the folder again") from None


def _read_ledger(text: str) -> tuple[Genesis, bytes]:
    try:
        document = read_json(text)
        chain_id = document["chain_id"]
        if type(chain_id) is not int or not 0 <= chain_id < MAX_CHAIN_ID:
            raise ValueError(f"chain_id is {chain_id!r}")
        genesis = Genesis(
            chain_id,
            read_address(document["ledger"]),
            read_address(document["governor"]),
            Cid.parse(document["charter"]),
        )
        head = read_head(document["head"])
    except (UsageError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ViolationError(f"ledger.json does not describe a ledger ({error}): get the folder again") from None
    return genesis, head


def read_head(text: str) -> bytes:
    """A head from ``0x`` and 64 hex digits.

    Raises:
        UsageError: If `text` is anything else.
    """
    if not re.fullmatch("0x[0-9a-f]{64}", text):
        raise UsageError(f"a head is 0x and 64 hex digits in lower case, not {text!r}")
    return bytes.fromhex(text[2:])


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
