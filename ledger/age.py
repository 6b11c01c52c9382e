"""age's X25519 public keys as people write them: ``age1…``, Bech32 (BIP 173) over 32 bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_PREFIX = "age"
_CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def read_age_key(text: str) -> bytes:
    """The 32 bytes of a public key; ``show_age_key(read_age_key(text)) == text``.

    Raises:
        ValueError: If `text` is anything else, such as a secret key, upper case, or a key with one letter mistyped.
    """
    if text.upper().startswith("AGE-SECRET-KEY-"):
        raise ValueError("that is a secret key: show it to nobody, and give the public one, which begins with age1")
    letters = text.removeprefix(_PREFIX + "1")
    if len(text) != 62 or len(letters) != 58 or not set(letters) <= set(_CHARACTERS):
        raise ValueError(f"an age public key is age1 and 58 letters and digits in lower case, not {text!r}")
    values = [_CHARACTERS.index(letter) for letter in letters]
    packed = 0
    for value in values[:52]:
        packed = packed << 5 | value
    key = (packed >> 4).to_bytes(32, "big")
    if show_age_key(key) != text:
        raise ValueError(f"the checksum of {text!r} does not fit: copy it again")
    return key


def show_age_key(key: bytes) -> str:
    """A public key of 32 bytes as people write it."""
    packed = int.from_bytes(key, "big") << 4
    values = [packed >> 5 * at & 31 for at in range(51, -1, -1)]
    checksum = _polymod([*_expanded(), *values, *bytes(6)]) ^ 1
    values += [checksum >> 5 * at & 31 for at in range(5, -1, -1)]
    return _PREFIX + "1" + "".join(_CHARACTERS[value] for value in values)


def _expanded() -> list[int]:
    return [ord(letter) >> 5 for letter in _PREFIX] + [0] + [ord(letter) & 31 for letter in _PREFIX]


def _polymod(values: Iterable[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum
