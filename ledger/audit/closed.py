"""What of a round can be checked without a key: its documents, and of updates that stay sealed, weights and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ledger.audit.models import is_model
from ledger.audit.places import party, unread
from ledger.audit.report import Finding, incomplete, noted, violated
from ledger.charter import Limits
from ledger.cid import RAW, Cid
from ledger.errors import BlobMismatchedError, BlobMissingError, FedledgerError, InvalidBlobError, UnavailableError
from ledger.facts import Address, RoundAborted, RoundSettled, UpdateRecorded
from ledger.history import History, Round
from ledger.manifest import Manifest, Reason, Row, Score, max_manifest_bytes
from ledger.plan import MAX_PLAN_BYTES, Plan
from ledger.scores import public_scores
from ledger.sealing import largest_sealed
from ledger.storage import Blobs
from ledger.strategies import max_state_bytes, read_state
from ledger.updates import Place, decode_model, max_model_bytes


@dataclass
class RoundAudit:
    """What came out of one round.

    Attributes:
        limits: Findings on the plan and the charter's limits (check 5).
        documents: Findings on plan, base model and manifest (check 7).
        settlement: Findings on settling it again (check 8).
        plan: Its plan, None where it cannot be read.
        manifest: Its manifest, None likewise.
        scores: How its updates compare, by member id; None where no key opens them, or there are none.
        claimed: Ids of the members whose update the manifest claims was unavailable.
        closed: Whether its updates stay sealed, and it was not settled again for that.
        hashed: Blobs that were hashed and are what their CIDs say.
    """

    limits: list[Finding] = field(default_factory=list)
    documents: list[Finding] = field(default_factory=list)
    settlement: list[Finding] = field(default_factory=list)
    plan: Plan | None = None
    manifest: Manifest | None = None
    scores: Mapping[int, Score] | None = None
    claimed: frozenset[int] = frozenset()
    closed: bool = False
    hashed: set[Cid] = field(default_factory=set)

    @property
    def findings(self) -> list[Finding]:
        """All of them."""
        return self.limits + self.documents + self.settlement


@dataclass(frozen=True)
class ClosedRound:
    """The checks of one round that need no key; what they find is added to `audit`.

    Attributes:
        history: The whole history.
        known: The round.
        store: Where its blobs are.
        limits: Those of the charter under which it was opened, None where they cannot be read.
        carriers: Who signed the transaction that carried an update to the chain, by member, where that is shown.
        threads: On how many it is done.
        audit: What came out so far.
    """

    history: History
    known: Round
    store: Blobs
    limits: Limits | None
    carriers: Mapping[int, Address | None]
    threads: int
    audit: RoundAudit

    def check_documents(self) -> None:
        """Whether plan, base model and manifest say what they must; `audit` has plan and manifest then."""
        plan, ended = self._read_plan(), self.known.ended
        if plan is not None:
            self._check_plan(plan)
            self._check_base(plan)
        if ended is not None and ended.manifest is not None:
            manifest = self._read_manifest(ended, ended.manifest)
            if plan is not None and manifest is not None:
                self._check_rows(ended, manifest)

    def check_closed(self, ended: RoundSettled | RoundAborted, plan: Plan, manifest: Manifest) -> None:
        """What the manifest says of updates that stay sealed: their weights, the counts, and the model's form."""
        aggregator, report = self._by(ended.aggregator), self.audit.documents.append
        place = {"settlement": plan.settlement, **Place.of(self.history.genesis, self.known.opened).document()}
        if other := [key for key, value in place.items() if getattr(manifest, key) != value]:
            where = self._at(cid=ended.manifest, by=aggregator)
            report(violated(f"its manifest is of another round or ledger, by its {', '.join(other)}", **where))
        for row in manifest.updates:
            update = self.known.updates.get(row.member)
            if update is None or str(update.update) != row.update:
                continue  # said already
            where = self._at(member=party(self.history, row.member), cid=update.update, by=aggregator)
            if row.excluded is Reason.UNAVAILABLE:
                self._claimed_unavailable(ended, update)
                continue
            weight = plan.weighting.of(update.member, update.weight)
            size = self.store.size(update.update) or 0
            if update.key_blob is None:
                expected = f"excluded as {Reason.UNOPENABLE} (posted without a key blob)"
            elif (
                row.excluded is not Reason.UNOPENABLE  # whoever has no key does not look at the size
                and size > largest_sealed(plan.max_update_bytes)
                and self._is_here(update.update)  # and not something else, which check 6 says
            ):
                expected = f"excluded as {Reason.OVERSIZED}"
            elif row.excluded is None:
                expected = f"counted with weight {weight}"
            elif row.excluded is Reason.FILTERED and plan.filter is None:
                expected = "anything but filtered: its plan has no filter"
            else:
                report(noted(f"excluded as {row.excluded}, claimed by {aggregator}; it is sealed", **where))
                continue
            if said_of(row) != expected.partition(" (")[0]:
                text = "the manifest says something else of it than its entry and the plan"
                report(violated(text, expected=expected, found=said_of(row), **where))
        self.check_sums(ended, plan, manifest)

    def check_sums(self, ended: RoundSettled | RoundAborted, plan: Plan, manifest: Manifest) -> None:
        """What the manifest says of all updates together, and of what came of them, where they cannot be averaged."""
        aggregator, report = self._by(ended.aggregator), self.audit.documents.append
        where = self._at(cid=ended.manifest, by=aggregator)
        counted, kept = sum(map(passed, manifest.updates)), sum(row.excluded is None for row in manifest.updates)
        wanted = plan.filter.kept(counted) if plan.filter is not None and counted >= plan.quorum else counted
        if plan.filter is not None and kept != wanted:
            expected, found = f"{wanted} of {counted} updates kept by the filter", f"{kept} kept"
            report(violated("its manifest does not fit its plan", expected=expected, found=found, **where))
        model = str(ended.model) if isinstance(ended, RoundSettled) else None
        if (counted, model) != (manifest.counted, manifest.model) or (model is None) != (counted < plan.quorum):
            expected = f"{counted} counted, the quorum being {plan.quorum}, and the model {model}"
            found = f"{manifest.counted} counted, and the model {manifest.model}"
            report(violated("its manifest does not fit its entry", expected=expected, found=found, **where))
        if (manifest.state is not None) != (bool(plan.state_tensors) and model is not None):
            expected, found = ("a state", "none") if manifest.state is None else ("no state", f"{manifest.state}")
            report(violated("the server's state in it does not fit its plan", expected=expected, found=found, **where))
        elif manifest.state is not None:
            self._check_state(Cid.parse(manifest.state), plan, aggregator)
        public = plan.seal == "none" or plan.public_quality
        if manifest.scores is not None and not public:
            report(violated("its manifest shows everybody the scores that its plan has sealed", **where))
        elif public and not _scores_fit(plan, manifest):
            report(violated("the scores in its manifest do not fit its plan and its weights", **where))
        if isinstance(ended, RoundSettled):
            self._check_form(ended.model, "its model", plan, aggregator)

    # --------------------------------------------------------------------- documents

    def _read_plan(self) -> Plan | None:
        opened = self.known.opened
        opener = f"{self._by(opened.aggregator)}, who opened the round with it"
        blob = self._get(opened.plan, "its plan", MAX_PLAN_BYTES)
        try:
            self.audit.plan = None if blob is None else Plan.decode(blob)
        except InvalidBlobError as error:
            self.audit.documents.append(violated(f"its plan is {error}", cid=opened.plan, by=opener, **self._at()))
        return self.audit.plan

    def _check_plan(self, plan: Plan) -> None:
        opened = self.known.opened
        where = self._at(cid=opened.plan, by=self._by(opened.aggregator))
        for name, planned, recorded in (
            ("quorum", plan.quorum, opened.quorum),
            ("approvals", plan.approvals, opened.approvals),
            ("rejections", plan.rejections, opened.rejections),
            ("participants_attest", plan.participants_attest, opened.participants_attest),
            ("grace", plan.grace, opened.grace),
            ("deadline", self.known.opened_at + plan.window, opened.deadline),
        ):
            if planned != recorded:
                expected, found = f"{name} {planned}, as its plan says", f"{name} {recorded}"
                self.audit.documents.append(
                    violated("it was opened otherwise than planned", expected=expected, found=found, **where)
                )
        for exceeded in self.limits.exceeded(plan) if self.limits else []:
            text = "its plan is outside of the charter's limits"
            self.audit.limits.append(violated(text, found=exceeded, **where))

    def _check_base(self, plan: Plan) -> None:
        opened = self.known.opened
        opener = f"{self._by(opened.aggregator)}, who opened the round on it"
        self._check_form(opened.base, "its base model", plan, opener)

    def _check_form(self, model: Cid, what: str, plan: Plan, by: str) -> None:
        """Whether a model is one as the plan says."""
        if is_model(self.store, model, plan, self.threads):
            self.audit.hashed.add(model)
            return
        blob = self._get(model, what, max_model_bytes(plan))
        try:
            if blob is not None:
                decode_model(blob, plan)
        except InvalidBlobError as error:
            text = f"{what} does not fit its plan: {error}"
            self.audit.documents.append(violated(text, cid=model, by=by, **self._at()))

    def _check_state(self, state: Cid, plan: Plan, by: str) -> None:
        """Whether what the server remembers is of the plan's strategy and model."""
        blob = self._get(state, "the server's state after it", max_state_bytes(plan))
        if blob is not None and read_state(blob, plan, self.known.number + 1) is None:
            text = "the server's state after it does not fit its plan"
            self.audit.documents.append(violated(text, cid=state, by=by, **self._at()))

    def _get(self, cid: Cid, what: str, limit: int) -> bytes | None:
        """A blob, or a finding why it cannot be read: that it is missing or altered is for check 6 to say."""
        try:
            blob = self.store.get(cid, limit)
        except FedledgerError as error:
            finding = incomplete if isinstance(error, UnavailableError | BlobMismatchedError) else violated
            self.audit.documents.append(finding(f"{what} cannot be read: {unread(error)}", cid=cid, **self._at()))
            return None
        self.audit.hashed.add(cid)
        return blob

    def _read_manifest(self, ended: RoundSettled | RoundAborted, cid: Cid) -> Manifest | None:
        blob = self._get(cid, "its manifest", max_manifest_bytes(len(self.known.updates), len(self.known.readers)))
        if blob is None:
            return None
        try:
            manifest = Manifest.decode(blob)
        except InvalidBlobError as error:
            publisher = f"{self._by(ended.aggregator)}, who published it"
            self.audit.documents.append(violated(f"its manifest is {error}", cid=cid, by=publisher, **self._at()))
            return None
        self.audit.manifest, self.audit.scores = manifest, public_scores(manifest)
        self.audit.claimed = frozenset(row.member for row in manifest.updates if row.excluded is Reason.UNAVAILABLE)
        return manifest

    def _check_rows(self, ended: RoundSettled | RoundAborted, manifest: Manifest) -> None:
        """Every recorded update stands in the manifest exactly once, and nothing else does."""
        aggregator, report = self._by(ended.aggregator), self.audit.documents.append
        rows = Counter((row.member, row.update) for row in manifest.updates)
        recorded = {(update.member, str(update.update)): update for update in self.known.updates.values()}
        for (member, named), update in sorted(recorded.items()):
            if (times := rows[member, named]) != 1:
                said = "left out of" if times == 0 else f"{times} times in"
                where = self._at(member=party(self.history, member), cid=update.update, by=aggregator)
                expected, found = "every recorded update exactly once", f"this one {said} it"
                report(violated(f"the manifest {ended.manifest}", expected=expected, found=found, **where))
        for member, named in sorted(set(rows) - recorded.keys()):
            where = self._at(member=party(self.history, member), by=f"{aggregator}, or the node that shows the entries")
            text = f"the manifest {ended.manifest} has an update that no entry shows: it is invented, or withheld"
            report(violated(text, expected="recorded updates only", found=named, **where))
        if isinstance(ended, RoundSettled) and manifest.counted != ended.counted:
            expected, found = f"{manifest.counted} counted, as the manifest says", f"{ended.counted}"
            where = self._at(cid=ended.manifest, by=aggregator)
            report(violated("it was settled with another number", expected=expected, found=found, **where))

    # ------------------------------------------------------------------------ claims

    def _claimed_unavailable(self, ended: RoundSettled | RoundAborted, update: UpdateRecorded) -> None:
        aggregator, report = self._by(ended.aggregator), self.audit.documents.append
        where = self._at(member=party(self.history, update.member), cid=update.update)
        if self._carried_by(ended.aggregator, update.member):
            text = "claimed unavailable by the aggregator, who had it: it carried this very update to the chain"
            report(violated(text, by=aggregator, **where))
        else:
            blobs = [update.update, *([Cid(update.key_blob, RAW)] if update.key_blob else [])]
            here = "its bytes are in this store now" if all(map(self._is_here, blobs)) else "not verifiable here"
            report(noted(f"excluded as unavailable, claimed by {aggregator}; {here}", **where))

    def _carried_by(self, aggregator: int, member: int) -> bool:
        """Whether an account of the aggregator's sent an update to the chain, itself or by a contract of its own."""
        accounts = [self.known.updates[member].sender, self.carriers.get(member)]
        members = [self.history.member_by_account(account) for account in accounts if account]
        return any(one is not None and one.id == aggregator for one in members)

    def _is_here(self, cid: Cid) -> bool:
        try:
            self.store.verify(cid)
        except (BlobMissingError, BlobMismatchedError):
            return False
        return True

    def _at(self, **more: Any) -> dict[str, Any]:
        return {"round": self.known.number, **more}

    def _by(self, member: int) -> str:
        return str(party(self.history, member))


def _scores_fit(plan: Plan, manifest: Manifest) -> bool:
    """Whether public scores are those of the counted updates, say what the plan has measured, and filter who is far."""
    scores, counted = public_scores(manifest) or {}, {row.member for row in manifest.updates if passed(row)}
    enough = len(counted) >= plan.quorum
    clips, filters = enough and plan.clipping is not None, enough and plan.filter is not None
    for score in scores.values():
        if (score.norm is not None) != clips or (score.distance is not None) != filters:
            return False
        if score.metrics and plan.privacy is not None:
            return False
    if scores.keys() != counted if clips or filters else scores.keys() - counted:
        return False
    if not filters or plan.filter is None:
        return True
    nearest = sorted(counted, key=lambda member: (scores[member].distance, member))
    kept = {row.member for row in manifest.updates if row.excluded is None}
    return kept == set(nearest[: plan.filter.kept(len(counted))])


def passed(row: Row) -> bool:
    """Whether an update is as it must be, whatever a filter does with it."""
    return row.excluded in (None, Reason.FILTERED)


def said_of(row: Row) -> str:
    """What a manifest says of an update, in words."""
    return f"excluded as {row.excluded}" if row.excluded is not None else f"counted with weight {row.weight}"
