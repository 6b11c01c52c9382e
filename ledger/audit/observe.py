"""Everything that a node shows of a ledger, collected for an audit; nothing of it is believed here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import rlp
from eth_hash.auto import keccak
from web3 import Web3
from web3.exceptions import Web3Exception
from web3.types import BlockData, RPCEndpoint, TxData

from ledger.audit.evidence import Evidence, Sent
from ledger.audit.proof import HEAD_SLOT, StorageProof
from ledger.chain.artifact import artifact, earlier_version
from ledger.chain.contract import LedgerContract
from ledger.errors import UnavailableError
from ledger.storage import Blobs

# fmt: off
_HEADER = (
    "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "difficulty",
    "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce", "baseFeePerGas", "withdrawalsRoot",
    "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash",
)
# fmt: on


def observe(
    contract: LedgerContract,
    store: Blobs,
    block_hash: bytes | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Evidence:
    """Collect what an audit of a live ledger looks at.

    Args:
        contract: The ledger, on a node.
        store: Where its blobs are.
        block_hash: A block from which to prove the head; without it, the block of the last entry, so that the same
            history is always observed alike.
        progress: Told how far it is.

    Raises:
        UnavailableError: If the node gives no proof from the block asked for.
    """
    web3 = contract.web3
    shown, head = contract.shown()
    hashes = list(dict.fromkeys(entry.transaction for entry, _ in shown))
    sent = {}
    for done, transaction in enumerate(hashes):
        progress("reading transactions", done, len(hashes))
        if (one := _sent(web3, transaction)) is not None:
            sent[transaction] = one
    last = shown[-1][0].block if shown else contract.deployed
    code = bytes(web3.eth.get_code(contract.address))
    proof = _proof(contract, block_hash or last)
    if block_hash is not None and proof is None:
        raise UnavailableError(f"the node gives no storage proof from block 0x{block_hash.hex()}: use another node")
    beside = None if earlier_version(code) else artifact().raw  # an earlier contract's source is not shipped any more
    return Evidence(contract.genesis, head, tuple(shown), (), store, code, sent, proof, beside)


def _sent(web3: Web3, transaction: str) -> Sent | None:
    """The signed transaction; None where it cannot be had, for the audit to say so of its entries."""
    raw = _raw(web3.eth.get_transaction(cast(Any, transaction)))
    if Web3.to_hex(keccak(raw)) != transaction:  # of another type: what the node keeps itself
        arguments = [transaction]
        told = cast(Any, web3.provider).make_request(RPCEndpoint("eth_getRawTransactionByHash"), arguments)
        raw = _bytes(told.get("result") or "0x")
        if Web3.to_hex(keccak(raw)) != transaction:
            return None
    return Sent(raw, web3.eth.get_transaction_receipt(cast(Any, transaction))["gasUsed"])


def _raw(found: TxData) -> bytes:
    """The signed bytes, written again from what the node tells of them: not every node keeps them as they were."""
    told = cast(dict[str, Any], found)
    access = [
        [_bytes(one["address"]), [_bytes(key) for key in one["storageKeys"]]] for one in told.get("accessList", [])
    ]
    call = [told["gas"], _bytes(told.get("to") or "0x"), told["value"], _bytes(told["input"])]
    signature = [told["v"], *(int.from_bytes(_bytes(told[name]), "big") for name in "rs")]
    match told.get("type", 0):
        case 0:
            return bytes(rlp.encode([told["nonce"], told["gasPrice"], *call, *signature]))
        case 1:
            fields = [told["chainId"], told["nonce"], told["gasPrice"], *call, access, *signature]
            return b"\x01" + bytes(rlp.encode(fields))
        case 2:
            fees = [told["maxPriorityFeePerGas"], told["maxFeePerGas"]]
            return b"\x02" + bytes(rlp.encode([told["chainId"], told["nonce"], *fees, *call, access, *signature]))
        case _:
            return b""


def _proof(contract: LedgerContract, block: int | bytes) -> StorageProof | None:
    """The proof of the head in a block, None where the node gives none that leads from the block's hash."""
    web3 = contract.web3
    try:
        found = web3.eth.get_block(Web3.to_hex(block) if isinstance(block, bytes) else block)
    except Web3Exception:
        return None
    slot = "0x" + HEAD_SLOT.to_bytes(32, "big").hex()  # web3.py's own get_proof writes 0x0, which some nodes refuse
    arguments = [contract.address, [slot], hex(found["number"])]
    shown = cast(Any, web3.provider).make_request(RPCEndpoint("eth_getProof"), arguments).get("result")
    header = header_rlp(found)
    if not shown or (isinstance(block, int) and keccak(header) != bytes(found["hash"])):
        return None  # what is not asked for is left out where it cannot be followed
    account, storage = shown["accountProof"], shown["storageProof"][0]["proof"]
    return StorageProof(header, tuple(map(_bytes, account)), tuple(map(_bytes, storage)))


def header_rlp(block: BlockData) -> bytes:
    """A block's header, as it is hashed."""
    fields: list[Any] = []
    for name in _HEADER:
        if (value := cast(dict[str, Any], block).get(name)) is None:
            break  # forks add fields at the end
        fields.append(value if isinstance(value, int) else _bytes(value))
    return bytes(rlp.encode(fields))


def _bytes(value: str | bytes) -> bytes:
    return bytes.fromhex(value[2:]) if isinstance(value, str) else bytes(value)
