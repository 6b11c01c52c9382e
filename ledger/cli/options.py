"""The options that commands share: said on the command line, else in the environment, else in the config file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ledger.cli.config import Config
from ledger.errors import UsageError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)


class FileType(click.Path):
    """A file that is there, and that ends: a pipe or a device may not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Its path."""
        path = super().convert(value, param, ctx)
        if not os.path.isfile(path):
            self.fail(f"{str(value)!r} is a pipe or a device: name a file")
        return path


FILE = FileType(path_type=Path, exists=True, dir_okay=False)
GWEI = 10**9
"""Wei."""


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


class GweiType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.3 only
    """A price of gas as people say it, in gwei: ``2``, ``0.5``."""

    name = "gwei"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The price in wei."""
        try:
            price = Decimal(value)
        except ArithmeticError:
            price = Decimal("NaN")
        if not (price.is_finite() and 1 / Decimal(GWEI) <= price < GWEI):
            self.fail(f"{value!r} is no price of gas: give gwei above 0, such as 2 or 0.5")
        return int(price * GWEI)


class Setting(click.Option):
    """An option that the config file can hold under the option's name."""

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """What the command says, or the environment, or the config file, or the default."""
        value, source = super().consume_value(ctx, opts)
        config = ctx.find_object(Config)
        if config is None or ctx.resilient_parsing:
            return value, source
        said = config.values  # looked at in any case: a broken file is said, not passed over
        if source is ParameterSource.DEFAULT and self.name in said:
            return said[self.name], ParameterSource.DEFAULT_MAP
        return value, source

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """The value, as the option's type reads it; of a bad one in the config file, the file and key are named."""
        try:
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            if self.name is None or ctx.get_parameter_source(self.name) is not ParameterSource.DEFAULT_MAP:
                raise
            config = ctx.find_object(Config)
            raise UsageError(f"{config.path if config else ''}: {self.name}: {error.message.rstrip('.')}") from None


SETTINGS: dict[str, dict[str, Any]] = {
    "rpc": {"metavar": "URL", "help": "The chain's node."},
    "chain_id": {
        "type": click.IntRange(1),
        "metavar": "N",
        "help": "The chain that it must be: a node of another one is refused.",
    },
    "ledger": {"type": ADDRESS, "metavar": "0x…", "help": "The ledger's address."},
    "store": {
        "default": "blobs",
        "metavar": "STORE",
        "help": "Where blobs are: a folder, or the RPC address of an IPFS node (http://127.0.0.1:5001).",
    },
    "plain_http": {
        "is_flag": True,
        "help": "Talk to an IPFS node on another host without encryption: whoever listens sees all, and can change it.",
    },
    "keystore": {
        "type": PATH,
        "metavar": "FILE",
        "help": "The key to sign with: an encrypted keystore (JSON, version 3).",
    },
    "password_file": {
        "type": PATH,
        "metavar": "FILE",
        "help": "A file with the keystore's password; without it, FEDLEDGER_PASSWORD is taken, or it is asked for.",
    },
    "state": {
        "type": PATH,
        "default": "~/.fedledger",
        "metavar": "DIR",
        "help": "Where this member remembers the entries it has seen, and its receipts.",
    },
    "finality": {
        "type": FinalityType(),
        "default": "finalized",
        "metavar": "WHEN",
        "help": "When a block is final: finalized (as the node says), latest, or a number of blocks behind the latest.",
    },
    "max_fee": {
        "type": GweiType(),
        "metavar": "GWEI",
        "help": "The most to pay for a unit of gas, in gwei; no cap if not given.",
    },
    "policy": {
        "type": PATH,
        "metavar": "FILE",
        "help": "This site's own policy (TOML); if not given, policy.toml beside the config file, where it is there.",
    },
}


def setting(name: str, cls: type[click.Option] = Setting, **changes: Any) -> Callable[[Decorated], Decorated]:
    """The shared option of that name, one of `ledger.cli.config.KEYS`; `changes` as for `click.option`."""
    attributes = SETTINGS[name] | changes
    names = ["--finality", "--confirmations"] if name == "finality" else ["--" + name.replace("_", "-")]
    attributes["show_default"] = isinstance(attributes.get("default"), str)
    return click.option(*names, name, cls=cls, envvar=f"FEDLEDGER_{name.upper()}", show_envvar=True, **attributes)


STORE = setting("store")
PLAIN_HTTP = setting("plain_http")
STATE = setting("state")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
YES = click.option("--yes", is_flag=True, help="Do not ask before recording what cannot be undone.")
