"""Settlement: which updates of a round count, why the others do not, and the model of them, bit for bit. Pure.

The aggregator publishes what `settle` gives; an auditor, or any member, computes it again and compares.

The arithmetic, in full: updates in ascending member id; every value widened to float64 (exact); multiplied by the
update's integer weight; added to the sum, which starts at zero; the sum divided by the total weight; rounded once to
the plan's dtype. Each step is one elementwise IEEE 754 operation, to nearest, ties to even: nothing is fused,
reordered or left to a linear algebra library. Plans that filter, clip, or take another average are in
`ledger.robust`, the server's step of a strategy is in `ledger.strategies`; without them neither is needed.

It takes one pass (`ledger.averaging`). An update whose size is what it must be is added while it is read and hashed,
leaf by leaf. Any other is read as a whole and decoded, which finds the reason, and so is every update if a head is not
what it must be or a sum is not finite, and every one of a plan that is robust.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from ledger.averaging import Batch, Blobs, Float64s, OtherwiseError, Sums
from ledger.cid import CHUNK, Bytes, Cid, Node, cid_of, leaf
from ledger.errors import BlobMismatchedError, BlobTooLargeError, InvalidBlobError
from ledger.facts import UpdateRecorded
from ledger.manifest import Manifest, Reason, Row, Score
from ledger.plan import Plan
from ledger.robust import Block, Combined, combine
from ledger.sealing import Keys, largest_sealed, open_update
from ledger.strategies import Step, max_state_bytes, read_state
from ledger.updates import (
    MODEL_HEADER,
    Layout,
    Place,
    TensorBlob,
    decode_model,
    decode_update,
    encode,
    max_model_bytes,
    to_float64,
)


@dataclass(frozen=True)
class Settlement:
    """What a round comes to.

    Attributes:
        model: The model's blob; None under the quorum, or where only its CID was asked for.
        state: The blob of what the server remembers for the next round; None where that is nothing.
        manifest: What became of each update, and the CIDs of both; without an annex.
        scores: How the counted updates compare, by member id; the manifest has them where they are for everybody.
        details: What is wrong with each excluded update, by member id; not recorded, found again by whoever settles.
        hashed: The updates whose stored bytes are what their CID names: all but those claimed unavailable.
    """

    model: Bytes | None
    state: bytes | None
    manifest: Manifest
    scores: dict[int, Score]
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
    state: Cid | None = None,
    eligible: int = 1,
) -> Settlement:
    """Settle one round.

    Args:
        place: The round.
        plan: Its plan.
        updates: Every update recorded in it, in any order.
        blobs: Where the updates' blobs are, and where the plan needs it, the base model's.
        unavailable: Ids of the members whose update could not be had: the aggregator's claim, not verifiable here.
        keep_model: False if the model's CID is enough, so that its bytes need no memory.
        threads: On how many the work is done; nothing that comes out depends on it.
        keys: The identities of sealed updates, as far as the aggregator could open their key blobs.
        state: What the server remembers, by the manifest of the round whose model the base is.
        eligible: How many members could post an update; SCAFFOLD needs it.

    Returns:
        Model and manifest, the same bytes for the same arguments on every machine.

    Raises:
        BlobMissingError: If the blob of an update that is not claimed unavailable, the base or the state is not there.
        BlobMismatchedError: If the bytes there are not what its CID names.
        InvalidBlobError: If the plan needs the base model, and that is no model of the plan.
    """
    ordered = sorted(updates, key=lambda update: update.member)
    round_ = _Round(place, plan, ordered, blobs, unavailable, threads, keys, state, eligible)
    try:
        return round_.settle(keep_model, as_read=plan.seal == "none" and not plan.is_robust)
    except OtherwiseError:
        return round_.settle(keep_model, as_read=False)


@dataclass
class _Found:
    """What was found of the updates, by member: the weights of those that count, and why the others do not."""

    weights: dict[int, int] = field(default_factory=dict)
    metrics: dict[int, Mapping[str, float]] = field(default_factory=dict)
    reasons: dict[int, Reason] = field(default_factory=dict)
    details: dict[int, str] = field(default_factory=dict)
    leaves: dict[int, list[Node]] = field(default_factory=dict)
    """Those of updates that are read again."""


@dataclass(frozen=True)
class _Round:
    place: Place
    plan: Plan
    updates: list[UpdateRecorded]
    blobs: Blobs
    unavailable: Collection[int]
    threads: int
    keys: Keys
    state: Cid | None
    eligible: int

    def settle(self, keep_model: bool, as_read: bool) -> Settlement:
        """Settle, and add updates `as_read` where that can be; or else each only after it was decoded."""
        sums = Sums(Layout(self.plan.update_tensors))
        found = self._read(sums, as_read)
        combined, model, state, cid = None, None, None, None
        counted = len(found.weights)
        if counted >= self.plan.quorum and self.plan.is_robust:
            combined = self._combined(sums.layout, found)
        if counted:  # without a quorum too: the sums show whether all values are finite
            cid, model, state = self._model(sums, found, combined, keep_model)
        scores = _scores(found, combined)
        public = self.plan.seal == "none" or self.plan.public_quality
        manifest = Manifest(
            **{"settlement": self.plan.settlement, **self.place.document()},
            updates=[self._row(update, found, combined) for update in self.updates],
            counted=counted,
            model=str(cid) if cid else None,
            state=str(cid_of(state)) if state else None,
            scores={str(member): score for member, score in scores.items()} if public and scores else None,
        )
        hashed = frozenset(update.update for update in self.updates if self._is_read(update))
        return Settlement(model, state, manifest, scores, found.details, hashed)

    def _read(self, sums: Sums, as_read: bool) -> _Found:
        """Read all updates, and add those that count, unless they are combined later."""
        found = _Found()
        with Batch(self.place, self.plan, self.blobs, sums, self.threads) as batch:
            for update in self.updates:
                member, weight = update.member, self.plan.weighting.of(update.member, update.weight)
                try:
                    if member in self.unavailable:
                        raise InvalidBlobError(Reason.UNAVAILABLE, "claimed by the aggregator: no bytes of that CID")
                    if not as_read or not batch.take(update, weight):
                        batch.add()  # in the order of the members
                        blob, decoded = self._decoded(update)
                        if self.plan.is_robust:
                            found.leaves[member] = [leaf(blob[at : at + CHUNK]) for at in range(0, len(blob), CHUNK)]
                        else:
                            sums.add(memoryview(blob), sums.layout.size - len(blob), weight)
                        found.metrics[member] = decoded.header.get("metrics", {})
                    found.weights[member] = weight
                except InvalidBlobError as error:
                    found.reasons[member], found.details[member] = Reason(error.reason), error.detail
            batch.add()
        found.metrics |= batch.metrics
        return found

    def _row(self, update: UpdateRecorded, found: _Found, combined: Combined | None) -> Row:
        excluded = found.reasons.get(update.member)
        if excluded is None and combined and update.member not in combined.kept:
            excluded = Reason.FILTERED
        weight = found.weights[update.member] if excluded is None else None
        return Row(member=update.member, update=str(update.update), weight=weight, excluded=excluded)

    # -------------------------------------------------------------------------- the updates

    def _is_read(self, update: UpdateRecorded) -> bool:
        """Whether the update's blob is looked at."""
        opens = self.plan.seal == "none" or (update.key_blob is not None and update.member in self.keys)
        return opens and update.member not in self.unavailable

    def _decoded(self, update: UpdateRecorded) -> tuple[bytes, TensorBlob]:
        """An update's blob, opened, and what is in it."""
        blob = self._opened(update)
        return blob, decode_update(blob, self.plan, self.place, update.member, update.weight)

    def _opened(self, update: UpdateRecorded) -> bytes:
        most, sealed = self.plan.max_update_bytes, self.plan.seal != "none"
        if not self._is_read(update):
            why = "posted without a key blob" if update.key_blob is None else "its key is not in the annex"
            raise InvalidBlobError(Reason.UNOPENABLE, why)
        try:
            blob = self.blobs.get(update.update, limit=largest_sealed(most) if sealed else most)
        except BlobTooLargeError as error:
            raise InvalidBlobError(Reason.OVERSIZED, str(error)) from None
        if not sealed:
            return blob
        opened = open_update(blob, self.keys[update.member])
        if opened is None:
            raise InvalidBlobError(Reason.UNOPENABLE, "its key does not open it")
        return opened

    def _combined(self, layout: Layout, found: _Found) -> Combined:
        updates = {update.member: update for update in self.updates}

        def part(member: int, first: int, last: int) -> bytes:
            """Bytes of the data of an update that was read before; what is sealed is opened again."""
            update, leaves = updates[member], found.leaves[member]
            if self.plan.seal != "none":
                blob = self._opened(update)
                return blob[len(blob) - layout.size + first : len(blob) - layout.size + last]
            head = sum(node.file_size for node in leaves) - layout.size
            first, last = head + first, head + last
            with self.blobs.open(update.update) as stored:
                numbers, room, read = range(first // CHUNK, -(-last // CHUNK)), bytearray(CHUNK), []
                for number in numbers:
                    chunk = stored.leaf(number, room)
                    if leaves[number : number + 1] != [leaf(chunk)]:
                        raise BlobMismatchedError(update.update)
                    read.append(bytes(chunk))
            start = numbers.start * CHUNK
            return b"".join(read)[first - start : last - start]

        clips = self.plan.wire is None and self.plan.clipping is not None  # else the base takes no part in any result
        base = _elements_of(self._base(), self.plan) if clips else _zeros_for
        return combine(self.plan, layout, found.weights, part, base, self.threads)

    # ---------------------------------------------------------------------------- the model

    def _base(self) -> TensorBlob:
        try:
            return decode_model(self.blobs.get(self.place.base, limit=max_model_bytes(self.plan)), self.plan)
        except BlobTooLargeError as error:
            raise InvalidBlobError(Reason.OVERSIZED, str(error)) from None

    def _remembered(self) -> TensorBlob | None:
        if self.state is None or not self.plan.state_tensors:
            return None
        try:
            blob = self.blobs.get(self.state, limit=max_state_bytes(self.plan))
        except BlobTooLargeError:
            return None  # that of another strategy or model
        return read_state(blob, self.plan, self.place.round)

    def _model(
        self, sums: Sums, found: _Found, combined: Combined | None, keep: bool
    ) -> tuple[Cid | None, Bytes | None, bytes | None]:
        """The CID of the model, its blob if it is to be kept, and the blob of what the server remembers."""
        total = sum(found.weights.values())
        enough = len(found.weights) >= self.plan.quorum
        if self.plan.strategy.name in ("fedavg", "fedprox") and self.plan.wire is None and not self.plan.is_robust:
            cid, model = sums.model(total, keep and enough, self.threads)
            return (cid, model, None) if enough else (None, None, None)
        elements = {name: slice(first, last) for _, first, last, name, _ in sums.layout.spans}

        def average(name: str) -> Float64s:
            return combined.average[elements[name]] if combined else sums.mean(elements[name], total)

        for name in elements if not self.plan.is_robust else ():
            average(name)  # raises if a sum is not finite, before anything is made of it
        if not enough:
            return None, None, None
        counted = len(combined.kept if combined else found.weights)
        step = Step(self.plan, self._base().tensors, average, self._remembered(), counted, self.eligible)
        tensors, remembered = step.taken()
        model = encode(MODEL_HEADER, self.plan.tensors, tensors)
        return cid_of(model), model if keep else None, remembered


def _zeros_for(block: Block) -> Float64s:
    return np.zeros(block.last - block.first)


def _elements_of(model: TensorBlob, plan: Plan) -> Callable[[Block], Float64s]:
    """What gives a model's elements in a block of an update."""

    def elements(block: Block) -> Float64s:
        name, start = block.span.name, block.span.first
        return to_float64(model.tensors[name][block.first - start : block.last - start], plan.tensors[name].dtype)

    return elements


def _scores(found: _Found, combined: Combined | None) -> dict[int, Score]:
    """How the counted updates compare; of those of which nothing is known, nothing."""
    scores = {
        member: Score(
            norm=combined.norms.get(member) if combined else None,
            distance=combined.distances.get(member) if combined else None,
            metrics=dict(found.metrics[member]),
        )
        for member in found.weights
        if combined or found.metrics[member]
    }
    return {member: score for member, score in scores.items() if score != Score()}
