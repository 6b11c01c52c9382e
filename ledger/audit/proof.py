"""A storage proof: the head that the contract's storage held in a block whose hash the auditor trusts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from eth_hash.auto import keccak
from rlp.exceptions import RLPException
from trie.exceptions import BadTrieProof, ValidationError
from trie.hexary import HexaryTrie

from ledger.chain.nesting import read_rlp
from ledger.errors import UnavailableError, ViolationError
from ledger.facts import Address

HEAD_SLOT = 0
"""Where the contract keeps its head: its first variable."""

_STATE_ROOT, _NUMBER, _MIX_HASH = 3, 8, 13  # fields of a block's header
_MALFORMED = (RLPException, ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError)
_BFT_MIX_HASH = bytes.fromhex("63746963616c2062797a616e74696e65206661756c7420746f6c6572616e6365")


@dataclass(frozen=True)
class StorageProof:
    """What ``eth_getProof`` gives for the ledger's account and the slot of its head, and the block's header.

    Attributes:
        header: RLP; its keccak256 is the block's hash.
        account: The nodes that lead from the header's state root to the ledger's account, RLP each.
        storage: The nodes that lead from the account's storage root to the head, RLP each.
    """

    header: bytes
    account: tuple[bytes, ...]
    storage: tuple[bytes, ...]


@dataclass(frozen=True)
class Proven:
    """What a storage proof shows to whoever trusts the block's hash.

    Attributes:
        block: The block's number.
        block_hash: 32 bytes.
        head: The ledger's head after that block (32 bytes).
        code_hash: The keccak256 of the ledger's code (32 bytes).
    """

    block: int
    block_hash: bytes
    head: bytes
    code_hash: bytes


def prove(proof: StorageProof, ledger: Address) -> Proven:
    """Follow a proof from the block's hash to the head.

    Raises:
        ViolationError: If the proof does not lead there.
        UnavailableError: If the chain is one whose headers hash in another way than Ethereum's, or has no ledger yet.
    """
    try:
        fields = read_rlp(proof.header)
        if not all(isinstance(one, bytes) for one in fields) or len(fields[_NUMBER]) > 8:
            raise ValueError("not a block's header")
        state_root, number = fields[_STATE_ROOT], int.from_bytes(fields[_NUMBER], "big")
        if fields[_MIX_HASH] == _BFT_MIX_HASH:
            raise UnavailableError(
                "the chain hashes its headers without their seals (Besu's QBFT or IBFT), which storage proofs here do "
                "not support: use --head, --receipts or a second --provider"
            )
        if not (found := _value(state_root, bytes.fromhex(ledger[2:]), proof.account)):
            raise UnavailableError(
                f"in block {number} nothing is at {ledger}: give the hash of a block after the ledger was deployed, "
                "of its own chain"
            )
        account = read_rlp(found)
        storage_root, code_hash = account[2], account[3]
        head = read_rlp(_value(storage_root, HEAD_SLOT.to_bytes(32, "big"), proof.storage))
        if not isinstance(head, bytes) or len(head) > 32 or len(code_hash) != 32:
            raise ValueError("what is stored there is no head")
        head = head.rjust(32, b"\0")
    except (*_MALFORMED, BadTrieProof, ValidationError) as error:
        raise ViolationError(f"the storage proof does not lead to the ledger's head: {error}") from None
    return Proven(number, keccak(proof.header), head, code_hash)


def _value(root: bytes, key: bytes, nodes: tuple[bytes, ...]) -> bytes:
    """What a trie has under a key; nothing, where its nodes show that it has nothing there."""
    value: bytes = HexaryTrie.get_from_proof(root, keccak(key), [read_rlp(node) for node in nodes])  # type: ignore[no-untyped-call]
    return value
