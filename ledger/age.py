"""age's X25519 keys as people write them: ``age1…`` and ``AGE-SECRET-KEY-1…``, Bech32 (BIP 173) over 32 bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_PUBLIC, _SECRET = "age", "age-secret-key-"
_CHARACTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def read_age_key(text: str) -> bytes:
    """The 32 bytes of a public key; ``show_age_key(read_age_key(text)) == text``.

    Raises:
        ValueError: If `text` is anything else, such as a secret key, upper case, or a key with one letter mistyped.
    """
    if text.upper().startswith("AGE-SECRET-KEY-"):
        raise ValueError("that is a secret key: show it to nobody, and give the public one, which begins with age1")
    if (letters := _letters(_PUBLIC, text)) is None:
        raise ValueError(f"an age public key is age1 and 58 letters and digits in lower case, not {text!r}")
    key = _decoded(letters)
    if show_age_key(key) != text:
        raise ValueError(f"the checksum of {text!r} does not fit: copy it again")
    return key


def show_age_key(key: bytes) -> str:
    """A public key of 32 bytes as people write it."""
    return _encoded(_PUBLIC, key)


def read_age_secret(text: str) -> bytes:
    """The 32 bytes of a secret key; ``show_age_secret(read_age_secret(text)) == text``.

    Raises:
        ValueError: If `text` is anything else; it is not repeated.
    """
    letters = _letters(_SECRET, text.lower())
    if letters is None or show_age_secret(key := _decoded(letters)) != text:
        raise ValueError("an age secret key is AGE-SECRET-KEY-1 and 58 letters and digits in upper case: this is none")
    return key


def show_age_secret(key: bytes) -> str:
    """A secret key of 32 bytes as age's tools write it."""
    return _encoded(_SECRET, key).upper()


def _letters(prefix: str, text: str) -> str | None:
    """What follows the prefix, if it has the form of a key."""
    letters = text.removeprefix(prefix + "1")
    return letters if len(letters) == 58 != len(text) and set(letters) <= set(_CHARACTERS) else None


def _decoded(letters: str) -> bytes:
    packed = 0
    for letter in letters[:52]:
        packed = packed << 5 | _CHARACTERS.index(letter)
    return (packed >> 4).to_bytes(32, "big")


def _encoded(prefix: str, key: bytes) -> str:
    packed = int.from_bytes(key, "big") << 4
    values = [packed >> 5 * at & 31 for at in range(51, -1, -1)]
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    checksum = _polymod([*expanded, *values, *bytes(6)]) ^ 1
    values += [checksum >> 5 * at & 31 for at in range(5, -1, -1)]
    return prefix + "1" + "".join(_CHARACTERS[value] for value in values)


def _polymod(values: Iterable[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum
