"""The weighted sums of a round's updates, in one pass over their bytes. Pure.

An update whose size is what it must be is hashed and added while it is read, leaf by leaf; its head is checked on the
way. Only if something was added that does not count is it all done again, otherwise: see `OtherwiseError`.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from threading import Lock
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ledger.cid import CHUNK, Bytes, Cid, Node, leaf, tree
from ledger.documents import canonical, parse
from ledger.errors import BlobMismatchedError, BlobMissingError, UnavailableError
from ledger.facts import UpdateRecorded
from ledger.manifest import are_metrics
from ledger.plan import Plan
from ledger.threads import shared
from ledger.updates import (
    MODEL_HEADER,
    NO_WITNESS,
    STEP,
    Layout,
    Place,
    from_float64,
    to_float64,
    update_header,
)

Float64s = npt.NDArray[np.float64]

_OPEN_AT_ONCE = 64  # blobs
_LARGE_PAGE = 2 << 20  # bytes, on most systems


class OtherwiseError(Exception):
    """Something was added that does not count: another head, or a value that is NaN or infinite."""


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


class _Taken(NamedTuple):
    update: UpdateRecorded
    weight: int
    blob: Blob


class Batch:
    """Updates that follow one another, and whose blobs are of one size, or of one leaf: leaves hold the same elements.

    They are hashed and added leaf by leaf, all first leaves before all second ones: leaf and sums stay in the cache,
    and every element is still added in the order of the updates.

    Attributes:
        metrics: What the headers of those that were added say, by member.
    """

    def __init__(self, place: Place, plan: Plan, blobs: Blobs, sums: Sums, threads: int) -> None:
        self._plan, self._blobs, self._sums, self._threads = plan, blobs, sums, threads
        self._heads = Heads(sums.layout, place, plan)
        self.metrics: dict[int, Mapping[str, float]] = {}
        self._taken: list[_Taken] = []
        self._open = ExitStack()

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def take(self, update: UpdateRecorded, weight: int) -> bool:
        """Take an update along; False if the size of its blob is none that it can have."""
        with ExitStack() as opened:
            try:
                blob = opened.enter_context(self._blobs.open(update.update))
            except BlobMissingError:
                self.add()  # of several that are not as they should be, the first one is told
                raise
            head = blob.size - self._sums.layout.size
            if not 0 < head <= CHUNK or head % 8 or blob.size > self._plan.max_update_bytes:
                return False
            other = self._taken and blob.size != self._taken[0].blob.size
            if len(self._taken) == _OPEN_AT_ONCE or (other and max(blob.size, self._taken[0].blob.size) > CHUNK):
                self.add()
            self._taken.append(_Taken(update, weight, blob))
            self._open.push(opened.pop_all())
        return True

    def add(self) -> None:
        """Add what was taken.

        Raises:
            BlobMismatchedError: If a blob is not what its CID names.
            OtherwiseError: If the head of one is not what it must be.
        """
        if self._taken:
            count = max(1, -(-self._taken[0].blob.size // CHUNK))
            leaves = shared(self._add_leaves, count, self._threads)
            for number, one in enumerate(self._taken):
                if tree([nodes[number] for nodes, _ in leaves])[-1].cid != one.update.update:
                    raise BlobMismatchedError(one.update.update)
            for one, metrics in zip(self._taken, leaves[0][1], strict=True):
                if metrics is None:
                    raise OtherwiseError
                self.metrics[one.update.member] = metrics
            self._taken.clear()
        self._open.close()

    def _add_leaves(self, numbers: range) -> list[tuple[list[Node], list[Mapping[str, float] | None]]]:
        """The node of each update's leaf, for each number; and, of the first leaves, the metrics in their heads."""
        found, products = [], np.frombuffer(_room(8 * min(STEP, self._sums.layout.elements)), np.float64)
        room = _room(min(CHUNK, max(blob.size for _, _, blob in self._taken)))
        for number in numbers:
            nodes, metrics = [], []
            for update, weight, blob in self._taken:
                chunk, head = blob.leaf(number, room), blob.size - self._sums.layout.size
                if len(chunk) != min(CHUNK, blob.size - number * CHUNK):
                    raise BlobMismatchedError(update.update)
                nodes.append(leaf(chunk))
                if number == 0:
                    metrics.append(self._heads.metrics(bytes(chunk[:head]), update.member, update.weight))
                self._sums.add(chunk, number * CHUNK - head, weight, products)
            found.append((nodes, metrics))
        return found


