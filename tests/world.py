"""A small federation on a real (embedded) chain and a real folder, for tests that need a history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from pyrage.x25519 import Identity

from ledger.age import read_age_key, show_age_secret
from ledger.aggregator import Aggregator
from ledger.audit.attest import attest
from ledger.audit.evidence import write_folder
from ledger.audit.observe import observe
from ledger.chain.contract import LedgerContract
from ledger.chain.signing import sign_acceptance, sign_update
from ledger.cid import Cid
from ledger.facts import AbortReason, ErasureReason, Role
from ledger.plan import DpSgd, Plan, TensorSpec, Training
from ledger.sealing import Sealed, public_key, readers, seal
from ledger.storage.folder import FolderStore
from ledger.updates import MODEL_HEADER, Array, Place, encode, update_header
from tests.chains import Chain, Embedded

SCHEMA = {"bias": TensorSpec(dtype="F16", shape=[3]), "weight": TensorSpec(dtype="F32", shape=[2, 2])}
PLAN = Plan(
    tensors=SCHEMA,
    seal="none",
    training=Training(epochs=1, batch_size=1, learning_rate=0.1),
    max_update_bytes=4096,
    window=600,
    quorum=2,
    approvals=1,
)


def private(**changes: float) -> DpSgd:
    """A plan's part on privacy; a round of it spends an epsilon of 3.738."""
    written = {"clip": 1, "noise_multiplier": 1.5, "sampling_rate": 0.5, "local_steps": 4, "delta": 1e-5}
    return DpSgd.model_validate(written | changes)


def tensors(value: float) -> dict[str, Array]:
    return {"bias": np.full(3, value, np.float16), "weight": np.full(4, value, np.float32)}


NO_METRICS: Mapping[str, float] = {}
SEALED = PLAN.model_copy(update={"seal": "age"})


def identity_of(account: LocalAccount) -> Identity:
    """The age identity of whoever has this account."""
    return Identity.from_str(show_age_secret(keccak(b"age " + account.address.encode())))


def age_key(identity: Identity) -> bytes:
    return read_age_key(public_key(identity))


class World:
    """Members 1.. are participants, then the aggregator, then the auditor."""

    def __init__(
        self, folder: Path, participants: int = 3, chain: Chain | None = None, genesis: bytes | None = None
    ) -> None:
        self.folder = folder
        self.chain = chain or Embedded()
        self.store = FolderStore(folder / "blobs")
        self.governor = self.account("governor")
        self.contract = LedgerContract.deploy(self.chain.web3, self.governor, self.store.put(b"# Charter\n"))
        self.participants = [self.account(f"participant {number}") for number in range(1, participants + 1)]
        self.aggregator = Aggregator(self.contract, self.store, self.account("aggregator"))
        self.aggregator = replace(self.aggregator, identities=[identity_of(self.aggregator.account)])
        self.auditor = self.account("auditor")
        for number, account in enumerate(self.participants, 1):
            self.contract.admit(self.governor, account.address, Role.PARTICIPANT, f"Site {number}")
        self.contract.admit(self.governor, self.aggregator.account.address, Role.AGGREGATOR, "Aggregator")
        self.contract.admit(self.governor, self.auditor.address, Role.AUDITOR, "Auditor")
        for member in [*self.participants, self.aggregator.account, self.auditor]:
            self.contract.accept(member, self.contract.genesis.charter, age_key(identity_of(member)))
        self.contract.record_genesis(self.governor, self.store.put(genesis or encode(MODEL_HEADER, SCHEMA, tensors(0))))

    def account(self, name: str) -> LocalAccount:
        account: LocalAccount = Account.from_key(keccak(name.encode()))
        self.chain.fund(account.address)
        return account

    def place(self) -> Place:
        history = self.contract.history()
        return Place.of(history.genesis, history.rounds[history.latest_round].opened)

    def update(
        self, member: int, values: Mapping[str, Array], examples: int = 10, metrics: Mapping[str, float] = NO_METRICS
    ) -> bytes:
        return encode(update_header(self.place(), member, examples, metrics=metrics), SCHEMA, values)

    def seal(self, member: int, blob: bytes) -> Sealed:
        """An update as its member would seal it."""
        history = self.contract.history()
        own = age_key(identity_of(self.participants[member - 1]))
        return seal(blob, [*readers(history.rounds[history.latest_round]).values(), own])

    def post_sealed(self, member: int, sealed: Sealed, examples: int = 10) -> Cid:
        assert sealed.key_blob is not None
        cid, key_blob = self.store.put(sealed.update), self.store.put(sealed.key_blob)
        account = self.participants[member - 1]
        self.contract.post_update(account, self.place().round, cid, examples, key_blob.digest)
        return cid

    def post(self, member: int, blob: bytes, examples: int = 10) -> Cid:
        cid = self.store.put(blob)
        self.contract.post_update(self.participants[member - 1], self.place().round, cid, examples)
        return cid

    def relay(self, member: int, blob: bytes, sender: LocalAccount, examples: int = 10) -> Cid:
        """A member signs its update, and another carries it."""
        cid, history = self.store.put(blob), self.contract.history()
        known = history.rounds[history.latest_round]
        account = self.participants[member - 1]
        signed = sign_update(account, history.genesis, known.number, known.opening_head, cid, examples)
        self.contract.relay_updates(sender, known.number, [signed])
        return cid

    def settle(self) -> None:
        self.aggregator.publish(self.aggregator.propose())

    def attest(self) -> None:
        attest(self.contract, self.store, self.auditor, self.place().round, identities=[identity_of(self.auditor)])

    def snapshot(self) -> object:
        return self.chain.snapshot()

    def revert(self, snapshot: object) -> object:
        """Go back to a snapshot, and make one of it again: each can be used once."""
        self.chain.revert(snapshot)
        self.contract = LedgerContract.attach(self.chain.web3, self.contract.address)
        self.aggregator = replace(self.aggregator, contract=self.contract)
        return self.snapshot()

    @contextmanager
    def put_back(self, snapshots: list[object]) -> Iterator[World]:
        """To be changed at will: afterwards chain and blobs go back to the one snapshot, which is made again."""
        blobs = {path: path.read_bytes() for path in self.store.folder.iterdir()}
        yield self
        snapshots[0] = self.revert(snapshots[0])
        for path, blob in blobs.items():
            path.write_bytes(blob)

    def write(self) -> Path:
        """The folder that an audit reads."""
        write_folder(self.folder, observe(self.contract, self.store))
        return self.folder


