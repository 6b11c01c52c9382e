"""A participant's side of a round: read what is asked for, train, store the update, post its hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from eth_account.signers.local import LocalAccount
from pyrage.x25519 import Identity

from ledger.age import read_age_key
from ledger.chain.contract import LedgerContract
from ledger.entries import Genesis
from ledger.errors import UsageError
from ledger.history import Round
from ledger.logs import Log
from ledger.plan import MAX_PLAN_BYTES, Plan
from ledger.sealing import public_key, seal_for
from ledger.storage import Blobs, Store
from ledger.updates import (
    NO_WITNESS,
    Array,
    Place,
    decode_model,
    decode_update,
    encode,
    from_float64,
    max_model_bytes,
    to_float64,
    update_header,
)
from participant.controls import Controls, controls_before
from participant.posted import Posted
from participant.seeds import Seed
from participant.tensors import Tensors

if TYPE_CHECKING:  # it brings torch
    from participant.hospital import Hospital

Train = Callable[[Tensors, Plan], Tensors]
"""Local training: the base model's tensors and the round's plan in, the update's tensors out, see `Trains.train`."""


class Trains(Protocol):
    """A site's data, and how it trains on them."""

    @property
    def examples(self) -> int:
        """How many examples it trains on, unless by a private plan."""

    def examples_by(self, plan: Plan) -> int:
        """How many examples it trains on by a plan."""

    @property
    def fingerprint(self) -> bytes:
        """A digest of all its examples."""

    def metrics(self, base: Tensors) -> dict[str, float]:
        """What a model achieves on the examples that are held out, by name; empty where none are."""

    def train(self, base: Tensors, plan: Plan, seed: int, *, controls: Controls) -> Tensors:
        """The trained tensors, and by a plan of SCAFFOLD what is new in the site's control variate.

        The same arguments give the same bytes.
        """


def trained_update(known: Round, trainer: Trains, seed: Seed, posted: Posted, log: Log, metrics: bool = True) -> bytes:
    """Train for a round as `fedledger participate` does; the same arguments give the same bytes.

    Args:
        known: The round.
        trainer: The site's data and training.
        seed: What its randomness comes from.
        posted: What the site posted before.
        log: Told what of that is lost.
        metrics: Whether the update says what the base model achieves at the site, if it can.

    Returns:
        The update's blob; raises what `make_update` and the training do.
    """

    def train(base: Tensors, plan: Plan) -> Tensors:
        return trainer.train(base, plan, seed.number, controls=controls_before(known, plan, posted, log))

    witness = seed.witness(trainer.fingerprint)
    measured = trainer.metrics if metrics else None
    genesis, blobs, examples = posted.history.genesis, posted.blobs, trainer.examples_by(posted.plan(known))
    return make_update(genesis, known, posted.member, examples, train, blobs, witness, measured)


def make_update(
    genesis: Genesis,
    known: Round,
    member: int,
    examples: int,
    train: Train,
    blobs: Blobs,
    witness: str = NO_WITNESS,
    metrics: Callable[[Tensors], dict[str, float]] | None = None,
) -> bytes:
    """Train for a round.

    Args:
        genesis: The ledger's.
        known: The round.
        member: The participant's member id.
        examples: How many it trains on.
        train: How.
        blobs: Where plan and base model are.
        witness: What the update's header commits to; see `ledger.updates.update_header`.
        metrics: What a model achieves at the site; not asked by a private plan, for no noise would protect it.

    Returns:
        The update's blob, which settlement counts if its arrival is recorded.

    Raises:
        BlobMissingError: If plan or base model are not to be had.
        InvalidBlobError: If they, or what was trained, are not what the round asks for.
    """
    place, plan = Place.of(genesis, known.opened), read_plan(known, blobs)
    base = decode_model(blobs.get(known.opened.base, limit=max_model_bytes(plan)), plan).tensors
    tensors = sent(train(base, plan), base, plan)
    measured = metrics(base) if metrics and plan.settlement > 1 and plan.privacy is None else {}
    header = update_header(place, member, examples, witness if plan.settlement > 1 else None, measured)
    update = encode(header, plan.update_tensors, tensors)
    decode_update(update, plan, place, member, examples)
    return update


def sent(trained: Tensors, base: Tensors, plan: Plan) -> Tensors:
    """What goes into an update: the trained tensors, or their differences from the base where the plan wants these."""
    if plan.wire is None:
        return trained
    made = dict[str, Array]()
    for name, spec in plan.update_tensors.items():
        values = to_float64(np.ravel(trained[name]), "F32" if name not in base else plan.tensors[name].dtype)
        start = to_float64(np.ravel(base[name]), plan.tensors[name].dtype) if name in base else 0.0
        made[name] = from_float64(values - start, spec.dtype)
    return made


def read_plan(known: Round, blobs: Blobs) -> Plan:
    """A round's plan; raises what `make_update` does."""
    return Plan.decode(blobs.get(known.opened.plan, limit=MAX_PLAN_BYTES))


@dataclass(frozen=True)
class Site:
    """A hospital of the demo that takes part in a ledger."""

    contract: LedgerContract
    store: Store
    account: LocalAccount
    hospital: Hospital
    identity: str
    """Its age identity."""

    def answer(self) -> None:
        """Train for the open round and post the update.

        Raises:
            UsageError: If no round is open, or this account is no member.
            Refused: If the ledger does not take the update.
        """
        history = self.contract.history()
        known, member = history.open_round, history.member_by_account(self.account.address)
        if known is None or member is None:
            raise UsageError("nothing to answer: no round is open, or this account is no member")

        def train(base: Tensors, plan: Plan) -> Tensors:
            return self.hospital.train(base, plan.training, known.number)

        examples, witness = self.hospital.examples, Seed.of(self.identity, known).witness(self.hospital.fingerprint)
        self._post(known, make_update(history.genesis, known, member.id, examples, train, self.store, witness))

    def _post(self, known: Round, update: bytes) -> None:
        sealed = seal_for(known, update, read_age_key(public_key(Identity.from_str(self.identity))))
        cid, key_blob = self.store.put(sealed.update), self.store.put(sealed.key_blob or b"")
        self.contract.post_update(self.account, known.number, cid, self.hospital.examples, key_blob.digest)
