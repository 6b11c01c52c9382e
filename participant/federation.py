"""The demo's federation: four hospitals, an aggregator and an auditor train one model in one process.

Every party has its own key and reads the chain for itself, as on separate machines; only the chain is embedded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from pyrage.x25519 import Identity

from ledger.age import read_age_key, show_age_secret
from ledger.aggregator import Aggregator
from ledger.audit.attest import attest
from ledger.chain.contract import LedgerContract
from ledger.chain.embedded import EmbeddedChain
from ledger.cid import Cid
from ledger.errors import UsageError
from ledger.facts import Role, RoundSettled
from ledger.history import Status
from ledger.manifest import Manifest
from ledger.plan import Plan, Training
from ledger.sealing import public_key
from ledger.storage.folder import FolderStore
from ledger.updates import MODEL_HEADER, decode_model, encode
from participant import heart
from participant.hospital import Hospital, total
from participant.site import Site
from participant.training import Tensors, initial, schema

CHARTER = b"""# Charter of the fedledger demo

The members train one model that predicts heart disease. Records never leave their hospital; model updates do.
Every round needs updates of three hospitals and the approval of the auditor before its model is released.
"""
PLAN = Plan(
    tensors=schema(heart.FEATURES),
    training=Training(epochs=5, batch_size=32, learning_rate=0.01),
    max_update_bytes=1 << 20,
    window=3600,
    quorum=3,
    approvals=1,
    public_quality=True,
)

Order = Callable[[list[str]], list[str]]


@dataclass(frozen=True)
class RoundResult:
    """What one round came to.

    Attributes:
        round: Its number.
        model: The settled model, None if the round was aborted.
        auc: The model's AUC on the test rows of each hospital, and ``overall``; empty without a model.
        included: The hospitals whose updates the manifest counts.
        excluded: Why the others' do not count, by hospital.
        released: Whether the auditor approved the model.
    """

    round: int
    model: Cid | None
    auc: dict[str, float]
    included: list[str]
    excluded: dict[str, str]
    released: bool

    def document(self) -> dict[str, Any]:
        """The result in JSON."""
        return {
            "round": self.round,
            "model": str(self.model) if self.model else None,
            "auc": self.auc,
            "included": self.included,
            "excluded": self.excluded,
            "released": self.released,
        }


class Federation:
    """The parties of the demo and their ledger, on a new embedded chain.

    Attributes:
        contract: The ledger.
        store: Where all parties keep their blobs.
        sites: The hospitals' sites, by name.
        aggregator: The aggregator.
        auditor_identity: What opens the updates for the auditor.
    """

    def __init__(self, blobs: Path, seed: int) -> None:
        """Deploy the ledger, admit its members and record the genesis model.

        Args:
            blobs: The folder of the blobs.
            seed: Decides keys, splits of the data, first model and training.
        """
        chain = EmbeddedChain()

        def secret(name: str) -> bytes:
            return keccak(f"fedledger demo {seed} {name}".encode())

        def identity(name: str) -> str:
            return show_age_secret(secret(f"{name}'s age key"))

        def account(name: str) -> LocalAccount:
            made: LocalAccount = Account.from_key(secret(name))
            chain.fund(made.address)
            return made

        governor, self._auditor = account("governor"), account("auditor")
        self.store = FolderStore(blobs)
        self.contract = LedgerContract.deploy(chain.web3, governor, self.store.put(CHARTER))
        self.sites = {
            name: Site(self.contract, self.store, account(name), hospital, identity(name))
            for name, hospital in hospitals(seed).items()
        }
        self.auditor_identity = Identity.from_str(identity("auditor"))
        own = Identity.from_str(identity("aggregator"))
        self.aggregator = Aggregator(self.contract, self.store, account("aggregator"), [own])
        for name, site in self.sites.items():
            self.contract.admit(governor, site.account.address, Role.PARTICIPANT, name)
        self.contract.admit(governor, self.aggregator.account.address, Role.AGGREGATOR, "Aggregator")
        self.contract.admit(governor, self._auditor.address, Role.AUDITOR, "Auditor")
        for name in [*self.sites, "aggregator", "auditor"]:
            age_key = read_age_key(public_key(Identity.from_str(identity(name))))
            self.contract.accept(account(name), self.contract.genesis.charter, age_key)
        genesis = encode(MODEL_HEADER, PLAN.tensors, initial(heart.FEATURES, seed))
        self.contract.record_genesis(governor, self.store.put(genesis))

    def play(self, order: Order, sites: Mapping[str, Site], aggregator: Aggregator) -> RoundResult:
        """Play one round.

        Args:
            order: Given the hospitals' names, the order in which they post.
            sites: Who posts, by name: `sites` where nobody cheats.
            aggregator: Who settles: `aggregator` where nobody cheats.
        """
        aggregator.open(PLAN)
        number = self.contract.history().latest_round
        for name in order(list(sites)):
            sites[name].answer()
        aggregator.publish(aggregator.propose())
        if isinstance(ended := self.contract.history().rounds[number].ended, RoundSettled):
            quality = {"auc": self._auc(decode_model(self.store.get(ended.model), PLAN).tensors)["overall"]}
            attest(self.contract, self.store, self._auditor, number, quality, [self.auditor_identity])
        return self._result(number)

    def _result(self, number: int) -> RoundResult:
        history = self.contract.history()
        known = history.rounds[number]
        if known.ended is None or known.ended.manifest is None:
            raise UsageError(f"round {number} has no result: it has not ended")
        manifest = Manifest.decode(self.store.get(known.ended.manifest))
        names = {member.id: member.name for member in history.members.values()}
        model = known.ended.model if isinstance(known.ended, RoundSettled) else None
        return RoundResult(
            number,
            model,
            self._auc(decode_model(self.store.get(model), PLAN).tensors) if model else {},
            [names[row.member] for row in manifest.updates if row.excluded is None],
            {names[row.member]: row.excluded.value for row in manifest.updates if row.excluded is not None},
            known.status is Status.RELEASED,
        )

    def _auc(self, model: Tensors) -> dict[str, float]:
        counts = {name: site.hospital.test(model) for name, site in self.sites.items()}
        return {"overall": total(counts.values()).auc} | {name: one.auc for name, one in counts.items()}


def hospitals(seed: int) -> dict[str, Hospital]:
    """The four hospitals, by name."""
    return {
        name: Hospital(name, split, [seed, number]) for number, (name, split) in enumerate(heart.load(seed).items())
    }
