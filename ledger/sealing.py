"""Sealed updates: who can open one, and with which keys. Pure, but for the fresh keys of what is sealed.

An update is sealed (age, X25519) to an identity of its own; that identity is sealed in the *key blob*, to the round's
readers and to the site itself. Both are ordinary age files. The aggregator hands the identities that it opened on, in
the manifest's *annex*, sealed to the readers; a *grant* hands them on to a later one. There each identity is masked
with what only the key blob gives: where the key blob is erased, annex and grants open nothing either.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal, TypeAlias

import pyrage
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

from ledger.age import read_age_secret, show_age_key, show_age_secret
from ledger.cid import CHUNK
from ledger.documents import Document, MemberId, canonical, parse
from ledger.errors import InvalidBlobError, UsageError
from ledger.manifest import Score
from ledger.updates import Place

if TYPE_CHECKING:
    from ledger.entries import Genesis
    from ledger.history import Round

Identity: TypeAlias = "pyrage.x25519.Identity"
Keys = Mapping[int, str]
"""Identities of sealed updates (``AGE-SECRET-KEY-1…``), by member id."""

MAX_KEY_BLOB_BYTES = CHUNK
"""The entry has a digest only: it names a blob of one leaf."""
MOST_RECIPIENTS = 100
"""Of one age file."""
_HEADER = 4096  # bytes; age's own, with one recipient, has about 200, and up to 300 of random padding
_HEADER_OF_MANY = _HEADER + 128 * MOST_RECIPIENTS
_END = re.compile(rb"\n--- [A-Za-z0-9+/]{43}\n")
_PIECE, _TAG, _NONCE = 1 << 16, 16, 16  # bytes: age seals piece by piece, and adds a tag to each

# Points of small order: whatever is sealed to one of them, everybody can open (age refuses to).
_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


@dataclass(frozen=True)
class Sealed:
    """An update and its key blob; None where it is not sealed."""

    update: bytes
    key_blob: bytes | None


def is_usable(key: bytes) -> bool:
    """Whether a public key of 32 bytes is one that can be sealed to."""
    return key[:31] + bytes([key[31] & 0x7F]) not in _SMALL_ORDER


def readers(known: Round) -> dict[int, bytes]:
    """Who can open the sealed updates of a round, beside their own sites: age public keys, by member id.

    These are the aggregators and auditors that could act when it opened. A key to which nothing can be sealed is left
    out: its member harms itself, and nobody else.
    """
    return {member: key for member, key in sorted(known.readers.items()) if is_usable(key)}


def seal(update: bytes, keys: Iterable[bytes]) -> Sealed:
    """Seal an update to a fresh identity, and that to age public keys; see `readers`."""
    sink = io.BytesIO()
    key_blob = seal_into(io.BytesIO(update), sink, keys)
    return Sealed(sink.getvalue(), key_blob)


def seal_for(known: Round, update: bytes, own: bytes) -> Sealed:
    """Seal an update for the readers of its round, and for its own site.

    Args:
        known: The round.
        update: The update's blob.
        own: The site's age public key.

    Raises:
        UsageError: If the aggregator, or the site itself, could not open it.
    """
    to, opener = readers(known), known.opened.aggregator
    if opener not in to:
        raise UsageError(
            f"member {opener}, who opened the round, has no age key that can be sealed to: ask for another"
        )
    if not is_usable(own):
        raise UsageError(
            "your age key is one that nothing can be sealed to: publish another with `fedledger key rotate`"
        )
    return seal(update, [*to.values(), own])


def seal_into(source: BinaryIO, sink: BinaryIO, keys: Iterable[bytes]) -> bytes:
    """Seal an update of any size in little memory; returns the key blob."""
    identity = pyrage.x25519.Identity.generate()
    pyrage.encrypt_io(source, sink, [identity.to_public()])
    return seal_to(keys, str(identity).encode())


def seal_to(keys: Iterable[bytes], text: bytes) -> bytes:
    """An age file for the holders of some public keys.

    Raises:
        UsageError: If there are more of them than `MOST_RECIPIENTS`.
    """
    recipients = [pyrage.x25519.Recipient.from_str(show_age_key(key)) for key in dict.fromkeys(keys)]
    if len(recipients) > MOST_RECIPIENTS:
        raise UsageError(
            f"{len(recipients)} parties are to open it, {MOST_RECIPIENTS} at most can: give fewer of them such a role"
        )
    sealed: bytes = pyrage.encrypt(text, recipients)
    return sealed


def largest_sealed(size: int) -> int:
    """The most bytes that a blob of so many bytes has when it is sealed."""
    return _HEADER + _NONCE + size + _TAG * (size // _PIECE + 1)


def open_key(key_blob: bytes, identities: Sequence[Identity]) -> str | None:
    """The identity in a key blob; None where these do not open it, or it holds none."""
    try:
        return show_age_secret(read_age_secret(_decrypted(key_blob, identities).decode("ascii")))
    except (pyrage.DecryptError, ValueError):
        return None


def _decrypted(file: bytes, identities: Sequence[Identity]) -> bytes:
    """What an age file holds; `pyrage.DecryptError` where it does not open."""
    if not _ends(file, _HEADER_OF_MANY):
        raise pyrage.DecryptError("its header is too long, or none")
    opened: bytes = pyrage.decrypt(file, list(identities))
    return opened


def _ends(file: bytes, most: int) -> bool:
    """Whether an age file's header ends within so many bytes.

    pyrage reads a header from its start again with every few bytes of it that come: a mebibyte takes it many minutes,
    in which nothing can stop it.
    """
    return _END.search(file, 0, most) is not None


def open_update(sealed: bytes, key: str) -> bytes | None:
    """What a blob holds that is sealed to an identity; None where it does not open it, or it was altered."""
    sink = io.BytesIO()
    return sink.getvalue() if open_into(io.BytesIO(sealed), sink, key) else None


def open_into(source: BinaryIO, sink: BinaryIO, key: str) -> bool:
    """Open a sealed blob of any size in little memory; False where it does not open, `sink` is no use then."""
    begin = source.tell()
    if not _ends(source.read(_HEADER), _HEADER):
        return False
    source.seek(begin)
    try:
        pyrage.decrypt_io(source, sink, [pyrage.x25519.Identity.from_str(key)])
    except (pyrage.DecryptError, pyrage.IdentityError):
        return False
    except OSError as error:
        if error.errno is not None:
            raise  # of source or sink; age's own has no number
        return False
    return True


def public_key(identity: Identity) -> str:
    """The public key of an identity, ``age1…``."""
    return str(identity.to_public())


# ------------------------------------------------------------------ annex and grant

Masked = Mapping[int, bytes]
"""Masked identities (32 bytes) of sealed updates, by member id; see `unmask`."""


def mask(key: str, key_blob: bytes) -> bytes:
    """An identity as annex and grants hold it."""
    return _mask(read_age_secret(key), key_blob)


def unmask(masked: bytes, key_blob: bytes) -> str:
    """The identity that was masked; ``unmask(mask(key, key_blob), key_blob) == key``."""
    return show_age_secret(_mask(masked, key_blob))


def _mask(key: bytes, key_blob: bytes) -> bytes:
    stream = bytes(HKDF(key_blob, 32, b"", SHA256, context=b"fedledger: an identity in an annex or a grant"))  # type: ignore[arg-type]
    return bytes(one ^ other for one, other in zip(key, stream, strict=True))


@dataclass(frozen=True)
class Annex:
    """What a round's annex hands on.

    Attributes:
        masked: The masked identities of its updates.
        scores: How its updates compare, by member id; see `ledger.manifest.Score`.
    """

    masked: Masked
    scores: Mapping[int, Score] = field(default_factory=dict)


class _Annex(Document):
    """An annex as it is written; a document, since its numbers may be larger than what `parse` takes for integers."""

    TITLE: ClassVar[str] = "annex"

    kind: Literal["annex"] = "annex"
    chain_id: int
    ledger: str
    round: int
    plan: str
    base: str
    keys: dict[MemberId, str]
    scores: dict[MemberId, Score]


def write_annex(place: Place, annex: Annex, to: Iterable[bytes]) -> str:
    """The annex of a round's manifest, for the holders of some public keys: base64 of an age file."""
    scores = {str(member): score for member, score in annex.scores.items()}
    document = _Annex(**place.document(), keys=_written(annex.masked), scores=scores)
    return base64.b64encode(seal_to(to, document.encode())).decode()


