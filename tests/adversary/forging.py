"""Histories that are forged as a whole, and calls that no client of ours writes: for whoever has a chain of its own."""

from collections.abc import Iterable
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from ledger.audit.evidence import read_folder
from ledger.chain.signing import SignedUpdate, sign_update
from ledger.cid import Cid
from ledger.entries import Entry
from tests.adversary.frauds import Scene
from tests.world import World, tensors

RELAY = "relayUpdates(uint32,((bytes32,uint8),bytes32,uint64,bytes32,bytes32)[])"
ABORT = "abort(uint32,bytes32,uint8,(bytes32,uint8))"
Row = dict[str, Any]


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def call(function: str, *words: bytes) -> bytes:
    return keccak(function.encode())[:4] + b"".join(words)


def signed_row(scene: Scene, account: LocalAccount, data: bytes, **fields: Any) -> Row:
    """A line of transactions.jsonl, signed by an account."""
    genesis = read_folder(scene.folder).genesis
    asked: dict[str, Any] = {
        "type": 2,
        "chainId": genesis.chain_id,
        "nonce": 0,
        "gas": 500_000,
        "value": 0,
        "data": data,
    }
    asked |= {"maxPriorityFeePerGas": 1, "maxFeePerGas": 10**9, "to": to_checksum_address(genesis.ledger)}
    signed = account.sign_transaction(asked | fields)
    raw = "0x" + bytes(signed.raw_transaction).hex()
    return {"transaction": "0x" + bytes(signed.hash).hex(), "raw": raw, "gas_used": 1}


def forge(scene: Scene, entries: Iterable[Entry], more: Iterable[Row] = ()) -> None:
    """Write a history that is consistent with itself: these entries, with the transactions that they name."""
    scene.rewrite(list(entries))
    rows = {row["transaction"]: row for row in [*scene.transactions(), *more]}
    named = dict.fromkeys(entry.transaction for entry, _ in scene.entries)
    scene.write_transactions([rows[name] for name in named if name in rows])


def signed_updates(world: World, *members: int) -> list[SignedUpdate]:
    """Updates for the newest round, signed by their members and not posted yet."""
    history = world.contract.history()
    known = history.rounds[history.latest_round]
    return [
        sign_update(
            world.participants[member - 1],
            history.genesis,
            known.number,
            known.opening_head,
            world.store.put(world.update(member, tensors(member))),
            10,
        )
        for member in members
    ]


def element(cid: Cid, weight: int, r: bytes, vs: bytes) -> bytes:
    """One signed update as `relayUpdates` takes it."""
    return cid.digest + word(cid.codec) + bytes(32) + word(weight) + r + vs


def relay(number: int, *elements: bytes, offset: int = 64, gap: bytes = b"") -> bytes:
    """The call that carries them, with its list at an offset of one's choice."""
    return call(RELAY, word(number), word(offset), gap, word(len(elements)), *elements)


def send(world: World, account: LocalAccount, to: str | None, data: bytes, **fields: Any) -> Any:
    """Send a transaction, and give its receipt."""
    web3 = world.chain.web3
    asked: dict[str, Any] = {
        "nonce": web3.eth.get_transaction_count(account.address),
        "gas": 900_000,
        "value": 0,
        "data": data,
    }
    asked |= fields or {
        "type": 2, "chainId": web3.eth.chain_id, "maxPriorityFeePerGas": 1, "maxFeePerGas": 10**11
    }  # fmt: skip
    asked |= {} if to is None else {"to": to_checksum_address(to)}
    raw = account.sign_transaction(asked).raw_transaction
    receipt = web3.eth.wait_for_transaction_receipt(web3.eth.send_raw_transaction(raw))
    assert receipt["status"] == 1
    return receipt
