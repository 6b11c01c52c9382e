"""The loop that answers rounds: what a site does on its own, from the opening of a round to the receipt of its update.

Each step looks at the ledger and does what is due next. What must survive the process is on disk before it leaves it:
the update in the outbox, the signed transaction in the journal of `ledger.chain.sending`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from eth_account.signers.local import LocalAccount

from ledger.chain.signed_files import UpdateFile
from ledger.charter import MAX_CHARTER_BYTES, limits_of
from ledger.erasing import Erasing
from ledger.errors import BlobTooLargeError, InvalidBlobError, Refused, UsageError
from ledger.facts import Address, UpdateRecorded
from ledger.following import Follower, View
from ledger.history import History, Member, Round
from ledger.logs import Log
from ledger.plan import Plan
from ledger.privacy import after, told
from ledger.rules import Call, check
from ledger.sealing import Identity, Sealed, seal_for
from ledger.storage import Store
from ledger.storage.folder import replacing
from ledger.updates import Place
from participant.consent import Consent
from participant.outbox import Answer, Outbox
from participant.posted import Posted
from participant.seeds import Seed
from participant.site import Trains, read_plan, trained_update
from participant.task_file import TaskFailedError

_NO_CONSENT = "this site's policy or people had not agreed to it in time"


@dataclass
class Answering:
    """One site of one ledger.

    Attributes:
        follower: Its view of the ledger.
        store: Where its updates are kept for the others.
        account: What signs.
        trainer: What trains.
        log: Told what happens.
        once: Whether it is done once one round is answered for good.
        handover: Where signed updates are left for somebody with ether to relay; None to post them.
        consent: The site's policy and a person's yes to plans; None to train by every plan within the charter.
    """

    follower: Follower
    store: Store
    account: LocalAccount
    trainer: Trains
    log: Log
    once: bool = False
    handover: Path | None = None
    consent: Consent | None = None
    identities: Sequence[Identity] = ()
    """Its own age identities, the newest last: its training's randomness comes from it."""
    _passed: set[bytes] = field(default_factory=set, init=False)
    """The openings of rounds that this process can do nothing for, or has done all for."""
    _answered: int = field(default=0, init=False)
    _plan: tuple[bytes, Plan] | None = field(default=None, init=False)
    """The plan that `consent` was asked about last, and the opening of its round."""
    _without_consent: bytes = field(default=b"", init=False)
    """The opening of the round for which something was missing at the last look."""

    @cached_property
    def outbox(self) -> Outbox:
        """What is ready for the open round."""
        return Outbox(self.follower.memory.folder / "outbox")

    @cached_property
    def _erasing(self) -> Erasing:
        return Erasing(self.store, self.log)

    def step(self) -> bool:
        """Do what is due; returns whether that is all that was asked for.

        Raises:
            UsageError: If the account is no member's.
        """
        view = self.follower.look()
        for lost in view.displaced:
            self.log.warn("an entry of ours is not on the chain any more", entry=type(lost.entry.fact).__name__)
        self._erasing.follow(view)
        history = view.history
        newest, member = history.rounds.get(history.latest_round), history.member_by_account(self.account.address)
        if member is None:
            raise UsageError(
                f"{self.account.address} is no member's account: have the governor admit it, then `fedledger join`"
            )
        if history.accounts[self.account.address.lower()].accepted < history.charter_version:
            self.log.stuck(
                "this member has not accepted the charter in force: no round that opens before it does is answered",
                version=history.charter_version,
                charter=history.charter,
                do="`fedledger join` shows it, and asks",
            )
        if newest is not None and newest.opening_head not in self._passed:
            if view.opened_for_good(newest):  # then the end of the round before it is final, too
                self._publish_earlier(history, newest, member)
            self._answer(view, newest, member)
        if history.open_round is None:
            self.log.waiting("no round is open: waiting for one", newest=history.latest_round)
        return self.once and self._answered > 0

    def _answer(self, view: View, known: Round, member: Member) -> None:
        number = known.number
        if mine := known.updates.get(member.id):
            self._recorded(view, known, member, mine)
        elif known.ended is not None:
            if view.is_final:  # else the block with its end may be taken back, and the round go on
                if known.opening_head == self._without_consent:
                    self.log.warn("the round is over, without our update", round=number, why=_NO_CONSENT)
                self._passed.add(known.opening_head)
        elif (why := self._barred(view, known, member)) is not None:
            if known.opening_head == self._without_consent:
                why = f"{why}; {_NO_CONSENT}"
            self.log.warn("this round takes no update of ours", round=number, why=why)
            self._passed.add(known.opening_head)
        elif not view.opened_for_good(known):
            self.log.waiting("waiting for the round's opening to be final", round=number)
        elif self._consented(view, known, member) and (answer := self._ready(view, known, member)) is not None:
            if answer.key_blob is not None or self.handover is not None:
                self._publish(answer)  # else others could copy it while the round takes updates
            self._post(view.history, known, answer)

    def _publish(self, answer: Answer) -> None:
        """Give an update to everybody; a relayer wants to see what it carries."""
        for cid in answer.blobs:
            self.store.copy(cid, self.outbox.blobs)

    def _publish_earlier(self, history: History, newest: Round, member: Member) -> None:
        """Publish what is not sealed of the round before, if that one ended, and this one opened, between two looks."""
        before = [known for known in history.rounds.values() if known is not newest and member.id in known.updates]
        if not before or before[-1].opening_head in self._passed:
            return
        known = before[-1]
        answer = self.outbox.get(Place.of(history.genesis, known.opened), member.id)
        if answer is not None and answer.update == known.updates[member.id].update:
            self._publish(answer)
            self.log.info("posted, and published after its round's end", round=known.number)
            self._answered += 1
        self._passed.add(known.opening_head)

    def _barred(self, view: View, known: Round, member: Member) -> str | None:
        """Why the ledger would not take an update now."""
        fact = UpdateRecorded(
            known.number, member.id, known.opened.plan, None, self.trainer.examples, Address(self.account.address)
        )
        try:
            check(view.history, fact, view.time, Call(self.account.address))
        except Refused as refused:
            return str(refused)
        return None

    def _consented(self, view: View, known: Round, member: Member) -> bool:
        """Whether policy and people of this site agree to the round; what is missing is looked for at every step."""
        if self.consent is None:
            return True
        try:
            if self._plan is None or self._plan[0] != known.opening_head:
                self._require_within_limits(view, known)
                self._plan = known.opening_head, read_plan(known, self.store)
        except (InvalidBlobError, BlobTooLargeError, UsageError) as error:
            self._cannot(known, error)
            return False
        given = self.consent.given(view, known, member, self._plan[1], self.store)
        self._without_consent = b"" if given else known.opening_head
        if given is False:
            self.log.info("passed, as a person here said no to its plan", round=known.number)
            self._passed.add(known.opening_head)
        return bool(given)

    def _ready(self, view: View, known: Round, member: Member) -> Answer | None:
        """The update for this round, made now if need be; None if none can be made."""
        place = Place.of(view.history.genesis, known.opened)
        if (answer := self.outbox.get(place, member.id)) is not None:
            return answer
        try:
            examples = self.trainer.examples_by(read_plan(known, self.store))
            self.log.info("training", round=known.number, examples=examples)
            self._require_within_limits(view, known)
            self._require_within_budget(view, known, member)
            posted = Posted(view.history, member.id, self.store, self.identities)
            told = self.consent is None or self.consent.tells_metrics
            update = trained_update(known, self.trainer, self._seed(known), posted, self.log, told)
            sealed = self._sealed(known, member, update)
        except (InvalidBlobError, BlobTooLargeError, UsageError) as error:
            self._cannot(known, error)
            return None
        return self.outbox.keep(place, member.id, examples, sealed.update, sealed.key_blob)

    def _seed(self, known: Round) -> Seed:
        if not self.identities:
            raise UsageError(
                "there is no age key here for training to draw its randomness from: `fedledger join` first"
            )
        return Seed.of(str(self.identities[-1]), known)

    def _sealed(self, known: Round, member: Member, update: bytes) -> Sealed:
        if read_plan(known, self.store).seal != "none":
            return seal_for(known, update, member.age_key or bytes(32))
        self.log.warn("THE PLAN HAS UPDATES UNSEALED: whoever finds ours can read it", round=known.number)
        return Sealed(update, None)

    def _cannot(self, known: Round, error: Exception) -> None:
        why = error.place if isinstance(error, TaskFailedError) else error
        self.log.warn("no update can be made for this round", round=known.number, why=why)
        self._passed.add(known.opening_head)

    def _require_within_limits(self, view: View, known: Round) -> None:
        """A site trains by no plan that is outside of the round's charter, which it has accepted."""
        try:
            limits = limits_of(self.store.get(view.charter(known.charter_version), limit=MAX_CHARTER_BYTES))
        except ValueError as error:
            raise UsageError(f"whether the plan is within them: {error}") from None
        if exceeded := limits.exceeded(read_plan(known, self.store)):
            raise UsageError(f"the plan is outside of the charter's limits: {'; '.join(exceeded)}")

    def _require_within_budget(self, view: View, known: Round, member: Member) -> None:
        """A site spends no more of its examples' privacy than the plan's budget, and nothing that it cannot count."""
        plan = read_plan(known, self.store)
        privacy, examples = plan.privacy, self.trainer.examples_by(plan)
        if privacy is not None and privacy.delta * examples >= 1:
            raise UsageError(
                f"the plan's delta of {privacy.delta:g} allows to give one of {examples} examples away: "
                "it protects nothing here"
            )
        if privacy is None or privacy.budget is None:
            return
        spent = after(view.history, member.id, known, lambda one: read_plan(one, self.store))
        if spent.epsilon is None:
            raise UsageError(f"whether it is within the plan's privacy budget is not known: {spent.unknown}")
        if spent.epsilon > privacy.budget:
            raise UsageError(
                f"it would exceed the plan's privacy budget: epsilon {told(spent.epsilon)} after this round, "
                f"{privacy.budget:g} at most"
            )

    def _post(self, history: History, known: Round, answer: Answer) -> None:
        number, key_blob = known.number, answer.key_blob.digest if answer.key_blob else None
        if self.handover is not None:
            signed = UpdateFile.sign(self.account, history, known, answer.update, answer.weight, key_blob)
            path = self.handover / f"round-{number}-{self.account.address.lower()}.json"
            with replacing(path) as file:
                file.write(json.dumps(signed.model_dump(mode="json"), indent=1).encode())
            self.log.info("signed, for another to relay", round=number, file=path, update=answer.update)
            self._done_with(known)
            return
        receipt = self.follower.contract.post_update(self.account, number, answer.update, answer.weight, key_blob)
        for entry, _ in self.follower.recorded(receipt):
            self.log.info("posted", round=number, update=answer.update, entry=entry.index, block=entry.block)

    def _recorded(self, view: View, known: Round, member: Member, mine: UpdateRecorded) -> None:
        """An update of ours is on the chain; it is done with once it is final."""
        answer = self.outbox.get(Place.of(view.history.genesis, known.opened), member.id)
        if not view.is_final:
            self.log.waiting("posted; waiting for it to be final", round=known.number)
        elif answer is None:
            self._passed.add(known.opening_head)  # done with before, or posted by hand
        elif answer.update != mine.update:
            self.log.warn("another process posted for this member", round=known.number, update=mine.update)
            self._passed.add(known.opening_head)
        elif answer.key_blob is None and known.takes_more(view.time):
            self.log.waiting("posted; to be published once the round takes no other", round=known.number)
        else:
            self._publish(answer)
            self.log.info("posted, and final", round=known.number)
            self.outbox.clear()
            self._done_with(known)

    def _done_with(self, known: Round) -> None:
        self._passed.add(known.opening_head)
        self._answered += 1
