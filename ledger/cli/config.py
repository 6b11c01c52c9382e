"""The config file, ``fedledger.toml``: what the shared options are where neither command nor environment says it.

    rpc = "http://127.0.0.1:8545"
    keystore = "key.json"        # relative to the file's folder

It is read when a command asks for its first setting, so that help needs none of it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from ledger.errors import UsageError
from ledger.storage.folder import read_regular

FILE_NAME = "fedledger.toml"
POLICY_NAME = "policy.toml"
"""A site's own policy, beside its config file."""
ROLES = ("participant", "aggregator", "auditor", "governor")
_MOST = 1 << 20  # bytes
_TEXT = (str,)
_KEYS: dict[str, tuple[type, ...]] = {
    "role": _TEXT,
    "rpc": _TEXT,
    "chain_id": (int,),
    "ledger": _TEXT,
    "store": _TEXT,
    "plain_http": (bool,),
    "keystore": _TEXT,
    "password_file": _TEXT,
    "state": _TEXT,
    "finality": (str, int),
    "max_fee": (int, Decimal),
    "policy": _TEXT,
}
KEYS = tuple(_KEYS)
"""All keys, in the order in which `fedledger init` writes them."""
PATHS = {"store", "keystore", "password_file", "state", "policy"}
_WORDS = {str: "text in quotes", int: "a whole number", Decimal: "a number", bool: "true or false"}
_SECRET = re.compile("passw|passphrase|private|secret|mnemonic|seed|token", re.IGNORECASE)


@dataclass(frozen=True)
class Config:
    """A config file, read when it is asked for.

    Attributes:
        path: Where it is.
        named: Somebody named it, so that it has to be there.
    """

    path: Path
    named: bool = False

    @cached_property
    def values(self) -> dict[str, str | bool]:
        """What the file says, by key, paths made relative to where the command runs; nothing where there is no file.

        Raises:
            UsageError: If the file cannot be read, or says something that no setting is.
        """
        try:
            raw = read_regular(self.path, _MOST)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not self.named:
                return {}
            raise UsageError(
                f"there is no config file to read at {self.path} ({error.strerror}): name another, or write one with "
                "`fedledger init`"
            ) from None
        return parse(raw, self.path)


def parse(raw: bytes, path: Path) -> dict[str, str | bool]:
    """Read a config file's bytes.

    Args:
        raw: The bytes, TOML.
        path: Where they come from.

    Raises:
        UsageError: If they are no TOML, or say something that no setting is.
    """
    import tomllib

    try:
        text = raw.decode("utf-8")
        found = tomllib.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(f"{path} is no TOML file ({why}): correct it, or name another") from None
    return {key: _value(key, value, path, _place(path, text, key)) for key, value in found.items()}


def _value(key: str, value: Any, path: Path, place: str) -> str | bool:
    if key not in _KEYS:
        raise UsageError(_unknown(key, path, place))
    if type(value) not in _KEYS[key]:
        raise UsageError(f"{place}: {key} is {_shown(value)}: give {' or '.join(_WORDS[one] for one in _KEYS[key])}")
    if isinstance(value, bool):
        return value
    said = str(value)
    if not said.isprintable() or not said:
        raise UsageError(f"{place}: {key} is empty, or has letters that do not print: correct it, or take the line out")
    if key == "role" and said not in ROLES:
        raise UsageError(f"{place}: role is {said!r}: give {', '.join(ROLES[:-1])} or {ROLES[-1]}")
    return _beside(path, said) if key in PATHS and not is_url(said) else said


def _unknown(key: str, path: Path, place: str) -> str:
    from difflib import get_close_matches

    if _SECRET.search(key) and not get_close_matches(key, KEYS, cutoff=0.9):
        instead = "set FEDLEDGER_STORE_TOKEN" if "token" in key.lower() else "use password_file and keystore"
        return f"{place}: secrets do not belong in {path.name} ({key!r}): take it out, and {instead}"
    close = get_close_matches(key, KEYS, 1)
    return f"{place}: unknown key {key!r}: " + (
        f"did you mean {close[0]!r}?" if close else f"known are {', '.join(KEYS)}"
    )


def is_url(store: str) -> bool:
    """Whether a store is a node's address, and not a folder."""
    return "://" in store


def _beside(path: Path, said: str) -> str:
    """A path of the file, which is relative to the file's folder."""
    said = os.path.expanduser(said)
    return said if said.startswith("~") else str(path.parent / said)


def _shown(value: Any) -> str:
    return _WORDS.get(type(value), "a table" if isinstance(value, dict) else "a list or a date")


def _place(path: Path, text: str, key: str) -> str:
    """The file, and the line where its text shows the key as such."""
    written = rf"""\s*(\[\s*)?["']?{re.escape(key)}["']?\s*[].=]"""
    lines = (number for number, line in enumerate(text.splitlines(), 1) if re.match(written, line))
    return next((f"{path}, line {number}" for number in lines), str(path))
