"""An auditor's copy: every blob of a ledger, fetched, verified and pinned on a node of one's own."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger.audit.places import references
from ledger.cid import Cid
from ledger.erasing import Erasing
from ledger.errors import BlobMismatchedError, BlobMissingError, BlobTooLargeError
from ledger.following import Follower
from ledger.logs import Log
from ledger.manifests import state_in
from ledger.storage import Store


@dataclass
class Mirroring:
    """One copy of one ledger's blobs.

    Attributes:
        follower: The view of the ledger.
        store: Where the copy is.
        limit: The most bytes of a blob that is taken: members choose what they post.
        log: Told what happens.
        pinned: What is here.
        missing: What was not to be had at the last look, or is too large.
        altered: What is stored under its CID and is something else.
    """

    follower: Follower
    store: Store
    limit: int
    log: Log
    pinned: set[Cid] = field(default_factory=set, init=False)
    missing: list[Cid] = field(default_factory=list, init=False)
    altered: list[Cid] = field(default_factory=list, init=False)

    _states: dict[Cid | None, Cid | None] = field(default_factory=dict, init=False)
    """What the server remembers after a round, by the manifest that names it."""

    _kept: set[Cid] = field(default_factory=set, init=False)
    """States that no update was before: a member that posts one later as its own has nothing of it to erase."""

    def __post_init__(self) -> None:
        self._erasing = Erasing(self.store, self.log)

    def step(self) -> bool:
        """Pin what is not here yet, and give up what is recorded as erased; never done."""
        view = self.follower.look()
        self._erasing.follow(view)
        named = [view.history.genesis.charter, *(cid for entry, _ in view.entries for cid, _ in references(entry.fact))]
        self.missing, self.altered = [], []
        self.pinned -= self._erasing.done - self._kept
        for cid in dict.fromkeys(named):
            self._pin(cid)
        posted = set[Cid]()
        for known in view.history.rounds.values():
            posted |= {update.update for update in known.updates.values()}
            manifest = known.ended.manifest if known.ended else None
            if manifest in self.pinned and manifest not in self._states:
                self._states[manifest] = state_in(manifest, self.store, self.limit)
            if (state := self._states.get(manifest)) is not None:
                if state not in posted:
                    self._kept.add(state)
                self._pin(state)
        lacks = len(self.missing) + len(self.altered)
        self.log.waiting("mirrored", blobs=len(self.pinned), lacks=lacks, entries=view.history.entries)
        return False

    def _pin(self, cid: Cid) -> None:
        if cid in self.pinned or (cid in self._erasing.done and cid not in self._kept):
            return
        try:
            self.store.pin(cid, self.limit)
        except (BlobMissingError, BlobMismatchedError, BlobTooLargeError) as error:
            (self.altered if isinstance(error, BlobMismatchedError) else self.missing).append(cid)
            self.log.waiting("not to be had", blob=cid, why=error)
        else:
            self.pinned.add(cid)