def read_annex(annex: str, place: Place, identities: Sequence[Identity]) -> Annex | None:
    """What a round's annex hands on; None where these identities do not open it.

    Raises:
        ValueError: If they do, and it is no annex of this round.
    """
    try:
        raw = _decrypted(base64.b64decode(annex, validate=True), identities)
    except pyrage.DecryptError:
        return None
    try:
        document = _Annex.decode(raw)
    except InvalidBlobError as error:
        raise ValueError(error.detail) from None
    if document.model_dump(exclude={"kind", "keys", "scores"}) != place.document():
        raise ValueError("it is no annex of this ledger, or of another round")
    return Annex(_read(document.keys), {int(member): score for member, score in document.scores.items()})


def write_grant(genesis: Genesis, rounds: Mapping[int, Masked], to: bytes) -> bytes:
    """A grant of the updates of some rounds to the holder of a public key: an age file."""
    keys = {str(number): _written(masked) for number, masked in sorted(rounds.items())}
    document = {"kind": "grant", "chain_id": genesis.chain_id, "ledger": genesis.ledger, "keys": keys}
    return seal_to([to], canonical(document))


def read_grant(grant: bytes, genesis: Genesis, identities: Sequence[Identity]) -> dict[int, Masked] | None:
    """What a grant hands on, by round; raises and returns what `read_annex` does."""
    try:
        raw = _decrypted(grant, identities)
    except pyrage.DecryptError:
        return None
    document, place = parse(raw), {"kind": "grant", "chain_id": genesis.chain_id, "ledger": genesis.ledger}
    rounds = document.pop("keys", None) if isinstance(document, dict) else None
    if document != place or not isinstance(rounds, dict):
        raise ValueError("it is no grant of this ledger")
    return {int(number): _read(masked) for number, masked in rounds.items()}


def _written(masked: Masked) -> dict[str, str]:
    return {str(member): key.hex() for member, key in sorted(masked.items())}


def _read(keys: Any) -> Masked:
    if not isinstance(keys, dict) or any(not re.fullmatch("[0-9a-f]{64}", str(key)) for key in keys.values()):
        raise ValueError("it holds something else than keys")
    return {int(member): bytes.fromhex(key) for member, key in keys.items()}
