"""What a site has posted, read again with its own age identities: no state of its own is needed for that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.cid import RAW, Cid
from ledger.errors import InvalidBlobError
from ledger.history import History, Round
from ledger.manifest import Reason
from ledger.plan import MAX_PLAN_BYTES, Plan
from ledger.sealing import MAX_KEY_BLOB_BYTES, Identity, largest_sealed, open_key, open_update
from ledger.storage import Blobs
from ledger.updates import Place, TensorBlob, decode_update


@dataclass(frozen=True)
class Posted:
    """One member's updates.

    Attributes:
        history: The ledger's.
        member: The member's id.
        blobs: Where its updates are.
        identities: Its age identities, the newest last.
    """

    history: History
    member: int
    blobs: Blobs
    identities: Sequence[Identity]

    def plan(self, known: Round) -> Plan:
        """A round's plan; raises what `update` does."""
        return Plan.decode(self.blobs.get(known.opened.plan, limit=MAX_PLAN_BYTES))

    def update(self, known: Round) -> TensorBlob | None:
        """What it posted in a round, one in which it did; None where none of the identities opens it.

        Raises:
            BlobMissingError: If a blob is not to be had.
            ViolationError: If it is not what the round asks for, or what is stored is something else.
        """
        mine, plan = known.updates[self.member], self.plan(known)
        if plan.seal == "none":
            blob = self.blobs.get(mine.update, limit=plan.max_update_bytes)
        elif (opened := self._opened(known, plan)) is not None:
            blob = opened
        else:
            return None
        return decode_update(blob, plan, Place.of(self.history.genesis, known.opened), self.member, mine.weight)

    def _opened(self, known: Round, plan: Plan) -> bytes | None:
        mine = known.updates[self.member]
        if mine.key_blob is None:
            raise InvalidBlobError(Reason.UNOPENABLE, f"the update of round {known.number} has no key blob")
        key = open_key(self.blobs.get(Cid(mine.key_blob, RAW), MAX_KEY_BLOB_BYTES), self.identities)
        if key is None:
            return None
        opened = open_update(self.blobs.get(mine.update, limit=largest_sealed(plan.max_update_bytes)), key)
        if opened is None:
            raise InvalidBlobError(Reason.UNOPENABLE, f"its key does not open the update of round {known.number}")
        return opened
