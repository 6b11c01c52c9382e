"""Bad input: every command, given something wrong, ends with one sentence and the documented status.

Each row of the table is one wrong input, tried on a real ledger. Afterwards all is as before: the chain, keystores,
config, what members remember, blobs, and whatever lay where the command ran.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyrage
import pytest
from pyrage.x25519 import Identity

import participant
from ledger.entries import extend, from_line, to_line
from ledger.updates import MODEL_HEADER, encode
from tests.anvil import Anvil
from tests.bad import ENDLESS, FOLDER, HUGE, LOOP, PIPE, Bad, Content, Scene, answering, taken_port, tree
from tests.cli import AGE_KEY, PASSWORD
from tests.ledger.test_cli import SINGLE
from tests.ledger.test_identities import GOLDEN
from tests.world import PLAN, SCHEMA, tensors

TYPO = "0x15c603B7eaA8eE1a272a69C4af3462F926de777E"
PLAN_TOML = "window = 600\nquorum = 2\napprovals = 1\n[training]\nepochs = 1\nbatch_size = 4\nlearning_rate = 0.1\n"
TASK = """
import torch
from participant import Task

class Mine(Task):
    def model(self):
        return torch.nn.Linear(1, 1)

    def load(self, data):
        return torch.utils.data.TensorDataset(torch.ones(4, 1), torch.ones(4))
"""


ARRAYS = """
from participant import ArrayTask

class Mine(ArrayTask):
    def initial(self):
        return [1.0]

    def load(self, data):
        return [1, 2]

    def fit(self, tensors, examples, training, seed):
        return tensors
"""


def keystore(scene: Scene, party: str = "governor") -> dict[str, Any]:
    document: dict[str, Any] = json.loads(scene.cli.path(f"{party}.json").read_text())
    return document


def derived(kdf: str, parameters: dict[str, Any]) -> Content:
    """A keystore whose key is derived from the password in this way."""

    def written(scene: Scene) -> str:
        document = keystore(scene)
        document["crypto"] |= {"kdf": kdf, "kdfparams": {"dklen": 32, "salt": "00", **parameters}}
        return json.dumps(document)

    return written


def plan(**changes: object) -> str:
    return json.dumps(json.loads(PLAN.encode()) | changes)


def task(line: str, instead: str) -> dict[str, str]:
    """A task in which a line is another one, and its data."""
    assert line in TASK
    return {"task.py": TASK.replace(line, instead), "data.csv": "1,1\n"}


def no_numbers(scene: Scene) -> bytes:
    return scene.update(value=np.nan)


def padded(blob: bytes) -> bytes:
    """The same blob with a header that ends in spaces."""
    size = int.from_bytes(blob[:8], "little")
    return (size + 8).to_bytes(8, "little") + blob[8 : 8 + size] + b" " * 8 + blob[8 + size :]


SEALED, BACKUP = GOLDEN.read_bytes(), (GOLDEN.parent / "backup.age").read_bytes()
IN_FORCE = "# Charter\nWe agree.\n"  # stored already: blobs go before the transaction that a node refuses to the poor
MODEL = encode(MODEL_HEADER, SCHEMA, tensors(0))
EXAMPLE = (Path(participant.__file__).parent / "example.py").read_text(encoding="utf-8")
PICKLE = b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
SITE, AGGREGATOR, AUDITOR, NOBODY = "site 1", "aggregator", "auditor", "nobody"


def variables(**changes: str | None) -> dict[str, str | None]:
    return {f"FEDLEDGER_{name.upper()}": value for name, value in changes.items()}


def signed(scene: Scene, **changes: object) -> str:
    """Site 1's signed update for round 2, with changes."""
    document = json.loads(scene.words["signed"])
    return json.dumps(document | changes)


def forged(scene: Scene) -> bytes:
    """A history of one entry that another ledger of the same address might have."""
    entry, _ = from_line(scene.evidence["entries.jsonl"].splitlines()[0].decode())
    return to_line(entry, extend(bytes(32), entry)).encode() + b"\n"


def history(**changes: bytes | str) -> dict[str, Content]:
    """The files of the history's folder, some of them changed; a dot in a name is an underscore here."""
    names = ("ledger.json", "entries.jsonl", "transactions.jsonl", "code.hex", "artifact.json")
    return {f"h/{name}": changes.get(name.replace(".", "_"), true(name)) for name in names}


def true(name: str) -> Content:
    return lambda scene: scene.evidence[name]


# A row each, not an argument each.
# fmt: off
NODE = [
    Bad("no node answers", "member list", 3, "does not answer (Connection refused): start it", party=NOBODY,
        environment=variables(rpc="{gone}")),
    Bad("the node is a web page", "member show 1", 3, "is no chain's node: name another", party=NOBODY,
        environment=variables(rpc="{html}")),
    Bad("the node wants a key", "governor show", 3, "wants a key (401", party=NOBODY,
        environment=variables(rpc="{guarded}")),
    Bad("the node is of another chain", "status --chain-id 5", 2, "(or --chain-id) says 5: name another node",
        party=NOBODY),
    Bad("the node's address is none", "watch", 2, "a node's address is http://", party=NOBODY,
        environment=variables(rpc="localhost:8545")),
    Bad("the node's address has a port that is none", "watch", 2, "a node's address is http://", party=NOBODY,
        environment=variables(rpc="http://localhost:99999")),
    Bad("the node answers with nothing", "round list", 3, "the node's answer cannot be read (TypeError", party=NOBODY,
        environment=variables(rpc="{null}")),
    Bad("the node answers with text", "round list", 3, "the node's answer cannot be read (ValueError", party=NOBODY,
        environment=variables(rpc="{text}")),
    Bad("no contract is at the address", "charter show", 2, "no contract is at", party=NOBODY,
        environment=variables(ledger="{stranger}")),
    Bad("another contract is at the address", "round list", 1, "is not the ledger of this version", party=NOBODY,
        environment=variables(ledger="{other}")),
    Bad("the address is mistyped", "receipt list", 2, "its checksum does not fit: copy it again", party=NOBODY,
        environment=variables(ledger=TYPO)),
    Bad("the address is none", "receipt list", 2, "'0x12' is no address", party=NOBODY,
        environment=variables(ledger="0x12")),
    Bad("no ledger is named", "mirror", 2, "Missing option '--ledger'", party=NOBODY,
        environment=variables(ledger=None)),
    Bad("no node is named", "governor take", 2, "Missing option '--rpc'", environment=variables(rpc=None)),
    Bad("finality is a word", "status --finality soon", 2, "does not say when a block is final", party=NOBODY),
    Bad("finality is below 0", "status --finality=-3", 2, "does not say when a block is final", party=NOBODY),
    Bad("a poll is not a number", "watch --poll nan", 2, "'nan' is no number of seconds", party=NOBODY),
    Bad("a poll is below its range", "watch --poll 0", 2, "0.0 is not in the range", party=NOBODY),
]

CONFIG = [
    Bad("a status from a store that is none", "status --store ftp://127.0.0.1", 2, "ftp", party=NOBODY),
    Bad("an unknown key", "status", 2, "line 2: unknown key 'legder': did you mean 'ledger'?",
        {"fedledger.toml": 'role = "auditor"\nlegder = "0x"'}),
    Bad("a wrong type", "member list", 2, "line 1: chain_id is text in quotes: give a whole number",
        {"fedledger.toml": 'chain_id = "1"'}),
    Bad("a secret", "receipt verify", 2, "secrets do not belong in fedledger.toml ('password')",
        {"fedledger.toml": 'password = "hunter2"'}),
    Bad("no TOML", "governor withdraw", 2, "fedledger.toml is no TOML file", {"fedledger.toml": "rpc = "}),
    Bad("a binary config", "mirror", 2, "is no TOML file", {"fedledger.toml": b"\x00\xff\xfe"}),
    Bad("a bomb of nesting", "status", 2, "nested too deeply", {"fedledger.toml": "a = " + "[" * 100_000}),
    Bad("an address of the config that is none", "status", 2, "fedledger.toml: ledger: '0x12' is no address",
        {"fedledger.toml": 'ledger = "0x12"'}, environment=variables(ledger=None)),
    Bad("a config that is not there", "--config none.toml status", 2, "there is no config file to read at none.toml"),
    Bad("a config that is a folder", "status", 2, "no config file to read at fedledger.toml (",
        {"fedledger.toml": FOLDER}),
    Bad("a config that is a pipe", "key new", 2, "no config file to read at", {"fedledger.toml": PIPE}),
    Bad("a config without end", "key list", 2, "no config file to read at", {"fedledger.toml": ENDLESS}),
    Bad("a huge config", "key address", 2, "more than 1,048,576 bytes", {"fedledger.toml": HUGE}),
    Bad("a config that leads to itself", "status", 2, "no config file to read at", {"fedledger.toml": LOOP}),
    Bad("init over a config", "init", 2, "fedledger.toml is there already", {"fedledger.toml": "rpc = 'x'"}),
    Bad("init over a folder by force", "init --force", 2, "is there already", {"fedledger.toml": FOLDER}),
    Bad("init over a pipe by force", "init --force", 2, "is there already", {"fedledger.toml": PIPE}),
    Bad("init where no folder is", "--config none/a.toml init", 2, "cannot be written"),
    Bad("init with a role that is none", "init --role boss", 2, "'boss' is not one of"),
    Bad("init with a fee that is none", "init --max-fee free", 2, "is no price of gas"),
]