class Heads:
    """What the heads of a round's updates are made of: one can be read without being written again."""

    def __init__(self, layout: Layout, place: Place, plan: Plan) -> None:
        header = update_header(place, 0, 0, NO_WITNESS if plan.settlement > 1 else None)
        text = canonical({"fedledger": canonical(header).decode()})
        # In this order (RFC 8785) each of these keys stands there once: all else is numbers, hex digits and CIDs.
        before, text = text.split(b'\\"examples\\":0')
        between, text = text.split(b'\\"member\\":0')
        self._examples, self._member = layout.before + before + b'\\"examples\\":', between + b'\\"member\\":'
        self._has_metrics = plan.settlement > 1
        if self._has_metrics:
            before, text = text.split(b'\\"metrics\\":{}')
            self._metrics = before + b'\\"metrics\\":'
            witness, text = text.split(NO_WITNESS.encode())
            most = b".*" if plan.privacy is None else b"{}"
            rest = most, re.escape(witness), re.escape(text + layout.after)
            self._rest = re.compile(b"(%b)%b[0-9a-f]{64}%b" % rest, re.DOTALL)
        self._end = text + layout.after

    def metrics(self, head: bytes, member: int, examples: int) -> Mapping[str, float] | None:
        """The metrics in the head of a member's update; None if it is not, byte for byte, what it can be."""
        raw = head[8:].rstrip(b" ")
        if examples >= 1 << 53:  # no document can say so many
            return None
        if len(head) % 8 or len(head) - 8 - len(raw) > 7 or head[:8] != (len(head) - 8).to_bytes(8, "little"):
            return None
        start = b"%b%d%b%d" % (self._examples, examples, self._member, member)
        if not self._has_metrics:
            return {} if raw == start + self._end else None
        start += self._metrics
        found = self._rest.fullmatch(raw, len(start)) if raw.startswith(start) else None
        if found is None:
            return None
        return {} if found[1] == b"{}" else _metrics(found[1])


def _metrics(escaped: bytes) -> Mapping[str, float] | None:
    """The metrics in a text of JSON that stands in a text of JSON."""
    try:
        text = parse(b'"%b"' % escaped)
        said = parse(text.encode())
    except (ValueError, AttributeError):
        return None
    return said if are_metrics(said) else None


class Sums:
    """The weighted sums of all elements of a layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._totals = np.zeros(0)
        self._room = Lock()

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
                self._totals = np.frombuffer(_room(self.layout.elements * 8), np.float64)

    def mean(self, elements: slice, weight: int, out: Float64s | None = None) -> Float64s:
        """The sums of some elements divided by the total weight, in `out` if it is given, or `OtherwiseError`."""
        # Neither leaves a sum again: NaN + x is NaN, infinity + x is infinity or NaN, and 0 times either is NaN. And
        # finite values bring in neither: below 2^128 each, with weights up to 2^32 of fewer than 2^16 members they sum
        # up to less than 2^176, where float64 goes to 2^1024. So a finite sum proves that all its values are finite.
        if not np.isfinite(self._totals[elements]).all():
            raise OtherwiseError
        with np.errstate(invalid="ignore"):  # a weight of 0, which only a history against the rules can have
            return np.divide(self._totals[elements], np.float64(weight), out=out)

    def model(self, weight: int, keep: bool, threads: int) -> tuple[Cid, Bytes | None]:
        """The blob of the model that the mean is, where models have the updates' layout; its bytes only to `keep` them.

        It is made in the place of the sums, of which nothing else can be made afterwards.

        Raises:
            OtherwiseError: If a sum is not finite.
        """
        head = self.layout.head(MODEL_HEADER)
        whole = len(head) + self.layout.size
        kept = _room(whole) if keep else None

        def leaves(numbers: range) -> list[Node]:
            found, room = [], memoryview(bytearray(0 if keep else min(CHUNK, whole)))
            for start in range(numbers.start * CHUNK, numbers.stop * CHUNK, CHUNK):
                chunk = room[: whole - start] if kept is None else kept[start : start + CHUNK]
                if start < len(head):
                    chunk[: len(head) - start] = head[start : start + CHUNK]
                for span, stored, elements in self.layout.pieces(chunk, start - len(head)):
                    stored[:] = from_float64(self.mean(elements, weight, self._totals[elements]), span.dtype)
                found.append(leaf(chunk))
            return found

        nodes = shared(leaves, -(-whole // CHUNK), threads)
        return tree(nodes)[-1].cid, kept


def _room(size: int) -> memoryview:
    """So many zeros, that take memory when they are first written to, in large pages where the system has them.

    Small pages would take a tenth of the time of a large round.
    """
    whole = -(-size // _LARGE_PAGE) * _LARGE_PAGE if size > _LARGE_PAGE // 4 else max(1, size)
    try:
        room = mmap.mmap(-1, whole, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError, ValueError):
        raise UnavailableError("the round does not fit this machine's memory: settle on a larger one") from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            room.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(room)[:size]
