"""One round, checked: its documents say what they must, and settling it again gives what was recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ledger.audit.models import is_model
from ledger.audit.opening import NotNamedError, Opening, dispute, opening
from ledger.audit.places import Erasure, party, unread
from ledger.audit.report import Finding, incomplete, noted, violated
from ledger.charter import Limits
from ledger.cid import RAW, Cid, cid_of
from ledger.errors import (
    BlobMismatchedError,
    BlobMissingError,
    FedledgerError,
    InvalidBlobError,
    UnavailableError,
)
from ledger.facts import Address, RoundAborted, RoundSettled, UpdateRecorded
from ledger.history import History, Round
from ledger.manifest import Manifest, Reason, Row, max_manifest_bytes
from ledger.plan import MAX_PLAN_BYTES, Plan
from ledger.sealing import Identity, Masked, largest_sealed
from ledger.settlement import Settlement, settle
from ledger.states import state_before
from ledger.storage import Blobs
from ledger.updates import Place, blob_size, decode_model


@dataclass(frozen=True)
class Access:
    """What opens sealed updates.

    Attributes:
        identities: The auditor's own age identities.
        grants: What was granted to them, by round.
        only_public: Whether it was asked for no more than what needs no key.
        attesting: Whether the findings are for an attestation's report, which everybody can read and which a release
            waits for: of a sealed update it says the reason alone, and a dispute about one is listed and stops nothing.
    """

    identities: Sequence[Identity] = ()
    grants: Mapping[int, Sequence[Masked]] = field(default_factory=dict)
    only_public: bool = False
    attesting: bool = False


@dataclass
class RoundAudit:
    """What came out of one round.

    Attributes:
        limits: Findings on the plan and the charter's limits (check 5).
        documents: Findings on plan, base model and manifest (check 7).
        settlement: Findings on settling it again (check 8).
        plan: Its plan, None where it cannot be read.
        manifest: Its manifest, None likewise.
        claimed: Ids of the members whose update the manifest claims was unavailable.
        closed: Whether its updates stay sealed, and it was not settled again for that.
        hashed: Blobs that were hashed and are what their CIDs say.
    """

    limits: list[Finding] = field(default_factory=list)
    documents: list[Finding] = field(default_factory=list)
    settlement: list[Finding] = field(default_factory=list)
    plan: Plan | None = None
    manifest: Manifest | None = None
    claimed: frozenset[int] = frozenset()
    closed: bool = False
    hashed: set[Cid] = field(default_factory=set)

    @property
    def findings(self) -> list[Finding]:
        """All of them."""
        return self.limits + self.documents + self.settlement


def audit_round(
    history: History,
    known: Round,
    store: Blobs,
    limits: Limits | None = None,
    erasures: Mapping[tuple[int, bytes], Erasure] | None = None,
    carriers: Mapping[int, Address | None] | None = None,
    threads: int = 1,
    access: Access | None = None,
) -> RoundAudit:
    """Check one round as it is recorded in `history`.

    Args:
        history: The whole history.
        known: The round.
        store: Where its blobs are.
        limits: Those of the charter under which it was opened, None where they cannot be read.
        erasures: Erasures of its updates that are on record, by member and digest.
        carriers: Who signed the transaction that carried an update to the chain, by member, where that is shown.
        threads: On how many it is settled again.
        access: What opens sealed updates.
    """
    return _RoundCheck(
        history, known, store, limits, erasures or {}, carriers or {}, threads, access or Access(), RoundAudit()
    ).run()


@dataclass(frozen=True)
class _RoundCheck:
    history: History
    known: Round
    store: Blobs
    limits: Limits | None
    erasures: Mapping[tuple[int, bytes], Erasure]
    carriers: Mapping[int, Address | None]
    threads: int
    access: Access
    audit: RoundAudit

    def run(self) -> RoundAudit:
        plan = self._read_plan()
        if plan is not None:
            self._check_plan(plan)
            self._check_base(plan)
        ended = self.known.ended
        if ended is not None and ended.manifest is not None:
            self._read_manifest(ended, ended.manifest)
            manifest = self.audit.manifest
            if plan is None or manifest is None:
                lacks = "plan" if plan is None else "manifest"
                self.audit.settlement.append(
                    incomplete(f"without its {lacks} it cannot be settled again", **self._at())
                )
            else:
                self._check_rows(ended, manifest)
                sealed = plan.seal != "none"
                opened = self._open(ended, plan, manifest) if sealed else Opening()
                if opened is None:
                    self._check_closed(ended, plan, manifest)
                else:
                    self._settle_again(ended, plan, manifest, opened)
        return self.audit

    def _at(self, **more: Any) -> dict[str, Any]:
        return {"round": self.known.number, **more}

    def _by(self, member: int) -> str:
        return str(party(self.history, member))

    # ------------------------------------------------------------------ plan and base

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
        blob = self._get(model, what, blob_size(plan.tensors))
        try:
            if blob is not None:
                decode_model(blob, plan)
        except InvalidBlobError as error:
            text = f"{what} does not fit its plan: {error}"
            self.audit.documents.append(violated(text, cid=model, by=by, **self._at()))

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

    # ----------------------------------------------------------------------- manifest

    def _read_manifest(self, ended: RoundSettled | RoundAborted, cid: Cid) -> None:
        blob = self._get(cid, "its manifest", max_manifest_bytes(len(self.known.updates), len(self.known.readers)))
        if blob is None:
            return
        try:
            manifest = Manifest.decode(blob)
        except InvalidBlobError as error:
            publisher = f"{self._by(ended.aggregator)}, who published it"
            self.audit.documents.append(violated(f"its manifest is {error}", cid=cid, by=publisher, **self._at()))
            return
        self.audit.manifest = manifest
        self.audit.claimed = frozenset(row.member for row in manifest.updates if row.excluded is Reason.UNAVAILABLE)

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

    # ------------------------------------------------------------------------- sealed

    def _open(self, ended: RoundSettled | RoundAborted, plan: Plan, manifest: Manifest) -> Opening | None:
        """The keys of the sealed updates; None where there are none for this auditor."""
        where = self._at(cid=ended.manifest)
        if manifest.annex is None:
            text = "its updates are sealed, and its manifest has no annex that hands their keys on"
            self.audit.documents.append(violated(text, by=self._by(ended.aggregator), **where))
            return None
        if not self.access.identities:
            return None
        grants = self.access.grants.get(self.known.number, ())
        try:
            most = largest_sealed(plan.max_update_bytes)
            found = opening(self.history, self.known, manifest.annex, self.store, self.access.identities, grants, most)
            if found.granted:  # whoever gave the grant may lie: it does not speak against the aggregator
                for row in manifest.updates:
                    if row.excluded is Reason.UNOPENABLE:
                        found.keys.pop(row.member, None)
            return found
        except NotNamedError:
            return None
        except ValueError as error:
            text = f"its annex does not hand the keys of the updates on: {error}"
            self.audit.documents.append(violated(text, by=self._by(ended.aggregator), **where))
            return None

    def _check_closed(self, ended: RoundSettled | RoundAborted, plan: Plan, manifest: Manifest) -> None:
        """What can be checked of updates that stay sealed: their weights, the counts, and the model's form."""
        self.audit.closed = True
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
            if _said(row) != expected.partition(" (")[0]:
                text = "the manifest says something else of it than its entry and the plan"
                report(violated(text, expected=expected, found=_said(row), **where))
        counted, kept = sum(map(_passed, manifest.updates)), sum(row.excluded is None for row in manifest.updates)
        if plan.filter is not None and kept != (plan.filter.kept(counted) if counted >= plan.quorum else counted):
            where = self._at(cid=ended.manifest, by=aggregator)
            expected, found = f"{plan.filter.kept(counted)} of {counted} updates kept by the filter", f"{kept} kept"
            report(violated("its manifest does not fit its plan", expected=expected, found=found, **where))
        model = str(ended.model) if isinstance(ended, RoundSettled) else None
        if (counted, model) != (manifest.counted, manifest.model) or (model is None) != (counted < plan.quorum):
            where = self._at(cid=ended.manifest, by=aggregator)
            expected = f"{counted} counted, the quorum being {plan.quorum}, and the model {model}"
            found = f"{manifest.counted} counted, and the model {manifest.model}"
            report(violated("its manifest does not fit its entry", expected=expected, found=found, **where))
        if isinstance(ended, RoundSettled):
            self._check_form(ended.model, "its model", plan, aggregator)
        can = "its entries, its manifest's weights and counts, and the model's form are checked"
        if self.access.only_public:
            self.audit.settlement.append(noted(f"sealed, and left closed as asked for: {can}", **self._at()))
            return
        lacks = "ask an auditor or the aggregator for a grant" if self.access.identities else "give --identity"
        text = f"sealed: without a key that opens its updates it is not settled again ({lacks}); {can}"
        self.audit.settlement.append(incomplete(text, **self._at()))

    # --------------------------------------------------------------------- settlement

    def _settle_again(
        self, ended: RoundSettled | RoundAborted, plan: Plan, manifest: Manifest, opened: Opening
    ) -> None:
        absent = {member: why for member, why in opened.absent.items() if member not in self.audit.claimed}
        self.audit.hashed |= opened.hashed

        def settled() -> Settlement:
            return settle(
                Place.of(self.history.genesis, self.known.opened),
                plan,
                self.known.updates.values(),
                self.store,
                self.audit.claimed | absent.keys(),
                False,
                self.threads,
                opened.keys,
                state_before(self.history, self.known, self.store),
                self.known.eligible,
            )

        try:
            try:
                again = settled()
            except (BlobMissingError, BlobMismatchedError):
                absent = self._absent() | absent
                again = settled()
        except (UnavailableError, BlobMismatchedError, InvalidBlobError) as error:
            self.audit.settlement.append(incomplete(f"it cannot be settled again: {unread(error)}", **self._at()))
            return
        self.audit.hashed |= again.hashed
        absent |= self._not_granted(manifest, again, absent) if opened.granted else {}
        self._compare_rows(ended, plan, manifest, again, absent, opened)
        if absent:
            for member, why in absent.items():
                self._not_settled(member, why)
        else:
            self._compare_models(ended, manifest, again, opened)

    def _absent(self) -> dict[int, FedledgerError]:
        """The updates that cannot be read: without them there is no model; the others are looked at all the same."""
        absent: dict[int, FedledgerError] = {}
        for member, update in self.known.updates.items():
            try:
                if member not in self.audit.claimed:
                    self.store.verify(update.update)
            except (BlobMissingError, BlobMismatchedError) as error:
                absent[member] = error
        return absent

    def _not_settled(self, member: int, error: FedledgerError) -> None:
        update = self.known.updates[member]
        where = self._at(member=party(self.history, member), cid=update.update)
        erased = (self.erasures.get((member, digest or b"")) for digest in (update.update.digest, update.key_blob))
        erasure = next((one for one in erased if one is not None), None)
        if erasure is None or isinstance(error, BlobMismatchedError):
            text = f"it cannot be settled again without this blob: {unread(error)}"
            self.audit.settlement.append(incomplete(text, **where))
            return
        where["entry"] = erasure.entry
        if erasure.approved:
            text = "not recomputable, since this update was erased by record: it rests on an auditor's earlier approval"
            self.audit.settlement.append(noted(text, **where))
        else:
            text = "not recomputable, since this update was erased by record, before any auditor had approved the model"
            self.audit.settlement.append(incomplete(text, by=erasure.fact.sender, **where))

    def _compare_rows(
        self,
        ended: RoundSettled | RoundAborted,
        plan: Plan,
        manifest: Manifest,
        again: Settlement,
        absent: Collection[int],
        opened: Opening,
    ) -> None:
        aggregator, report = self._by(ended.aggregator), self.audit.documents.append
        shown = {row.member: row for row in manifest.updates}
        for row in again.manifest.updates:
            if row.member in absent:
                continue
            update = self.known.updates[row.member]
            where = self._at(member=party(self.history, row.member), cid=update.update)
            tells = row.member in again.details and not (self.access.attesting and manifest.annex)
            detail = f" ({again.details[row.member]})" if tells else ""
            said = shown.get(row.member)
            if absent and plan.filter is not None and said is not None and _passed(said) and _passed(row):
                continue  # what the filter would have done with all of them is not known
            if said is not None and said.update == row.update and said != row:
                text = "the manifest says something else of it than settling again"
                expected, found = f"{_said(row)}{detail}", _said(said)
                report(violated(text, expected=expected, found=found, by=aggregator, **where))
            elif row.excluded is Reason.UNAVAILABLE:
                self._claimed_unavailable(ended, update)
            elif row.excluded is Reason.UNOPENABLE and said == row and update.key_blob is not None:
                self._claimed_unopenable(ended, plan, update, opened.keys.get(row.member))
            elif row.excluded is not None and said == row:
                report(noted(f"excluded as {row.excluded}, which is true{detail}", **where))

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

    def _claimed_unopenable(
        self, ended: RoundSettled | RoundAborted, plan: Plan, update: UpdateRecorded, key: str | None
    ) -> None:
        """What an auditor whose key was named can say to the claim: it opens the key blob itself."""
        aggregator, report = self._by(ended.aggregator), self.audit.documents.append
        where = self._at(member=party(self.history, update.member), cid=update.update)
        most = largest_sealed(plan.max_update_bytes)
        holds = dispute(self.store, update, key, self.access.identities, most)
        if holds is None:
            report(noted(f"excluded as unopenable, claimed by {aggregator}; not verifiable with your keys", **where))
        elif holds:
            report(noted("excluded as unopenable, which is true: what its key blob holds does not open it", **where))
        elif key is not None:
            text = "claimed unopenable by the aggregator, whose annex hands on another key than the key blob holds"
            report(violated(text, by=aggregator, **where))
        else:
            text = (
                "claimed unopenable by the aggregator, and your key opens it: either its member sealed it without the "
                "aggregator, or the aggregator left it out; the aggregator's age key would show which"
            )
            finding = noted if self.access.attesting else incomplete
            report(finding(text, by=f"{aggregator}, or {self._by(update.member)}", **where))

    def _not_granted(self, manifest: Manifest, again: Settlement, absent: Collection[int]) -> dict[int, FedledgerError]:
        """The updates that a grant does not open, though the aggregator opened them: that is the grant's fault."""
        shown = {row.member: row.excluded for row in manifest.updates}
        return {
            row.member: UnavailableError("the grant holds no key that opens it: ask for another one")
            for row in again.manifest.updates
            if row.excluded is Reason.UNOPENABLE
            and row.member not in absent
            and shown.get(row.member, Reason.UNOPENABLE) is not Reason.UNOPENABLE
        }

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

    def _compare_models(
        self, ended: RoundSettled | RoundAborted, manifest: Manifest, again: Settlement, opened: Opening
    ) -> None:
        aggregator = self._by(ended.aggregator)
        model = Cid.parse(again.manifest.model) if again.manifest.model is not None else None
        published = ended.model if isinstance(ended, RoundSettled) else None
        if model != published:
            found = "an abort for lack of a quorum" if published is None else f"the model {published}"
            expected = "no model, for lack of a quorum" if model is None else f"the model {model}"
            where = self._at(cid=published, by=aggregator)
            text = "settling again gives something else than was published"
            self.audit.settlement.append(violated(text, expected=expected, found=found, **where))
            return
        meant = again.manifest.model_copy(update={"annex": manifest.annex})
        if meant != manifest and not any(finding.expected for finding in self.audit.documents):
            where = self._at(cid=ended.manifest, by=aggregator)
            text = "its manifest is not what settling again gives"
            named, found = f"the manifest {cid_of(meant.encode())}", f"{ended.manifest}"
            self.audit.documents.append(violated(text, expected=named, found=found, **where))
        if manifest.annex is not None and opened.scores is not None and dict(opened.scores) != again.scores:
            where = self._at(cid=ended.manifest, by=aggregator)
            text = "its annex scores the updates otherwise than settling again does"
            self.audit.documents.append(violated(text, **where))
        if meant.state is not None:
            self._check_state(Cid.parse(meant.state))

    def _check_state(self, state: Cid) -> None:
        """What the server remembers is what settling again gives, by its CID; it has to be there for the next round."""
        try:
            self.store.verify(state)
            self.audit.hashed.add(state)
        except (BlobMissingError, BlobMismatchedError) as error:
            missing = isinstance(error, BlobMissingError)
            text = "what the server remembers of it, its state, is " + ("missing" if missing else "mismatched")
            self.audit.documents.append((incomplete if missing else violated)(text, cid=state, **self._at()))


def _passed(row: Row) -> bool:
    """Whether an update is as it must be, whatever a filter does with it."""
    return row.excluded in (None, Reason.FILTERED)


def _said(row: Row) -> str:
    return f"excluded as {row.excluded}" if row.excluded is not None else f"counted with weight {row.weight}"