KEYS = [
    Bad("a keystore that is not there", "governor take", 2, "there is no keystore to read at none.json",
        environment=variables(keystore="none.json")),
    Bad("a keystore that is a folder", "governor take", 2, "there is no keystore to read at", {"k": FOLDER},
        environment=variables(keystore="k")),
    Bad("a keystore that is a pipe", "governor take", 2, "there is no keystore to read at", {"k": PIPE},
        environment=variables(keystore="k")),
    Bad("a keystore without end", "governor take", 2, "there is no keystore to read at", {"k": ENDLESS},
        environment=variables(keystore="k")),
    Bad("an empty keystore", "governor take", 2, "is no keystore (JSON, version 3)", {"k": ""},
        environment=variables(keystore="k")),
    Bad("a binary keystore", "governor withdraw", 2, "is no keystore (JSON, version 3)", {"k": b"\xff\xfe\x00"},
        environment=variables(keystore="k")),
    Bad("a keystore of version 1", "governor withdraw", 2, "is no keystore (JSON, version 3)",
        {"k": lambda scene: json.dumps(keystore(scene) | {"version": 1})}, environment=variables(keystore="k")),
    Bad("a bomb of nesting for a keystore", "governor take", 2, "is no keystore", {"k": "[" * 60_000},
        environment=variables(keystore="k")),
    Bad("a keystore cut short", "governor withdraw", 2, "is a damaged keystore",
        {"k": lambda scene: json.dumps(keystore(scene) | {"crypto": {"ciphertext": "00"}})},
        environment=variables(keystore="k")),
    Bad("a keystore whose scrypt asks for all memory", "governor withdraw", 2, "is a damaged keystore",
        {"k": derived("scrypt", {"n": 1 << 40, "r": 8, "p": 1})},
        environment=variables(keystore="k")),
    Bad("a keystore whose key derivation never ends", "governor withdraw", 2, "is a damaged keystore",
        {"k": derived("pbkdf2", {"c": 1 << 60, "prf": "hmac-sha256"})},
        environment=variables(keystore="k")),
    Bad("a keystore of another account", "governor withdraw", 2, "and names another address",
        {"k": lambda scene: json.dumps(keystore(scene) | {"address": keystore(scene, "auditor")["address"]})},
        environment=variables(keystore="k")),
    Bad("a key derivation below 1", "governor withdraw", 2, "is a damaged keystore",
        {"k": derived("pbkdf2", {"c": -1, "prf": "hmac-sha256"})},
        environment=variables(keystore="k")),
    Bad("a password file that is not there", "member suspend 1", 2, "none holds no password to read",
        environment=variables(password_file="none")),
    Bad("a password file that is empty", "member suspend 1", 2, "the password does not open", {"p": ""},
        environment=variables(password_file="p")),
    Bad("a password that is not UTF-8", "member suspend 1", 2, "it is not text in UTF-8", {"p": b"\xff\xfe"},
        environment=variables(password_file="p")),
    Bad("a password file that is a pipe", "member suspend 1", 2, "holds no password to read", {"p": PIPE},
        environment=variables(password_file="p")),
    Bad("a huge password file", "member suspend 1", 2, "holds no password to read (more than", {"p": HUGE},
        environment=variables(password_file="p")),
    Bad("another password", "member suspend 1", 2, "the password does not open", {"p": "hunter2"},
        environment=variables(password_file="p")),
    Bad("no password, and nobody to ask", "member suspend 1", 2, "give --password-file, or set FEDLEDGER_PASSWORD",
        environment=variables(password_file=None)),
    Bad("a key over a key", "key new --keystore k", 2, "k is there already", {"k": "precious"}),
    Bad("a key where a file is a folder", "key new --keystore k/key.json", 2, "k cannot be made", {"k": ""}),
    Bad("a key with an empty password", "key new --keystore k/key.json", 2, "an empty password does not protect",
        {"p": ""}, environment=variables(password_file="p")),
    Bad("a key where nothing can be written", "key new --keystore /proc/sys/key.json", 2, "cannot be written"),
    Bad("a secret key that is none", "key import --secret-file s --keystore k", 2, "s is no secret key", {"s": "12"}),
    Bad("a secret key that is binary", "key import --secret-file s --keystore k", 2, "s is no secret key",
        {"s": b"\xff" * 32}),
    Bad("a secret key in a pipe", "key import --secret-file s --keystore k", 2, "is a pipe or a device", {"s": PIPE}),
    Bad("a secret key without end", "key import --secret-file s --keystore k", 2, "is a pipe or a device",
        {"s": ENDLESS}),
    Bad("a huge secret key", "key import --secret-file s --keystore k", 2, "s is no secret key", {"s": HUGE}),
    Bad("a list of keys in a file", "key list k", 2, "k is no folder to read", {"k": ""}),
    Bad("an address of no keystore", "key address --keystore k", 2, "k is no keystore", {"k": "{}"}),
    Bad("an address that is no address", "key address --keystore k", 2, "does not name its address",
        {"k": lambda scene: json.dumps(keystore(scene) | {"address": "0x12"})}),
]

