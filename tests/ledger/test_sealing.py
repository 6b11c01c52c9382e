"""Sealed updates: age files that any age tool opens, and that nobody else can open, alter or tell anything from."""

from __future__ import annotations

import base64
import hmac
import io
import json
import tempfile
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyrage.x25519 import Identity

from ledger.age import read_age_key, read_age_secret, show_age_secret
from ledger.documents import canonical
from ledger.entries import Genesis
from ledger.errors import UsageError
from ledger.facts import Address
from ledger.manifest import Score
from ledger.sealing import (
    MOST_RECIPIENTS,
    Annex,
    Masked,
    is_usable,
    largest_sealed,
    mask,
    open_into,
    open_key,
    open_update,
    public_key,
    read_annex,
    read_grant,
    seal,
    seal_into,
    seal_to,
    unmask,
    write_annex,
    write_grant,
)
from tests.ledger.test_settlement import PLACE

READER, OWNER, STRANGER = (Identity.from_str(show_age_secret(bytes([number]) * 32)) for number in (1, 2, 3))
GENESIS = Genesis(1337, Address("0x" + "5a" * 20), Address("0x" + "01" * 20), PLACE.plan)
key_of = st.binary(min_size=32, max_size=32)


def age_key(identity: Identity) -> bytes:
    return read_age_key(public_key(identity))


GOLDEN = Path(__file__).parent / "golden"
UPDATE, KEY_BLOB = (GOLDEN / "sealed-update.age").read_bytes(), (GOLDEN / "sealed-key.age").read_bytes()
TO = [age_key(READER), age_key(OWNER)]


def test_files_of_earlier_versions_open() -> None:
    for who in (READER, OWNER):
        assert open_update(UPDATE, open_key(KEY_BLOB, [who]) or "") == bytes(range(200))


@given(st.binary(max_size=1000))
def test_each_recipient_opens_what_was_sealed_and_nobody_else_does(update: bytes) -> None:
    sealed = seal(update, TO)
    assert sealed.key_blob is not None
    keys = [open_key(sealed.key_blob, [who]) for who in (READER, OWNER)]
    assert keys[0] == keys[1]
    assert open_update(sealed.update, keys[0] or "") == update
    assert open_key(sealed.key_blob, [STRANGER]) is None
    assert open_key(sealed.key_blob, []) is None
    assert open_update(sealed.update, str(READER)) is None


def test_each_update_has_an_identity_of_its_own() -> None:
    sealed = [seal(b"the same", TO) for _ in range(10)]
    assert len({one.update for one in sealed}) == 10
    assert len({open_key(one.key_blob or b"", [READER]) for one in sealed}) == 10


@settings(max_examples=300)
@given(st.data())
def test_a_sealed_update_that_was_altered_does_not_open(data: st.DataObject) -> None:
    altered = bytearray(UPDATE)
    match data.draw(st.sampled_from(["flip", "cut", "extend", "garbage"])):
        case "flip":
            altered[data.draw(st.integers(0, len(altered) - 1))] ^= data.draw(st.integers(1, 255))
        case "cut":
            del altered[data.draw(st.integers(0, len(altered) - 1)) :]
        case "extend":
            altered += data.draw(st.binary(min_size=1, max_size=50))
        case "garbage":
            altered = bytearray(data.draw(st.binary(max_size=500)))
    assert open_update(bytes(altered), open_key(KEY_BLOB, [READER]) or "") is None
    assert open_key(bytes(altered), [READER]) is None


@pytest.mark.parametrize(
    "held", [b"", b"AGE-SECRET-KEY-1", str(READER).lower().encode(), str(READER).encode() + b"\n", b"\xff"]
)
def test_a_key_blob_holds_one_identity_and_nothing_else(held: bytes) -> None:
    assert open_key(seal_to(TO, held), [READER]) is None
    assert open_key(seal_to(TO, str(STRANGER).encode()), [READER]) == str(STRANGER)


def test_a_file_sealed_with_a_passphrase_opens_to_no_identity() -> None:
    locked = pyrage.passphrase.encrypt(str(STRANGER).encode(), "a passphrase")
    assert open_key(locked, [READER]) is None
    assert open_update(locked, str(READER)) is None


