"""The updates' blobs: fetched, verified and pinned as they come, and waited for no longer than the loop can afford."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ledger.cid import Cid
from ledger.errors import BlobMismatchedError, BlobMissingError, BlobTooLargeError
from ledger.logs import Log
from ledger.storage import Store

A_WHILE = 5.0
"""Seconds after which one look for blobs ends: a store takes long to find out that one is not to be had."""


@dataclass
class Fetching:
    """The blobs that an aggregator has made sure of.

    Attributes:
        store: Where they are pinned.
        log: Told which do not come.
        held: Those that are here, verified and pinned.
        oversized: Those that are larger than the plan allows: they are not taken.
    """

    store: Store
    log: Log
    held: set[Cid] = field(default_factory=set, init=False)
    oversized: set[Cid] = field(default_factory=set, init=False)
    _asked: dict[Cid, float] = field(default_factory=dict, init=False)
    """When each was asked for in vain the last time."""
    _again: dict[Cid, float] = field(default_factory=dict, init=False)
    """When it is worth to ask again: after as much time as it took to find out."""
    _missed: dict[Cid, float] = field(default_factory=dict, init=False)
    """Since when each is missed without a break."""

    def fetch(self, wanted: Mapping[Cid, Mapping[str, object]], limit: int) -> None:
        """Ask for blobs, in their turn; not for all of them where that takes long.

        Args:
            wanted: Each with what to tell of it.
            limit: The most bytes that each may have.

        Raises:
            UnavailableError: If the store cannot be reached, so that nothing is known of any blob.
        """
        started = time.monotonic()
        for cid in sorted(self.lacking(wanted), key=self.turn):
            before = time.monotonic()
            if before < self._again.get(cid, 0.0):
                continue
            if before > started + A_WHILE:
                break
            try:
                self.store.pin(cid, limit)
            except BlobTooLargeError as error:
                self.oversized.add(cid)
                self.log.warn("an update is larger than the plan allows", **wanted[cid], why=error)
            except (BlobMissingError, BlobMismatchedError) as error:
                now = self._asked[cid] = time.monotonic()
                self._again[cid] = now + (now - before)
                self._missed.setdefault(cid, now)
                self.log.waiting("an update is not to be had", **wanted[cid], why=error)
            else:
                self.held.add(cid)

    def turn(self, cid: Cid) -> tuple[bool, float]:
        """What has its turn first is smallest: not asked for yet, then longest ago; too large comes last."""
        return cid in self.oversized, self._asked.get(cid, 0.0)

    def lacking(self, cids: Iterable[Cid]) -> list[Cid]:
        """Those that are to be asked for still."""
        return [cid for cid in cids if cid not in self.held and cid not in self.oversized]

    def missed_for(self, cid: Cid) -> float | None:
        """Seconds from the first to the last time that it was asked for in vain; None if it was not since `begin`."""
        since = self._missed.get(cid)
        return None if since is None else self._asked[cid] - since

    def begin(self) -> None:
        """Begin to count anew how long each is missed: only now would it have to be there, or be found."""
        self._missed.clear()
