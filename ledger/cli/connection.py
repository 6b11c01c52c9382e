"""How a command reaches a ledger, signs with a key and finds blobs, as the options say that all of them share."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.options import JSON, PLAIN_HTTP, STATE, STORE, YES, setting

if TYPE_CHECKING:
    import pyrage
    from eth_account.signers.local import LocalAccount
    from web3 import Web3

    from ledger.chain.contract import LedgerContract
    from ledger.chain.sending import Sending
    from ledger.following import Follower, View
    from ledger.history import History
    from ledger.receipts import StateFolder
    from ledger.storage import Store

IDENTITIES = "age.key"
AT_ONCE = 2.0
"""Seconds that a store has for what is no reason to wait."""


@dataclass
class Connection:
    """What the options say, and what they lead to; nothing is reached or asked for before it is needed."""

    rpc: str = ""
    chain_id: int | None = None
    ledger: str = ""
    state: Path = Path()
    finality: str = "finalized"
    store: str = "blobs"
    plain_http: bool = False
    keystore: Path = Path()
    password_file: Path | None = None
    max_fee: int | None = None
    """In wei, for a unit of gas."""
    as_json: bool = False
    yes: bool = False

    @cached_property
    def web3(self) -> Web3:
        """The node.

        Raises:
            UsageError: If its chain is not the one that it must be.
        """
        from ledger.chain.node import connect

        return connect(self.rpc, self.chain_id)

    @property
    def now(self) -> int:
        """The chain's time."""
        from ledger.chain.node import now

        return now(self.web3)

    @property
    def contract(self) -> LedgerContract:
        """The ledger, found at its address; whoever has it knows that its history extends what was seen before."""
        return self.follower.contract

    @cached_property
    def follower(self) -> Follower:
        """The member's view of the ledger, looked at once."""
        from ledger.chain.contract import LedgerContract
        from ledger.errors import UsageError
        from ledger.following import Follower

        try:
            sending, known = self.sending(self.memory.folder), self.memory.seen()
            contract = LedgerContract.attach(self.web3, self.ledger, sending, known)
        except UsageError:
            self.memory.compare(self.memory.seen(), [])  # a ledger that was there and is gone
            raise
        follower = Follower(contract, self.memory, self.finality)
        _warn_of_displaced(follower.look())
        return follower

    def sending(self, folder: Path) -> Sending:
        """How transactions are sent; those on their way are kept in a folder of the member's state."""
        from ledger.chain.sending import Sending

        return Sending(folder / "transactions", self.max_fee)

    def look(self) -> View:
        """The ledger as the node shows it now; the one place where commands get its history.

        Raises:
            Forked: If it does not extend what this member has seen.
            ViolationError: If the entries that it shows are not those of the contract's head, or the rules do not
                allow one of them.
        """
        return _warn_of_displaced(self.follower.look())

    def history(self) -> History:
        """The replayed history of `look`."""
        return self.look().history

    @cached_property
    def memory(self) -> StateFolder:
        """What this member remembers of the ledger."""
        from ledger.receipts import StateFolder, chains

        state, chain = self.state_folder, self.web3.eth.chain_id
        others = [other for other in chains(state, self.ledger) if other != chain]
        memory = StateFolder.of(state, chain, self.ledger)
        if others and not memory.seen():
            click.echo(
                f"Warning: nothing is remembered of {self.ledger} on the node's chain {chain}, only on chain "
                f"{', '.join(map(str, others))}: is it the right node?",
                err=True,
            )
        return memory

    @property
    def state_folder(self) -> Path:
        """See `state_folder`."""
        return state_folder(self.state)

    @cached_property
    def blobs(self) -> Store:
        """The store."""
        return open_store(self.store, self.plain_http)

    @cached_property
    def blobs_at_once(self) -> Store:
        """The store, for what is told only if it can be had at once."""
        return open_store(self.store, self.plain_http, AT_ONCE)

    @cached_property
    def account(self) -> LocalAccount:
        """The account that signs, from its keystore.

        Raises:
            UsageError: If there is no such keystore, or the password is not its own.
        """
        from ledger.cli.keystore import unlock

        return unlock(self.keystore, lambda: self.password)

    @cached_property
    def password(self) -> str:
        """The keystore's password, which `identity_file` has, too: it is asked for once.

        Raises:
            UsageError: If it cannot be read, or there is none and nobody to ask.
        """
        from ledger.cli.keystore import password_of

        return password_of(self.keystore, self.password_file)

    @property
    def identity_file(self) -> Path:
        """Where the member's age identities are kept, whether there are any yet or not."""
        return self.state_folder / IDENTITIES

    @cached_property
    def identities(self) -> list[pyrage.x25519.Identity]:
        """The member's own age identities, the newest last.

        Raises:
            UsageError: If it has none yet, or they cannot be read.
        """
        from ledger.cli.identities import open_identities
        from ledger.errors import UsageError

        if not os.path.lexists(self.identity_file):
            raise UsageError(f"there is no {self.identity_file}: join first, or restore it (fedledger key restore)")
        return open_identities(self.identity_file, lambda: self.password)

    @property
    def own_identities(self) -> list[pyrage.x25519.Identity]:
        """The member's own age identities; none where it has no file of them."""
        return self.identities if os.path.lexists(self.identity_file) else []

    @cached_property
    def openers(self) -> tuple[list[pyrage.x25519.Identity], str]:
        """The member's own age identities, if they open without asking anybody; else none, and why."""
        from ledger.cli.identities import open_identities
        from ledger.cli.keystore import given_password
        from ledger.errors import UsageError

        file = self.identity_file
        if not os.path.lexists(file):
            return [], f"there is no {file}"

        def password() -> str:
            if (given := given_password(file, self.password_file)) is None:
                raise UsageError(f"no password for {file}: give --password-file, or set FEDLEDGER_PASSWORD")
            return given

        try:
            return open_identities(file, password), f"no identity in {file} opens them"
        except UsageError as error:
            return [], str(error)

    def confirm(self, question: str) -> None:
        """Ask before what cannot be undone; ``--yes`` has answered already.

        Raises:
            UsageError: If there is nobody to ask.
        """
        from ledger.errors import UsageError

        if self.yes:
            return
        if not sys.stdin.isatty():
            raise UsageError(f"nobody is there to confirm ({question}): say --yes, and know that it cannot be undone")
        click.confirm(f"{question} It cannot be undone.", abort=True, err=True)


