"""What a member signs (EIP-712) and anyone may carry to the chain: the member needs no ether."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from coincurve import PublicKey
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from ledger.cid import Cid
from ledger.entries import Genesis
from ledger.facts import Address

_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0

_UPDATE = {
    "Update": [
        {"name": "round", "type": "uint32"},
        {"name": "openingHead", "type": "bytes32"},
        {"name": "digest", "type": "bytes32"},
        {"name": "codec", "type": "uint8"},
        {"name": "keyBlob", "type": "bytes32"},
        {"name": "weight", "type": "uint64"},
    ]
}
_ACCEPTANCE = {
    "Acceptance": [
        {"name": "digest", "type": "bytes32"},
        {"name": "codec", "type": "uint8"},
        {"name": "ageKey", "type": "bytes32"},
        {"name": "nonce", "type": "uint16"},
    ]
}


@dataclass(frozen=True)
class SignedUpdate:
    """An update with its member's signature in the compact form of EIP-2098: `r` and `vs`, 32 bytes each."""

    update: Cid
    key_blob: bytes | None
    weight: int
    r: bytes
    vs: bytes


@dataclass(frozen=True)
class SignedAcceptance:
    """An acceptance of the charter with its member's signature, as in `SignedUpdate`."""

    charter: Cid
    age_key: bytes
    nonce: int
    r: bytes
    vs: bytes


def sign_update(
    member: LocalAccount,
    genesis: Genesis,
    round_: int,
    opening_head: bytes,
    update: Cid,
    weight: int,
    key_blob: bytes | None = None,
) -> SignedUpdate:
    """Sign an update for one round of one history.

    Args:
        member: The member's account.
        genesis: The ledger's.
        round_: The round's number.
        opening_head: The head right after its opening (32 bytes): no other history has it.
        update: The update's CID.
        weight: In examples.
        key_blob: Digest of the update's key blob, None if it is not sealed.
    """
    message = _update_message(round_, opening_head, update, key_blob, weight)
    return SignedUpdate(update, key_blob, weight, *_sign(member, genesis, _UPDATE, message))


def update_signer(genesis: Genesis, round_: int, opening_head: bytes, signed: SignedUpdate) -> Address | None:
    """The account that signed an update, as the contract finds it; None where the signature is nobody's."""
    message = _update_message(round_, opening_head, signed.update, signed.key_blob, signed.weight)
    return _signer(genesis, "Update", _UPDATE, message, signed.r, signed.vs)


def _update_message(
    round_: int, opening_head: bytes, update: Cid, key_blob: bytes | None, weight: int
) -> dict[str, Any]:
    return {
        "round": round_,
        "openingHead": opening_head,
        "digest": update.digest,
        "codec": update.codec,
        "keyBlob": key_blob or bytes(32),
        "weight": weight,
    }


def sign_acceptance(
    member: LocalAccount, genesis: Genesis, charter: Cid, age_key: bytes, nonce: int
) -> SignedAcceptance:
    """Sign an acceptance of the charter; `nonce` is how many acceptances the ledger has of this member."""
    message = _acceptance_message(charter, age_key, nonce)
    return SignedAcceptance(charter, age_key, nonce, *_sign(member, genesis, _ACCEPTANCE, message))


def acceptance_signer(genesis: Genesis, signed: SignedAcceptance) -> Address | None:
    """The account that signed an acceptance, as `update_signer` finds it."""
    message = _acceptance_message(signed.charter, signed.age_key, signed.nonce)
    return _signer(genesis, "Acceptance", _ACCEPTANCE, message, signed.r, signed.vs)


def _acceptance_message(charter: Cid, age_key: bytes, nonce: int) -> dict[str, Any]:
    return {"digest": charter.digest, "codec": charter.codec, "ageKey": age_key, "nonce": nonce}


def _sign(
    member: LocalAccount, genesis: Genesis, types: dict[str, Any], message: dict[str, Any]
) -> tuple[bytes, bytes]:
    signed = member.sign_typed_data(_domain(genesis), types, message)
    return signed.r.to_bytes(32, "big"), ((signed.v - 27) << 255 | signed.s).to_bytes(32, "big")


def _signer(
    genesis: Genesis, name: str, types: dict[str, Any], message: dict[str, Any], r: bytes, vs: bytes
) -> Address | None:
    parity, s = vs[0] >> 7, int.from_bytes(vs, "big") & (1 << 255) - 1
    return recover(_digest(genesis, name, types[name], message), parity, r, s.to_bytes(32, "big"))


def _digest(genesis: Genesis, name: str, fields: list[dict[str, str]], message: dict[str, Any]) -> bytes:
    """What is signed (EIP-712); every field here is one ABI word. Ten times faster than the library that signs."""
    kind = f"{name}({','.join(field['type'] + ' ' + field['name'] for field in fields)})"
    words = [_word(message[field["name"]]) for field in fields]
    return keccak(b"\x19\x01" + _separator(genesis) + keccak(_hash_of(kind) + b"".join(words)))


def recover(digest: bytes, parity: int, r: bytes, s: bytes) -> Address | None:
    """The account that signed a digest; None where the signature is nobody's, or in the form that chains refuse.

    Args:
        digest: What was signed (32 bytes).
        parity: Of the curve point that `r` stands for, 0 or 1.
        r: 32 bytes.
        s: 32 bytes.
    """
    if parity not in (0, 1) or int.from_bytes(s, "big") > _HALF_ORDER:
        return None
    try:
        key = PublicKey.from_signature_and_message(r + s + bytes((parity,)), digest, hasher=None)
    except ValueError:
        return None
    return Address("0x" + keccak(key.format(compressed=False)[1:])[12:].hex())


def _word(value: int | bytes) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else value


@cache
def _hash_of(text: str) -> bytes:
    return keccak(text.encode())


@cache
def _separator(genesis: Genesis) -> bytes:
    domain = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    account = bytes(12) + bytes.fromhex(genesis.ledger[2:])
    return keccak(_hash_of(domain) + _hash_of("fedledger") + _hash_of("1") + _word(genesis.chain_id) + account)


def _domain(genesis: Genesis) -> dict[str, Any]:
    return {"name": "fedledger", "version": "1", "chainId": genesis.chain_id, "verifyingContract": genesis.ledger}