@pytest.mark.parametrize("size", [0, 1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 5 << 16, 1_234_567])
def test_what_is_sealed_is_never_larger_than_is_allowed_for(size: int) -> None:
    for _ in range(20):
        sealed = seal(bytes(size), TO)
        assert size < len(sealed.update) <= largest_sealed(size) < size + 4200 + 16 * (size // (1 << 16) + 1)


def test_sealing_and_opening_100_mb_take_less_than_4_mb_of_memory() -> None:
    class Zeros(io.RawIOBase):
        left = 100 << 20

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            self.left -= (size := min(size, self.left))
            return bytes(size)

    class Through:
        """Gives what is written, of which it keeps little, to whoever counts it."""

        def __init__(self) -> None:
            self.size = 0

        def write(self, piece: bytes) -> int:
            self.size += len(piece)
            return len(piece)

        def flush(self) -> None:
            pass

    tracemalloc.start()
    try:
        with tempfile.TemporaryFile() as sealed:
            key_blob = seal_into(cast(BinaryIO, Zeros()), cast(BinaryIO, sealed), TO)
            sealed.seek(0)
            opened = Through()
            assert open_into(cast(BinaryIO, sealed), cast(BinaryIO, opened), open_key(key_blob, [READER]) or "")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert opened.size == 100 << 20
    assert most < 4 << 20


def test_a_sink_that_is_full_is_no_sealed_file_that_does_not_open() -> None:
    class Full:
        def write(self, piece: bytes) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            pass

    sealed = seal(bytes(1 << 17), TO)
    key = open_key(sealed.key_blob or b"", [READER]) or ""
    with pytest.raises(OSError, match="No space left"):
        open_into(io.BytesIO(sealed.update), cast(BinaryIO, Full()), key)


SMALL_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    *(bytes([last]) + b"\xff" * 30 + b"\x7f" for last in (0xEC, 0xED, 0xEE)),
]


@pytest.mark.parametrize("key", SMALL_ORDER, ids=bytes.hex)
@pytest.mark.parametrize("top", [0, 0x80])
def test_nothing_is_sealed_to_a_key_that_everybody_could_open(key: bytes, top: int) -> None:
    assert not is_usable(key[:31] + bytes([key[31] | top]))


@given(key_of)
def test_to_any_other_32_bytes_can_be_sealed(key: bytes) -> None:
    if is_usable(key):
        assert seal_to([key], b"text")


# ----------------------------------------------------------------------- annex and grant

MASKED: Masked = {3: bytes(range(32)), 12: bytes(range(32, 64))}
ANNEX = Annex(MASKED, {3: Score(norm=1e20, metrics={"auc": 0.75})})


@given(key_of, st.binary(max_size=600), st.binary(max_size=600))
def test_a_masked_key_is_had_back_with_its_key_blob_alone(secret: bytes, key_blob: bytes, other: bytes) -> None:
    key = show_age_secret(secret)
    masked = mask(key, key_blob)
    assert unmask(masked, key_blob) == key
    assert masked != secret
    if other != key_blob:
        assert unmask(masked, other) != key


def test_the_mask_is_hkdf_of_the_key_blob_as_rfc_5869_has_it() -> None:
    extracted = hmac.digest(bytes(32), b"key blob", "sha256")
    expanded = hmac.digest(extracted, b"fedledger: an identity in an annex or a grant\x01", "sha256")
    assert mask(show_age_secret(bytes(32)), b"key blob") == expanded
    assert expanded.hex() == "4c361b1c86ee3eb448f6ff1fa43944a3c3b13d602e00e1e9697565e3ee99fad9"


def test_an_annex_is_an_age_file_in_base64_whose_document_is_the_known_bytes() -> None:
    annex = write_annex(PLACE, ANNEX, TO)
    assert (
        pyrage.decrypt(base64.b64decode(annex), [OWNER])
        == (
            f'{{"base":"{PLACE.base}","chain_id":1337,"keys":'
            f'{{"12":"{bytes(range(32, 64)).hex()}","3":"{bytes(range(32)).hex()}"}},'
            f'"kind":"annex","ledger":"{PLACE.ledger}","plan":"{PLACE.plan}","round":7,'
            '"scores":{"3":{"distance":null,"metrics":{"auc":0.75},"norm":100000000000000000000}}}'
        ).encode()
    )
    assert read_annex(annex, PLACE, [STRANGER, READER]) == ANNEX
    assert read_annex(annex, PLACE, [STRANGER]) is None


