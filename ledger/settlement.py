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

import mmap
from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from operator import eq
from threading import Lock
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ledger.cid import CHUNK, Cid, Node, leaf, tree
from ledger.errors import BlobMismatchedError, BlobMissingError, BlobTooLargeError, InvalidBlobError, UnavailableError
from ledger.facts import UpdateRecorded
from ledger.manifest import Manifest, Reason, Row
from ledger.plan import Plan
from ledger.sealing import Keys, largest_sealed, open_update
from ledger.threads import shared
from ledger.updates import (
    MODEL_HEADER,
    NO_WITNESS,
    STEP,
    Layout,
    Place,
    decode_update,
    from_float64,
    is_head,
    to_float64,
    update_header,
)

Float64s = npt.NDArray[np.float64]

_OPEN_AT_ONCE = 64  # blobs


class Blob(Protocol):
    """A blob that is open to be read, not verified; see `ledger.storage.Blob`."""

    @property
    def size(self) -> int:
        """Bytes that are stored."""

    def leaf(self, number: int, into: bytearray | memoryview) -> memoryview:
        """Those from ``number * CHUNK``: ``CHUNK`` of them, or what is left."""


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
    threads: int = 1,
    keys: Keys = MappingProxyType({}),
    annex: str | None = None,
) -> Settlement:
    """Settle one round.

    Args:
        place: The round.
        plan: Its plan.
        updates: Every update recorded in it, in any order.
        blobs: Where the updates' blobs are.
        unavailable: Ids of the members whose update could not be had: the aggregator's claim, not verifiable here.
        keep_model: False if the model's CID is enough, so that its bytes need no memory.
        threads: On how many the work is done; nothing that comes out depends on it.
        keys: The identities of sealed updates, as far as the aggregator could open their key blobs.
        annex: The manifest's annex, which hands these on; nothing else depends on it.

    Returns:
        Model and manifest, the same bytes for the same arguments on every machine.

    Raises:
        BlobMissingError: If the blob of an update that is not claimed unavailable is not there.
        BlobMismatchedError: If the bytes there are not what its CID names.
    """
    ordered = sorted(updates, key=lambda update: update.member)
    round_ = _Round(place, plan, ordered, blobs, unavailable, keys, annex, threads)
    try:
        return round_.settle(keep_model, as_read=True)
    except _OtherwiseError:
        return round_.settle(keep_model, as_read=False)


class _OtherwiseError(Exception):
    """Something was added that does not count: another head, or a value that is NaN or infinite."""


