"""The loop of an aggregator: open a round, relay, fetch and verify what comes, settle, publish, and again.

Each step looks at the ledger and does what is due next, so that it does not matter who did the step before: this
process, one that died, or another aggregator. What is recorded can be recorded once only; the contract sees to that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from web3.types import TxReceipt

from ledger.aggregator import Aggregator, propose
from ledger.chain.signed_files import UpdateFile
from ledger.chain.signing import SignedUpdate
from ledger.cid import Cid
from ledger.errors import BlobMismatchedError, BlobMissingError, FedledgerError, Refused, UnavailableError
from ledger.facts import RoundSettled
from ledger.following import Follower, View
from ledger.history import History, Round, Status
from ledger.logs import Log
from ledger.plan import Plan
from ledger.storage.folder import replacing

Plans = Callable[[History, Cid], Plan]
"""The plan of a round that builds on a base model."""

GOAL = "aggregate.json"
MOST_AT_ONCE = 200
"""Signed updates in one transaction: about 2.5 million gas."""
PATIENCE = 60.0
"""Seconds after a round's end in which an update that is not to be had is asked for again."""


@dataclass
class Aggregating:
    """One aggregator of one ledger, at work on a number of rounds.

    Attributes:
        follower: Its view of the ledger.
        aggregator: What opens, settles and publishes.
        plan_on: The plan of the next round.
        last: The number of the last round to work on.
        log: Told what happens.
        relay: Where sites without ether leave their signed updates; None where they do not.
        patience: Seconds to wait for an update that is not to be had, once the round could be settled.
    """

    follower: Follower
    aggregator: Aggregator
    plan_on: Plans
    last: int
    log: Log
    relay: Path | None = None
    patience: float = PATIENCE
    _held: set[Cid] = field(default_factory=set, init=False)
    _set_aside: set[tuple[Path, int]] = field(default_factory=set, init=False)
    """Signed updates that cannot be relayed, each with the time at which its file was written."""
    _due: tuple[int, float] = field(default=(0, 0.0), init=False)
    """The round that could be settled first at this time, by a clock of this process."""

    def step(self) -> bool:
        """Do what is due; returns whether the last round has ended for good."""
        view = self.follower.look()
        for lost in view.displaced:
            self.log.warn("an entry of ours is not on the chain any more", entry=type(lost.entry.fact).__name__)
        history = view.history
        if (known := history.open_round) is not None:
            self._work_on(view, known)
        elif history.latest_round >= self.last:
            return view.is_final
        elif (newest := history.rounds.get(history.latest_round)) and _undecided(newest):
            self.log.waiting("waiting for approvals", round=newest.number, needs=newest.opened.approvals)
        elif not view.is_final:
            self.log.waiting("waiting for the last entries to be final")
        else:
            self._open(history)
        return False

    def _open(self, history: History) -> None:
        base = history.latest_released
        if (model := history.model_of(base)) is None:
            raise UnavailableError(
                "there is no genesis model yet: the governor records it with `fedledger round genesis`"
            )
        receipt = self.aggregator.open(self.plan_on(history, model), base)
        self._tell("opened", receipt, base=base)

    def _work_on(self, view: View, known: Round) -> None:
        self._fetch(known)
        if self._relay(view, known):
            return  # what was recorded just now is not in `view`, nor final
        running = view.time <= known.opened.deadline and len(known.updates) < known.eligible
        if running:
            left = known.opened.deadline - view.time
            self.log.waiting("waiting for updates", round=known.number, have=len(known.updates), of=known.eligible)
            self._due = (known.number, time.monotonic() + left)
        elif not view.is_final:
            self.log.waiting("waiting for the last updates to be final", round=known.number)
        elif missing := {member for member, one in known.updates.items() if one.update not in self._held}:
            self._without(view.history, known, missing)
        else:
            self._settle(view.history, set())

    def _fetch(self, known: Round) -> None:
        """Fetch, verify and pin what was recorded, as it comes."""
        for member, one in known.updates.items():
            if one.update not in self._held:
                try:
                    self.aggregator.store.pin(one.update)
                except (BlobMissingError, BlobMismatchedError) as error:
                    self.log.waiting("an update is not to be had", round=known.number, member=member, why=error)
                else:
                    self._held.add(one.update)

    def _without(self, history: History, known: Round, missing: set[int]) -> None:
        """Settle without updates that are not to be had, once they had their time."""
        number, now = known.number, time.monotonic()
        if self._due[0] != number:
            self._due = (number, now)
        if now < self._due[1] + self.patience:
            return
        own = self.aggregator.account.address.lower()
        if relayed := [member for member in missing if known.updates[member].sender == own]:
            # It was had when it was relayed: to claim otherwise would be evidence of wrongdoing.
            raise UnavailableError(
                f"the update of member {relayed[0]}, which this aggregator relayed itself, is not to be had any more: "
                "bring its blob back, or let the round expire"
            )
        self._settle(history, missing)

    def _settle(self, history: History, missing: set[int]) -> None:
        proposal = propose(history, self.aggregator.store, missing)
        for member, why in proposal.settlement.details.items():
            self.log.warn("an update does not count", round=proposal.round, member=member, why=why)
        manifest = proposal.settlement.manifest
        receipt = self.aggregator.publish(proposal)
        event = "settled" if manifest.model else "aborted for lack of a quorum"
        counts = f"{manifest.counted} of {len(manifest.updates)}"
        self._tell(event, receipt, counted=counts, model=manifest.model)

    def _tell(self, event: str, receipt: TxReceipt, **fields: object) -> None:
        for entry, head in self.follower.recorded(receipt):
            number = getattr(entry.fact, "round", None)
            self.log.info(event, round=number, **fields, entry=entry.index, head="0x" + head.hex())

    # ------------------------------------------------------------------ relay

    def _relay(self, view: View, known: Round) -> bool:
        """Carry signed updates to the chain whose blobs are here and verified: none is relayed unseen."""
        carried = dict(islice(self._signed(view, known), MOST_AT_ONCE))
        if carried:
            contract, account = self.aggregator.contract, self.aggregator.account
            self._tell("relayed", contract.relay_updates(account, known.number, list(carried.values())))
        return bool(carried)

    def _signed(self, view: View, known: Round) -> Iterator[tuple[str, SignedUpdate]]:
        """The signed updates for this round that are not recorded yet, by account."""
        for path in sorted(self.relay.glob("*.json")) if self.relay else ():
            written = path, path.stat().st_mtime_ns
            if written in self._set_aside:
                continue
            try:
                file = UpdateFile.read(path)
                if file.round > known.number:
                    continue
                signed = file.checked(view.history, view.time, self.aggregator.account.address)
                self.aggregator.store.pin(signed.update)
            except (BlobMissingError, BlobMismatchedError) as error:
                self.log.waiting("a signed update's blob is not to be had", file=path, why=error)
            except FedledgerError as error:
                if not (isinstance(error, Refused) and error.name in ("UpdateAlreadyRecorded", "RoundNotOpen")):
                    self.log.warn("a signed update cannot be relayed", file=path, why=error)
                    self._set_aside.add(written)
            else:
                self._held.add(signed.update)
                yield file.account, signed


def _undecided(known: Round) -> bool:
    """Whether a settled model can still be released."""
    rejections = [attestation.approve for attestation in known.attestations.values()].count(False)
    return (
        known.status is Status.SETTLED
        and isinstance(known.ended, RoundSettled)
        and rejections <= known.opened.rejections
    )


def goal(folder: Path, latest: int, rounds: int) -> int:
    """The number of the last round of a job of so many rounds; a job that was not finished goes on, with its own.

    Args:
        folder: The ledger's folder in the aggregator's state.
        latest: The newest round.
        rounds: How many the job has.
    """
    path = folder / GOAL
    try:
        kept = json.loads(path.read_bytes())
        if kept["rounds"] == rounds and kept["last"] >= latest:
            return int(kept["last"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or none that can be read: this is a new job
    last = latest + rounds
    with replacing(path) as file:
        file.write(json.dumps({"rounds": rounds, "last": last}).encode())
    return last


def finished(folder: Path) -> None:
    """The job is done: the next one is new."""
    (folder / GOAL).unlink(missing_ok=True)
