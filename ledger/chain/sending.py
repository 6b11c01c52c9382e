"""A call becomes a transaction in a block, once, whatever dies on the way.

1. One process at a time sends for a journal (a lock on its file).
2. What the journal has of the account is brought to its end first, in the order of nonces: sent again, byte for byte,
   and waited for until one of its variants is in a block. If it is the call that is asked for, that is all.
3. Else the call is estimated (where the contract refuses it, that is all), signed, written to the journal, and sent.
4. A transaction that is in no block for long is signed again with the same nonce and higher fees; only one of those
   variants can ever be in a block.
5. What is in a block, or never can be, is dropped from the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeAlias, cast

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.contract.contract import ContractConstructor, ContractFunction
from web3.exceptions import TransactionIndexingInProgress, TransactionNotFound, Web3Exception
from web3.types import BlockData, RPCEndpoint, TxParams, TxReceipt

from ledger.chain.journal import Journal, Pending
from ledger.chain.refusals import CHEAP, HELD, USED, explained, overtaken
from ledger.errors import FedledgerError, UnavailableError

Call: TypeAlias = ContractFunction | ContractConstructor

_GWEI = 10**9
_PRIORITY = _GWEI  # wei: where the node does not say what is usual
_MOST_GAS = 1 << 24  # of one transaction, by EIP-7825
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between looks for a receipt: test chains make blocks at once
_LOOKS = 6  # looks for a receipt, after which a used nonce was another's: a node's index can be behind its state
_STALE = 3  # times that a node may give a nonce that is used already: one that lags behind others


@dataclass(frozen=True)
class Sending:
    """How transactions are sent.

    Attributes:
        journal: The file in which signed transactions are kept until they are in a block; None keeps none.
        max_fee: The most to pay for a unit of gas, in wei; None for no cap.
        patience: Seconds after which a transaction that is in no block is sent again with a higher fee.
        give_up: Seconds after which waiting ends.
        before: Done once the contract would take a call, before its transaction is signed.
    """

    journal: Path | None = None
    max_fee: int | None = None
    patience: float = 60.0
    give_up: float = 600.0
    before: Callable[[], object] = lambda: None


PLAIN = Sending()
"""No journal, no cap."""


def send(web3: Web3, account: LocalAccount, call: Call, sending: Sending) -> TxReceipt:
    """Sign a call with the account's own key, send it, and wait until it is in a block.

    Sent again after a crash, the same call (sender, chain, receiver, data) goes on where it was.

    Raises:
        Refused: If the contract refuses.
        UsageError: If the account has too little ether.
        UnavailableError: If the node does not take the transaction, it is in no block in time or too dear, another one
            took its place, it failed on the chain for another reason, or the journal cannot be kept.
    """
    try:
        with Journal.locked(sending.journal) as journal:
            sender = _Sender(web3, account, sending, journal)
            asked = sender.unsigned(call)
            receipt = sender.record(call, asked)
        if receipt["status"] != 1:
            # What the node's estimate allowed was refused in its block; called again there, it says why.
            web3.eth.call(cast(TxParams, asked), receipt["blockNumber"])
    except FedledgerError:
        raise
    except Exception as error:
        known = explained(error, web3, account.address)
        if known is None:
            raise
        raise known from None
    if receipt["status"] != 1:
        name = Web3.to_hex(receipt["transactionHash"])
        raise UnavailableError(f"transaction {name} failed on the chain, and not by the contract: try again")
    return receipt


class _Sender:
    def __init__(self, web3: Web3, account: LocalAccount, sending: Sending, journal: Journal) -> None:
        self.web3, self.account, self.sending, self.journal = web3, account, sending, journal
        self.chain_id = web3.eth.chain_id

    def unsigned(self, call: Call) -> dict[str, Any]:
        """Sender, receiver (none, if it deploys a contract) and data of a call."""
        nothing = {"gas": 0, "gasPrice": 0, "nonce": 0, "value": 0, "chainId": self.chain_id}
        built = call.build_transaction(cast(TxParams, {**nothing, "from": self.account.address}))
        to = {"to": built["to"]} if built.get("to") else {}
        return {"from": self.account.address, **to, "data": built["data"]}

    def record(self, call: Call, asked: Mapping[str, Any]) -> TxReceipt:
        """The receipt of the call, and nothing of it in the journal any more."""
        nonce = self._nonce()
        for at, variants in self.journal.pending(self.chain_id, self.account.address).items():
            same = _same(variants[0], asked)
            if at > nonce and not same:
                break  # a transaction before it is gone, with a block that was taken back: this call takes that place
            if (refusal := self._offered_again(variants)) is not None:
                if same:
                    raise refusal
                self.journal.drop(variants)  # this call takes its nonce: only one of the two can be in a block
                break
            receipt = self._wait(variants)
            self.journal.drop(variants)
            if same and receipt is not None:
                return receipt
            nonce = max(nonce, at + 1)
        return self._fresh(call, asked)

    def _offered_again(self, variants: list[Pending]) -> Exception | None:
        """Send a journalled transaction again, unless it is in a block; the node's error if it takes no variant."""
        if self._receipt(variants) is not None:
            return None
        errors = [self._offer(one) for one in variants]
        last = None if None in errors else errors[-1]
        if last is not None and CHEAP.search(str(last)):
            self._push(variants)
            return None
        return None if USED.search(str(last)) else last

    def _fresh(self, call: Call, asked: Mapping[str, Any]) -> TxReceipt:
        latest = self.web3.eth.get_block("latest")
        gas, fees = self._gas(call, latest), self._fees(latest)
        self.sending.before()
        for _ in range(_STALE):
            taken = self.journal.pending(self.chain_id, self.account.address)
            nonce = self._nonce()
            while nonce in taken:
                nonce += 1
            one = self._sign({**asked, **fees, "gas": gas, "nonce": nonce})
            self.journal.add(one)
            if (error := self._offer(one)) is not None and not USED.search(str(error)):
                self.journal.drop([one])  # the node has refused it: it is on no way
                raise error
            variants = [one]
            receipt = self._wait(variants)
            self.journal.drop(variants)
            if receipt is not None:
                return receipt
            if error is None:
                break
        raise overtaken(self.account.address)

    def _wait(self, variants: list[Pending]) -> TxReceipt | None:
        """The receipt of one of the variants, to which higher ones are added; None if another one has their nonce."""
        started = tried = monotonic()
        pause, used = _FIRST_PAUSE, 0
        while (receipt := self._receipt(variants)) is None:
            nonce, now = self.web3.eth.get_transaction_count(self.account.address), monotonic()
            used = used + 1 if nonce > variants[0].signed.nonce else 0
            if used == _LOOKS:
                return None
            if now - started > self.sending.give_up:
                raise self._gave_up(variants, nonce)
            if now - tried > self.sending.patience and not used:
                self._push(variants)
                tried = monotonic()
            sleep(pause)
            pause = min(1.5 * pause, _LONGEST_PAUSE)
        return receipt

    def _gave_up(self, variants: list[Pending], nonce: int) -> UnavailableError:
        one = variants[-1].signed
        gap = f" (it waits for transaction {nonce} of the account, which the node does not have)"
        kept = f"it is kept in {self.sending.journal}, and the same command again goes on waiting for it"
        return UnavailableError(
            f"transaction {one.hash} is in no block after {self.sending.give_up:g} seconds"
            f"{gap if nonce < one.nonce else ''}: {kept if self.sending.journal else 'look for it before repeating it'}"
        )

    def _push(self, variants: list[Pending]) -> None:
        """Send it with higher fees; where that cannot be, send it again as it was: a node may have lost it."""
        if (higher := self._higher(variants[-1])) is not None:
            self.journal.add(higher)
            if self._offer(higher) is None:
                variants.append(higher)
                return
            self.journal.drop([higher])
        self._offer(variants[-1])

    def _higher(self, last: Pending) -> Pending | None:
        """The same with fees raised by a quarter (nodes want a tenth, some 12.5 %), or to what is usual by now."""
        try:
            usual = self._fees(self.web3.eth.get_block("latest"))
        except UnavailableError:
            return None  # above the cap
        cap, raised = self.sending.max_fee, dict[str, int]()
        old = {"gasPrice": last.fee} if last.priority is None else _dynamic(last.fee, last.priority)
        for name, value in old.items():
            wanted = max(usual.get(name, 0), -(-value * 5 // 4))
            raised[name] = wanted if cap is None else min(wanted, cap)
        if not all(raised[name] * 8 >= value * 9 for name, value in old.items()) or raised == old:
            return None
        signed = last.signed
        to = {"to": Web3.to_checksum_address(signed.to)} if signed.to else {}
        return self._sign({**to, **raised, "data": signed.data, "gas": last.gas, "nonce": signed.nonce})

    def _sign(self, fields: Mapping[str, Any]) -> Pending:
        unsigned = {**fields, "value": 0, "chainId": self.chain_id}
        unsigned.pop("from", None)
        return Pending.parse(bytes(self.account.sign_transaction(unsigned).raw_transaction))

    # ------------------------------------------------------------- questions to the node

    def _offer(self, one: Pending) -> Exception | None:
        """Send it; the node's error, unless that says that the node has it or a variant of it."""
        try:
            self.web3.eth.send_raw_transaction(one.raw)
        except FedledgerError:
            raise
        except Exception as error:  # of eth-tester, too, which has types of its own
            return None if HELD.search(str(error)) else error
        return None

    def _receipt(self, variants: list[Pending]) -> TxReceipt | None:
        for one in reversed(variants):
            try:
                return self.web3.eth.get_transaction_receipt(cast(Any, one.signed.hash))
            except (TransactionNotFound, TransactionIndexingInProgress):
                pass
        return None

    def _nonce(self) -> int:
        """The next nonce, behind what waits in the node's pool, where the node counts that."""
        try:
            return self.web3.eth.get_transaction_count(self.account.address, "pending")
        except Web3Exception:
            return self.web3.eth.get_transaction_count(self.account.address)

    def _gas(self, call: Call, latest: BlockData) -> int:
        """The estimate and a quarter: what entries recorded meanwhile can add, and unused gas costs nothing."""
        estimate = call.estimate_gas({"from": self.account.address})
        most = min(latest["gasLimit"], _MOST_GAS)
        return max(estimate, min(estimate * 5 // 4, most))

    def _fees(self, latest: BlockData) -> dict[str, int]:
        """What is usual to pay for a unit of gas, with room for a base fee that doubles, as far as the cap allows.

        Raises:
            UnavailableError: If it is more than the cap.
        """
        base, cap = latest.get("baseFeePerGas"), self.sending.max_fee
        priority = 0 if base is None else self._priority(base)
        needed = self.web3.eth.gas_price if base is None else base + priority
        if cap is not None and needed > cap:
            raise UnavailableError(
                f"the chain asks {needed / _GWEI:g} gwei for a unit of gas, the cap is {cap / _GWEI:g}: wait, or raise "
                "--max-fee"
            )
        if base is None:
            return {"gasPrice": needed}
        most = needed + base
        return _dynamic(most if cap is None else min(most, cap), priority)

    def _priority(self, base: int) -> int:
        if base == 0 and self.web3.eth.gas_price == 0:
            return 0  # a chain whose gas is free, as those of consortia are
        try:
            told: Any = self.web3.manager.request_blocking(RPCEndpoint("eth_maxPriorityFeePerGas"), [])
        except Web3Exception:
            return _PRIORITY
        return int(told, 16) if isinstance(told, str) else int(told)


def _dynamic(fee: int, priority: int) -> dict[str, int]:
    return {"maxFeePerGas": fee, "maxPriorityFeePerGas": priority}


def _same(one: Pending, asked: Mapping[str, Any]) -> bool:
    to, data = asked.get("to"), asked["data"]
    return (one.signed.to, one.signed.data) == (to and to.lower(), bytes.fromhex(data.removeprefix("0x")))