@dataclass(frozen=True)
class _Round:
    place: Place
    plan: Plan
    updates: list[UpdateRecorded]
    blobs: Blobs
    unavailable: Collection[int]
    keys: Keys
    annex: str | None
    threads: int

    def settle(self, keep_model: bool, as_read: bool) -> Settlement:
        """Settle, and add updates `as_read` where that can be; or else each only after it was decoded."""
        sums = Sums(Layout(self.plan.tensors))
        as_read = as_read and self.plan.seal == "none"
        rows, details = list[Row](), dict[int, str]()
        with _Batch(self, sums) as batch:
            for update in self.updates:
                weight, excluded = min(update.weight, self.plan.weighting.cap), None
                try:
                    if update.member in self.unavailable:
                        raise InvalidBlobError(Reason.UNAVAILABLE, "claimed by the aggregator: no bytes of that CID")
                    if not as_read or not batch.take(update, weight):
                        batch.add()  # in the order of the members
                        self._add_decoded(sums, update, weight)
                except InvalidBlobError as error:
                    excluded, details[update.member] = Reason(error.reason), error.detail
                counts = None if excluded else weight
                rows.append(Row(member=update.member, update=str(update.update), weight=counts, excluded=excluded))
            batch.add()
        counted, model, cid = len(rows) - len(details), None, None
        if counted:  # without a quorum too: the model shows whether all values are finite
            keep_model = keep_model and counted >= self.plan.quorum
            total = sum(row.weight or 0 for row in rows)
            leaves = shared(lambda part: sums.model(part, total, keep_model), sums.leaves, self.threads)
            sums.drop()
            cid = tree([node for node, _ in leaves])[-1].cid
            model = b"".join(chunk for _, chunk in leaves) if keep_model else None
        named = str(cid) if counted >= self.plan.quorum else None
        place = {"settlement": self.plan.settlement, **self.place.document()}
        manifest = Manifest(**place, updates=rows, counted=counted, model=named, annex=self.annex)
        hashed = frozenset(update.update for update in self.updates if self._is_read(update))
        return Settlement(model, manifest, details, hashed)

    def _is_read(self, update: UpdateRecorded) -> bool:
        """Whether the update's blob is looked at."""
        opens = self.plan.seal == "none" or (update.key_blob is not None and update.member in self.keys)
        return opens and update.member not in self.unavailable

    def _add_decoded(self, sums: Sums, update: UpdateRecorded, weight: int) -> None:
        most, sealed = self.plan.max_update_bytes, self.plan.seal != "none"
        if not self._is_read(update):
            why = "posted without a key blob" if update.key_blob is None else "its key is not in the annex"
            raise InvalidBlobError(Reason.UNOPENABLE, why)
        try:
            blob = self.blobs.get(update.update, limit=largest_sealed(most) if sealed else most)
        except BlobTooLargeError as error:
            raise InvalidBlobError(Reason.OVERSIZED, str(error)) from None
        if sealed:
            opened = open_update(blob, self.keys[update.member])
            if opened is None:
                raise InvalidBlobError(Reason.UNOPENABLE, "its key does not open it")
            blob = opened
        decode_update(blob, self.plan, self.place, update.member, update.weight)
        sums.add(memoryview(blob), sums.layout.size - len(blob), weight)


class _Taken(NamedTuple):
    update: UpdateRecorded
    weight: int
    head: bytes
    blob: Blob


