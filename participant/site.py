"""A participant's side of a round: read what is asked for, train, store the update, post its hash."""

from __future__ import annotations

from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from ledger.chain.contract import LedgerContract
from ledger.errors import UsageError
from ledger.plan import MAX_PLAN_BYTES, Plan
from ledger.storage import Store
from ledger.updates import Place, decode_model, encode, update_header
from participant.hospital import Hospital


@dataclass(frozen=True)
class Site:
    """A hospital that takes part in a ledger."""

    contract: LedgerContract
    store: Store
    account: LocalAccount
    hospital: Hospital

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
        plan = Plan.decode(self.store.get(known.opened.plan, limit=MAX_PLAN_BYTES))
        base = decode_model(self.store.get(known.opened.base, limit=plan.max_update_bytes), plan)
        tensors = self.hospital.train(base.tensors, plan.training, known.number)
        header = update_header(Place.of(history.genesis, known.opened), member.id, self.hospital.examples)
        update = self.store.put(encode(header, plan.tensors, tensors))
        self.contract.post_update(self.account, known.number, update, self.hospital.examples)
