"""A participant's side of a round: read what is asked for, train, store the update, post its hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eth_account.signers.local import LocalAccount
from pyrage.x25519 import Identity

from ledger.age import read_age_key
from ledger.chain.contract import LedgerContract
from ledger.entries import Genesis
from ledger.errors import UsageError
from ledger.history import Round
from ledger.plan import MAX_PLAN_BYTES, Plan
from ledger.sealing import public_key, seal_for
from ledger.storage import Blobs, Store
from ledger.updates import NO_WITNESS, Place, decode_model, decode_update, encode, update_header
from participant.seeds import Seed
from participant.tensors import Tensors

if TYPE_CHECKING:  # it brings torch
    from participant.hospital import Hospital

Train = Callable[[Tensors, Plan], Tensors]
"""Local training: the base model's tensors and the round's plan in, the trained tensors out."""


def make_update(
    genesis: Genesis, known: Round, member: int, examples: int, train: Train, blobs: Blobs, witness: str = NO_WITNESS
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

    Returns:
        The update's blob, which settlement counts if its arrival is recorded.

    Raises:
        BlobMissingError: If plan or base model are not to be had.
        InvalidBlobError: If they, or what was trained, are not what the round asks for.
    """
    place, plan = Place.of(genesis, known.opened), read_plan(known, blobs)
    base = decode_model(blobs.get(known.opened.base, limit=plan.max_update_bytes), plan)
    tensors = train(base.tensors, plan)
    header = update_header(place, member, examples, witness if plan.settlement > 1 else None)
    update = encode(header, plan.tensors, tensors)
    decode_update(update, plan, place, member, examples)
    return update


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

        examples, witness = self.hospital.examples, Seed.of(self.identity, known).witness
        self._post(known, make_update(history.genesis, known, member.id, examples, train, self.store, witness))

    def _post(self, known: Round, update: bytes) -> None:
        sealed = seal_for(known, update, read_age_key(public_key(Identity.from_str(self.identity))))
        cid, key_blob = self.store.put(sealed.update), self.store.put(sealed.key_blob or b"")
        self.contract.post_update(self.account, known.number, cid, self.hospital.examples, key_blob.digest)