MEMBERS = [
    Bad("admit a mistyped address", f"member admit {TYPO} --name A --role auditor", 2, "its checksum does not fit"),
    Bad("admit without a role", "member admit {stranger} --name A", 2, "Missing option '--role'"),
    Bad("admit with a role that is none", "member admit {stranger} --name A --role boss", 2, "'boss' is not one of"),
    Bad("admit with an empty name", "member admit {stranger} --name '' --role auditor", 2, "--name: "),
    Bad("admit with a long name", f"member admit {{stranger}} --name {'é' * 17} --role auditor", 2, "--name: "),
    Bad("admit with a name that moves the cursor", "member admit {stranger} --name '\x1b[2J' --role auditor", 2,
        "--name: "),
    Bad("admit twice", "member admit {site1} --name A --role auditor", 1, "is, or was, a member's account"),
    Bad("admit by who is not the governor", "member admit {stranger} --name A --role auditor", 1,
        "is not the governor", party="auditor"),
    Bad("admit without ether", "governor offer {stranger}", 1, "is not the governor", party="poor"),
    Bad("a member that is not", "member show 99", 2, "there is no member 99", party=NOBODY),
    Bad("a member that no id can be", "member show 99999999999", 2, "is not in the range", party=NOBODY),
    Bad("roles of a member that is not", "member roles 99 --role auditor", 2, "there is no member 99"),
    Bad("suspend a member that is not", "member suspend 99", 2, "there is no member 99"),
    Bad("replace by a member's account", "member replace 1 {site2}", 1, "is, or was, a member's account"),
    Bad("replace by no account", "member replace 1 0x" + "00" * 20, 1, "the zero account"),
    Bad("offer the place of no member", "member offer {site2}", 1, "is no member's account", party="stranger"),
    Bad("take a place that nobody offered", "member take 1", 1, "did not offer its place", party="stranger"),
    Bad("take governance that nobody offered", "governor take", 1, "was not offered to", party="stranger"),
    Bad("offer governance to half an address", "governor offer 0x1234", 2, "is no address"),
    Bad("withdraw by who is not the governor", "governor withdraw", 1, "is not the governor", party="auditor"),
    Bad("join without being admitted", "join", 2, "is not admitted yet", party="stranger"),
    Bad("join with an age key that is none", "join --age-key age1xyz", 2, "--age-key", party=SITE),
    Bad("join with a damaged age key", "join", 2, "age.key holds no age identity",
        {"{mine}/age.key": "AGE-SECRET-KEY-1X"}, party=SITE),
    Bad("join with a binary age key", "join", 2, "age.key holds no age identity", {"{mine}/age.key": b"\xff\x00"},
        party=SITE),
    Bad("join with an age key that is a folder", "join", 2, "age.key holds no age identity", {"{mine}/age.key": FOLDER},
        party=SITE),
    Bad("join with an age key that is a pipe", "join", 2, "age.key holds no age identity", {"{mine}/age.key": PIPE},
        party=SITE),
    Bad("join with an age key that leads to itself", "join", 2, "age.key holds no age identity",
        {"{mine}/age.key": LOOP}, party=SITE),
    Bad("join with an age key of another password", "join", 2, "age.key: try another", {"{mine}/age.key": BACKUP},
        party=SITE),
    Bad("join with an age key cut short", "join", 2, "age.key is damaged", {"{mine}/age.key": SEALED[:-1]},
        party=SITE),
    Bad("join with an age key that takes endless work", "join", 2, "takes more work (2^63)",
        {"{mine}/age.key": SEALED.replace(b" 4\n", b" 63\n")}, party=SITE),
    Bad("join with an age key that is sealed to another", "join", 2, "is not encrypted with a password",
        {"{mine}/age.key": pyrage.encrypt(b"", [pyrage.x25519.Identity.generate().to_public()])}, party=SITE),
    Bad("rotate a key without being admitted", "key rotate", 2, "is not admitted yet", party="stranger"),
    Bad("rotate a damaged age key", "key rotate", 2, "age.key holds no age identity",
        {"{mine}/age.key": "AGE-SECRET-KEY-1X"}, party=SITE),
    Bad("rotate a huge age key", "key rotate", 2, "age.key holds no age identity", {"{mine}/age.key": HUGE},
        party=SITE),
    Bad("rotate without a store", "key rotate", 3, "is not to be had", {"{mine}/age.key": SEALED}, party=SITE,
        environment=variables(store="none")),
]

BACKUPS = [
    Bad("a backup over a file", "key backup -o b --backup-password-file p", 2, "b is there already",
        {"b": "", "p": "hunter2"}),
    Bad("a backup where nothing can be written", "key backup -o none/b --backup-password-file p", 2,
        "cannot be written", {"p": "hunter2"}),
    Bad("a backup with an empty password", "key backup -o b --backup-password-file p", 2,
        "an empty password does not protect", {"p": ""}),
    Bad("a backup with a password in a pipe", "key backup -o b --backup-password-file p", 2,
        "p holds no password to read", {"p": PIPE}),
    Bad("a backup without a password", "key backup -o b", 2, "give --backup-password-file"),
    Bad("a backup of no keystore", "key backup -o b --keystore k --backup-password-file p", 2, "k is no keystore",
        {"k": "{}", "p": "hunter2"}),
    Bad("a backup with another password of the keystore", "key backup -o b --password-file p", 2,
        "the password does not open", {"p": "hunter2"}),
    Bad("a backup of a damaged age key", "key backup -o b --backup-password-file p", 2, "holds no age identity",
        {"{mine}/age.key": "AGE-SECRET-KEY-1X", "p": "hunter2"}),
    Bad("restore no file", "key restore b", 2, "'b' does not exist"),
    Bad("restore a pipe", "key restore b", 2, "is a pipe or a device", {"b": PIPE}),
    Bad("restore something huge", "key restore b --backup-password-file p", 2, "cannot be read as a backup",
        {"b": HUGE, "p": "hunter2"}),
    Bad("restore with another password", "key restore b --backup-password-file p", 2, "the password does not open b",
        {"b": BACKUP, "p": "hunter2"}),
    Bad("restore with nobody to ask", "key restore b", 2, "give --backup-password-file", {"b": BACKUP}),
    Bad("restore what is no backup", "key restore b --backup-password-file p", 2, "b opens, and is no backup",
        {"b": SEALED, "p": PASSWORD}),
    Bad("restore over a keystore", "key restore b --backup-password-file p", 2, "governor.json is there already",
        {"b": BACKUP, "p": "battery staple"}),
    Bad("restore over an age key", "key restore b --keystore k --backup-password-file p", 2,
        "age.key is there already", {"b": BACKUP, "p": "battery staple", "{mine}/age.key": SEALED}),
    Bad("restore a keystore of another password", "key restore b --keystore k --password-file p "
        "--backup-password-file p", 2, "the password does not open k", {"b": BACKUP, "p": "battery staple"}),
]

CHARTERS = [
    Bad("deploy no charter", "deploy --charter none.md", 2, "'none.md' does not exist"),
    Bad("deploy an empty charter", "deploy --charter c", 2, "c is empty", {"c": " \n"}),
    Bad("deploy a folder", "deploy --charter c", 2, "is a directory", {"c": FOLDER}),
    Bad("deploy a pipe", "deploy --charter c", 2, "is a pipe or a device", {"c": PIPE}),
    Bad("deploy a huge charter", "deploy --charter c", 2, "more than 1,048,576 bytes", {"c": HUGE}),
    Bad("deploy limits that cannot be read", "deploy --charter c", 2, "limits cannot be read: min_quorum",
        {"c": '```fedledger-limits\n{"min_quorum": -1}\n```\n'}),
    Bad("deploy without ether", "deploy --charter c", 2, "has too little ether", {"c": IN_FORCE}, party="poor"),
    Bad("deploy on no chain", "deploy --charter c", 3, "is no chain's node", {"c": "We agree."},
        environment=variables(rpc="{html}")),
    Bad("deploy with blobs in a file", "deploy --charter c", 3, "cannot keep the blob", {"c": "We agree.", "b": ""},
        environment=variables(store="b")),
    Bad("deploy with blobs where nothing can be written", "deploy --charter c", 3, "cannot keep the blob",
        {"c": "We agree."}, environment=variables(store="/proc/sys/blobs")),
    Bad("change to the charter in force", "charter change c", 2, "is the charter in force already", {"c": IN_FORCE}),
    Bad("change to a bomb of nesting", "charter change c", 2, "limits cannot be read",
        {"c": "```fedledger-limits\n" + "[" * 100_000 + "\n```\n"}),
    Bad("change by who is not the governor", "charter change c", 1, "is not the governor", {"c": "We differ."},
        party="auditor"),
    Bad("accept with a key that is none", f"charter accept --age-key {AGE_KEY}x", 2, "--age-key", party=SITE),
    Bad("accept as no member", "charter accept", 2, "is no member's account", party="stranger"),
    Bad("accept what is not to be had", "charter accept", 3, "is not to be had", party=SITE,
        environment=variables(store="none")),
    Bad("relay what is no acceptance", "charter relay a.json", 2, "a.json is no signed acceptance", {"a.json": "{}"}),
    Bad("relay a pipe", "charter relay a.json", 2, "is a pipe or a device", {"a.json": PIPE}),
    Bad("show what is not to be had", "charter show --store none", 3, "is not to be had", party=NOBODY),
]

STORES = [
    Bad("an IPFS node that does not answer", "charter show --store {gone}", 3, "does not answer", party=NOBODY),
    Bad("an IPFS node that is a web page", "charter show --store {html}", 3, "is no IPFS node's RPC", party=NOBODY),
    Bad("an IPFS node that wants a token", "charter show --store {guarded}", 2, "wants a token (HTTP 401)",
        party=NOBODY),
    Bad("an IPFS node that wants another token", "charter show --store {guarded}", 2, "wants another token",
        party=NOBODY, environment=variables(store_token="hunter2")),
    Bad("an IPFS token that no header can carry", "charter show --store {html}", 2,
        "has characters in it that no token", party=NOBODY, environment=variables(store_token="hunter\n2")),
    Bad("an IPFS node elsewhere without encryption", "mirror --store http://192.0.2.1:5001", 2, "plain HTTP",
        party=NOBODY),
    Bad("an IPFS node with a password in its address", "mirror --store http://a:hunter2@localhost:5001", 2,
        "a URL with a password in it", party=NOBODY),
    Bad("a store of a kind that is none", "mirror --store ftp://localhost", 2, "ftp://localhost", party=NOBODY),
    Bad("an update for an IPFS node that is a web page", "round post 2 u --weight 10 --store {html}", 3,
        "is no IPFS node's RPC", {"u": Scene.update}, party=SITE),
    Bad("a settlement with an IPFS node that is not there", "round settle --store {gone}", 3, "does not answer",
        party=AGGREGATOR),
]

