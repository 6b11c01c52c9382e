"""The loop of an aggregator: open a round, relay, fetch and verify what comes, settle, publish, and again.

Each step looks at the ledger and does what is due next, so that it does not matter who did the step before: this
process, one that died, or another aggregator. What is recorded can be recorded once only; the contract sees to that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from web3.types import TxReceipt

from ledger.aggregator import Aggregator, propose
from ledger.chain.signed_files import UpdateFile
from ledger.chain.signing import SignedUpdate
from ledger.cid import RAW, Cid
from ledger.erasing import Erasing
from ledger.errors import FedledgerError, UnavailableError
from ledger.facts import RoundSettled, UpdateRecorded
from ledger.fetching import Fetching
from ledger.following import Follower, View
from ledger.history import History, Round, Status
from ledger.logs import Log
from ledger.manifest import Reason
from ledger.plan import MAX_PLAN_BYTES, Plan
from ledger.sealing import MAX_KEY_BLOB_BYTES, largest_sealed
from ledger.storage.folder import replacing

_Update = UpdateRecorded | SignedUpdate
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
        patience: Seconds in which an update is asked for in vain, after the round's end, before it is left out.
    """

    follower: Follower
    aggregator: Aggregator
    plan_on: Plans
    last: int
    log: Log
    relay: Path | None = None
    patience: float = PATIENCE
    _set_aside: set[tuple[Path, int, bytes]] = field(default_factory=set, init=False)
    """Signed updates that cannot be relayed: the file, the time at which it was changed, and the round's opening."""
    _plan_of: dict[Cid, Plan] = field(default_factory=dict, init=False)
    """The plan that was read last."""

    @cached_property
    def _blobs(self) -> Fetching:
        return Fetching(self.aggregator.store, self.log)

    @cached_property
    def _erasing(self) -> Erasing:
        return Erasing(self.aggregator.store, self.log)

    def step(self) -> bool:
        """Do what is due; returns whether the last round has ended for good."""
        try:
            return self._step()
        except Exception:
            self._blobs.begin()  # while chain or store were out of reach, nobody could look for what is missing
            raise

    def _step(self) -> bool:
        view = self.follower.look()
        for lost in view.displaced:
            self.log.warn("an entry of ours is not on the chain any more", entry=type(lost.entry.fact).__name__)
        self._erasing.follow(view)
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
        running = known.takes_more(view.time)
        if self._relay(view, known):
            return  # what was recorded just now is not in `view`, nor final
        if not running or self._plan(known).seal != "none":  # what is not sealed is published after the round's end
            self._fetch(known, [(one, {"round": known.number, "member": one.member}) for one in known.updates.values()])
        if running or not view.is_final:
            self._blobs.begin()  # how long an update is missed counts from the end of the round
        if running:
            self.log.waiting("waiting for updates", round=known.number, have=len(known.updates), of=known.eligible)
        elif not view.is_final:
            self.log.waiting("waiting for the last updates to be final", round=known.number)
        elif missing := {
            member for member, one in known.updates.items() if self._blobs.lacking(self._named(known, one))
        }:
            self._without(view.history, known, missing)
        else:
            self._settle(view.history, known, set())

    def _fetch(self, known: Round, updates: Sequence[tuple[_Update, Mapping[str, object]]]) -> None:
        """Fetch, verify and pin updates, as they come, with their key blobs; each with what to tell of it."""
        plan = self._plan(known)
        most = plan.max_update_bytes if plan.seal == "none" else largest_sealed(plan.max_update_bytes)
        self._blobs.fetch({one.update: told for one, told in updates}, most)
        key_blobs = {cid: told for one, told in updates for cid in self._named(known, one)[1:]}
        self._blobs.fetch(key_blobs, MAX_KEY_BLOB_BYTES)

    def _named(self, known: Round, one: _Update) -> list[Cid]:
        """The blobs that are needed of an update."""
        if one.key_blob is None or self._plan(known).seal == "none":
            return [one.update]
        return [one.update, Cid(one.key_blob, RAW)]

    def _plan(self, known: Round) -> Plan:
        """The round's plan."""
        if known.opened.plan not in self._plan_of:
            blob = self.aggregator.store.get(known.opened.plan, limit=MAX_PLAN_BYTES)
            self._plan_of = {known.opened.plan: Plan.decode(blob)}
        return self._plan_of[known.opened.plan]

    def _without(self, history: History, known: Round, missing: set[int]) -> None:
        """Settle without updates that are not to be had, once they had their time."""
        lacking = [cid for member in missing for cid in self._blobs.lacking(self._named(known, known.updates[member]))]
        waited = [self._blobs.missed_for(cid) for cid in lacking]
        if not all(seconds is not None and seconds >= self.patience for seconds in waited):
            return
        own = self.aggregator.account.address.lower()
        if relayed := [member for member in missing if known.updates[member].sender == own]:
            # It was had when it was relayed: to claim otherwise would be evidence of wrongdoing.
            raise UnavailableError(
                f"the update of member {relayed[0]}, which this aggregator relayed itself, is not to be had any more: "
                "bring its blob back, or let the round expire"
            )
        self._settle(history, known, missing)

    def _settle(self, history: History, known: Round, missing: set[int]) -> None:
        proposal = propose(history, self.aggregator.store, missing, self.aggregator.identities)
        rows = proposal.settlement.manifest.updates
        unavailable = [known.updates[row.member] for row in rows if row.excluded is Reason.UNAVAILABLE]
        claims = [set(self._named(known, one)) for one in unavailable]
        if lost := set().union(*(blobs for blobs in claims if blobs <= self._blobs.held)):
            # That is this store's failure and no claim to make yet: they are fetched again, and have their time.
            self._blobs.held -= lost
            raise UnavailableError(f"{len(lost)} blobs that were here cannot be read any more: look at the store")
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
        offered: dict[str, list[tuple[Path, SignedUpdate]]] = {}
        for path, account, signed in self._signed(view, known):
            offered.setdefault(account, []).append((path, signed))
        # One of each member at a time: however many it signed, it takes no more room and time than others.
        tried = [min(several, key=lambda one: self._blobs.turn(one[1].update)) for several in offered.values()]
        self._fetch(known, [(signed, {"file": path}) for path, signed in tried])
        held = self._blobs.held
        carried = [signed for _, signed in tried if held.issuperset(self._named(known, signed))][:MOST_AT_ONCE]
        if carried:
            aggregator = self.aggregator
            self._tell("relayed", aggregator.contract.relay_updates(aggregator.account, known.number, carried))
        return bool(carried)

    def _signed(self, view: View, known: Round) -> Iterator[tuple[Path, str, SignedUpdate]]:
        """The signed updates for this round that are not recorded yet: each with its file and account."""
        posted = {account for member in known.updates for account in view.history.members[member].accounts}
        for path in sorted(self.relay.glob("*.json")) if self.relay else ():
            try:
                written = path, path.stat().st_ctime_ns, known.opening_head
            except OSError:
                continue  # it is gone
            if written in self._set_aside:
                continue
            try:
                file = UpdateFile.read(path)
                if file.round == known.number and file.account not in posted:
                    yield path, file.account, file.checked(view.history, view.time, self.aggregator.account.address)
            except FedledgerError as error:
                self.log.warn("a signed update cannot be relayed", file=path, why=error)
                self._set_aside.add(written)


def _undecided(known: Round) -> bool:
    """Whether a settled model can still be released."""
    rejections = [attestation.approve for attestation in known.attestations.values()].count(False)
    return (
        known.status is Status.SETTLED
        and isinstance(known.ended, RoundSettled)
        and rejections <= known.opened.rejections
    )


def goal(folder: Path, done: int, rounds: int) -> int:
    """The number of the last round of a job of so many rounds; a job that was not finished goes on, with its own.

    Args:
        folder: The ledger's folder in the aggregator's state.
        done: The last round that is no part of a new job.
        rounds: How many the job has.
    """
    path = folder / GOAL
    try:
        kept = json.loads(path.read_bytes())
        if kept["rounds"] == rounds and kept["last"] >= done:
            return int(kept["last"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or none that can be read: this is a new job
    last = done + rounds
    with replacing(path) as file:
        file.write(json.dumps({"rounds": rounds, "last": last}).encode())
    return last


def finished(folder: Path) -> None:
    """The job is done: the next one is new."""
    (folder / GOAL).unlink(missing_ok=True)
