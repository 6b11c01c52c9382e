"""Blocks, transactions, receipts and logs as Ethereum's JSON-RPC has them, and its parameters, read strictly. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rlp
from eth.abc import BlockAPI
from eth.exceptions import Revert, VMError
from eth.vm.forks.berlin.transactions import TypedTransaction
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak
from eth_typing import Address
from eth_utils.exceptions import ValidationError

from ledger.chain.rpc_server import INVALID_PARAMS, RpcError

SERVER_ERROR = -32000
REVERTED = 3
"""The code that geth gives a call that a contract refused."""
_ERROR = keccak(b"Error(string)")[:4]

# ------------------------------------------------------------------ reading


def quantity(value: Any) -> int:
    """A number: ``0x`` and hex digits."""
    if not isinstance(value, str) or not re.fullmatch("0x[0-9a-fA-F]{1,64}", value):
        raise RpcError(INVALID_PARAMS, f"a number is 0x and hex digits, not {_short(value)}")
    return int(value, 16)


def data(value: Any, length: int | None = None) -> bytes:
    """Bytes: ``0x`` and two hex digits for each."""
    if not isinstance(value, str) or not re.fullmatch("0x([0-9a-fA-F]{2})*", value):
        raise RpcError(INVALID_PARAMS, f"bytes are 0x and two hex digits for each, not {_short(value)}")
    raw = bytes.fromhex(value[2:])
    if length not in (None, len(raw)):
        raise RpcError(INVALID_PARAMS, f"{length} bytes are expected here, not {len(raw)}")
    return raw


def address(value: Any) -> Address:
    """An account: 20 bytes."""
    return Address(data(value, 20))


def any_of(value: Any, length: int) -> set[str] | None:
    """What a filter lets through, an address or a topic, or a list of them; None for all."""
    if value is None or value == []:
        return None
    return {to_hex(data(one, length)) for one in (value if isinstance(value, list) else [value])}


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) < 40 else shown[:40] + "…"


@contextmanager
def understood() -> Iterator[None]:
    """What makes a call fail, as nodes say it: with the contract's own words, where it has some."""
    try:
        yield
    except Revert as error:
        said = error.args[0] if error.args and isinstance(error.args[0], bytes) else b""
        raise RpcError(REVERTED, "execution reverted" + _reason(said), to_hex(said)) from None
    except VMError as error:
        raise RpcError(SERVER_ERROR, f"the call fails: {type(error).__name__}: {error}") from None
    except ValidationError as error:
        raise RpcError(SERVER_ERROR, f"the call is not valid: {error}") from None


def _reason(said: bytes) -> str:
    if said[:4] != _ERROR:
        return ""
    try:
        return f": {decode(['string'], said[4:])[0]}"
    except (DecodingError, UnicodeDecodeError):
        return ""


# ------------------------------------------------------------------ writing


def to_hex(raw: bytes) -> str:
    """Bytes as JSON-RPC has them."""
    return "0x" + raw.hex()


def block_json(header: Any, block: BlockAPI | None, full: bool) -> dict[str, Any]:
    """A block.

    Args:
        header: Its header.
        block: The block, None for one that is not made yet.
        full: Its transactions stand in it, not their hashes alone.
    """
    transactions = block.transactions if block else ()
    return {
        "number": hex(header.block_number),
        "hash": to_hex(header.hash) if block else None,
        "parentHash": to_hex(header.parent_hash),
        "nonce": to_hex(header.nonce),
        "sha3Uncles": to_hex(header.uncles_hash),
        "logsBloom": _bloom(header.bloom),
        "transactionsRoot": to_hex(header.transaction_root),
        "stateRoot": to_hex(header.state_root),
        "receiptsRoot": to_hex(header.receipt_root),
        "miner": to_hex(header.coinbase),
        "difficulty": hex(header.difficulty),
        "totalDifficulty": hex(0),
        "extraData": to_hex(header.extra_data),
        "mixHash": to_hex(header.mix_hash),
        "size": hex(len(rlp.encode(block)) if block else 0),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "timestamp": hex(header.timestamp),
        "baseFeePerGas": hex(header.base_fee_per_gas),
        "withdrawalsRoot": to_hex(header.withdrawals_root),
        "blobGasUsed": hex(header.blob_gas_used),
        "excessBlobGas": hex(header.excess_blob_gas),
        "parentBeaconBlockRoot": to_hex(header.parent_beacon_block_root),
        "requestsHash": to_hex(header.requests_hash),
        "transactions": [
            transaction_json(one, header, index) if full else to_hex(one.hash) for index, one in enumerate(transactions)
        ],
        "uncles": [],
        "withdrawals": [
            {
                "index": hex(one.index),
                "validatorIndex": hex(one.validator_index),
                "address": to_hex(one.address),
                "amount": hex(one.amount),
            }
            for one in (block.withdrawals if block else ())
        ],
    }


