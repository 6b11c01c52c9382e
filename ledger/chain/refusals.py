"""Nodes report a contract's custom error in different ways; here they all become `Refused`."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import Any

from eth_abi.abi import decode
from eth_hash.auto import keccak
from web3.exceptions import ContractCustomError

from ledger.chain.artifact import artifact
from ledger.errors import Refused


def as_refusal(error: Exception) -> Refused | None:
    """The contract's refusal that `error` carries; None if it is something else."""
    data = _revert_data(error)
    known = _errors().get(data[:4]) if data else None
    if data is None or known is None:
        return None
    values = decode([parameter["type"] for parameter in known["inputs"]], data[4:])
    shown = [
        f"{parameter['name']} {'0x' + value.hex() if isinstance(value, bytes) else value}"
        for parameter, value in zip(known["inputs"], values, strict=True)
    ]
    return Refused(known["name"], ", ".join(shown) or "the contract refused the call")


def _revert_data(error: Exception) -> bytes | None:
    if isinstance(error, ContractCustomError) and isinstance(error.data, str):
        return bytes.fromhex(error.data.removeprefix("0x"))
    # eth-tester has a type of its own, with the revert data's repr in the message.
    shown = re.search(r"execution reverted: (b(['\"]).*\2)$", str(error), re.DOTALL)
    return ast.literal_eval(shown[1]) if shown else None


@cache
def _errors() -> dict[bytes, dict[str, Any]]:
    errors = {}
    for item in artifact().abi:
        if item["type"] == "error":
            signature = f"{item['name']}({','.join(parameter['type'] for parameter in item['inputs'])})"
            errors[keccak(signature.encode())[:4]] = item
    return errors
