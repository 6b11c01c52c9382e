"""The compiled contract that the package ships: no user needs a compiler."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Artifact:
    """What the compiler made of ``contracts/FederatedLedger.sol``; both codes as ``0x`` and hex digits."""

    abi: list[dict[str, Any]]
    bytecode: str
    runtime_bytecode: str


@cache
def artifact() -> Artifact:
    """The shipped artifact."""
    document = json.loads(files(__package__).joinpath("FederatedLedger.json").read_text(encoding="utf-8"))
    return Artifact(document["abi"], document["bytecode"], document["runtimeBytecode"])
