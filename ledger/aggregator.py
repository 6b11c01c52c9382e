"""The round's work of an aggregator: open it, verify and settle what came, publish the result."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from eth_account.signers.local import LocalAccount
from web3.types import TxReceipt

from ledger.age import show_age_key
from ledger.arithmetic import self_test
from ledger.chain.contract import LedgerContract, Terms
from ledger.cid import RAW, Cid, cid_of
from ledger.errors import BlobMismatchedError, BlobMissingError, BlobTooLargeError, UsageError
from ledger.facts import AbortReason
from ledger.history import History, Round
from ledger.manifests import state_before
from ledger.plan import MAX_PLAN_BYTES, Plan
from ledger.sealing import (
    MAX_KEY_BLOB_BYTES,
    Annex,
    Identity,
    mask,
    open_key,
    public_key,
    readers,
    write_annex,
)
from ledger.settlement import Settlement, settle
from ledger.storage import Store
from ledger.updates import Place


@dataclass(frozen=True)
class Proposal:
    """A settlement that is not published yet.

    Attributes:
        round: The round's number.
        head: The head that the settlement rests on; the contract refuses it on any other.
        settlement: Model and manifest.
    """

    round: int
    head: bytes
    settlement: Settlement


@dataclass(frozen=True)
class Aggregator:
    """One aggregator of one ledger."""

    contract: LedgerContract
    store: Store
    account: LocalAccount
    identities: Sequence[Identity] = ()
    """Its age identities: sealed updates are opened with them."""

    def open(self, plan: Plan, base_round: int | None = None) -> TxReceipt:
        """Open a round on the released model of a round, 0 being the genesis model; None for the newest."""
        if base_round is None:
            base_round = self.contract.history().latest_released
        blob = plan.encode()
        return self.contract.storing(self.store, blob).open(self.account, cid_of(blob), base_round, terms(plan))

    def propose(self) -> Proposal:
        """Verify the open round's updates and settle it, see `propose`; nothing is published."""
        return propose(self.contract.history(), self.store, (), self.identities)

    def publish(self, proposal: Proposal) -> TxReceipt:
        """Store model and manifest and record them; without a quorum, abort the round with the manifest.

        Raises:
            Refused: If the round still runs, or entries were recorded after the proposal's head: propose again.
        """
        settlement = proposal.settlement
        blob = settlement.manifest.encode()
        manifest, counted = cid_of(blob), settlement.manifest.counted
        if settlement.model is None:
            contract = self.contract.storing(self.store, blob)
            return contract.abort(self.account, proposal.round, proposal.head, AbortReason.QUORUM, manifest)
        blobs = [blob, settlement.model, *([settlement.state] if settlement.state else [])]
        contract, model = self.contract.storing(self.store, *blobs), cid_of(settlement.model)
        return contract.settle(self.account, proposal.round, proposal.head, model, manifest, counted)


def terms(plan: Plan) -> Terms:
    """What the contract needs to know of a plan."""
    return Terms(plan.window, plan.grace, plan.quorum, plan.approvals, plan.rejections, plan.participants_attest)


def propose(
    history: History, store: Store, unavailable: Collection[int] = (), identities: Sequence[Identity] = ()
) -> Proposal:
    """Settle the open round of `history`; updates that are not to be had count as unavailable.

    Args:
        history: The ledger's.
        store: Where its blobs are.
        unavailable: Ids of members whose update was not to be had already; it is not asked for again.
        identities: Those that open sealed updates.

    Raises:
        UsageError: If no round is open, or its updates are sealed, and to none of `identities`.
        BlobMissingError: If the plan is not to be had, or the base model or the server's state where the plan needs it.
        InvalidBlobError: If the base model is none of the plan.
        UnavailableError: If this machine's arithmetic cannot be relied on.
    """
    self_test()
    known = history.open_round
    if known is None:
        raise UsageError("no round is open: open one before settling")
    plan = Plan.decode(store.get(known.opened.plan, limit=MAX_PLAN_BYTES))
    place = Place.of(history.genesis, known.opened)
    missing = set(unavailable)
    keys, masked = _opened(known, store, missing, identities) if plan.seal != "none" else ({}, None)
    state, threads = state_before(history, known, store) if plan.state_tensors else None, os.cpu_count() or 1
    while True:
        updates = known.updates.values()
        try:
            settlement = settle(place, plan, updates, store, missing, True, threads, keys, state, known.eligible)
        except (BlobMissingError, BlobMismatchedError) as error:
            lacking = {member for member, update in known.updates.items() if update.update == error.cid}
            if not lacking:
                raise  # the base model, or what the server remembers
            missing |= lacking
        else:
            break
    if masked is not None:
        annex = write_annex(place, Annex(masked, settlement.scores), readers(known).values())
        manifest = settlement.manifest.model_copy(update={"annex": annex})
        settlement = replace(settlement, manifest=manifest)
    return Proposal(known.number, history.head, settlement)


def _opened(
    known: Round, store: Store, missing: set[int], identities: Sequence[Identity]
) -> tuple[dict[int, str], dict[int, bytes]]:
    """The keys of the sealed updates, also masked as they are handed on; whose key blob cannot be had is `missing`."""
    if not {show_age_key(key) for key in readers(known).values()} & {public_key(identity) for identity in identities}:
        raise UsageError(
            f"the updates of round {known.number} are sealed to keys of which none is here: settle it with the age.key "
            "that this aggregator had published when the round opened"
        )
    keys, masked = {}, {}
    for member, update in known.updates.items():
        if member in missing or update.key_blob is None:
            continue
        try:
            key_blob = store.get(Cid(update.key_blob, RAW), limit=MAX_KEY_BLOB_BYTES)
        except (BlobMissingError, BlobMismatchedError):
            missing.add(member)
        except BlobTooLargeError:
            continue  # no key blob
        else:
            if (key := open_key(key_blob, identities)) is not None:
                keys[member], masked[member] = key, mask(key, key_blob)
    return keys, masked