MODELS = [
    Bad("pull a model over a file", "model pull -o m", 2, "m is there already: nothing is written over it",
        {"m": "precious"}, party=NOBODY),
    Bad("pull a model over a link", "model pull -o m", 2, "m is there already", {"m": LOOP}, party=NOBODY),
    Bad("pull a model where no folder is", "model pull -o none/m", 2, "none/m cannot be written (No such file",
        party=NOBODY),
    Bad("pull the model of a round that is not", "model pull --round 7 -o m", 2, "there is no round 7", party=NOBODY),
    Bad("pull the model of an open round", "model pull --round 2 --unreleased -o m", 2, "round 2 is open and has no",
        party=NOBODY),
    Bad("pull the model of a round below 0", "model pull --round=-1 -o m", 2, "-1 is not in the range", party=NOBODY),
    Bad("pull a model from an empty store", "model pull -o m --store none", 3, "is not to be had", party=NOBODY),
    Bad("pull a model to nowhere", "model pull", 2, "Missing option '-o'", party=NOBODY),
]

ROUNDS = [
    Bad("genesis of garbage", "round genesis m", 2, "m holds no model", {"m": "garbage"}),
    Bad("genesis of a pickle", "round genesis m", 2, "m holds no model", {"m": PICKLE}),
    Bad("genesis with a padded header", "round genesis m", 2, "m holds no model", {"m": padded(MODEL)}),
    Bad("genesis with numbers that are none", "round genesis m", 2, "m holds no model",
        {"m": lambda _: encode(MODEL_HEADER, SCHEMA, tensors(np.nan))}),
    Bad("genesis of an update", "round genesis m", 2, "its header says something else", {"m": Scene.update}),
    Bad("genesis that says it is huge", "round genesis m", 2, "m holds no model", {"m": b"\xff" * 7 + b"\x00{}"}),
    Bad("genesis of a pipe", "round genesis m", 2, "is a pipe or a device", {"m": PIPE}),
    Bad("genesis of a terabyte", "round genesis m", 3, "memory does not suffice", {"m": HUGE}),
    Bad("genesis twice", "round genesis m", 1, "is recorded already", {"m": encode(MODEL_HEADER, SCHEMA, tensors(7))}),
    Bad("agree to a round that is not", "round agree 7", 2, "there is no round 7", party=SITE),
    Bad("agree to a round that is over", "round agree 1", 2, "round 1 takes no updates any more", party=SITE),
    Bad("agree to a plan that is not to be had", "round agree 2 --store none", 3, "is not to be had", party=SITE),
    Bad("agree where earlier answers are damaged", "round agree 2", 3, "agreed.json is damaged: delete it",
        {"{memory}/agreed.json": "{"}, party=SITE),
    Bad("a round shown from a store that is none", "round show 1 --store http://192.0.2.1", 2, "plain HTTP",
        party=NOBODY),
    Bad("a round that is not", "round show 7", 2, "there is no round 7", party=NOBODY),
    Bad("open a bomb of nesting", "round open p.json", 2, "p.json is no plan", {"p.json": "[" * 100_000},
        party=AGGREGATOR),
    Bad("open a bomb of nesting in TOML", "round open p.toml", 2, "p.toml is no plan",
        {"p.toml": "a=" + "[" * 100_000}, party=AGGREGATOR),
    Bad("open tensors of exabytes", "round open p.json", 2, "p.json is no plan",
        {"p.json": plan(tensors={"a": {"dtype": "F32", "shape": [1 << 39] * 16}})}, party=AGGREGATOR),
    Bad("open without tensors", "round open p.json", 2, "p.json is no plan: tensors", {"p.json": plan(tensors={})},
        party=AGGREGATOR),
    Bad("open with a rate that is no number", "round open p.toml", 2, "learning_rate",
        {"p.toml": PLAN_TOML.replace("0.1", "nan")}, party=AGGREGATOR),
    Bad("open with a window below 0", "round open p.toml", 2, "window", {"p.toml": PLAN_TOML.replace("600", "-600")},
        party=AGGREGATOR),
    Bad("open with an unknown strategy", "round open p.json", 2, "strategy: its name is to be one of",
        {"p.json": plan(strategy={"name": "magic"})}, party=AGGREGATOR),
    Bad("open with a wrong type", "round open p.json", 2, "quorum", {"p.json": plan(quorum="two")}, party=AGGREGATOR),
    Bad("open with an unknown key", "round open p.json", 2, "did you mean window?", {"p.json": plan(windw=1)},
        party=AGGREGATOR),
    Bad("open a list", "round open p.json", 2, "is to be one object", {"p.json": "[1]"}, party=AGGREGATOR),
    Bad("open a binary plan", "round open p.json", 2, "p.json is no plan", {"p.json": b"\xff\x00"}, party=AGGREGATOR),
    Bad("open a huge plan", "round open p.json", 2, "p.json cannot be read (more than", {"p.json": HUGE},
        party=AGGREGATOR),
    Bad("open an endless plan", "round open p.json", 2, "is a pipe or a device", {"p.json": ENDLESS}, party=AGGREGATOR),
    Bad("open a second round", "round open p.json", 1, "round 2 is still open", {"p.json": plan(window=7)},
        party=AGGREGATOR),
    Bad("open by a site", "round open p.json", 1, "is no aggregator here", {"p.json": plan(window=8)}, party=SITE),
    Bad("open on a round that is not", "round open p.toml --base 9", 2, "round 9 has no released model",
        {"p.toml": PLAN_TOML}, party=AGGREGATOR),
    Bad("post garbage", "round post 2 u --weight 10", 2, "settlement would exclude u", {"u": "garbage"}, party=SITE),
    Bad("post a pickle", "round post 2 u --weight 10", 2, "settlement would exclude u", {"u": PICKLE}, party=SITE),
    Bad("post numbers that are none", "round post 2 u --weight 10", 2, "settlement would exclude u", {"u": no_numbers},
        party=SITE),
    Bad("post a padded header", "round post 2 u --weight 10", 2, "settlement would exclude u",
        {"u": lambda scene: padded(scene.update())}, party=SITE),
    Bad("post another's update", "round post 2 u --weight 10", 2, "settlement would exclude u",
        {"u": lambda scene: scene.update(2)}, party=SITE),
    Bad("post with another weight", "round post 2 u --weight 11", 2, "settlement would exclude u", {"u": Scene.update},
        party=SITE),
    Bad("post with a weight of 0", "round post 2 u --weight 0", 2, "0 is not in the range", {"u": Scene.update},
        party=SITE),
    Bad("post a terabyte", "round post 2 u --weight 10", 2, "would exclude u (more than 4,096 bytes)",
        {"u": HUGE}, party=SITE),
    Bad("post an empty file", "round post 2 u --weight 10", 2, "settlement would exclude u", {"u": ""}, party=SITE),
    Bad("post twice", "round post 2 u --weight 10", 1, "has an update in round 2",
        {"u": lambda scene: scene.update(2, 3)}, party="site 2"),
    Bad("post as no member", "round post 2 u --weight 10", 2, "is no member's account", {"u": Scene.update},
        party="stranger"),
    Bad("post to a round that is not", "round post 9 u --weight 10", 2, "there is no round 9", {"u": Scene.update},
        party=SITE),
    Bad("post with a fee that is too low", "round post 2 u --weight 10 --max-fee 0.000000001", 3, "the cap is",
        {"u": Scene.update}, party=SITE),
    Bad("relay garbage", "round relay s.json", 2, "s.json is no signed update", {"s.json": "garbage"}),
    Bad("relay a bomb of nesting", "round relay s.json", 2, "s.json is no signed update", {"s.json": "[" * 4000}),
    Bad("relay a huge file", "round relay s.json", 2, "more than 4,096 bytes", {"s.json": HUGE}),
    Bad("relay what is for another ledger", "round relay s.json", 2, "it is for ledger",
        {"s.json": lambda scene: signed(scene, ledger="0x" + "11" * 20)}),
    Bad("relay what was altered", "round relay s.json", 1, "it was altered, have it signed anew",
        {"s.json": lambda scene: signed(scene, weight=999)}),
    Bad("relay a signature of zeros", "round relay s.json", 1, "s.json",
        {"s.json": lambda scene: signed(scene, r="0x" + "00" * 32, vs="0x" + "00" * 32)}),
    Bad("settle before the deadline", "round settle", 1, "round 2 still takes updates", party=AGGREGATOR),
    Bad("settle as a site", "round settle", 2, "sealed to keys of which none is here", party=SITE),
    Bad("settle without the plan", "round settle --store none", 3, "is not to be had", party=AGGREGATOR),
    Bad("abort a round that is not", "round abort 9 --reason cancelled", 2, "there is no round 9", party=AGGREGATOR),
    Bad("abort without a reason that is one", "round abort 2 --reason bored", 2, "'bored' is not one of",
        party=AGGREGATOR),
    Bad("abort before it expires", "round abort 2 --reason expired", 1, "round 2 expires", party=SITE),
    Bad("erase no blob", "erase garbage --reason mistake", 2, "'garbage' is no blob", party=SITE),
    Bad("erase by no reason", f"erase 0x{'00' * 32} --reason anger", 2, "--reason", party=SITE),
    Bad("erase in a round that is not", f"erase 0x{'00' * 32} --round 9 --reason mistake", 2, "in round 9", party=SITE),
    Bad("grant to nobody", "grant", 2, "--to", party=AGGREGATOR),
    Bad("grant to a stranger", "grant --to {stranger}", 2, "is no member's account", party=AGGREGATOR),
    Bad("grant to no address", "grant --to 0x12", 2, "is no address", party=AGGREGATOR),
    Bad("grant rounds that are none", "grant --to {site1} --rounds x", 2, "names no rounds", party=AGGREGATOR),
    Bad("grant the open round", "grant --to {site1} --rounds 2", 2, "round 2 has not ended", party=AGGREGATOR),
    Bad("grant without an age key", "grant --to {site1}", 2, "holds no age identity", {"{mine}/age.key": ""},
        party=AGGREGATOR),
    Bad("grant without a key that opens anything", "grant --to {site1}", 2, "nothing to grant",
        {"{mine}/age.key": lambda _: f"{Identity.generate()}\n"}, party=AGGREGATOR),
    Bad("audit with an identity that is none", "audit {keys} --identity k", 2, "k holds no age identity", {"k": "x"},
        party=NOBODY),
    Bad("audit with an identity that is not there", "audit {keys} --identity k", 2, "'k' does not exist", party=NOBODY),
    Bad("audit with an identity in a pipe", "audit {keys} --identity k", 2, "pipe", {"k": PIPE}, party=NOBODY),
    Bad("audit with a key and without", "audit {keys} --identity k --public", 2, "one of the two",
        {"k": lambda _: f"{Identity.generate()}\n"}, party=NOBODY),
    Bad("erase a blob of nobody", f"erase 0x{'00' * 32} --member 1 --reason mistake", 2,
        "is no update of member 1, nor its key blob", party=SITE),
    Bad("attest with half a verdict", "attest 1 --approve", 2, "a verdict of your own has a report", party=AUDITOR),
    Bad("attest to a round that is not", "attest 9", 2, "round 9", party=AUDITOR),
    Bad("attest to an open round", "attest 2", 2, "round 2", party=AUDITOR),
    Bad("attest with a report that is a pipe", "attest 1 --reject --report r", 2, "is a pipe or a device", {"r": PIPE},
        party=AUDITOR),
    Bad("attest twice", "attest 1 --reject --report r", 1, "has attested to round 1", {"r": "no"}, party=AUDITOR),
    Bad("attest with a huge report", "attest 1 --reject --report r", 2, "r cannot be read as a report", {"r": HUGE},
        party=AUDITOR),
    Bad("attest as a site", "attest 1 --reject --report r", 1, "is no", {"r": "no"}, party=SITE),
]

