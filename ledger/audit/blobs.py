"""Check 6: every blob is there, and is what its CID says; missing, mismatched and erased are three different things."""

from __future__ import annotations

from collections.abc import Mapping

from ledger.audit.closed import RoundAudit
from ledger.audit.replay import Mention, Progress, Replay
from ledger.audit.report import Finding, Scope, incomplete, noted, violated
from ledger.cid import Cid
from ledger.errors import BlobMismatchedError, BlobMissingError


def check_blobs(
    replayed: Replay, audits: Mapping[int, RoundAudit], scope: Scope, progress: Progress
) -> tuple[str, list[Finding]]:
    """Hash every blob that was not hashed along the way.

    Args:
        replayed: The history, and what names its blobs.
        audits: What came out of the rounds.
        scope: Which rounds are looked at.
        progress: Told how far it is.
    """
    store = replayed.evidence.store
    hashed = set().union(*(one.hashed for one in audits.values()))
    looked_at = [
        cid
        for cid, mentions in replayed.blobs.items()
        if scope.rounds is None or any(one.round is None or one.round in scope.rounds for one in mentions.values())
    ]
    findings: list[Finding] = []
    for done, cid in enumerate(looked_at):
        progress("hashing blobs", done, len(looked_at))
        if cid in hashed:
            continue
        try:
            store.verify(cid)
        except (BlobMissingError, BlobMismatchedError) as error:
            findings.append(_not_there(replayed, audits, cid, isinstance(error, BlobMissingError)))
    return f"{len(looked_at)} blobs hashed and compared with their CIDs", findings


def _not_there(replayed: Replay, audits: Mapping[int, RoundAudit], cid: Cid, missing: bool) -> Finding:
    mentions = list(replayed.blobs[cid].values())
    what, where = ", the ".join(one.about for one in mentions), {"cid": cid, **mentions[0].where}
    state = "missing" if missing else "mismatched"
    if all(_claimed(audits, one) for one in mentions):
        return noted(f"{state}, as the round's manifest claims that it was not to be had: the {what}", **where)
    if missing and (erasure := replayed.excused(cid)) is not None:
        reason = erasure.fact.reason.name.lower()
        text = f"erased by record: the {what} was erased by {erasure.fact.sender} ({reason}), entry {erasure.entry}"
        return noted(text, **where) if erasure.approved else incomplete(text, **where)
    if missing:
        by = "whoever should keep it: ask its author, the aggregator or a mirror for it"
        return incomplete(f"missing: the {what}", by=by, **where)
    by = "whoever keeps this store: its author is bound by the CID"
    return violated(f"mismatched: the bytes stored as the {what} are not what this CID says", by=by, **where)


def _claimed(audits: Mapping[int, RoundAudit], mention: Mention) -> bool:
    """Whether a manifest claims that an update was not to be had."""
    audited = audits.get(mention.round or 0)
    of_update = mention.role in ("update", "key blob") and mention.member is not None
    return of_update and audited is not None and mention.member.id in audited.claimed  # type: ignore[union-attr]
