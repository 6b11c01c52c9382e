"""How a command reaches a ledger, signs with a key and finds blobs: the options that all of them share."""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount
    from web3 import Web3

    from ledger.chain.contract import LedgerContract
    from ledger.history import History
    from ledger.receipts import Remembered, StateFolder
    from ledger.storage.folder import FolderStore

PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


class AddressType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """An account or contract, as people copy it: with its checksum (mixed case), or all in lower case."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The address with its checksum."""
        from eth_utils.address import is_checksum_address, to_checksum_address

        if not re.fullmatch("0x[0-9a-fA-F]{40}", value):
            self.fail(f"{value!r} is no address: give 0x and 40 hex digits")
        if value != value.lower() and not is_checksum_address(value):
            self.fail(f"{value} has a wrong letter or digit, its checksum does not fit: copy it again")
        return str(to_checksum_address(value))


ADDRESS = AddressType()


class FinalityType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """When a block counts as final: ``finalized``, ``latest``, or how many blocks are behind it."""

    name = "finality"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same text, if it says when."""
        if not re.fullmatch("finalized|latest|[0-9]{1,6}", value):
            self.fail(f"{value!r} does not say when a block is final: give finalized, latest, or a number of blocks")
        return str(value)


@dataclass
class Connection:
    """What the options say, and what they lead to; nothing is reached or asked for before it is needed."""

    rpc: str = ""
    ledger: str = ""
    state: Path = Path()
    finality: str = "finalized"
    store: Path = Path("blobs")
    keystore: Path = Path()
    password_file: Path | None = None
    as_json: bool = False
    yes: bool = False

    @cached_property
    def web3(self) -> Web3:
        """The node."""
        from ledger.chain.node import connect

        return connect(self.rpc)

    @property
    def now(self) -> int:
        """The chain's time."""
        from ledger.chain.node import now

        return now(self.web3)

    @cached_property
    def contract(self) -> LedgerContract:
        """The ledger, found at its address; whoever has it knows that its history extends what was seen before."""
        from ledger.chain.contract import LedgerContract
        from ledger.errors import UsageError

        try:
            contract = LedgerContract.attach(self.web3, self.ledger)
        except UsageError:
            self.memory.compare(self.memory.seen(), [])  # a ledger that was there and is gone
            raise
        self._look(contract)
        return contract

    def history(self) -> History:
        """The replayed history, as the node shows it now; the one place where commands get it.

        Raises:
            Forked: If it does not extend what this member has seen.
            Refused: If the node shows entries that the rules do not allow.
            ViolationError: If the entries that it shows are not those of the contract's head.
        """
        return self._look(self.contract)[0]

    def entries(self) -> list[Remembered]:
        """The entries of that history, each with the head after it; raises what `history` does."""
        return self._look(self.contract)[1]

    def _look(self, contract: LedgerContract) -> tuple[History, list[Remembered]]:
        """Read the history, compare it with what is remembered, and remember what is new and final."""
        from ledger.chain.node import final_block
        from ledger.rules import replay

        seen = self.memory.seen()  # before the node is asked: other commands of this member remember more meanwhile
        latest = self.web3.eth.block_number
        final = final_block(self.web3, self.finality, latest)
        shown = contract.refolded()
        self.memory.compare(seen, shown)
        history = replay(contract.genesis, [entry for entry, _ in shown])
        for lost in self.memory.remember(shown, final, latest):
            click.echo(
                f"Warning: entry {lost.entry.index} ({type(lost.entry.fact).__name__}), which this member recorded in "
                f"block {lost.entry.block}, is not on the chain any more: record it again",
                err=True,
            )
        return history, shown

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
    def blobs(self) -> FolderStore:
        """The store."""
        from ledger.storage.folder import FolderStore

        return FolderStore(self.store)

    @cached_property
    def account(self) -> LocalAccount:
        """The account that signs, from its keystore.

        Raises:
            UsageError: If there is no such keystore, or the password is not its own.
        """
        from eth_account import Account

        from ledger.errors import UsageError

        try:
            keystore = json.loads(self.keystore.read_text(encoding="utf-8"))
            if keystore["version"] != 3:
                raise ValueError
            keystore["crypto"]["ciphertext"]
        except OSError as error:
            raise UsageError(f"there is no keystore to read at {self.keystore} ({error.strerror}): name it") from None
        except (ValueError, KeyError, TypeError):
            raise UsageError(f"{self.keystore} is no keystore (JSON, version 3): name another file") from None
        password = self._password()
        try:
            account: LocalAccount = Account.from_key(Account.decrypt(keystore, password))
        except (ValueError, KeyError, TypeError, NotImplementedError) as error:
            if "MAC mismatch" in str(error):
                raise UsageError(f"the password does not open {self.keystore}: try another one") from None
            raise UsageError(f"{self.keystore} is a damaged keystore ({error}): name another file") from None
        return account

    def _password(self) -> str:
        from ledger.errors import UsageError

        if self.password_file:
            try:
                return self.password_file.read_text(encoding="utf-8").removesuffix("\n")
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "it is not text in UTF-8"
                raise UsageError(f"{self.password_file} holds no password to read ({why}): name another file") from None
        if (password := os.environ.get("FEDLEDGER_PASSWORD")) is not None:
            return password
        if not sys.stdin.isatty():
            raise UsageError(f"no password for {self.keystore}: give --password-file, or set FEDLEDGER_PASSWORD")
        return str(click.prompt(f"Password of {self.keystore}", hide_input=True, err=True))

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


