"""One round, checked: its documents say what they must, and settling it again gives what was recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ledger.audit.closed import ClosedRound, RoundAudit, passed, said_of
from ledger.audit.opening import NotNamedError, Opening, dispute, opening
from ledger.audit.places import Erasure, party, unread
from ledger.audit.report import incomplete, noted, violated
from ledger.charter import Limits
from ledger.cid import Cid, cid_of
from ledger.errors import (
    BlobMismatchedError,
    BlobMissingError,
    FedledgerError,
    InvalidBlobError,
    UnavailableError,
)
from ledger.facts import Address, RoundAborted, RoundSettled, UpdateRecorded
from ledger.history import History, Round
from ledger.manifest import Manifest, Reason
from ledger.manifests import state_before
from ledger.plan import Plan
from ledger.sealing import Identity, Masked, largest_sealed
from ledger.settlement import Settlement, settle
from ledger.storage import Blobs
from ledger.updates import Place


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
    return _Round(
        history, known, store, limits, carriers or {}, threads, RoundAudit(), erasures or {}, access or Access()
    ).run()


@dataclass(frozen=True)
class _Round(ClosedRound):
    """The checks that settle it again, beside those that need no key."""

    erasures: Mapping[tuple[int, bytes], Erasure]
    access: Access

    def run(self) -> RoundAudit:
        self.check_documents()
        plan, manifest, ended = self.audit.plan, self.audit.manifest, self.known.ended
        if ended is None or ended.manifest is None:
            return self.audit
        if plan is None or manifest is None:
            lacks = "plan" if plan is None else "manifest"
            self.audit.settlement.append(incomplete(f"without its {lacks} it cannot be settled again", **self._at()))
            return self.audit
        opened = self._open(ended, plan, manifest) if plan.seal != "none" else Opening()
        if opened is not None:
            self._settle_again(ended, plan, manifest, opened)
        else:
            self.check_closed(ended, plan, manifest)
            self._say_closed()
        return self.audit

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

    def _say_closed(self) -> None:
        self.audit.closed = True
        can = "its entries, its manifest's weights and counts, and the model's form are checked"
        if self.access.only_public:
            self.audit.settlement.append(noted(f"sealed, and left closed as asked for: {can}", **self._at()))
            return
        lacks = "ask an auditor or the aggregator for a grant" if self.access.identities else "give --identity"
        text = f"sealed: without a key that opens its updates it is not settled again ({lacks}); {can}"
        self.audit.settlement.append(incomplete(text, **self._at()))

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
                state_before(self.history, self.known, self.store) if plan.state_tensors else None,
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
            self.check_sums(ended, plan, manifest)
            return
        self.audit.hashed |= again.hashed
        absent |= self._not_granted(manifest, again, absent) if opened.granted else {}
        if not absent:
            self.audit.scores = again.scores or None  # whatever the aggregator says
        elif self.audit.scores is None:
            self.audit.scores = opened.scores or None
        self._compare_rows(ended, plan, manifest, again, absent, opened)
        if absent:
            self.check_sums(ended, plan, manifest)
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
            if absent and plan.filter is not None and said is not None and passed(said) and passed(row):
                # What the filter would have done with all of them is not known; what those that it kept weigh, is.
                weight = plan.weighting.of(update.member, update.weight) if said.excluded is None else None
                if said.weight == weight:
                    continue
                row = row.model_copy(update={"weight": weight, "excluded": said.excluded})
            if said is not None and said.update == row.update and said != row:
                text = "the manifest says something else of it than settling again"
                expected, found = f"{said_of(row)}{detail}", said_of(said)
                report(violated(text, expected=expected, found=found, by=aggregator, **where))
            elif row.excluded is Reason.UNAVAILABLE:
                self._claimed_unavailable(ended, update)
            elif row.excluded is Reason.UNOPENABLE and said == row and update.key_blob is not None:
                self._claimed_unopenable(ended, plan, update, opened.keys.get(row.member))
            elif row.excluded is not None and said == row:
                report(noted(f"excluded as {row.excluded}, which is true{detail}", **where))

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