class _Batch:
    """Updates that follow one another and whose blobs have heads of one length: their leaves hold the same elements.

    They are hashed and added leaf by leaf, all first leaves before all second ones: leaf and sums stay in the cache,
    and every element is still added in the order of the updates.
    """

    def __init__(self, round_: _Round, sums: Sums) -> None:
        self._round, self._sums = round_, sums
        self._taken: list[_Taken] = []
        self._open = ExitStack()

    def __enter__(self) -> _Batch:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def take(self, update: UpdateRecorded, weight: int) -> bool:
        """Take an update along; False if the size of its blob is not what it must be."""
        layout, most = self._sums.layout, self._round.plan.max_update_bytes
        try:
            witness = NO_WITNESS if self._round.plan.settlement > 1 else None
            head = layout.head(update_header(self._round.place, update.member, update.weight, witness))
        except ValueError:  # no blob can say so many examples
            return False
        if self._taken and (len(head) != len(self._taken[0].head) or len(self._taken) == _OPEN_AT_ONCE):
            self.add()
        try:
            blob = self._open.enter_context(self._round.blobs.open(update.update))
        except BlobMissingError:
            self.add()  # of several that are not as they should be, the first one is told
            raise
        if not blob.size == len(head) + layout.size <= most or len(head) > CHUNK:
            return False
        self._taken.append(_Taken(update, weight, head, blob))
        return True

    def add(self) -> None:
        """Add what was taken.

        Raises:
            BlobMismatchedError: If a blob is not what its CID names.
            _OtherwiseError: If the head of one is not what it must be.
        """
        if self._taken:
            count = max(1, -(-self._taken[0].blob.size // CHUNK))
            leaves = shared(self._add_leaves, count, self._round.threads)
            for number, one in enumerate(self._taken):
                if tree([nodes[number] for nodes, _ in leaves])[-1].cid != one.update.update:
                    raise BlobMismatchedError(one.update.update)
            if any(other for _, other in leaves):
                raise _OtherwiseError
            self._taken.clear()
        self._open.close()

    def _add_leaves(self, numbers: range) -> list[tuple[list[Node], bool]]:
        """The node of each update's leaf, for each number, and whether a head is another one."""
        same = is_head if self._round.plan.settlement > 1 else eq
        found, products = [], np.empty(min(STEP, self._sums.layout.elements))
        room = bytearray(min(CHUNK, self._taken[0].blob.size))
        for number in numbers:
            nodes, other = [], False
            for update, weight, head, blob in self._taken:
                chunk = blob.leaf(number, room)
                if len(chunk) != min(CHUNK, blob.size - number * CHUNK):
                    raise BlobMismatchedError(update.update)
                nodes.append(leaf(chunk))
                other |= number == 0 and not same(chunk[: len(head)], head)
                self._sums.add(chunk, number * CHUNK - len(head), weight, products)
            found.append((nodes, other))
        return found


class Sums:
    """The weighted sums of all elements of a layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._totals = np.zeros(0)
        self._room = Lock()
        self._head = layout.head(MODEL_HEADER)

    @property
    def leaves(self) -> int:
        """Leaves of the model's blob."""
        return -(-(len(self._head) + self.layout.size) // CHUNK)

    def add(self, part: memoryview, start: int, weight: int, products: Float64s | None = None) -> None:
        """Add a part of an update, or all of it; see `Layout.pieces`. `products` is room to work in."""
        products = np.empty(min(STEP, self.layout.elements)) if products is None else products
        if self._totals.size == 0:  # only now: an update of the plan's size is there, a plan alone takes no memory
            self._make_room()
        with np.errstate(invalid="ignore"):  # NaN and infinity are found by `mean`
            for span, stored, elements in self.layout.pieces(part, start):
                into, totals = products[: stored.size], self._totals[elements]
                np.multiply(to_float64(stored, span.dtype, into), np.float64(weight), out=into)
                np.add(totals, into, out=totals)

    def _make_room(self) -> None:
        with self._room:
            if self._totals.size == 0:
                self._totals = _zeros(self.layout.elements)

    def drop(self) -> None:
        """Give the memory back."""
        self._totals = np.zeros(0)

    def mean(self, elements: slice, weight: int) -> Float64s:
        """The sums of some elements divided by the total weight, or `_OtherwiseError`."""
        # Neither leaves a sum again: NaN + x is NaN, infinity + x is infinity or NaN, and 0 times either is NaN. And
        # finite values bring in neither: below 2^128 each, with weights up to 2^32 of fewer than 2^16 members they sum
        # up to less than 2^176, where float64 goes to 2^1024. So a finite sum proves that all its values are finite.
        if not np.isfinite(self._totals[elements]).all():
            raise _OtherwiseError
        with np.errstate(invalid="ignore"):  # a weight of 0, which only a history against the rules can have
            return np.divide(self._totals[elements], np.float64(weight))

    def model(self, numbers: range, weight: int, keep: bool) -> list[tuple[Node, bytes]]:
        """Leaves of the blob with the mean; their bytes are empty unless they are to be kept."""
        found = []
        for start in range(numbers.start * CHUNK, numbers.stop * CHUNK, CHUNK):
            size = min(CHUNK, len(self._head) + self.layout.size - start)
            chunk = bytearray(self._head[start : start + CHUNK].ljust(size, b"\0"))
            for span, stored, elements in self.layout.pieces(memoryview(chunk), start - len(self._head)):
                stored[:] = from_float64(self.mean(elements, weight), span.dtype)
            found.append((leaf(chunk), bytes(chunk) if keep else b""))
        return found


def _zeros(count: int) -> Float64s:
    """Zeros that take memory when they are first written to, in large pages where the system has them.

    Small pages would take a tenth of the time of a large round.
    """
    try:
        room = mmap.mmap(-1, max(1, count * 8), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, ValueError):
        raise UnavailableError("the sums do not fit this machine's memory: settle on a larger one") from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            room.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(room, np.float64, count)