def _warn_of_displaced(view: View) -> View:
    for lost in view.displaced:
        click.echo(
            f"Warning: entry {lost.entry.index} ({type(lost.entry.fact).__name__}), which this member recorded in "
            f"block {lost.entry.block}, is not on the chain any more: record it again",
            err=True,
        )
    return view


def open_store(where: str, plain_http: bool, patience: float | None = None) -> Store:
    """The store at `where`, a folder or an IPFS node; its token, if it wants one, is in the environment."""
    from ledger.storage import location

    token = os.environ.get("FEDLEDGER_STORE_TOKEN")
    return location.open_store(where, token=token, plain_http=plain_http, patience=patience)


def state_folder(state: Path) -> Path:
    """A member's state folder, with a folder for each ledger.

    Raises:
        UsageError: If it is in a home folder, and there is none.
    """
    from ledger.errors import UsageError

    try:
        return state.expanduser()
    except RuntimeError:
        raise UsageError(f"there is no home folder for {state}: name a state folder with --state") from None


def connected(
    *,
    writes: bool = False,
    store: bool = False,
    opens: bool = False,
    ledger: bool = True,
    node: bool = True,
    required: bool = True,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options it needs, and what they say as its first argument, a `Connection`.

    Args:
        writes: It signs and records.
        store: It reads or keeps blobs.
        opens: It opens what is sealed to its member, where it can, and does not sign.
        ledger: There is a ledger already.
        node: It asks the chain's node.
        required: Node and ledger must be said; else they are empty where nothing says them.
    """
    options = [
        *[setting("rpc", required=required)] * node,
        setting("chain_id"),
        *[setting("ledger", required=required)] * ledger,
        *[STATE] * (ledger or writes),
        *[setting("finality")] * (ledger and node),
        *[STORE, PLAIN_HTTP] * store,
        *[setting("password_file", help="A file with the password of age.key, which opens what is sealed.")] * opens,
        *[setting("keystore", required=True), setting("password_file"), setting("max_fee"), YES] * writes,
        JSON,
    ]
    names = [field.name for field in fields(Connection)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            connection = Connection(**{name: given.pop(name) for name in names if name in given})
            try:
                command(connection, **given)
            except Exception as error:
                raise understood(error) from None

        for option in reversed(options):
            run = option(run)
        return run

    return decorate


def understood(error: Exception) -> Exception:
    """What a node says to a question, in one sentence; anything else as it is."""
    import traceback

    from web3.exceptions import Web3Exception

    from ledger.chain.refusals import node_words
    from ledger.errors import FedledgerError, UnavailableError

    if isinstance(error, Web3Exception):
        return UnavailableError(f"the node does not tell what it is asked ({node_words(error)}): use another node")
    places = [Path(frame.filename).parent for frame in traceback.extract_tb(error.__traceback__)]
    if not isinstance(error, FedledgerError | OSError | MemoryError) and any("web3" in place.parts for place in places):
        # web3 reads an answer as what it has to be, and fails in many ways on one that is something else.
        return UnavailableError(f"the node's answer cannot be read ({type(error).__name__}: {error}): use another node")
    return error