_RPC = click.option(
    "--rpc", metavar="URL", required=True, envvar="FEDLEDGER_RPC", show_envvar=True, help="The chain's node."
)
_LEDGER = click.option(
    "--ledger",
    type=ADDRESS,
    metavar="0x…",
    required=True,
    envvar="FEDLEDGER_LEDGER",
    show_envvar=True,
    help="The ledger's address.",
)
STORE = click.option(
    "--store",
    type=PATH,
    default=Path("blobs"),
    envvar="FEDLEDGER_STORE",
    show_default=True,
    show_envvar=True,
    help="The folder of blobs.",
)
STATE = click.option(
    "--state",
    type=PATH,
    default=Path("~/.fedledger"),
    metavar="DIR",
    envvar="FEDLEDGER_STATE",
    show_default=True,
    show_envvar=True,
    help="Where this member remembers the entries it has seen, and its receipts.",
)
_FINALITY = click.option(
    "--finality",
    type=FinalityType(),
    default="finalized",
    metavar="WHEN",
    envvar="FEDLEDGER_FINALITY",
    show_default=True,
    show_envvar=True,
    help="When a block is final: finalized (as the node says), latest, or a number of blocks behind the latest.",
)
_KEYSTORE = click.option(
    "--keystore",
    type=PATH,
    metavar="FILE",
    required=True,
    envvar="FEDLEDGER_KEYSTORE",
    show_envvar=True,
    help="The key to sign with: an encrypted keystore (JSON, version 3).",
)
_PASSWORD = click.option(
    "--password-file",
    type=PATH,
    metavar="FILE",
    envvar="FEDLEDGER_PASSWORD_FILE",
    show_envvar=True,
    help="A file with the keystore's password; without it, FEDLEDGER_PASSWORD is taken, or it is asked for.",
)
_YES = click.option("--yes", is_flag=True, help="Do not ask before recording what cannot be undone.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


def connected(
    *, writes: bool = False, store: bool = False, ledger: bool = True, node: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options it needs, and what they say as its first argument, a `Connection`.

    Args:
        writes: It signs and records.
        store: It reads or keeps blobs.
        ledger: There is a ledger already.
        node: It asks the chain's node.
    """
    reads = [*[_LEDGER, STATE] * ledger, *[_FINALITY] * (ledger and node)]
    options = [*[_RPC] * node, *reads, *[STORE] * store, *[_KEYSTORE, _PASSWORD, _YES] * writes, JSON]
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
    from web3.exceptions import Web3Exception

    from ledger.chain.refusals import node_words
    from ledger.errors import UnavailableError

    if not isinstance(error, Web3Exception):
        return error
    return UnavailableError(f"the node does not tell what it is asked ({node_words(error)}): use another node")
