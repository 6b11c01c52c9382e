"""What training draws its randomness from: the site's secret, and nothing that others know; its witness."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ledger.age import show_age_secret
from ledger.cid import RAW, Cid
from ledger.facts import Address, RoundOpened
from ledger.history import Round
from participant.seeds import Seed

PLAN = Cid(b"p" * 32, RAW)
OPENED = RoundOpened(1, 4, PLAN, 0, Cid(b"b" * 32, RAW), 600, 60, 1, 1, 0, False)
KNOWN = Round(OPENED, 0, b"h" * 32, 1, 3, {})
SECRET = show_age_secret(bytes(range(32)))
NOBODY = Address("0x" + "00" * 20)


def test_a_seed_is_hkdf_of_the_secret_the_head_and_the_plan_as_rfc_5869_has_it() -> None:
    extracted = hmac.digest(b"h" * 32, bytes(range(32)), "sha256")
    expanded = hmac.digest(extracted, b"fedledger: a seed of training" + b"p" * 32 + b"\x01", "sha256")
    assert Seed.of(SECRET, KNOWN).secret == expanded
    assert expanded.hex() == "b461c7f9c117a10b8285ef44c363c1aa0c1a4d68c7e62ff77e30915b65821847"


def test_secret_head_and_plan_each_change_it() -> None:
    others = [
        Seed.of(show_age_secret(bytes(32)), KNOWN),
        Seed.of(SECRET, replace(KNOWN, opening_head=b"i" * 32)),
        Seed.of(SECRET, replace(KNOWN, opened=replace(OPENED, plan=Cid(b"q" * 32, RAW)))),
    ]
    assert len({one.secret for one in [Seed.of(SECRET, KNOWN), *others]}) == 4


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_the_witness_commits_to_it_and_to_the_data_and_tells_neither(secret: bytes, data: bytes) -> None:
    seed = Seed(secret)
    assert seed.witness(data) == hashlib.sha256(b"fedledger: a witness of training" + secret + data).hexdigest()
    assert 0 <= seed.number < 1 << 63


def test_a_witness_that_was_computed_once() -> None:
    witness = Seed.of(SECRET, KNOWN).witness(hashlib.sha256(b"the examples").digest())
    assert witness == "336d301498d4c39f65867a19683dcdaeee631cc1d367005c42ad6d367f1cc731"


def test_another_secret_or_other_data_give_another_witness() -> None:
    one, other = bytes(32), b"\x01" + bytes(31)
    assert len({Seed(secret).witness(data) for secret in (one, other) for data in (one, other)}) == 4
