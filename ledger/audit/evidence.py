"""What an audit looks at, and the folder that keeps it.

The folder has ``ledger.json``, ``entries.jsonl``, ``transactions.jsonl``, ``code.hex``, ``proof.json`` (where the
chain's node gave a storage proof), ``artifact.json`` (the compiled contract) and ``blobs/``. A bundle is the same
folder in one file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.audit.proof import StorageProof
from ledger.cid import Cid
from ledger.documents import read_json
from ledger.entries import (
    MAX_CHAIN_ID,
    Entry,
    Genesis,
    from_line,
    read_address,
    to_line,
)
from ledger.errors import UnavailableError, UsageError, ViolationError
from ledger.storage import Blobs
from ledger.storage.folder import FolderStore, open_regular, replacing

MAX_UNREADABLE = 100
"""Lines; a source with more is not looked at any further."""


@dataclass(frozen=True)
class Sent:
    """A transaction as it went to the chain.

    Attributes:
        raw: Its signed bytes.
        gas: What it used, as the node says; None where that is not known. No check rests on it.
    """

    raw: bytes
    gas: int | None


@dataclass(frozen=True)
class Evidence:
    """A history as some source shows it; nothing in here is believed before it is checked.

    Attributes:
        genesis: What the first head should bind.
        head: The head that the source itself records (32 bytes).
        entries: The entries in the source's order, each with the head that the source shows after it.
        unreadable: What the source shows in place of something that can be read.
        store: Where the blobs are.
        code: The code at the ledger's address, None where the source does not show it.
        sent: The transactions that recorded the entries, by hash, as far as the source shows them.
        proof: A storage proof of the head, None where the source has none.
        artifact: The compiled contract that the source brings along, None where it does not.
    """

    genesis: Genesis
    head: bytes
    entries: tuple[tuple[Entry, bytes], ...]
    unreadable: tuple[str, ...]
    store: Blobs
    code: bytes | None
    sent: Mapping[str, Sent]
    proof: StorageProof | None
    artifact: bytes | None = None


# ---------------------------------------------------------------------- writing


def files(evidence: Evidence) -> dict[str, bytes]:
    """The folder's files beside ``blobs/``: the same evidence gives the same bytes."""
    genesis = evidence.genesis
    described = {
        "chain_id": genesis.chain_id,
        "ledger": genesis.ledger,
        "governor": genesis.governor,
        "charter": str(genesis.charter),
        "head": _hex(evidence.head),
    }
    sent = [
        {"transaction": transaction, "raw": _hex(one.raw), "gas_used": one.gas}
        for transaction, one in evidence.sent.items()
    ]
    written = {
        "ledger.json": json.dumps(described, indent=1) + "\n",
        "entries.jsonl": "".join(to_line(entry, head) + "\n" for entry, head in evidence.entries),
        "transactions.jsonl": "".join(json.dumps(row) + "\n" for row in sent),
    }
    if evidence.code is not None:
        written["code.hex"] = _hex(evidence.code) + "\n"
    if evidence.proof is not None:
        proof = evidence.proof
        nodes = {"account": [_hex(node) for node in proof.account], "storage": [_hex(node) for node in proof.storage]}
        written["proof.json"] = json.dumps({"header": _hex(proof.header), **nodes}, indent=1) + "\n"
    artifact = {} if evidence.artifact is None else {"artifact.json": evidence.artifact}
    return artifact | {name: text.encode() for name, text in written.items()}


def write_folder(folder: Path, evidence: Evidence) -> None:
    """Write all that an audit needs beside ``blobs/``, which are there already."""
    for name, content in files(evidence).items():
        write_atomically(folder / name, content)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with replacing(path) as file:
        file.write(content)


# ---------------------------------------------------------------------- reading