RECEIPTS = [
    Bad("receipts of nobody", "receipt list", 2, "remembers nothing of", party=NOBODY,
        environment=variables(state="s")),
    Bad("a state folder that is a file", "receipt list", 2, "s remembers nothing of", {"s": ""}, party=NOBODY,
        environment=variables(state="s")),
    Bad("a receipt that is not", "receipt show 9999", 2, "there is no receipt of entry 9999", party=SITE),
    Bad("receipts that are none", "receipt verify r", 2, "line 1 of r is no receipt", {"r": "garbage\n"}, party=SITE),
    Bad("an empty file of receipts", "receipt verify r", 2, "r remembers no final entry", {"r": ""}, party=SITE),
    Bad("receipts in a pipe", "receipt verify r", 2, "is a pipe or a device", {"r": PIPE}, party=SITE),
    Bad("receipts that nest too deeply", "receipt verify r", 2, "line 1 of r is no receipt",
        {"r": "[" * 100_000 + "\n"}, party=SITE),
    Bad("binary receipts", "receipt verify r", 2, "line 1 of r is no receipt", {"r": b"\xff\xfe\n"}, party=SITE),
    Bad("a terabyte of receipts", "receipt verify r", 3, "memory does not suffice", {"r": HUGE}, party=SITE),
    Bad("a damaged memory", "status", 3, "line 1 of ", {"{memory}/seen.jsonl": "garbage\n"}, party=SITE),
    Bad("a binary memory", "status", 3, "line 1 of ", {"{memory}/seen.jsonl": b"\xff\x00\n"}, party=SITE),
    Bad("a memory that is a folder", "watch", 3, "cannot be read and written", {"{memory}/seen.jsonl": FOLDER},
        party=NOBODY),
    Bad("a memory that is a pipe", "status", 3, "cannot be read and written", {"{memory}/seen.jsonl": PIPE},
        party=SITE),
    Bad("a memory of another history", "receipt verify", 1, "another history than the one remembered",
        {"{memory}/seen.jsonl": forged, "{memory}/receipts.jsonl": ""}, party=SITE),
    Bad("damaged receipts", "receipt list", 3, "line 1 of ", {"{memory}/receipts.jsonl": "garbage\n"}, party=SITE),
    Bad("a damaged journal", "governor offer {stranger}", 3, "transactions is damaged",
        {"{memory}/transactions": "0x12 0x34\n"}),
    Bad("a binary journal", "charter accept", 3, "transactions is damaged", {"{memory}/transactions": b"\xff\x00\n"},
        party=SITE),
    Bad("a journal that is a pipe", "governor offer {stranger}", 3, "where signed transactions are kept",
        {"{memory}/transactions": PIPE}),
    Bad("a state folder that is a file, to write", "governor offer {stranger}", 3, "cannot be read and written",
        {"s": ""}, environment=variables(state="s")),
    Bad("a state folder where nothing can be written", "governor offer {stranger}", 3, "cannot be read and written",
        environment=variables(state="/proc/sys/state")),
    Bad("a state folder of a home that is none", "status", 2, "name a state folder with --state", party=NOBODY,
        environment=variables(state="~nobody-of-that-name/state")),
]

