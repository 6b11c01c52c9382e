"""age files that a passphrase opens (age-encryption.org/v1, scrypt), with the work that we ask for.

The library that seals to keys (pyrage) measures the machine for some milliseconds to choose the work of a passphrase:
beside another process it chooses far too little, and refuses to open what it wrote a moment before.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re

from Crypto.Cipher import ChaCha20_Poly1305
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

WORK = 18
"""2^18 rounds of scrypt, as age itself takes: about a second, and 256 MiB."""
MOST_WORK = 20
"""The most that is opened: four times that."""
MOST = 1 << 16
"""Bytes of a text: one piece of age's payload."""

_HEADER = re.compile(
    rb"(age-encryption\.org/v1\n-> scrypt ([A-Za-z0-9+/]{22}) ([1-9][0-9]{0,2})\n([A-Za-z0-9+/]{43})\n---) "
    rb"([A-Za-z0-9+/]{43})\n"
)


class NotOpenedError(Exception):
    """The passphrase is another one."""


def work_of(sealed: bytes) -> int | None:
    """The work that opening an age file takes, as the power of two; None if it has anything but one passphrase."""
    found = _HEADER.match(sealed)
    return int(found[3]) if found else None


def seal(text: bytes, passphrase: str, work: int = WORK) -> bytes:
    """An age file that a passphrase opens; ``open_sealed(seal(text, passphrase), passphrase) == text``.

    Raises:
        ValueError: If the text has more than `MOST` bytes, or the passphrase is no text in UTF-8.
    """
    if len(text) > MOST:
        raise ValueError(f"more than {MOST:,} bytes")
    key, salt, nonce = os.urandom(16), os.urandom(16), os.urandom(16)
    wrapped = b"".join(_cipher(_scrypt(passphrase, salt, work), bytes(12)).encrypt_and_digest(key))
    header = b"age-encryption.org/v1\n-> scrypt %s %d\n%s\n---" % (_base64(salt), work, _base64(wrapped))
    payload = b"".join(_cipher(_derived(key, nonce, b"payload"), bytes(11) + b"\1").encrypt_and_digest(text))
    return header + b" " + _base64(_mac(key, header)) + b"\n" + nonce + payload


def open_sealed(sealed: bytes, passphrase: str) -> bytes:
    """The text in an age file.

    Raises:
        NotOpenedError: If the passphrase is another one.
        ValueError: If the file is no such age file, or damaged, or takes more work than `MOST_WORK`, or the passphrase
            is no text in UTF-8.
    """
    found = _HEADER.match(sealed)
    if found is None or int(found[3]) > MOST_WORK:
        raise ValueError("it is not sealed with a passphrase, or takes too much work")
    wrapped, body = base64.b64decode(found[4] + b"="), sealed[found.end() :]
    wrapping = _scrypt(passphrase, base64.b64decode(found[2] + b"=="), int(found[3]))
    try:
        key = _cipher(wrapping, bytes(12)).decrypt_and_verify(wrapped[:16], wrapped[16:])
    except ValueError:
        raise NotOpenedError from None
    if not hmac.compare_digest(_base64(_mac(key, found[1])), found[5]):
        raise ValueError("its header was altered")
    cipher = _cipher(_derived(key, body[:16], b"payload"), bytes(11) + b"\1")
    return cipher.decrypt_and_verify(body[16:-16], body[-16:])


def _scrypt(passphrase: str, salt: bytes, work: int) -> bytes:
    salted = b"age-encryption.org/v1/scrypt" + salt
    room = (128 * 8 << work) + (1 << 20)
    return hashlib.scrypt(passphrase.encode(), salt=salted, n=1 << work, r=8, p=1, maxmem=room, dklen=32)


def _mac(key: bytes, header: bytes) -> bytes:
    return hmac.digest(_derived(key, b"", b"header"), header, "sha256")


def _derived(key: bytes, salt: bytes, context: bytes) -> bytes:
    derived = HKDF(key, 32, salt, SHA256, context=context)
    return derived if isinstance(derived, bytes) else b"".join(derived)


def _cipher(key: bytes, nonce: bytes) -> ChaCha20_Poly1305.ChaCha20Poly1305Cipher:
    return ChaCha20_Poly1305.new(key=key, nonce=nonce)


def _base64(raw: bytes) -> bytes:
    return base64.b64encode(raw).rstrip(b"=")
