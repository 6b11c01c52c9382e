"""Settlement: which updates of a round count, why the others do not, and their average, bit for bit. Pure.

The aggregator publishes what `settle` gives; an auditor, or any member, computes it again and compares.

The arithmetic, in full: updates in ascending member id; every value widened to float64 (exact); multiplied by the
update's integer weight; added to the sum, which starts at zero; the sum divided by the total weight; rounded once to
the plan's dtype. Each step is one elementwise IEEE 754 operation, to nearest, ties to even: nothing is fused,
reordered or left to a linear algebra library.

It takes one pass. An update whose size and head are, byte for byte, those that it must have is added while it is read
and hashed, leaf by leaf. Any other is read as a whole and decoded, which finds the reason, and so is every update if a
sum is not finite.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ledger.cid import CHUNK, Cid
from ledger.errors import BlobTooLargeError, InvalidBlobError, UnavailableError
from ledger.facts import UpdateRecorded
from ledger.hashing import Blob, Hasher
from ledger.manifest import Manifest, Reason, Row
from ledger.plan import Plan
from ledger.updates import MODEL_HEADER, STEP, Layout, Place, decode_update, from_float64, to_float64, update_header


class Blobs(Protocol):
    """Where settlement reads blobs."""

    def open(self, cid: Cid) -> AbstractContextManager[Blob]:
        """What is stored under a CID, not verified, or `BlobMissingError`."""

    def get(self, cid: Cid, limit: int | None = None) -> bytes:
        """What the CID names, or `BlobTooLargeError`, `BlobMissingError`, `BlobMismatchedError`."""


@dataclass(frozen=True)
class Settlement:
    """What a round comes to.

    Attributes:
        model: The model's blob; None under the quorum, or where only its CID was asked for.
        manifest: What became of each update, and the model's CID.
        details: What is wrong with each excluded update, by member id; not recorded, found again by whoever settles.
        hashed: The updates whose stored bytes are what their CID names: all but those claimed unavailable.
    """

    model: bytes | None
    manifest: Manifest
    details: dict[int, str]
    hashed: frozenset[Cid]


def settle(
    place: Place,
    plan: Plan,
    updates: Iterable[UpdateRecorded],
    blobs: Blobs,
    unavailable: Collection[int],
    keep_model: bool = True,
    threads: int | None = None,
) -> Settlement:
    """Settle one round.

    Args:
        place: The round.
        plan: Its plan.
        updates: Every update recorded in it, in any order.
        blobs: Where the updates' blobs are.
        unavailable: Ids of the members whose update could not be had: the aggregator's claim, not verifiable here.
        keep_model: False if the model's CID is enough, so that its bytes need no memory.
        threads: See `Hasher`.

    Returns:
        Model and manifest, the same bytes for the same arguments on every machine.

    Raises:
        BlobMissingError: If the blob of an update that is not claimed unavailable is not there.
        BlobMismatchedError: If the bytes there are not what its CID names.
    """
    ordered = sorted(updates, key=lambda update: update.member)
    with Hasher(threads) as hasher:
        round_ = _Round(place, plan, ordered, blobs, unavailable, hasher)
        try:
            return round_.settle(keep_model, as_read=True)
        except _NotFiniteError:
            return round_.settle(keep_model, as_read=False)


class _NotFiniteError(Exception):
    """A sum is NaN or infinite."""


@dataclass(frozen=True)
class _Round:
    place: Place
    plan: Plan
    updates: list[UpdateRecorded]
    blobs: Blobs
    unavailable: Collection[int]
    hasher: Hasher

    def settle(self, keep_model: bool, as_read: bool) -> Settlement:
        """Settle, and add updates `as_read` where that can be; or else each only after it was decoded."""
        sums = Sums(Layout(self.plan.tensors))
        rows: list[Row] = []
        details: dict[int, str] = {}
        for update in self.updates:
            weight, excluded = min(update.weight, self.plan.weighting.cap), None
            try:
                if update.member in self.unavailable:
                    raise InvalidBlobError(Reason.UNAVAILABLE, "claimed by the aggregator: no bytes of that CID")
                if not as_read or not self._add_as_read(sums, update, weight):
                    self._add_decoded(sums, update, weight)
            except InvalidBlobError as error:
                excluded, details[update.member] = Reason(error.reason), error.detail
            counts = None if excluded else weight
            rows.append(Row(member=update.member, update=str(update.update), weight=counts, excluded=excluded))
        self.hasher.verify()
        counted, model, cid = len(rows) - len(details), None, None
        if counted:  # without a quorum too: the model shows whether all values are finite
            leaves: Iterable[bytearray] = sums.model(sum(row.weight or 0 for row in rows))
            keep_model = keep_model and counted >= self.plan.quorum
            leaves = list(leaves) if keep_model else leaves
            cid = self.hasher.cid(leaves)
            del sums
            model = b"".join(leaves) if keep_model else None
        named = str(cid) if counted >= self.plan.quorum else None
        manifest = Manifest(**self.place.document(), updates=rows, counted=counted, model=named)
        hashed = frozenset(update.update for update in self.updates if update.member not in self.unavailable)
        return Settlement(model, manifest, details, hashed)

    def _add_as_read(self, sums: Sums, update: UpdateRecorded, weight: int) -> bool:
        """Add an update while it is read and hashed, leaf by leaf; False if its size or head is not what it must be."""
        try:
            head = sums.layout.head(update_header(self.place, update.member, update.weight))
        except ValueError:  # no blob can say so many examples
            return False
        size = len(head) + sums.layout.size
        with self.blobs.open(update.update) as blob:
            if not blob.size == size <= self.plan.max_update_bytes or len(head) > CHUNK:
                return False
            for number, chunk in enumerate(self.hasher.read(update.update, blob)):
                if number == 0 and not chunk.startswith(head):
                    return False
                sums.add(memoryview(chunk), number * CHUNK - len(head), weight)
        return True

    def _add_decoded(self, sums: Sums, update: UpdateRecorded, weight: int) -> None:
        try:
            blob = self.blobs.get(update.update, limit=self.plan.max_update_bytes)
        except BlobTooLargeError as error:
            raise InvalidBlobError(Reason.OVERSIZED, str(error)) from None
        decode_update(blob, self.plan, self.place, update.member, update.weight)
        sums.add(memoryview(blob), sums.layout.size - len(blob), weight)


class Sums:
    """The weighted sums of all elements of a layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._totals = np.zeros(0)
        self._products = np.empty(min(STEP, layout.elements))

    def add(self, part: memoryview, start: int, weight: int) -> None:
        """Add a part of an update, or all of it; see `Layout.pieces`."""
        if self._totals.size == 0:  # only now: an update of the plan's size is there, a plan alone takes no memory
            try:
                self._totals = np.zeros(self.layout.elements)
            except MemoryError:
                raise UnavailableError("the sums do not fit this machine's memory: settle on a larger one") from None
        with np.errstate(invalid="ignore"):  # NaN and infinity are found by `mean`
            for span, stored, elements in self.layout.pieces(part, start):
                products, totals = self._products[: stored.size], self._totals[elements]
                np.multiply(to_float64(stored, span.dtype, products), np.float64(weight), out=products)
                np.add(totals, products, out=totals)

    def mean(self, elements: slice, weight: int) -> npt.NDArray[np.float64]:
        """The sums of some elements divided by the total weight, or `_NotFiniteError`."""
        # Neither leaves a sum again: NaN + x is NaN, infinity + x is infinity or NaN, and 0 times either is NaN. And
        # finite values bring in neither: below 2^128 each, with weights up to 2^32 of fewer than 2^16 members they sum
        # up to less than 2^176, where float64 goes to 2^1024. So a finite sum proves that all its values are finite.
        if not np.isfinite(self._totals[elements]).all():
            raise _NotFiniteError
        with np.errstate(invalid="ignore"):  # a weight of 0, which only a history against the rules can have
            return np.divide(self._totals[elements], np.float64(weight))

    def model(self, weight: int) -> Iterator[bytearray]:
        """The leaves of the blob with the mean."""
        head = self.layout.head(MODEL_HEADER)
        size = len(head) + self.layout.size
        for start in range(0, size, CHUNK):
            leaf = bytearray(head[start : start + CHUNK].ljust(min(CHUNK, size - start), b"\0"))
            for span, stored, elements in self.layout.pieces(memoryview(leaf), start - len(head)):
                stored[:] = from_float64(self.mean(elements, weight), span.dtype)
            yield leaf