AUDITS = [
    Bad("audit nothing", "audit none", 2, "none is not there", party=NOBODY),
    Bad("audit a folder without history", "audit h", 2, "h holds no history", {"h": FOLDER}, party=NOBODY),
    Bad("audit garbage", "audit b", 2, "b is no bundle", {"b": "garbage"}, party=NOBODY),
    Bad("audit an empty file", "audit b", 2, "b is no bundle", {"b": ""}, party=NOBODY),
    Bad("audit a pipe", "audit b", 2, "b is not there", {"b": PIPE}, party=NOBODY),
    Bad("audit a device", "audit b", 2, "b is not there", {"b": ENDLESS}, party=NOBODY),
    Bad("audit a ledger that is none", "audit h", 1, "ledger.json does not describe a ledger",
        history(ledger_json="[]"), party=NOBODY),
    Bad("audit a bomb of nesting", "audit h", 1, "ledger.json does not describe a ledger",
        history(ledger_json="[" * 100_000), party=NOBODY),
    Bad("audit a binary history", "audit h", 1, "is not text in UTF-8", history(entries_jsonl=b"\xff\xfe"),
        party=NOBODY),
    Bad("audit entries that are none", "audit h", 1, "entries.jsonl", history(entries_jsonl="{}\n"), party=NOBODY),
    Bad("audit a bundle cut short", "audit b", 3, "only the first 59 of 300 bytes can be read",
        {"b": lambda scene: scene.evidence["bundle"][:300]},
        party=NOBODY),
    Bad("audit a node without a ledger's address", "audit {url}", 2, "is a node: give --ledger", party=NOBODY,
        environment=variables(ledger=None)),
    Bad("audit a node that is a web page", "audit {html}", 3, "is no chain's node", party=NOBODY),
    Bad("audit rounds that are none", "audit h --rounds 7-3", 2, "names no rounds", party=NOBODY),
    Bad("audit a share that is none", "audit h --sample nan%", 2, "is no share of the rounds", party=NOBODY),
    Bad("audit from a head that is none", "audit h --since 0x12", 2, "a head is 0x and 64 hex digits", party=NOBODY),
    Bad("audit with receipts that are none", "audit h --receipts r", 2, "line 1 of r is no receipt",
        history() | {"r": "garbage\n"}, party=NOBODY),
    Bad("audit with receipts in a pipe", "audit h --receipts r", 2, "r cannot be read", history() | {"r": PIPE},
        party=NOBODY),
    Bad("a report where no folder is", "audit h --html none/r.html", 2, "no report can be written to", party=NOBODY),
    Bad("a report over a device", "audit h --html /dev/full", 2, "no report can be written to", party=NOBODY),
    Bad("privacy of nothing", "privacy none", 2, "none is not there", party=NOBODY),
    Bad("privacy of garbage", "privacy b", 2, "b is no bundle", {"b": "garbage"}, party=NOBODY),
    Bad("privacy of a folder without history", "privacy h", 2, "h holds no history", {"h": FOLDER}, party=NOBODY),
    Bad("privacy of a history that is forged", "privacy h", 1, "the entries of h do not lead to its head",
        history() | {"h/entries.jsonl": forged}, party=NOBODY),
    Bad("privacy of a node that is not there", "privacy {gone}", 3, "does not answer", party=NOBODY),
    Bad("privacy without a ledger", "privacy", 2, "no history is named: give SOURCE, or a node", party=NOBODY,
        environment=variables(ledger=None)),
    Bad("export nothing", "export none -o o", 2, "none is not there", party=NOBODY),
    Bad("export garbage", "export b -o o", 2, "b is no bundle", {"b": "garbage"}, party=NOBODY),
    Bad("export a ledger that is none", "export h -o o", 1, "ledger.json does not describe a ledger",
        history(ledger_json="{}"), party=NOBODY),
    Bad("export where no folder is", "export h -o none/o", 2, "no bundle can be written to", party=NOBODY),
    Bad("export over a folder", "export h -o o", 2, "no bundle can be written to", {"o": FOLDER}, party=NOBODY),
    Bad("export over a device", "export h -o /dev/full", 2, "no bundle can be written to", party=NOBODY),
    Bad("export over a pipe", "export h -o o", 2, "no bundle can be written to", {"o": PIPE}, party=NOBODY),
    Bad("export from a node that is not there", "export {gone} --ledger {ledger} -o o", 3, "does not answer",
        party=NOBODY),
]

TASKS = [
    Bad("data over a file", "task data heart .", 2, "cleveland.csv is there already", {"cleveland.csv": "precious"}),
    Bad("data in a file", "task data heart f", 2, "f cannot be made (", {"f": "precious"}),
    Bad("data of a task that is none", "task data letters f", 2, "'letters' is not one of"),
    Bad("heart for a number of hospitals", "task data heart f --sites 3", 2, "leave --sites, --alpha and --seed out"),
    Bad("digits for too many sites", "task data digits f --sites 180", 2, "take from 1 to 179"),
    Bad("digits for no site", "task data digits f --sites 0", 2, "0 is not in the range"),
    Bad("digits with an alpha that is no number", "task data digits f --alpha nan", 2, "alpha is nan: take a number"),
    Bad("a built-in task on data that are none", "task check heart --data d", 2, "in load: ", {"d": "a,b"}),
    Bad("a built-in task on other data", "task check digits --data d", 2, "in evaluate: RuntimeError: mat1 and mat2",
        {"d": "a,b\n1,2\n"}),
    Bad("a file with a built-in task's name", "task genesis ./heart --out m", 2, "heart has no task",
        {"heart": "x = 1\n"}),
    Bad("a built-in task in capitals", "participate --task HEART --data d", 2, "'HEART' does not exist", {"d": ""},
        party=SITE),
    Bad("a task that splits badly", "task check task.py --data data.csv", 2, "in split: it leaves no examples",
        {"task.py": TASK + "\n    def split(self, dataset): return [], dataset\n", "data.csv": ""}),
    Bad("a task whose weights are none", "task check task.py --data data.csv", 2, "in class_weights: it gives no",
        {"task.py": TASK + "\n    def class_weights(self, dataset): return [1, 2]\n", "data.csv": ""}),
    Bad("a task with a measure that is no number", "task check task.py --data data.csv", 2, "in evaluate: the measure",
        {"task.py": TASK.replace("(4", "(40") + "\n    def evaluate(self, *_): return {'\u00e9': 1}\n",
         "data.csv": ""}),
    Bad("a task of arrays that gives none", "task check t.py --data data.csv", 2, "in initial: it gives a list",
        {"t.py": ARRAYS, "data.csv": ""}),
    Bad("a task over a file", "task new t.py", 2, "t.py is there already", {"t.py": "precious"}),
    Bad("a task where no folder is", "task new none/t.py", 2, "is no folder to write"),
    Bad("a task that is not there", "task check none.py --data d", 2, "none.py cannot be read"),
    Bad("a task that is a folder", "task check t --data d", 2, "t cannot be read", {"t": FOLDER}),
    Bad("a task that is a pipe", "task check t --data d", 2, "t cannot be read", {"t": PIPE}),
    Bad("a task without end", "task check t --data d", 2, "t cannot be read", {"t": ENDLESS}),
    Bad("a task that is binary", "task check t --data d", 2, "t: source code string cannot contain null",
        {"t": b"\x00\xff"}),
    Bad("a task with a mistake", "task check task.py --data data.csv", 2, "task.py, line 5: ",
        task("class Mine(Task):", "class Mine(Task:")),
    Bad("a task of endless brackets", "task check t --data d", 2, "t, line 1: too many nested", {"t": "(" * 100_000}),
    Bad("a task that imports what is not there", "task check task.py --data data.csv", 2, "ModuleNotFoundError",
        task("import torch", "import no_such_module")),
    Bad("a task that exits", "task check task.py --data data.csv", 2, "SystemExit: 0",
        task("import torch", "import torch, sys; sys.exit(0)")),
    Bad("a task that recurses", "task check task.py --data data.csv", 2, "RecursionError",
        task("import torch", "import torch\ndef f(): f()\nf()")),
    Bad("a task with no class", "task check t --data d", 2, "t has no task", {"t": "x = 1\n"}),
    Bad("a task whose model fails", "task check task.py --data data.csv", 2, "in model: ValueError: no",
        task("return torch.nn.Linear(1, 1)", "raise ValueError('no\\nway')")),
    Bad("a task whose model is none", "task genesis task.py --out m", 2, "it gives a int",
        task("return torch.nn.Linear(1, 1)", "return 5")),
    Bad("a task whose model has endless names", "task genesis task.py --out m", 2,
        "fits no plan: give it a name of at most 256 letters",
        task("return torch.nn.Linear(1, 1)", "return torch.nn.ParameterDict({'a' * 300: torch.ones(1)})")),
    Bad("a task that exits in model", "task genesis task.py --out m", 2, "in model: SystemExit",
        task("return torch.nn.Linear(1, 1)", "raise SystemExit")),
    Bad("a model over a file", "task genesis task.py --out task.py", 2, "is there already", task("Mine", "Mine")),
    Bad("a task that exits in load", "participate --task task.py --data data.csv", 2, "in load: SystemExit",
        task("return torch.utils", "raise SystemExit\n        return torch.utils"), party=SITE),
    Bad("a task that fails in train", "task check task.py --data data.csv", 2, "in train: ",
        {"task.py": TASK + "\n    def train(self, *_): raise OSError('no')\n", "data.csv": ""}),
    Bad("a task that fails in loss", "task check task.py --data data.csv", 2, "ZeroDivisionError",
        {"task.py": TASK + "\n    def loss(self, *_): return 1 / 0\n", "data.csv": ""}),
    Bad("a task that fails in evaluate", "task check task.py --data data.csv", 2, "in evaluate: ",
        {"task.py": TASK + "\n    def evaluate(self, *_): return 5\n", "data.csv": ""}),
    Bad("a task that fails in optimizer", "task check task.py --data data.csv", 2, "in train: ",
        {"task.py": TASK + "\n    def optimizer(self, *_): return None\n", "data.csv": ""}),
    Bad("data that are not there", "task check task.py --data none.csv", 2, "there is no data at none.csv",
        task("Mine", "Mine")),
    Bad("empty data", "task check t.py --data d.csv", 2, "in load: ", {"t.py": EXAMPLE, "d.csv": ""}),
    Bad("ragged data", "task check t.py --data d.csv", 2, "in load: ValueError",
        {"t.py": EXAMPLE, "d.csv": "a,b\n1,2\n3\n"}),
    Bad("a plan that is none", "task check task.py --data data.csv --plan p.toml", 2, "p.toml is no plan",
        task("Mine", "Mine") | {"p.toml": "window = 0"}),
    Bad("a plan that is a pipe", "task check task.py --data data.csv --plan p.toml", 2, "p.toml cannot be read",
        task("Mine", "Mine") | {"p.toml": PIPE}),
    Bad("a plan for another model", "task check task.py --data data.csv --plan p.json", 2, "p.json",
        task("Mine", "Mine") | {"p.json": plan()}),
    Bad("a task that the policy does not allow", "task check t.py --data d --policy p.toml", 2, "among its tasks",
        {"t.py": "raise SystemExit", "p.toml": "tasks = []"}),
    Bad("a policy that is none", "task check task.py --data data.csv --policy p.toml", 2, "is no TOML file",
        task("Mine", "Mine") | {"p.toml": "min_sites"}),
    Bad("data in a pipe", "participate --task task.py --data none", 2, "there is no data at none",
        task("Mine", "Mine"), party=SITE),
]

