"""Where a history is read from, and what is known of it from elsewhere: for ``audit`` and ``export``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ledger.audit.evidence import Evidence
    from ledger.audit.origin import Claims, Provider
    from ledger.audit.replay import Progress
    from ledger.chain.contract import LedgerContract


class HeadType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """A head, or a block's hash."""

    name = "head"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Its 32 bytes."""
        from ledger.audit.evidence import read_head

        return read_head(value)


HEAD = HeadType()
BLOCK_HASH = click.option(
    "--block-hash",
    type=HEAD,
    metavar="0x…",
    help="The hash of a block that you trust: the head is proven from it.",
)


def read_source(
    source: str, ledger: str | None, store: str, plain_http: bool, block_hash: bytes | None, progress: Progress
) -> Evidence:
    """What a source shows.

    Args:
        source: A node's address, a folder, or a bundle.
        ledger: The ledger's address, for a node.
        store: Where its blobs are, for a node.
        plain_http: See `open_store`.
        block_hash: The hash of the block from which a node is to prove the head; None for that of the last entry.
        progress: Told how far it is.

    Raises:
        UsageError: If the source is none.
    """
    from ledger.audit.evidence import read_folder
    from ledger.errors import UsageError

    if source.startswith(("http://", "https://")):
        from ledger.audit.observe import observe
        from ledger.cli.connection import open_store

        if ledger is None:
            raise UsageError(f"{source} is a node: give --ledger, the address of the ledger on its chain")
        with _understood():
            return observe(_attach(source, ledger), open_store(store, plain_http), block_hash, progress)
    path = Path(source)
    if path.is_file():
        from ledger.audit.bundle import read_bundle

        return read_bundle(path)
    if path.is_dir():
        return read_folder(path)
    raise UsageError(f"{source} is not there: give a bundle, a folder, or a node's address (http://…)")


def known_elsewhere(
    evidence: Evidence, claims: Claims, providers: Sequence[str], receipts: Sequence[Path], state: Path, recompile: bool
) -> Claims:
    """What the options say is known from elsewhere, with what they lead to, and what this member remembers itself."""
    from ledger.cli.connection import state_folder
    from ledger.receipts import StateFolder, chains, read_receipts

    ledger, own = evidence.genesis.ledger, state_folder(state)
    remembered = [(str(path), tuple(read_receipts(path))) for path in receipts]
    for chain in chains(own, ledger):  # of every chain: which one it is, the source says itself
        if seen := StateFolder.of(own, chain, ledger).seen():
            remembered.append(("this member's own memory", tuple(seen)))
    return replace(
        claims,
        receipts=tuple(remembered),
        providers=tuple(_provider(url, ledger) for url in providers),
        recompiled=_recompiled() if recompile else None,
    )


def _provider(url: str, ledger: str) -> Provider:
    from ledger.audit.origin import Provider
    from ledger.errors import FedledgerError, UsageError, ViolationError

    try:
        with _understood():
            return Provider(url, tuple(_attach(url, ledger).refolded()))
    except UsageError as error:
        if not url.startswith(("http://", "https://")):
            raise
        return Provider(url, error=str(error))
    except FedledgerError as error:
        return Provider(url, error=str(error), lies=isinstance(error, ViolationError))


def _attach(url: str, ledger: str) -> LedgerContract:
    from ledger.chain.contract import LedgerContract
    from ledger.chain.node import connect

    return LedgerContract.attach(connect(url), ledger)


def _recompiled() -> bytes:
    from ledger.chain.compiler import compile_runtime

    return compile_runtime()


@contextmanager
def _understood() -> Iterator[None]:
    """What a node says to a question, in one sentence."""
    from ledger.cli.connection import understood

    try:
        yield
    except Exception as error:
        raise understood(error) from None
