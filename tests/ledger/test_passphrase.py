"""Files that a passphrase opens: the format is age's, and the work is what was asked for."""

from __future__ import annotations

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.passphrase import MOST, MOST_WORK, WORK, NotOpenedError, open_sealed, seal, work_of
from tests import age_js

LITTLE = 4


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=3000), st.text(max_size=20).filter(lambda text: text.isprintable()))
def test_what_is_sealed_opens_with_its_passphrase_and_with_no_other(text: bytes, passphrase: str) -> None:
    sealed = seal(text, passphrase, LITTLE)
    assert open_sealed(sealed, passphrase) == text
    assert pyrage.passphrase.decrypt(sealed, passphrase) == text
    with pytest.raises(NotOpenedError):
        open_sealed(sealed, passphrase + "!")


def test_another_implementation_opens_it_and_what_it_seals_is_opened() -> None:
    assert age_js.open_with_passphrase(seal(b"ours", "a passphrase", LITTLE), "a passphrase") == b"ours"
    assert open_sealed(age_js.seal_with_passphrase(b"its own", "a passphrase"), "a passphrase") == b"its own"


def test_the_work_is_what_age_itself_takes() -> None:
    assert work_of(seal(b"", "a passphrase")) == WORK == 18


def test_the_largest_text_is_one_piece() -> None:
    text = bytes(MOST)
    assert open_sealed(seal(text, "p", LITTLE), "p") == text
    assert pyrage.passphrase.decrypt(seal(text, "p", LITTLE), "p") == text
    with pytest.raises(ValueError, match="more than 65,536 bytes"):
        seal(text + b"!", "p", LITTLE)


SEALED = seal(b"text", "p", LITTLE)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_a_flipped_bit_is_found(at: int, flip: int) -> None:
    altered = bytearray(SEALED)
    altered[at] ^= flip
    if (work_of(bytes(altered)) or 0) > 10:
        return
    with pytest.raises((ValueError, NotOpenedError)):
        open_sealed(bytes(altered), "p")


@pytest.mark.parametrize("length", range(0, len(SEALED), 7))
def test_a_file_that_is_cut_short_does_not_open(length: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # who reads it says of which file
        open_sealed(SEALED[:length], "p")


def test_a_file_that_takes_too_much_work_is_not_tried() -> None:
    greedy = SEALED.replace(b" 4\n", b" %d\n" % (MOST_WORK + 1))
    assert work_of(greedy) == MOST_WORK + 1
    with pytest.raises(ValueError, match="too much work"):
        open_sealed(greedy, "p")
