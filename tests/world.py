"""A small federation on a real (embedded) chain and a real folder, for tests that need a history."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from ledger.aggregator import Aggregator
from ledger.audit.attest import attest
from ledger.audit.evidence import write_folder
from ledger.chain.contract import LedgerContract
from ledger.chain.embedded import EmbeddedChain
from ledger.cid import Cid
from ledger.facts import AbortReason, Role
from ledger.plan import Plan, TensorSpec, Training
from ledger.storage.folder import FolderStore
from ledger.updates import MODEL_HEADER, Array, Place, encode, update_header

SCHEMA = {"bias": TensorSpec(dtype="F16", shape=[3]), "weight": TensorSpec(dtype="F32", shape=[2, 2])}
PLAN = Plan(
    tensors=SCHEMA,
    training=Training(epochs=1, batch_size=1, learning_rate=0.1),
    max_update_bytes=4096,
    window=600,
    quorum=2,
    approvals=1,
)


def tensors(value: float) -> dict[str, Array]:
    return {"bias": np.full(3, value, np.float16), "weight": np.full(4, value, np.float32)}


class World:
    """Members 1.. are participants, then the aggregator, then the auditor."""

    def __init__(self, folder: Path, participants: int = 3) -> None:
        self.folder = folder
        self.chain = EmbeddedChain()
        self.store = FolderStore(folder / "blobs")
        self.governor = self.account("governor")
        self.contract = LedgerContract.deploy(self.chain.web3, self.governor, self.store.put(b"# Charter\n"))
        self.participants = [self.account(f"participant {number}") for number in range(1, participants + 1)]
        self.aggregator = Aggregator(self.contract, self.store, self.account("aggregator"))
        self.auditor = self.account("auditor")
        for number, account in enumerate(self.participants, 1):
            self.contract.admit(self.governor, account.address, Role.PARTICIPANT, f"Site {number}")
        self.contract.admit(self.governor, self.aggregator.account.address, Role.AGGREGATOR, "Aggregator")
        self.contract.admit(self.governor, self.auditor.address, Role.AUDITOR, "Auditor")
        for member in [*self.participants, self.aggregator.account, self.auditor]:
            self.contract.accept(member, self.contract.genesis.charter, keccak(member.address.encode()))
        self.contract.record_genesis(self.governor, self.store.put(encode(MODEL_HEADER, SCHEMA, tensors(0))))

    def account(self, name: str) -> LocalAccount:
        account: LocalAccount = Account.from_key(keccak(name.encode()))
        self.chain.fund(account.address)
        return account

    def place(self) -> Place:
        history = self.contract.history()
        return Place.of(history.genesis, history.rounds[history.latest_round].opened)

    def update(self, member: int, values: Mapping[str, Array], examples: int = 10) -> bytes:
        return encode(update_header(self.place(), member, examples), SCHEMA, values)

    def post(self, member: int, blob: bytes, examples: int = 10) -> Cid:
        cid = self.store.put(blob)
        self.contract.post_update(self.participants[member - 1], self.place().round, cid, examples)
        return cid

    def settle(self) -> None:
        self.aggregator.publish(self.aggregator.propose())

    def attest(self) -> None:
        attest(self.contract, self.store, self.auditor, self.place().round)

    def write(self) -> Path:
        """The folder that an audit reads."""
        write_folder(self.folder, self.contract.genesis, self.contract.entries(), self.contract.head())
        return self.folder


def every_kind_of_entry(folder: Path) -> World:
    """Round 1 approved; 2 aborted for lack of a quorum; 3 with one update excluded, approved; 4 cancelled; 5 open."""
    world = World(folder)
    world.aggregator.open(PLAN)
    for member in (3, 1, 2):
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
    world.post(3, b"garbage")
    world.settle()
    world.attest()

    number = world.aggregator.open(PLAN)
    world.contract.abort(world.aggregator.account, number, world.contract.head(), AbortReason.CANCELLED)

    world.aggregator.open(PLAN)
    world.post(1, world.update(1, tensors(0.5)))
    return world