def read_folder(folder: Path) -> Evidence:
    """Read what `write_folder` wrote.

    Raises:
        UsageError: If there is no such folder.
        UnavailableError: If a part of it is missing.
        ViolationError: If ``ledger.json`` is not what `write_folder` writes.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder: give the folder that the demo or an export left behind")
    if not any((folder / name).exists() for name in ("ledger.json", "entries.jsonl")):
        raise UsageError(f"{folder} holds no history: give the folder that the demo left behind, or a bundle's")

    def file(name: str) -> bytes:
        try:
            with open_regular(folder / name) as opened:
                return opened.read()
        except OSError as error:
            why = f"{folder / name} is missing or cannot be read ({error.strerror}): get the folder again"
            raise UnavailableError(why) from None

    return read_evidence(file, FolderStore(folder / "blobs"))


def read_evidence(file: Callable[[str], bytes], store: Blobs) -> Evidence:
    """Read the folder's files.

    Args:
        file: Gives a file by its name, or raises `UnavailableError`.
        store: The folder's blobs.

    Raises:
        UnavailableError: If ``ledger.json`` or ``entries.jsonl`` is missing.
        ViolationError: If ``ledger.json`` is not what `files` writes.
    """
    genesis, head = _read_ledger(_text("ledger.json", file("ledger.json")))
    unreadable: list[str] = []

    def lines(name: str, read: Callable[[str], Any]) -> list[Any]:
        found = []
        text = _text(name, file(name)).removesuffix("\n")
        for number, line in enumerate(text.split("\n") if text else [], 1):
            try:
                found.append(read(line))
            except ValueError as error:
                unreadable.append(f"line {number} of {name}: {error}")
                if len(unreadable) > MAX_UNREADABLE:
                    raise ViolationError(
                        f"more than {MAX_UNREADABLE} lines cannot be read, the last is {unreadable[-1]}: it was altered"
                    ) from None
        return found

    def optional(name: str, read: Callable[[str], Any]) -> Any:
        try:
            return read(_text(name, file(name)).strip())
        except UnavailableError:
            return None
        except ValueError as error:
            unreadable.append(f"{name}: {error}")
            return None

    entries = lines("entries.jsonl", from_line)
    try:
        sent = dict(lines("transactions.jsonl", _read_sent))
    except UnavailableError:
        sent = {}
    code, proof = optional("code.hex", _unhex), optional("proof.json", _read_proof)
    try:
        artifact = file("artifact.json")
    except UnavailableError:
        artifact = None
    return Evidence(genesis, head, tuple(entries), tuple(unreadable), store, code, sent, proof, artifact)


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ViolationError(f"{name} is not text in UTF-8 ({error}): it was altered; get the source again") from None


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
        raise ViolationError(f"ledger.json does not describe a ledger ({error}): get the source again") from None
    return genesis, head


def _read_sent(line: str) -> tuple[str, Sent]:
    try:
        row = read_json(line)
        transaction, gas = row["transaction"], row["gas_used"]
        if not re.fullmatch("0x[0-9a-f]{64}", transaction) or not (gas is None or type(gas) is int):
            raise ValueError("its hash or its gas is none")
        return transaction, Sent(_unhex(row["raw"]), gas)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a transaction's line: {error!r}") from None


def _read_proof(text: str) -> StorageProof:
    try:
        row = read_json(text)
        account, storage = (tuple(map(_unhex, row[name])) for name in ("account", "storage"))
        return StorageProof(_unhex(row["header"]), account, storage)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a storage proof: {error!r}") from None


def read_head(text: str) -> bytes:
    """A head, or a block's hash, from ``0x`` and 64 hex digits.

    Raises:
        UsageError: If `text` is anything else.
    """
    if not re.fullmatch("0x[0-9a-f]{64}", text):
        raise UsageError(f"a head is 0x and 64 hex digits in lower case, not {text!r}")
    return bytes.fromhex(text[2:])


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()


def _unhex(text: str) -> bytes:
    if not re.fullmatch("0x([0-9a-f]{2})*", text):
        raise ValueError("not 0x and hex digits in lower case")
    return bytes.fromhex(text[2:])