CHARTER_2 = b"""# Charter, version 2

```fedledger-limits
{"min_quorum": 2, "min_approvals": 1, "max_update_bytes": 4096}
```
"""


def every_kind_of_entry(folder: Path, chain: Chain | None = None) -> World:
    """A ledger whose members, governor and charter change; then five rounds.

    Round 1 approved, one update relayed; 2 aborted for lack of a quorum; 3 with one update excluded, approved, and the
    excluded one recorded as erased, and what is sealed up to here granted to the auditor; 4 cancelled; 5 open.
    """
    world = World(folder, chain=chain)
    contract, charter = world.contract, world.store.put(CHARTER_2)
    governor = world.account("next governor")
    contract.offer_governance(world.governor, governor.address)
    contract.take_governance(governor)
    world.governor = governor
    contract.admit(governor, world.account("suspended").address, Role.PARTICIPANT, "Suspended")
    contract.change_roles(governor, 6, Role(0))
    rotated, replaced = world.account("participant 2, rotated"), world.account("auditor, replaced")
    contract.offer_account(world.participants[1], rotated.address)
    contract.take_account(rotated, 2)
    contract.replace_account(governor, 5, replaced.address)
    world.participants[1], world.auditor = rotated, replaced
    contract.change_charter(governor, charter)
    for account in [*world.participants[:2], world.aggregator.account, world.auditor]:
        contract.accept(account, charter, age_key(identity_of(account)))
    signed = sign_acceptance(world.participants[2], contract.genesis, charter, keccak(b"key"), 1)
    contract.accept_signed(governor, signed)

    world.aggregator.open(PLAN)
    world.relay(3, world.update(3, tensors(3)), world.aggregator.account)
    for member in (1, 2):
        world.post(member, world.update(member, tensors(member)))
    world.settle()
    world.attest()

    world.aggregator.open(PLAN)
    world.post(2, world.update(2, tensors(2)))
    world.chain.pass_time(PLAN.window + 1)
    world.settle()

    world.aggregator.open(PLAN)
    for member in (1, 2):
        world.post(member, world.update(member, tensors(member)))
    garbage = world.post(3, b"garbage")
    world.settle()
    world.attest()
    contract.erase(world.participants[2], 3, 3, garbage.digest, ErasureReason.MISTAKE)
    contract.grant(world.aggregator.account, 5, 1, 3, world.store.put(b"the keys of rounds 1 to 3"))

    world.aggregator.open(PLAN)
    contract.abort(world.aggregator.account, contract.history().latest_round, contract.head(), AbortReason.CANCELLED)

    world.aggregator.open(PLAN)
    world.post(1, world.update(1, tensors(0.5)))
    return world
