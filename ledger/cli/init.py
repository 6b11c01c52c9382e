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

from ledger.cli.config import FILE_NAME, KEYS, PATHS, POLICY_NAME, ROLES, Config, is_url, parse
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
    "policy": POLICY_NAME,
}
"""What stands, commented out, where nothing is given and there is no default."""
_OWN = {"keystore": "key.json", "state": "state"}
"""A member's own, beside its config file; written where nothing else is given."""
_HEAD = """\
# What the options of `fedledger` commands are where neither the command nor the environment says it.
# Paths are relative to this file's folder. Passwords and secret keys do not belong in here.
"""
_POLICY = """\
# This site's own policy: `fedledger participate` trains for no round that it does not allow, whoever asks. What is left
# out is not limited, except that updates are to be sealed. It is read anew for each round.

# The names of the strategies by which updates may be combined.
# strategies = ["fedavg"]

# The largest privacy budget (epsilon) of a plan, which must have one then.
# max_epsilon = 8.0

# To whom updates may be sealed beside this site: age public keys, see `fedledger member show`.
# recipients = ["age1yysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyyss30f2cg"]

# The fewest sites whose updates make a model: of fewer, it could show what one of them holds.
# min_sites = 3

# The task files that may be run, by their sha256, see `fedledger task check`.
# tasks = ["0000000000000000000000000000000000000000000000000000000000000000"]

# Whether updates may be left for everyone to read who reaches the store.
# allow_unsealed = false

# Whether updates say what the base model achieves on this site's held-out examples.
# metrics = true
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

    The keystore and the state folder are beside it, if not given: a member is a folder. A participant gets the site's
    own policy there, too, policy.toml, to be filled in; one that is there already stays as it is.

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
    if given["role"] == "participant" and "policy" not in said:
        policy = path.parent / POLICY_NAME
        if os.path.lexists(policy):
            click.echo(f"{policy} is there already, and stays as it is")
            return
        create(policy, _POLICY.encode(), 0o644, "it stays as it is")
        click.echo(f"Wrote {policy}: say in it what this site trains for")


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