LOOPS = [
    Bad("participate as no member", "participate --task task.py --data data.csv", 2, "is no member's account",
        task("Mine", "Mine"), party="stranger"),
    Bad("participate without a task", "participate --task none.py --data d", 2, "'none.py' does not exist", party=SITE),
    Bad("participate with a task that is none", "participate --task t.py --data t.py", 2, "t.py has no task",
        {"t.py": "x = 1"}, party=SITE),
    Bad("participate with a handover that is a file", "participate --task t.py --data t.py --handover t.py", 2,
        "is a file", {"t.py": TASK}, party=SITE),
    Bad("participate with a token that is none", "participate --task t.py --data t.py --store {html}", 2, "token",
        {"t.py": TASK}, party=SITE, environment=variables(store_token="hunter\n2")),
    Bad("participate with curves in a file", "participate --task t.py --data t.csv --tensorboard t.py", 2,
        "is no folder to write curves to", {"t.py": TASK, "t.csv": "1,1\n"}, party=SITE),
    Bad("participate with a store elsewhere", "participate --task t.py --data t.py --store http://192.0.2.1", 2,
        "plain HTTP", {"t.py": TASK}, party=SITE),
    Bad("participate with a damaged memory", "participate --task t.py --data t.py", 3, "line 1 of ",
        {"t.py": TASK, "{memory}/seen.jsonl": "garbage\n"}, party=SITE),
    Bad("participate by a policy that is not there", "participate --task t.py --data t.py --policy p.toml", 2,
        "there is no policy to read at p.toml (No such file", {"t.py": TASK}, party=SITE),
    Bad("participate by a policy that the environment names", "participate --task t.py --data t.py", 2,
        "there is no policy to read at p.toml", {"t.py": TASK}, party=SITE, environment=variables(policy="p.toml")),
    Bad("participate by a policy that the config file names", "participate --task t.py --data t.py", 2,
        "there is no policy to read at p.toml", {"t.py": TASK, "fedledger.toml": 'policy = "p.toml"'}, party=SITE),
    Bad("participate by a policy with a key mistyped", "participate --task t.py --data t.py", 2,
        "'min_site' is no key of it: did you mean min_sites?", {"t.py": TASK, "policy.toml": "min_site = 3"},
        party=SITE),
    Bad("participate by a policy that is a folder", "participate --task t.py --data t.py", 2, "no policy to read at",
        {"t.py": TASK, "policy.toml": FOLDER}, party=SITE),
    Bad("participate by a policy that is a pipe", "participate --task t.py --data t.py", 2, "no policy to read at",
        {"t.py": TASK, "policy.toml": PIPE}, party=SITE),
    Bad("participate by a policy without end", "participate --task t.py --data t.py", 2, "no policy to read at",
        {"t.py": TASK, "policy.toml": ENDLESS}, party=SITE),
    Bad("participate by a policy that is huge", "participate --task t.py --data t.py", 2, "more than 1,048,576 bytes",
        {"t.py": TASK, "policy.toml": HUGE}, party=SITE),
    Bad("participate by a policy that leads in a circle", "participate --task t.py --data t.py", 2,
        "(Too many levels of symbolic links)", {"t.py": TASK, "policy.toml": LOOP}, party=SITE),
    Bad("participate with a task that the policy does not allow", "participate --task t.py --data t.py", 2,
        "among its tasks: read the task, and add it there", {"t.py": "raise SystemExit", "policy.toml": "tasks = []"},
        party=SITE),
    Bad("rehearse as no member", "participate --task task.py --data data.csv --rehearse 1", 2, "is no member's account",
        task("Mine", "Mine"), party="stranger"),
    Bad("rehearse no number", "participate --task t.py --data t.py --rehearse one", 2, "'one' is not a valid integer",
        {"t.py": TASK}, party=SITE),
    Bad("rehearse before the first round", "participate --task t.py --data t.py --rehearse 0", 2,
        "0 is not in the range", {"t.py": TASK}, party=SITE),
    Bad("rehearse a round that is none", "participate --task t.py --data t.py --rehearse 9", 2, "there is no round 9",
        {"t.py": TASK}, party=SITE),
    Bad("rehearse a round without an update", "participate --task t.py --data t.py --rehearse 2", 2,
        "posted no update in round 2", {"t.py": TASK}, party=SITE),
    Bad("rehearse and hand over", "participate --task t.py --data t.py --rehearse 1 --handover h", 2,
        "--rehearse posts nothing: leave out", {"t.py": TASK, "h": FOLDER}, party=SITE),
    Bad("rehearse with a task that is none", "participate --task t.py --data t.py --rehearse 1", 2, "t.py has no task",
        {"t.py": "x = 1"}, party=SITE),
    Bad("rehearse with data that are not there", "participate --task t.py --data none --rehearse 1", 2,
        "there is no data at none", {"t.py": TASK}, party=SITE),
    Bad("rehearse with a damaged age key", "participate --task t.py --data t.py --rehearse 1", 2,
        "age.key holds no age identity", {"t.py": TASK, "{mine}/age.key": "garbage"}, party=SITE),
    Bad("rehearse without the blobs", "participate --task t.py --data t.py --store empty --rehearse 1", 3,
        "is not to be had", {"t.py": TASK}, party=SITE),
    Bad("aggregate as no member", "aggregate --plan p.toml", 2, "is no aggregator's account", {"p.toml": PLAN_TOML},
        party="stranger"),
    Bad("aggregate without a plan that is one", "aggregate --plan p.toml", 2, "p.toml is no plan", {"p.toml": "x = 1"},
        party=AGGREGATOR),
    Bad("aggregate a pipe", "aggregate --plan p.toml", 2, "is a pipe or a device", {"p.toml": PIPE}, party=AGGREGATOR),
    Bad("aggregate no rounds", "aggregate --plan p.toml --rounds 0", 2, "0 is not in the range", {"p.toml": PLAN_TOML},
        party=AGGREGATOR),
    Bad("aggregate with patience below 0", "aggregate --plan p.toml --patience=-1", 2, "is not in the range",
        {"p.toml": PLAN_TOML}, party=AGGREGATOR),
    Bad("aggregate with a relay that is not there", "aggregate --plan p.toml --relay none", 2, "does not exist",
        {"p.toml": PLAN_TOML}, party=AGGREGATOR),
    Bad("aggregate with curves in a file", "aggregate --plan p.toml --tensorboard p.toml", 2,
        "is no folder to write curves to", {"p.toml": PLAN_TOML}, party=AGGREGATOR),
    Bad("aggregate with curves in a folder of the system", "aggregate --plan p.toml --tensorboard /proc/curves", 2,
        "is no folder to write curves to", {"p.toml": PLAN_TOML}, party=AGGREGATOR),
    Bad("aggregate with a store that is not there", "aggregate --plan p.toml --store none", 3, "is not to be had",
        {"p.toml": PLAN_TOML}, party=AGGREGATOR),
    Bad("mirror a history that is another one", "mirror --follow", 1, "another history than the one remembered",
        {"{memory}/seen.jsonl": forged, "{memory}/receipts.jsonl": ""}, party=AUDITOR),
    Bad("watch a history that is another one", "watch", 1, "another history than the one remembered",
        {"{memory}/seen.jsonl": forged, "{memory}/receipts.jsonl": ""}, party=AUDITOR),
    Bad("a devnet on a port that is taken", "devnet --port {taken} --state d", 3, "cannot listen on 127.0.0.1"),
    Bad("a fresh devnet on a port that is taken", "devnet --fresh --port {taken} --state d", 3, "cannot listen on",
        {"d/chain.sqlite": "precious"}),
    Bad("a devnet for everybody", "devnet --bind 0.0.0.0 --state d", 2, "say --unsafe-bind"),
    Bad("a devnet at no address", "devnet --unsafe-bind --bind nowhere.invalid --port 0 --state d", 3,
        "cannot listen on"),
    Bad("a devnet in a file", "devnet --port 0 --state d", 3, "d cannot hold a chain", {"d": ""}),
    Bad("a demo over a file", "demo --rounds 1 --out o", 2, "is no folder of an earlier demo", {"o": "thesis"}),
    Bad("a demo over other work", "demo --rounds 1 --out o", 2, "is no folder of an earlier demo", {"o/x": "thesis"}),
    Bad("a demo of no rounds", "demo --rounds 0", 2, "0 is not in the range"),
    Bad("a demo below a file", "demo --rounds 1 --out o/demo", 3, "o cannot be read or written (File exists)",
        {"o": ""}),
]

