"""What is recorded as erased goes from wherever our commands keep it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ledger.audit.places import references
from ledger.cid import CHUNK, Cid
from ledger.entries import Entry, Genesis
from ledger.facts import ErasureRecorded, UpdateRecorded
from ledger.following import View
from ledger.logs import Log
from ledger.storage import Blob, Store


def erased(genesis: Genesis, entries: Iterable[Entry]) -> set[Cid]:
    """The blobs that are erased by record.

    A member can record whatever digest it likes, and post any blob as its update, such as another one's or the base
    model: only what nothing names but updates whose members have recorded it, is erased. What names it later as a
    report or a grant does not count: so could anybody keep it. The audit excuses the same.
    """
    recorded: set[tuple[int, int, bytes]] = set()
    named: dict[Cid, set[tuple[int, int] | None]] = {genesis.charter: {None}}
    for entry in entries:
        fact = entry.fact
        if isinstance(fact, ErasureRecorded):
            recorded.add((fact.round, fact.member, fact.digest))
        whose = (fact.round, fact.member) if isinstance(fact, UpdateRecorded) else None
        for cid, role in references(fact):
            if role not in ("report", "grant") or cid not in named:
                named.setdefault(cid, set()).add(whose)
    return {cid for cid, who in named.items() if all(one and (*one, cid.digest) in recorded for one in who)}


def is_an_updates(genesis: Genesis, blob: Blob) -> bool:
    """Whether a blob looks like what a member of this ledger can have erased: a sealed file, or an update for it.

    A store can hold more than one ledger's blobs, and a member can name any of them as its own.
    """
    start = bytes(blob.leaf(0, bytearray(CHUNK)))
    header = start[: 8 + int.from_bytes(start[:8], "little")]
    return start.startswith(b"age-encryption.org/") or genesis.ledger.encode() in header


@dataclass
class Erasing:
    """One store that follows a ledger's erasures.

    Attributes:
        store: The store.
        log: Told what goes.
        done: What is gone, or was never here.
    """

    store: Store
    log: Log
    done: set[Cid] = field(default_factory=set, init=False)
    _looked_at: int = field(default=0, init=False)

    def follow(self, view: View) -> None:
        """Remove what is recorded as erased, once that is final.

        Raises:
            UnavailableError: If the store cannot be reached; it is tried again with the next call.
        """
        final = [entry for entry, _ in view.entries if entry.block <= view.final]
        if len(final) == self._looked_at:
            return
        if any(known.erasures for known in view.history.rounds.values()):
            for cid in sorted(erased(view.history.genesis, final) - self.done, key=str):
                if self.store.remove(cid, lambda blob: is_an_updates(view.history.genesis, blob)):
                    self.log.info("erased, as recorded", blob=cid)
                self.done.add(cid)
        self._looked_at = len(final)
