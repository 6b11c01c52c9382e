"""Nodes report in different ways why a call was not taken; here it becomes one of our errors, in one sentence."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import Any

from eth_abi.abi import decode
from eth_hash.auto import keccak
from web3 import Web3
from web3.exceptions import ContractCustomError, ContractLogicError, Web3Exception, Web3RPCError

from ledger.chain.artifact import artifact
from ledger.chain.node import now
from ledger.chain.sentences import sentence
from ledger.errors import FedledgerError, Refused, UnavailableError, UsageError

# What nodes say in words of their own (geth, Erigon, Reth, Besu, Nethermind, anvil, eth-tester).
HELD = re.compile(
    "already.?known|known transaction|already imported|already exists|same hash|replacement|not replace|to replace",
    re.I,
)
"""The node has the transaction, or one with the same nonce that pays as much."""
USED = re.compile("nonce.?(is.)?too.?low|old.?nonce|nonce.?already.?used|invalid transaction nonce", re.I)
"""The nonce is used already: by a transaction in a block."""
CHEAP = re.compile(
    "underpriced|fee.?too.?low|per gas less than|base fee|gas price.*(too low|below)|below.*minimum|minimum needed",
    re.I,
)
"""The fee is too low to be taken."""

_POOR = re.compile(
    "insufficient.?funds|exceeds (account )?balance|cost exceeds|cannot afford|exceeds allowance|not enough funds", re.I
)
_OVERTAKEN = re.compile(f"{USED.pattern}|{HELD.pattern}|nonce.?(is.)?too.?(high|far|distant)|nonce.?gap", re.I)
_NO_GAS = re.compile("out of gas|intrinsic gas|gas limit|gas.?too.?(low|high)|exceeds.*gas cap", re.I)


def explained(error: Exception, web3: Web3, sender: str) -> FedledgerError | None:
    """Why a call of `sender` was not taken; None where `error` says nothing about that: it is a defect then."""
    said = str(error)
    if data := _revert_data(error):
        return refusal(data, _now(web3)) or UnavailableError(
            f"the code called refuses for a reason that no ledger has ({said}): compare the ledger's address"
        )
    if _POOR.search(said):
        return UsageError(
            f"{sender} has too little ether for this transaction: send it some, or, for an update or an acceptance, "
            "sign it and let another account relay it"
        )
    if _OVERTAKEN.search(said):
        return overtaken(sender)
    if CHEAP.search(said):
        return UnavailableError(
            f"the node finds the fee too low ({node_words(error)}): try again, with a higher --max-fee where one is set"
        )
    if _NO_GAS.search(said):
        return UnavailableError(f"the call needs more gas than the chain's blocks have ({said}): carry fewer at once")
    if isinstance(error, ContractLogicError):
        return UnavailableError(
            "the call was refused without a reason: compare the ledger's address, and whether its code is fedledger's"
        )
    if isinstance(error, Web3Exception):
        return UnavailableError(f"the node did not take the call ({node_words(error)}): try again, or use another node")
    return None


def overtaken(sender: str) -> UnavailableError:
    """Another transaction has the nonce of one of `sender`."""
    return UnavailableError(f"another transaction of {sender} took its place: look what it was, and try again")


def refusal(data: bytes, time: int | None) -> Refused | None:
    """The contract's refusal that a call's return data carries; None if it is no error of the contract.

    Args:
        data: What the reverted call returned.
        time: The time of the block in which it was tried, None where it is not known.
    """
    known = _errors().get(data[:4])
    if known is None:
        return None
    values = decode([parameter["type"] for parameter in known["inputs"]], data[4:])
    named = {parameter["name"]: value for parameter, value in zip(known["inputs"], values, strict=True)}
    return Refused(known["name"], sentence(known["name"], named, time))


def node_words(error: Exception) -> str:
    """The node's own message in an error of web3."""
    if isinstance(error, Web3RPCError) and error.rpc_response:
        return str(error.rpc_response["error"].get("message", error))
    return str(error)


def _now(web3: Web3) -> int | None:
    try:
        return now(web3)
    except (Web3Exception, FedledgerError):
        return None  # the node is gone by now; the refusal is worth telling all the same


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
