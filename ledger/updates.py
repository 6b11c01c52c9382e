"""Tensor blobs in one canonical form: encode, decode, and check an update against its place. Pure.

A blob is a valid safetensors file whose bytes are fully determined by its content:

    8 bytes    length of the header, little endian
    header     RFC 8785 JSON, padded with spaces to a multiple of 8
    data       tensors by descending element size, then name; so every tensor is aligned

The header's ``__metadata__`` has one key, ``fedledger``, whose text is the RFC 8785 JSON of the blob's own header:
what it is and where it belongs. A blob that would not be written again byte for byte is refused, so duplicate keys,
other padding, other order or trailing bytes cannot hide anything.
"""

from __future__ import annotations

import math
import re
from bisect import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ledger.cid import Bytes, Cid
from ledger.documents import canonical, parse, read_json
from ledger.entries import Genesis
from ledger.errors import InvalidBlobError
from ledger.facts import Address, RoundOpened
from ledger.manifest import Reason, are_metrics
from ledger.plan import Plan, TensorSpec

MAX_HEADER_BYTES = 4 << 20
STEP = 1 << 18  # elements that are computed at a time: by fewer, threads wait longer for each other than they compute
NO_WITNESS = "0" * 64
"""The witness of an update whose site commits to nothing."""
MODEL_HEADER: dict[str, Any] = {"kind": "model"}

Array = npt.NDArray[Any]
Schema = Mapping[str, TensorSpec]

# bfloat16 is kept as its 16 bits: numpy has no such type.
_STORED: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


@dataclass(frozen=True)
class Place:
    """Where an update belongs: one round of one ledger."""

    chain_id: int
    ledger: Address
    round: int
    plan: Cid
    base: Cid

    @classmethod
    def of(cls, genesis: Genesis, opened: RoundOpened) -> Place:
        """The place that a round's opening gives."""
        return cls(genesis.chain_id, genesis.ledger, opened.round, opened.plan, opened.base)

    def document(self) -> dict[str, Any]:
        """The place as it stands in headers and manifests."""
        return {
            "chain_id": self.chain_id,
            "ledger": self.ledger,
            "round": self.round,
            "plan": str(self.plan),
            "base": str(self.base),
        }


