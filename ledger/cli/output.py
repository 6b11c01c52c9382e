"""What the commands print: what was recorded, tables, one JSON document, and strangers' text made harmless."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from web3.types import TxReceipt

    from ledger.cli.connection import Connection
    from ledger.entries import Entry


def recorded(connection: Connection, receipt: TxReceipt, note: str = "", **more: Any) -> None:
    """Keep and print the entries of a transaction, each with its place and the head after it: its member's receipt.

    Args:
        connection: The command's.
        receipt: The transaction's.
        note: A line for people.
        more: What else the JSON document says.
    """
    pairs = entries_of(connection, receipt)
    try:
        connection.memory.keep(pairs)
    finally:  # it is recorded, and to be told, even where its receipt cannot be kept
        _tell(connection, pairs, note, more)


def _tell(connection: Connection, pairs: list[tuple[Entry, bytes]], note: str, more: dict[str, Any]) -> None:
    from ledger.entries import to_line

    if connection.as_json:
        document({"recorded": [json.loads(to_line(*pair)) for pair in pairs], **more})
        return
    for entry, head in pairs:
        click.echo(f"Recorded {type(entry.fact).__name__}: entry {entry.index}, block {entry.block}")
        click.echo(f"  transaction {entry.transaction}")
        click.echo(f"  head        0x{head.hex()}")
    if note:
        click.echo(note)


def entries_of(connection: Connection, receipt: TxReceipt) -> list[tuple[Entry, bytes]]:
    """A transaction's entries, each with the head after it, once all entries refold to the contract's head."""
    from web3 import Web3

    transaction = Web3.to_hex(receipt["transactionHash"])
    return [pair for pair in connection.look().entries if pair[0].transaction == transaction]


def document(content: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(content, indent=1, ensure_ascii=False))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns."""
    cells = [list(head), *([plain(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.secho(line, bold=number == 0)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Print what is known of one thing, a line each; what is None is left out."""
    told = [(name, plain(str(value))) for name, value in pairs if value is not None]
    width = max(len(name) for name, _ in told)
    for name, value in told:
        click.echo(f"{name.ljust(width)}  {value}")


def address(account: str) -> str:
    """An account as people compare it: with its checksum."""
    from eth_utils.address import to_checksum_address

    return str(to_checksum_address(account))


@contextmanager
def about(what: object) -> Iterator[None]:
    """Say what an error inside is about, where many things are looked at."""
    from ledger.errors import FedledgerError

    try:
        yield
    except FedledgerError as error:
        error.args = (f"{what}: {error}",)
        raise


def plain(text: str) -> str:
    """A stranger's text without what would move a terminal's cursor or turn its text around."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "�" for letter in text)