def transaction_json(transaction: Any, header: Any, index: int) -> dict[str, Any]:
    """A transaction in the block of that header."""
    type_ = _type_of(transaction)
    said: dict[str, Any] = {
        "type": hex(type_),
        "hash": to_hex(transaction.hash),
        "blockHash": to_hex(header.hash),
        "blockNumber": hex(header.block_number),
        "transactionIndex": hex(index),
        "from": to_hex(transaction.sender),
        "to": to_hex(transaction.to) if transaction.to else None,
        "nonce": hex(transaction.nonce),
        "gas": hex(transaction.gas),
        "gasPrice": hex(_paid(transaction, header)),
        "value": hex(transaction.value),
        "input": to_hex(transaction.data),
        "v": hex(transaction.y_parity if type_ else transaction.v),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
    }
    if transaction.chain_id is not None:
        said["chainId"] = hex(transaction.chain_id)
    if type_:
        said["yParity"] = hex(transaction.y_parity)
        said["accessList"] = [
            {"address": to_hex(account), "storageKeys": [_word(slot) for slot in slots]}
            for account, slots in transaction.access_list
        ]
    if type_ >= 2:
        said["maxFeePerGas"] = hex(transaction.max_fee_per_gas)
        said["maxPriorityFeePerGas"] = hex(transaction.max_priority_fee_per_gas)
    return said


def receipt_json(block: BlockAPI, receipt: Any) -> dict[str, Any]:
    """The receipt of a block's only transaction."""
    (transaction,) = block.transactions
    created = None if transaction.to else keccak(rlp.encode([transaction.sender, transaction.nonce]))[12:]
    status = int.from_bytes(receipt.state_root, "big")
    return {
        "type": hex(_type_of(transaction)),
        "transactionHash": to_hex(transaction.hash),
        "transactionIndex": "0x0",
        "blockHash": to_hex(block.hash),
        "blockNumber": hex(block.number),
        "from": to_hex(transaction.sender),
        "to": to_hex(transaction.to) if transaction.to else None,
        "contractAddress": to_hex(created) if created and status else None,
        "gasUsed": hex(receipt.gas_used),
        "cumulativeGasUsed": hex(receipt.gas_used),
        "effectiveGasPrice": hex(_paid(transaction, block.header)),
        "logs": logs_json(block, receipt),
        "logsBloom": _bloom(receipt.bloom),
        "status": hex(status),
    }


def logs_json(block: BlockAPI, receipt: Any) -> list[dict[str, Any]]:
    """The logs of a block's only transaction."""
    return [
        {
            "address": to_hex(log.address),
            "topics": [_word(topic) for topic in log.topics],
            "data": to_hex(log.data),
            "blockNumber": hex(block.number),
            "blockHash": to_hex(block.hash),
            "blockTimestamp": hex(block.header.timestamp),
            "transactionHash": to_hex(block.transactions[0].hash),
            "transactionIndex": "0x0",
            "logIndex": hex(index),
            "removed": False,
        }
        for index, log in enumerate(receipt.logs)
    ]


def most(transaction: Any) -> int:
    """What a transaction pays at most for a unit of gas, in wei."""
    return int(transaction.max_fee_per_gas if _type_of(transaction) >= 2 else transaction.gas_price)


def tip_of(transaction: Any) -> int:
    """What a transaction pays at most above the base fee, in wei for a unit of gas."""
    return int(transaction.max_priority_fee_per_gas if _type_of(transaction) >= 2 else transaction.gas_price)


def _paid(transaction: Any, header: Any) -> int:
    return min(most(transaction), int(header.base_fee_per_gas + tip_of(transaction)))


def _type_of(transaction: Any) -> int:
    return transaction.type_id or 0 if isinstance(transaction, TypedTransaction) else 0


def _word(number: int) -> str:
    return to_hex(number.to_bytes(32, "big"))


def _bloom(bloom: int) -> str:
    return to_hex(bloom.to_bytes(256, "big"))
