"""The compiled contract that the package ships, with its source: no user needs a compiler."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from eth_hash.auto import keccak

EARLIER = {"ae02b0f616cab3c1b2e260dcc1442eab0c066fc74e8eb8fa236fbcec348e4f6a": "0.1.0"}
"""Contracts of earlier versions, which record no grants: the keccak256 of the runtime code, and the version."""


@dataclass(frozen=True)
class Artifact:
    """What the compiler made of ``contracts/FederatedLedger.sol``; both codes as ``0x`` and hex digits.

    Attributes:
        raw: The artifact's file.
        source: The compiler's standard JSON input, from which anybody can compile it again.
    """

    raw: bytes
    source: dict[str, Any]
    abi: list[dict[str, Any]]
    bytecode: str
    runtime_bytecode: str


@cache
def artifact() -> Artifact:
    """The shipped artifact."""
    raw = files(__package__).joinpath("FederatedLedger.json").read_bytes()
    document = json.loads(raw)
    return Artifact(raw, document["input"], document["abi"], document["bytecode"], document["runtimeBytecode"])


def earlier_version(code: bytes) -> str | None:
    """The version of fedledger whose contract has this runtime code, if it is an earlier one than the shipped."""
    return EARLIER.get(keccak(code).hex())
