"""``fedledger init``."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import click

from ledger.cli.config import FILE_NAME, KEYS, PATHS, ROLES, Config, is_url, parse
from ledger.cli.options import SETTINGS, setting

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_EXAMPLES: dict[str, str | int | bool] = {
    "role": "participant",
    "rpc": "http://127.0.0.1:8545",
    "chain_id": 1337,
    "ledger": "0x" + "00" * 20,
    "plain_http": False,
    "password_file": "password",
    "max_fee": 100,
}
"""What stands, commented out, where nothing is given and there is no default."""
_OWN = {"keystore": "key.json", "state": "state"}
"""A member's own, beside its config file; written where nothing else is given."""
_HEAD = """\
# What the options of `fedledger` commands are where neither the command nor the environment says it.
# Paths are relative to this file's folder. Passwords and secret keys do not belong in here.
"""
_ROLE = "What this member is: a note for people; who may do what stands in the ledger."


class _AsGiven(click.Option):
    """An option that is checked, and stays as it was given; a config file that is there already has no say in it."""

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """The value, if the option's type takes it."""
        super().type_cast_value(ctx, value)
        return value


def _settings(command: Decorated) -> Decorated:
    for name in reversed(SETTINGS):
        command = setting(name, cls=_AsGiven, default=None)(command)
    return command


@click.command()
@click.option("--role", type=click.Choice(ROLES), help=_ROLE)
@_settings
@click.option("--force", is_flag=True, help="Write over a file that is there already.")
@click.pass_context
def init(context: click.Context, /, force: bool, **given: Any) -> None:
    """Write a config file, fedledger.toml, with what is given here and, commented out, all that is not.

    The keystore and the state folder are beside it, if not given: a member is a folder.

    It is written to this folder, or to the file that `fedledger --config FILE init` names.

    Exit status: 0 written; 2 wrong use, such as a file that is there already.
    """
    from ledger.cli.files import create
    from ledger.storage.folder import replacing

    config = context.find_object(Config)
    path = config.path if config else Path(FILE_NAME)
    own = {key: str(path.parent / name) for key, name in _OWN.items()}
    said = {key: value for key, value in given.items() if value not in (None, False)}
    content = written(own | said, path.parent).encode()
    parse(content, path)
    if force and path.is_file():
        with replacing(path) as file:
            file.write(content)
    else:
        create(path, content, 0o644, "change it, or write it anew with --force")
    click.echo(f"Wrote {path}: look into it, and fill in what is missing")


def written(given: Mapping[str, str | bool], folder: Path) -> str:
    """A config file's text.

    Args:
        given: Settings as people say them, by key.
        folder: Where the file will be, for paths that are relative to where the command runs.
    """
    parts = [_HEAD]
    for key in KEYS:
        comment = _ROLE if key == "role" else SETTINGS[key]["help"]
        value = given.get(key)
        if isinstance(value, str) and key in PATHS and not is_url(value) and not value.startswith("~"):
            value = os.path.relpath(value, folder) if not os.path.isabs(value) else value
        example = _EXAMPLES.get(key) or SETTINGS[key].get("default", False)
        said = f"# {key} = {_toml(key, example)}" if value is None else f"{key} = {_toml(key, value)}"
        parts.append("".join(f"# {line}\n" for line in textwrap.wrap(comment, 110)) + said + "\n")
    return "\n".join(parts)


def _toml(key: str, value: str | int | bool) -> str:
    """A setting as TOML has it: numbers are not in quotes."""
    if key in ("chain_id", "max_fee"):
        return format(Decimal(value), "f")
    return json.dumps(value, ensure_ascii=False)
