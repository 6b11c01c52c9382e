"""age's public keys, read as strictly as age itself reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.age import read_age_key, show_age_key

KNOWN = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"  # of age's own README


def test_a_key_of_ages_own_manual_is_read() -> None:
    assert read_age_key(KNOWN).hex() == "07e22f5e44a542e8dc8e753a42251e1010cc79d192b3f71c5b1c95645209997a"


@given(st.binary(min_size=32, max_size=32))
def test_what_is_shown_is_read_back(key: bytes) -> None:
    assert read_age_key(show_age_key(key)) == key


@given(st.integers(4, 61), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l"))
def test_one_mistyped_letter_is_always_found(at: int, letter: str) -> None:
    typed = KNOWN[:at] + letter + KNOWN[at + 1 :]
    if typed != KNOWN:
        with pytest.raises(ValueError, match="checksum"):
            read_age_key(typed)


@pytest.mark.parametrize(
    "text", ["", "age1", KNOWN.upper(), KNOWN + "q", KNOWN[:-1], " " + KNOWN[1:], "agf" + KNOWN[3:]]
)
def test_anything_else_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="an age public key is age1 and 58"):
        read_age_key(text)
