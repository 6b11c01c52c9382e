"""What the devnet answers: the methods of Ethereum's JSON-RPC that clients need, as real nodes answer them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, cast

from eth.abc import BlockHeaderAPI, SignedTransactionAPI
from eth.vm.spoof import SpoofTransaction
from eth_utils.exceptions import ValidationError

from ledger import __version__
from ledger.chain.devnet import CHAIN_ID, GAS_LIMIT, DevnetChain
from ledger.chain.devnet_json import (
    SERVER_ERROR,
    address,
    any_of,
    block_json,
    data,
    logs_json,
    most,
    quantity,
    receipt_json,
    tip_of,
    to_hex,
    transaction_json,
    understood,
)
from ledger.chain.rpc_server import INVALID_PARAMS, METHOD_NOT_FOUND, RpcError

_TIP = 10**9
"""What transactions are told to pay above the base fee, in wei for a unit of gas."""


class DevnetRpc:
    """Answers calls on a chain, one at a time."""

    def __init__(self, chain: DevnetChain) -> None:
        self._chain = chain
        self._lock = Lock()
        self._logs: list[list[dict[str, Any]]] = []  # by block; blocks are never taken back
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: f"fedledger-devnet/{__version__}",
            "net_version": lambda: str(CHAIN_ID),
            "net_listening": lambda: True,
            "eth_syncing": lambda: False,
            "eth_accounts": list,
            "eth_chainId": lambda: hex(CHAIN_ID),
            "eth_blockNumber": lambda: hex(chain.head.block_number),
            "eth_gasPrice": lambda: hex(chain.base_fee + _TIP),
            "eth_maxPriorityFeePerGas": lambda: hex(_TIP),
            "eth_getBalance": self._balance,
            "eth_getTransactionCount": self._nonce,
            "eth_getCode": self._code,
            "eth_getStorageAt": self._storage,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_sendRawTransaction": self._send,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getTransactionByHash": self._transaction,
            "eth_getRawTransactionByHash": self._raw_transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getLogs": self._get_logs,
        }

    def __call__(self, method: str, parameters: list[Any]) -> Any:
        """Answer a method.

        Raises:
            RpcError: If there is no such method, or it cannot be answered.
        """
        if method not in self._methods:
            raise RpcError(METHOD_NOT_FOUND, f"the method {method[:100]} does not exist on this chain")
        with self._lock:
            try:
                return self._methods[method](*parameters)
            except TypeError as error:
                if "positional argument" not in str(error):
                    raise
                raise RpcError(INVALID_PARAMS, f"{method} does not take {len(parameters)} parameters") from None

    def close(self) -> None:
        """Wait for the call that is being answered, and leave the chain's folder to others."""
        with self._lock:
            self._chain.close()

    # --------------------------------------------------------------- accounts

    def _balance(self, account: Any, at: Any = "latest") -> str:
        self._grant(address(account), at)
        return hex(self._chain.state_at(self._header(at)).get_balance(address(account)))

    def _nonce(self, account: Any, at: Any = "latest") -> str:
        self._grant(address(account), at)
        return hex(self._chain.state_at(self._header(at)).get_nonce(address(account)))

    def _grant(self, account: Any, at: Any) -> None:
        """Whoever asks for the present state of its account has ether."""
        state = self._chain.state_at(self._chain.head)
        if at in ("latest", "pending") and not state.get_balance(account) and not state.get_code(account):
            self._chain.grant(account)

    def _code(self, account: Any, at: Any = "latest") -> str:
        return to_hex(self._chain.state_at(self._header(at)).get_code(address(account)))

    def _storage(self, account: Any, slot: Any, at: Any = "latest") -> str:
        value = self._chain.state_at(self._header(at)).get_storage(address(account), quantity(slot))
        return to_hex(value.to_bytes(32, "big"))

    # ------------------------------------------------------------------ calls

    def _call(self, transaction: Any, at: Any = "latest") -> str:
        header = self._chain.pending() if at == "latest" else self._header(at)
        state = self._chain.state_at(header)
        with understood():
            computation = state.apply_transaction(self._tried(transaction, state, header))
            computation.raise_if_error()
        return to_hex(computation.output)

    def _estimate(self, transaction: Any, at: Any = "pending") -> str:
        """The gas that it takes, and what calls inside of it must leave over (EIP-150)."""
        header = self._chain.pending() if at == "latest" else self._header(at)
        state, again = self._chain.state_at(header), self._chain.state_at(header)
        tried = self._tried(transaction, state, header)
        with understood():
            computation = state.apply_transaction(tried)
            computation.raise_if_error()
            taken = tried.gas - computation.get_gas_remaining()
            enough = min(tried.gas, taken + taken // 32)
            fails = again.apply_transaction(cast(SignedTransactionAPI, SpoofTransaction(tried, gas=enough))).is_error
            return hex(tried.gas if fails else enough)

    def _tried(self, asked: Any, state: Any, header: BlockHeaderAPI) -> Any:
        """The transaction that a call describes, from whom it says, and free of charge."""
        if not isinstance(asked, dict):
            raise RpcError(INVALID_PARAMS, "a call is an object")
        sender = address(asked.get("from") or "0x" + "00" * 20)
        to, given = asked.get("to"), asked.get("input", asked.get("data"))
        gas = quantity(asked["gas"]) if asked.get("gas") else header.gas_limit
        unsigned = self._chain.unsigned(
            nonce=state.get_nonce(sender),
            gas_price=0,
            gas=min(gas, header.gas_limit),
            to=address(to) if to else b"",
            value=quantity(asked["value"]) if asked.get("value") else 0,
            data=data(given) if given else b"",
        )
        return SpoofTransaction(unsigned, from_=sender)

    def _send(self, raw: Any) -> str:
        try:
            transaction = self._chain.decode(data(raw))
            sender = transaction.sender
        except RpcError:
            raise
        except Exception as error:  # py-evm raises many kinds
            raise RpcError(SERVER_ERROR, f"this is no signed transaction ({type(error).__name__})") from None
        self._check(transaction, self._chain.state_at(self._chain.head), sender)
        try:
            self._chain.mine(transaction)
        except ValidationError as error:
            raise RpcError(SERVER_ERROR, f"the transaction is not valid: {error}") from None
        return to_hex(transaction.hash)

    def _check(self, transaction: Any, state: Any, sender: Any) -> None:
        """Refuse a transaction that can be in no block, in the words of geth."""
        if self._chain.find(transaction.hash) is not None:
            raise RpcError(SERVER_ERROR, "already known")
        if transaction.chain_id not in (None, CHAIN_ID):
            raise RpcError(SERVER_ERROR, f"invalid chain id for signer: have {transaction.chain_id} want {CHAIN_ID}")
        if (next_ := state.get_nonce(sender)) != transaction.nonce:
            which = "low" if transaction.nonce < next_ else "high"
            raise RpcError(SERVER_ERROR, f"nonce too {which}: next nonce {next_}, tx nonce {transaction.nonce}")
        if transaction.gas > GAS_LIMIT:
            raise RpcError(SERVER_ERROR, "exceeds block gas limit")
        if transaction.gas < transaction.intrinsic_gas:
            raise RpcError(
                SERVER_ERROR, f"intrinsic gas too low: have {transaction.gas}, want {transaction.intrinsic_gas}"
            )
        price, tip, base_fee = most(transaction), tip_of(transaction), self._chain.base_fee
        if tip > price:
            raise RpcError(SERVER_ERROR, f"max priority fee per gas higher than max fee per gas: {tip}, {price}")
        if price < base_fee:
            raise RpcError(
                SERVER_ERROR, f"max fee per gas less than block base fee: maxFeePerGas: {price}, baseFee: {base_fee}"
            )
        have, want = state.get_balance(sender), transaction.gas * price + transaction.value
        if have < want:
            raise RpcError(SERVER_ERROR, f"insufficient funds for gas * price + value: have {have} want {want}")

    # ----------------------------------------------------------------- blocks

    def _block_by_number(self, at: Any, full: Any = False) -> dict[str, Any] | None:
        if at == "pending":
            return block_json(self._chain.pending(), None, False)
        header = self._find(at)
        return None if header is None else block_json(header, self._chain.block(header), bool(full))

    def _block_by_hash(self, block_hash: Any, full: Any = False) -> dict[str, Any] | None:
        header = self._chain.header_of(data(block_hash, 32))
        return None if header is None else block_json(header, self._chain.block(header), bool(full))

    def _transaction(self, transaction: Any) -> dict[str, Any] | None:
        if (found := self._chain.find(data(transaction, 32))) is None:
            return None
        header, index = found
        return transaction_json(self._chain.block(header).transactions[index], header, index)

    def _raw_transaction(self, transaction: Any) -> str | None:
        if (found := self._chain.find(data(transaction, 32))) is None:
            return None
        return to_hex(self._chain.block(found[0]).transactions[found[1]].encode())

    def _receipt(self, transaction: Any) -> dict[str, Any] | None:
        if (found := self._chain.find(data(transaction, 32))) is None:
            return None
        header, index = found
        block = self._chain.block(header)
        return receipt_json(block, self._chain.receipts(block)[index])

    def _get_logs(self, asked: Any) -> list[dict[str, Any]]:
        if not isinstance(asked, dict):
            raise RpcError(INVALID_PARAMS, "a filter is an object")
        if asked.get("blockHash") is not None:
            header = self._chain.header_of(data(asked["blockHash"], 32))
            if header is None:
                raise RpcError(SERVER_ERROR, "unknown block")
            first = last = int(header.block_number)
        else:
            first = self._number(asked.get("fromBlock") or "latest")
            last = self._number(asked.get("toBlock") or "latest")
        if first > last:
            raise RpcError(INVALID_PARAMS, "the range of blocks ends before it begins")
        addresses, topics = any_of(asked.get("address"), 20), asked.get("topics") or []
        if not isinstance(topics, list) or len(topics) > 4:
            raise RpcError(INVALID_PARAMS, "topics are a list of up to 4")
        wanted = [any_of(one, 32) for one in topics]
        for number in range(len(self._logs), self._chain.head.block_number + 1):
            self._logs.append(self._logs_of(number))
        return [
            log
            for block in self._logs[first : last + 1]
            for log in block
            if (addresses is None or log["address"] in addresses)
            and len(log["topics"]) >= len(wanted)
            and all(one is None or topic in one for one, topic in zip(wanted, log["topics"], strict=False))
        ]

    def _logs_of(self, number: int) -> list[dict[str, Any]]:
        header = self._chain.header(number)
        if header is None or not header.bloom:
            return []
        block = self._chain.block(header)
        return [log for receipt in self._chain.receipts(block) for log in logs_json(block, receipt)]

    def _number(self, at: Any) -> int:
        return self._chain.pending().block_number if at == "pending" else self._quantity_or_tag(at)

    def _quantity_or_tag(self, at: Any) -> int:
        if at in ("latest", "safe", "finalized"):
            return self._chain.head.block_number
        return 0 if at == "earliest" else quantity(at)

    def _find(self, at: Any) -> BlockHeaderAPI | None:
        return self._chain.header(self._quantity_or_tag(at))

    def _header(self, at: Any) -> BlockHeaderAPI:
        header = self._chain.pending() if at == "pending" else self._find(at)
        if header is None:
            raise RpcError(SERVER_ERROR, "header not found")
        return header