# fmt: on
TABLE = [
    *NODE,
    *CONFIG,
    *KEYS,
    *BACKUPS,
    *MEMBERS,
    *CHARTERS,
    *STORES,
    *MODELS,
    *ROUNDS,
    *RECEIPTS,
    *AUDITS,
    *TASKS,
    *LOOPS,
]


@pytest.fixture(scope="module")
def stage(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The scene of all rows, with servers that are no node, and one that is not there."""
    scene = Scene(anvil, tmp_path_factory.mktemp("scene"))
    scene.words["signed"] = Path(scene.cli.signed(1, 2)).read_text()
    page, nothing = b"<html>Welcome!</html>", b'{"jsonrpc": "2.0", "id": 1, "result": null}'
    with ExitStack() as servers:
        scene.words |= {
            "html": servers.enter_context(answering(200, page, "text/html")),
            "guarded": servers.enter_context(answering(401, page, "text/html")),
            "null": servers.enter_context(answering(200, nothing, "application/json")),
            "text": servers.enter_context(answering(200, nothing.replace(b"null", b'"hi"'), "application/json")),
            "taken": str(servers.enter_context(taken_port())),
        }
        with answering(200, page, "text/html") as gone:
            scene.words["gone"] = gone
        yield scene


@pytest.fixture
def scene(stage: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """That scene, with a folder to run in, an empty home, and memories that may be damaged."""
    for name in ("here", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    remembered, chain = stage.cli.state, stage.cli.anvil.snapshot()
    stage.cli.state = Path(shutil.copytree(remembered, tmp_path / "state"))
    yield stage
    stage.cli.state = remembered
    stage.cli.anvil.revert(chain)  # a row that fails is not to fail those after it


def test_every_command_stands_in_the_table() -> None:
    assert {bad.path for bad in TABLE} == set(SINGLE)
    assert len({bad.id for bad in TABLE}) == len(TABLE) >= 100


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.id)
def test_bad_input_is_one_sentence_and_changes_nothing(bad: Bad, scene: Scene, tmp_path: Path) -> None:
    mine = scene.cli.state / bad.party
    memory = mine / f"{scene.contract.genesis.chain_id}-{scene.cli.ledger.lower()}"
    scene.words |= {"mine": str(mine), "memory": str(memory)}
    bad.prepare(scene)
    folders = (tmp_path, Path(scene.cli.store), scene.cli.folder)
    before, head, block = tree(*folders), scene.contract.head(), scene.cli.anvil.web3.eth.block_number

    result = bad.run(scene)

    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == bad.status, result.output
    assert "Traceback" not in result.output
    assert "a defect in fedledger" not in result.output
    assert all(secret not in result.output for secret in ("hunter2", PASSWORD.strip(), "AGE-SECRET-KEY"))
    lines = result.stderr.splitlines()
    errors = [number for number, line in enumerate(lines) if line.startswith("Error: ")]
    if bad.command.startswith("audit") and not errors:
        assert result.stdout.splitlines()[-1].startswith(("Violated: ", "Incomplete: "))
        assert bad.said in result.stdout
    else:
        [at] = errors
        assert bad.said in lines[at]
        assert all(line[:1].isspace() for line in lines[at + 1 :]), "where histories part, or an option's choices"
    assert tree(*folders) == before
    assert (scene.contract.head(), scene.cli.anvil.web3.eth.block_number) == (head, block)


# --------------------------------------------------------------------------------------------- secrets


def test_files_with_secrets_are_their_owners_alone_whatever_the_umask(scene: Scene) -> None:
    mine = scene.cli.state / "site 1"
    (mine / "age.key").unlink(missing_ok=True)
    umask = os.umask(0)
    try:
        made = Bad("", "key new --keystore here/key.json", 0, "").run(scene)
        joined = Bad("", "join", 0, "", party="site 1").run(scene)
    finally:
        os.umask(umask)
    assert (made.exit_code, joined.exit_code) == (0, 0), made.output + joined.output
    files = [Path("here/key.json"), mine / "age.key"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o600]
    assert (mine / "age.key").read_bytes().startswith(b"age-encryption.org/v1\n")
    assert "AGE-SECRET-KEY" not in joined.output
    assert PASSWORD.strip() not in made.output + joined.output


SECRETS = {
    "the node's user and key": ("status", "http://anna:hunter2@{host}/key/hunter2?key=hunter2", None),
    "a node that is not there": ("status", "http://anna:hunter2@{gone host}/hunter2", None),
    "a node that is none": ("status", "hunter2://anna:hunter2@{gone host}", None),
    "a node whose port is none": ("status", "http://anna:hunter2@localhost:hunter2/hunter2", None),
    "the IPFS node's token": ("charter show --store {guarded}", None, "hunter2"),
    "an IPFS node that is not there": ("charter show --store {gone}", None, "hunter2"),
    "an IPFS node with a password": ("charter show --store http://anna:hunter2@localhost", None, None),
}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(("command", "rpc", "token"), SECRETS.values(), ids=SECRETS)
def test_no_error_and_no_log_shows_a_secret(
    command: str, rpc: str | None, token: str | None, form: str, scene: Scene
) -> None:
    for name in ("html", "gone"):
        scene.words[name.replace("html", "host").replace("gone", "gone host")] = scene.words[name].split("//")[1]
    changes = {"FEDLEDGER_RPC": rpc} if rpc else {}
    environment = changes | {"FEDLEDGER_STORE_TOKEN": token, "FEDLEDGER_PASSWORD": "hunter2"}
    store = command.split()[-1] if "--store" in command else "{blobs}"
    for one in (command, f"mirror --log-format {form} --store {store}"):
        result = Bad("", one, 3, "", party="nobody", environment=environment).run(scene)
        assert result.exit_code in (2, 3), result.output
        assert "hunter2" not in result.output
