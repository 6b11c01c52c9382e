"""age as others implement it: ``age-encryption`` (TypeScript), from the npm packages of ``scripts/tools``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "scripts" / "tools"
ENDS_WITHIN = 120.0

PROGRAM = """
import { readFileSync, writeFileSync } from "node:fs"
import * as age from "age-encryption"

const asked = JSON.parse(process.argv[1])
const given = new Uint8Array(readFileSync(0))
let made
if (asked.seal) {
    const sealing = new age.Encrypter()
    for (const recipient of asked.recipients ?? []) sealing.addRecipient(recipient)
    if (asked.passphrase !== undefined) {
        sealing.setPassphrase(asked.passphrase)
        sealing.setScryptWorkFactor(asked.work)
    }
    made = await sealing.encrypt(given)
} else {
    const opening = new age.Decrypter()
    if (asked.identity !== undefined) opening.addIdentity(asked.identity)
    if (asked.passphrase !== undefined) opening.addPassphrase(asked.passphrase)
    made = await opening.decrypt(given)
}
writeFileSync(1, made)
"""


class NotOpened(Exception):
    """It does not open these bytes; what it says is the message."""


def seal(content: bytes, recipients: Sequence[str]) -> bytes:
    """An age file that the identities of these recipients (``age1…``) open."""
    return _run({"seal": True, "recipients": list(recipients)}, content)


def open(sealed: bytes, identity: str) -> bytes:  # noqa: A001  # age_js.open, beside age_js.seal
    """What an age file has in it, by an identity (``AGE-SECRET-KEY-1…``).

    Raises:
        NotOpened: If it does not open it.
    """
    return _run({"seal": False, "identity": identity}, sealed)


def seal_with_passphrase(content: bytes, passphrase: str, work: int = 4) -> bytes:
    """An age file that a passphrase opens, with 2^`work` rounds of scrypt."""
    return _run({"seal": True, "passphrase": passphrase, "work": work}, content)


def open_with_passphrase(sealed: bytes, passphrase: str) -> bytes:
    """What an age file has in it, by a passphrase.

    Raises:
        NotOpened: If it does not open it.
    """
    return _run({"seal": False, "passphrase": passphrase}, sealed)


def _run(asked: dict[str, Any], content: bytes) -> bytes:
    """What the program makes of bytes; the test is skipped where npm has not fetched the package."""
    if not (TOOLS / "node_modules" / "age-encryption").exists():
        pytest.skip("no age-encryption: `npm ci` in scripts/tools fetches it")
    command = ["node", "--input-type=module", "--eval", PROGRAM, json.dumps(asked)]
    result = subprocess.run(command, cwd=TOOLS, input=content, capture_output=True, timeout=ENDS_WITHIN)
    if result.returncode != 0:
        raise NotOpened(result.stderr.decode())
    return result.stdout