def test_a_grant_is_an_age_file_whose_document_is_the_known_one() -> None:
    grant = write_grant(GENESIS, {1: MASKED, 12: {}}, TO[0])
    keys = {"1": {"3": bytes(range(32)).hex(), "12": bytes(range(32, 64)).hex()}, "12": {}}
    expected = {"kind": "grant", "chain_id": 1337, "ledger": GENESIS.ledger, "keys": keys}
    assert json.loads(pyrage.decrypt(grant, [READER])) == expected
    assert read_grant(grant, GENESIS, [READER]) == {1: MASKED, 12: {}}
    assert read_grant(grant, GENESIS, [OWNER]) is None


def annex_saying(**changes: object) -> bytes:
    """The document of an annex without keys and scores, with changes."""
    return canonical({"kind": "annex", **PLACE.document(), "keys": {}, "scores": {}, **changes})


def score_saying(**changes: object) -> dict[str, object]:
    return {"norm": None, "distance": None, "metrics": {}, **changes}


def test_an_annex_without_keys_and_scores_is_one() -> None:
    assert read_annex(base64.b64encode(seal_to(TO, annex_saying())).decode(), PLACE, [READER]) == Annex({})


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_an_annex_hands_scores_of_any_size_on(number: float) -> None:
    annex = Annex({}, {1: Score(norm=number, distance=number)})
    assert read_annex(write_annex(PLACE, annex, TO), PLACE, [READER]) == annex


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":{"1":5}}',
        annex_saying(keys={"1": "00" * 31}),
        annex_saying(keys={"x": "00" * 32}),
        annex_saying(keys=None),
        annex_saying(round=8),
        annex_saying(more={}),
        annex_saying(scores=None),
        annex_saying(scores=[]),
        annex_saying(scores={"1": None}),
        annex_saying(scores={"1": score_saying(norm="far")}),
        annex_saying(scores={"1": score_saying(rank=1)}),
        annex_saying(scores={"x": score_saying()}),
        annex_saying(scores={"1": {}}),
        annex_saying()[:-1],
    ],
)
def test_another_document_is_no_annex_and_no_grant(document: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the audit says of what round
        read_annex(base64.b64encode(seal_to(TO, document)).decode(), PLACE, [READER])
    with pytest.raises(ValueError):  # noqa: PT011
        read_grant(seal_to(TO, document), GENESIS, [READER])


@given(st.text("ABC+/=", max_size=20))
def test_text_that_is_no_age_file_in_base64_is_no_annex(text: str) -> None:
    with suppress(ValueError):
        assert read_annex(text, PLACE, [READER]) is None


def test_an_identity_is_32_bytes() -> None:
    assert len(read_age_secret(str(READER))) == 32


def test_a_file_for_as_many_as_can_be_opens_and_a_longer_header_which_takes_very_long_to_read_does_not() -> None:
    identity, update = Identity.generate(), b"an update"
    others = [Identity.generate().to_public() for _ in range(2 * MOST_RECIPIENTS)]
    text = str(identity).encode()
    most = [*others[: MOST_RECIPIENTS - 1], READER.to_public()]
    assert open_key(pyrage.encrypt(text, most), [READER]) == str(identity)
    assert open_key(pyrage.encrypt(text, [*others, READER.to_public()]), [READER]) is None
    assert open_update(pyrage.encrypt(update, [identity.to_public()]), str(identity)) == update
    assert open_update(pyrage.encrypt(update, [*others[:60], identity.to_public()]), str(identity)) is None


def test_nothing_is_sealed_to_more_than_can_open_it() -> None:
    keys = [number.to_bytes(32, "little") for number in range(2, MOST_RECIPIENTS + 3)]
    seal_to(keys[:-1], b"text")
    with pytest.raises(UsageError, match="101 parties"):
        seal_to(keys, b"text")
