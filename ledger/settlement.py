"""Settlement: which updates of a round count, why the others do not, and their average, bit for bit. Pure.

The aggregator publishes what `settle` gives; an auditor, or any member, computes it again and compares.

The arithmetic, in full: updates in ascending member id; every value widened to float64 (exact); multiplied by the
update's integer weight; added to the sum, which starts at zero; the sum divided by the total weight; rounded once to
the plan's dtype. Each step is one elementwise IEEE 754 operation, to nearest, ties to even: nothing is fused,
reordered or left to a linear algebra library.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ledger.cid import Cid, cid_of
from ledger.errors import BlobTooLargeError, InvalidBlobError, UnavailableError
from ledger.facts import UpdateRecorded
from ledger.manifest import Manifest, Reason, Row
from ledger.plan import Dtype, Plan, TensorSpec
from ledger.updates import (
    MODEL_HEADER,
    Array,
    Place,
    Schema,
    TensorBlob,
    decode_update,
    encode,
    from_float64,
    to_float64,
)

_STEP = 1 << 15  # elements at a time: they stay in the cache between the operations


class Blobs(Protocol):
    """Where settlement reads blobs; what it returns is what the CID names."""

    def get(self, cid: Cid, limit: int | None = None) -> bytes:
        """The blob, or `BlobTooLargeError`, `BlobMissingError`, `BlobMismatchedError`."""


@dataclass(frozen=True)
class Settlement:
    """What a round comes to.

    Attributes:
        model: The model's blob, None under the quorum.
        manifest: What became of each update.
        details: What is wrong with each excluded update, by member id; not recorded, found again by whoever settles.
    """

    model: bytes | None
    manifest: Manifest
    details: dict[int, str]


def settle(
    place: Place, plan: Plan, updates: Iterable[UpdateRecorded], blobs: Blobs, unavailable: Collection[int]
) -> Settlement:
    """Settle one round.

    Args:
        place: The round.
        plan: Its plan.
        updates: Every update recorded in it, in any order.
        blobs: Where the updates' blobs are. One is in memory at a time.
        unavailable: Ids of the members whose update could not be had: the aggregator's claim, not verifiable here.

    Returns:
        Model and manifest, the same bytes for the same arguments on every machine.

    Raises:
        BlobMissingError: If the blob of an update that is not claimed unavailable is not there.
        BlobMismatchedError: If the bytes there are not what its CID names.
    """
    mean = _WeightedMean(plan.tensors)
    rows: list[Row] = []
    details: dict[int, str] = {}
    for update in sorted(updates, key=lambda update: update.member):
        weight, excluded = None, None
        try:
            decoded = _fetch(place, plan, update, blobs, unavailable)
        except InvalidBlobError as error:
            excluded = Reason(error.reason)
            details[update.member] = error.detail
        else:
            weight = min(update.weight, plan.weighting.cap)
            mean.add(decoded.tensors, weight)
        rows.append(Row(member=update.member, update=str(update.update), weight=weight, excluded=excluded))
    counted = len(rows) - len(details)
    model = mean.model() if counted >= plan.quorum else None
    manifest = Manifest(**place.document(), updates=rows, counted=counted, model=str(cid_of(model)) if model else None)
    return Settlement(model, manifest, details)


def _fetch(place: Place, plan: Plan, update: UpdateRecorded, blobs: Blobs, unavailable: Collection[int]) -> TensorBlob:
    if update.member in unavailable:
        raise InvalidBlobError(Reason.UNAVAILABLE, "claimed by the aggregator: no bytes that hash to the CID")
    try:
        blob = blobs.get(update.update, limit=plan.max_update_bytes)
    except BlobTooLargeError as error:
        raise InvalidBlobError(Reason.OVERSIZED, str(error)) from None
    return decode_update(blob, plan, place, update.member, update.weight)


class _WeightedMean:
    """The weighted mean of tensors (in stored form), one update at a time."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._sums: dict[str, npt.NDArray[np.float64]] = {}
        self._weight = 0

    def add(self, tensors: Mapping[str, Array], weight: int) -> None:
        # Only now: an update of the plan's size was read, so a plan alone cannot ask for memory.
        try:
            self._sums = self._sums or {name: np.zeros(array.size, np.float64) for name, array in tensors.items()}
        except MemoryError:
            raise UnavailableError("the sums do not fit this machine's memory: settle on a larger one") from None
        self._weight += weight
        for name, total in self._sums.items():
            stored, dtype = tensors[name], self._schema[name].dtype
            for at in range(0, total.size, _STEP):
                product = np.multiply(to_float64(stored[at : at + _STEP], dtype), np.float64(weight))
                np.add(total[at : at + _STEP], product, out=total[at : at + _STEP])

    def mean(self, name: str) -> npt.NDArray[np.float64]:
        return np.divide(self._sums[name], np.float64(self._weight))

    def model(self) -> bytes:
        tensors = {name: from_float64(self.mean(name), spec.dtype) for name, spec in self._schema.items()}
        return encode(MODEL_HEADER, self._schema, tensors)


# Two updates of weight 1023 and 1. Their mean lies just above a tie of bfloat16 and of float16, where rounding
# twice goes wrong, and among the subnormals of float32 and float16, which a flush to zero loses.
_SELF_TEST_VALUES = (
    [1 + 2.0**-8, 1 + 2.0**-11, 3 * 2.0**-149, 0.1, -(2.0**-24)],
    [1 + 2.0**-8 + 2.0**-23, 1 + 2.0**-11 + 2.0**-23, 2.0**-149, -7.25, 2.0**-20],
)
_SELF_TEST_MEANS: dict[Dtype, str] = {
    "F32": "0080803f0010803f030000009a19be3d00c07bb3",
    "F16": "043c013c0000f12d0180",
    "BF16": "813f803f0000be3d7cb3",
}


def self_test() -> None:
    """Check this machine's arithmetic on a vector that flush-to-zero, double rounding or fused operations change.

    Raises:
        UnavailableError: If it computes something else, so that no settlement here could be believed.
    """
    for dtype, expected in _SELF_TEST_MEANS.items():
        mean = _WeightedMean({"v": TensorSpec(dtype="F32", shape=[5])})
        for values, weight in zip(_SELF_TEST_VALUES, (1023, 1), strict=True):
            mean.add({"v": np.array(values, np.float32)}, weight)
        found = from_float64(mean.mean("v"), dtype).tobytes().hex()
        if found != expected:
            raise UnavailableError(
                f"this machine's arithmetic is not IEEE 754, to nearest, ties to even ({dtype}: {found}, expected "
                f"{expected}): settle and audit on another machine, or look for a library that flushes to zero"
            )