def update_header(
    place: Place,
    member: int,
    examples: int,
    witness: str | None = NO_WITNESS,
    metrics: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """The header that binds an update to its place, its member and its number of examples.

    Args:
        place: The round.
        member: Its member's id.
        examples: How many it was trained on, as its member says.
        witness: What its site commits to, so that it can show later how it came about: 64 hex digits of its own
            choice. None for plans of settlement 1, which have neither it nor metrics.
        metrics: What the base model achieves at its site, by name, as its member says; see
            `ledger.manifest.are_metrics`. None in private rounds: no noise hides the records that they come from.
    """
    header = {"kind": "update", **place.document(), "member": member, "examples": examples}
    return header if witness is None else {**header, "witness": witness, "metrics": dict(metrics)}


def _is_witness(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch("[0-9a-f]{64}", text) is not None


@dataclass(frozen=True)
class TensorBlob:
    """A decoded blob.

    Attributes:
        header: What the blob says it is.
        schema: Dtype and shape by tensor name.
        tensors: Flat arrays by name, in stored form (see `to_float64`), views of the blob's bytes.
    """

    header: dict[str, Any]
    schema: dict[str, TensorSpec]
    tensors: dict[str, Array]


class Span(NamedTuple):
    """A tensor's place: its first byte in the data, and its first element and its last, counted through all tensors."""

    start: int
    first: int
    last: int
    name: str
    dtype: str


class Layout:
    """Where everything lies in the blobs of one schema.

    Attributes:
        spans: The tensors, in the order of the data.
        elements: How many they have together.
        size: How many bytes the data has.
        before: What is in a head before its own header, without the eight bytes of the length.
        after: What is there after it, without the padding.
    """

    def __init__(self, schema: Schema) -> None:
        self.spans: list[Span] = []
        self.elements = self.size = 0
        described: dict[str, Any] = {"__metadata__": {"fedledger": ""}}
        for name in sorted(schema, key=lambda name: (-_STORED[schema[name].dtype].itemsize, name)):
            first, start, dtype = self.elements, self.size, schema[name].dtype
            self.elements += math.prod(schema[name].shape)
            self.size += (self.elements - first) * _STORED[dtype].itemsize
            self.spans.append(Span(start, first, self.elements, name, dtype))
            described[name] = {**schema[name].model_dump(mode="json"), "data_offsets": [start, self.size]}
        # What is computed element by element need not know where a tensor ends: tensors of one dtype are one run.
        self._runs: list[Span] = []
        for span in self.spans:
            if self._runs and self._runs[-1].dtype == span.dtype:
                self._runs[-1] = self._runs[-1]._replace(last=span.last)
            else:
                self._runs.append(span)
        # Quotation marks in a name are escaped: these bytes stand in one place only.
        self.before, self.after = canonical(described).split(b'{"fedledger":""}')

    def head(self, header: Mapping[str, Any]) -> bytes:
        """The bytes before the data; a multiple of 8."""
        raw = self.before + canonical({"fedledger": canonical(header).decode()}) + self.after
        raw += b" " * (-len(raw) % 8)
        return len(raw).to_bytes(8, "little") + raw

    @staticmethod
    def at(span: Span, element: int) -> int:
        """The byte of the data at which an element of a tensor begins."""
        return span.start + (element - span.first) * _STORED[span.dtype].itemsize

    @staticmethod
    def stored(span: Span, part: bytes | memoryview, offset: int, count: int) -> Array:
        """A view of `count` elements of a tensor in stored form, from a byte of some part of the data on."""
        return np.frombuffer(part, _STORED[span.dtype], count, offset)

    def pieces(self, part: memoryview, start: int) -> Iterator[tuple[Span, Array, slice]]:
        """A part of a blob that begins at byte `start` of the data (negative: before it), at most `STEP` elements each.

        Yields:
            A run of tensors of one dtype, a view of elements in stored form, and which elements these are.
        """
        first, end = bisect(self._runs, (start + 1,)), bisect(self._runs, (start + len(part),))
        for span in self._runs[max(0, first - 1) : end]:
            size = _STORED[span.dtype].itemsize
            shift = span.start - span.first * size - start  # from an element's number to its byte
            last = min(span.last, (len(part) - shift) // size)
            for at in range(max(span.first, -shift // size), last, STEP):
                count = min(STEP, last - at)
                yield span, np.frombuffer(part, _STORED[span.dtype], count, at * size + shift), slice(at, at + count)


def blob_size(schema: Schema, header: Mapping[str, Any] = MODEL_HEADER) -> int:
    """The bytes of a blob of this schema."""
    layout = Layout(schema)
    return len(layout.head(header)) + layout.size


def max_model_bytes(plan: Plan) -> int:
    """As far as a model is read: one of another form too, if it is no larger than an update, to say what is wrong."""
    return max(plan.max_update_bytes, blob_size(plan.tensors))


def encode(header: Mapping[str, Any], schema: Schema, tensors: Mapping[str, Array]) -> bytes:
    """The canonical blob of `tensors` (stored form, any shape, in the schema's names and sizes).

    Raises:
        ValueError: If tensors and schema do not fit each other.
    """
    if set(tensors) != set(schema):
        raise ValueError(f"tensors and schema have different names: {sorted(set(tensors) ^ set(schema))}")
    layout = Layout(schema)
    parts = [layout.head(header)]
    for span in layout.spans:
        array = np.ascontiguousarray(tensors[span.name]).reshape(-1)
        if array.dtype != _STORED[span.dtype] or array.size != span.last - span.first:
            raise ValueError(f"tensor {span.name!r} is not {span.dtype} of shape {schema[span.name].shape}")
        parts.append(array.tobytes())
    return b"".join(parts)


def decode(blob: Bytes) -> TensorBlob:
    """Read a canonical blob; ``encode(b.header, b.schema, b.tensors) == blob``.

    Raises:
        InvalidBlobError: ``malformed``, if the bytes are anything else.
    """
    try:
        return _decode(blob)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise InvalidBlobError(Reason.MALFORMED, f"not a canonical tensor blob: {error}") from None


def _decode(blob: Bytes) -> TensorBlob:
    length = int.from_bytes(blob[:8], "little")
    if len(blob) < 8 or length > min(len(blob) - 8, MAX_HEADER_BYTES):
        most = f"a blob of {len(blob):,}, nor {MAX_HEADER_BYTES:,} at most"
        raise ValueError(f"a header of {length:,} bytes does not fit {most}")
    head = bytes(blob[: 8 + length])
    described = read_json(head[8:])
    header = parse(described.pop("__metadata__")["fedledger"].encode())
    schema = {name: TensorSpec(dtype=tensor["dtype"], shape=tensor["shape"]) for name, tensor in described.items()}
    layout = Layout(schema)
    if layout.head(header) != head:
        raise ValueError("the header would not be written again like that")
    if len(blob) != 8 + length + layout.size:
        raise ValueError(f"{len(blob) - 8 - length:,} bytes follow the header, its tensors have {layout.size:,}")
    tensors = {
        name: np.frombuffer(blob, _STORED[dtype], last - first, 8 + length + start)
        for start, first, last, name, dtype in layout.spans
    }
    return TensorBlob(header, schema, tensors)


def decode_model(blob: Bytes, plan: Plan) -> TensorBlob:
    """Read a model's blob.

    Raises:
        InvalidBlobError: If it is not a canonical model of the plan's schema with finite values.
    """
    return _checked(decode(blob), plan.tensors, MODEL_HEADER)


def decode_update(blob: bytes, plan: Plan, place: Place, member: int, examples: int) -> TensorBlob:
    """Read an update's blob.

    Raises:
        InvalidBlobError: With the reason for which settlement excludes it.
    """
    if len(blob) > plan.max_update_bytes:
        raise InvalidBlobError(Reason.OVERSIZED, f"{len(blob):,} bytes, the plan allows {plan.max_update_bytes:,}")
    decoded = decode(blob)
    header = update_header(place, member, examples, None)
    if plan.settlement > 1:  # what is left to its site is as it says, if that is possible at all
        witness = said if _is_witness(said := decoded.header.get("witness")) else "64 hex digits"
        metrics = said if are_metrics(said := decoded.header.get("metrics")) else "numbers by short names"
        header |= {"witness": witness, "metrics": metrics if plan.privacy is None else {}}
    return _checked(decoded, plan.update_tensors, header)


def _checked(decoded: TensorBlob, schema: Schema, header: Mapping[str, Any]) -> TensorBlob:
    for name in sorted(decoded.schema.keys() | schema.keys()):
        found, expected = decoded.schema.get(name), schema.get(name)
        if found != expected:
            raise InvalidBlobError(Reason.SCHEMA, f"tensor {name!r} is {_show(found)}, the plan says {_show(expected)}")
    for key in sorted(decoded.header.keys() | header.keys()):
        said, meant = decoded.header.get(key), header.get(key)
        if type(said) is not type(meant) or said != meant:
            raise InvalidBlobError(Reason.BINDING, f"{key} is {said!r}, expected {meant!r}")
    require_finite(decoded)
    return decoded


def require_finite(decoded: TensorBlob) -> None:
    """Raises `InvalidBlobError`, ``nonfinite``, if a value is NaN or infinite."""
    for name, array in decoded.tensors.items():
        for at in range(0, array.size, STEP):
            if not np.isfinite(to_float64(array[at : at + STEP], decoded.schema[name].dtype)).all():
                raise InvalidBlobError(Reason.NONFINITE, f"tensor {name!r} has a value that is NaN or infinite")


def _show(spec: TensorSpec | None) -> str:
    return f"{spec.dtype} {spec.shape}" if spec else "absent"


# ------------------------------------------------------------------- numbers


def to_float64(stored: Array, dtype: str, out: npt.NDArray[np.float64] | None = None) -> npt.NDArray[np.float64]:
    """The values of a stored array, in `out` if it is given; exact, since every dtype here is narrower."""
    values = (stored.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else stored
    out = np.empty(values.shape, np.float64) if out is None else out
    with np.errstate(invalid="ignore"):  # a NaN may be a signaling one
        np.copyto(out, values)
    return out


def from_float64(values: npt.NDArray[np.float64], dtype: str) -> Array:
    """Round float64 values once, to nearest, ties to even, into stored form."""
    with np.errstate(over="ignore"):
        if dtype != "BF16":
            return np.asarray(values, dtype=_STORED[dtype])
        single = values.astype(np.float32)
        # float64 -> float32 -> bfloat16 would round twice. Round to odd in between (Boldo & Melquiond 2008): cut
        # towards zero and set the last bit if anything was cut; then the second rounding is the only one that counts.
        too_far = np.abs(single.astype(np.float64)) > np.abs(values)
        inexact = single.astype(np.float64) != values
        bits = single.view(np.uint32) - too_far | inexact
        rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
        return np.asarray(rounded, dtype=_STORED["BF16"])
