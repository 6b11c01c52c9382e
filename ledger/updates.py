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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.cid import Cid
from ledger.documents import canonical, parse, read_json
from ledger.entries import Genesis
from ledger.errors import InvalidBlobError
from ledger.facts import Address, RoundOpened
from ledger.manifest import Reason
from ledger.plan import Plan, TensorSpec

MAX_HEADER_BYTES = 4 << 20
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


def update_header(place: Place, member: int, examples: int) -> dict[str, Any]:
    """The header that binds an update to its place, its member and its number of examples."""
    return {"kind": "update", **place.document(), "member": member, "examples": examples}


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


def encode(header: Mapping[str, Any], schema: Schema, tensors: Mapping[str, Array]) -> bytes:
    """The canonical blob of `tensors` (stored form, any shape, in the schema's names and sizes).

    Raises:
        ValueError: If tensors and schema do not fit each other.
    """
    if set(tensors) != set(schema):
        raise ValueError(f"tensors and schema have different names: {sorted(set(tensors) ^ set(schema))}")
    parts = [_head(header, schema)]
    for name in _data_order(schema):
        stored = _STORED[schema[name].dtype]
        array = np.ascontiguousarray(tensors[name]).reshape(-1)
        if array.dtype != stored or array.size != math.prod(schema[name].shape):
            raise ValueError(f"tensor {name!r} is not {schema[name].dtype} of shape {schema[name].shape}")
        parts.append(array.tobytes())
    return b"".join(parts)


def decode(blob: bytes) -> TensorBlob:
    """Read a canonical blob; ``encode(b.header, b.schema, b.tensors) == blob``.

    Raises:
        InvalidBlobError: ``malformed``, if the bytes are anything else.
    """
    try:
        return _decode(blob)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise InvalidBlobError(Reason.MALFORMED, f"not a canonical tensor blob: {error}") from None


def _decode(blob: bytes) -> TensorBlob:
    length = int.from_bytes(blob[:8], "little")
    if len(blob) < 8 or length > min(len(blob) - 8, MAX_HEADER_BYTES):
        most = f"a blob of {len(blob):,}, nor {MAX_HEADER_BYTES:,} at most"
        raise ValueError(f"a header of {length:,} bytes does not fit {most}")
    described = read_json(blob[8 : 8 + length])
    header = parse(described.pop("__metadata__")["fedledger"].encode())
    schema = {name: TensorSpec(dtype=tensor["dtype"], shape=tensor["shape"]) for name, tensor in described.items()}
    head = _head(header, schema)
    if head != blob[: 8 + length]:
        raise ValueError("the header would not be written again like that")
    tensors: dict[str, Array] = {}
    at = len(head)
    for name in _data_order(schema):
        count, stored = math.prod(schema[name].shape), _STORED[schema[name].dtype]
        if at + count * stored.itemsize > len(blob):
            raise ValueError(f"tensor {name!r} is cut short")
        tensors[name] = np.frombuffer(blob, stored, count, at)
        at += count * stored.itemsize
    if at != len(blob):
        raise ValueError(f"{len(blob) - at:,} bytes follow the last tensor")
    return TensorBlob(header, schema, tensors)


def decode_model(blob: bytes, plan: Plan) -> TensorBlob:
    """Read a model's blob.

    Raises:
        InvalidBlobError: If it is not a canonical model of the plan's schema with finite values.
    """
    return _checked(blob, plan, MODEL_HEADER)


def decode_update(blob: bytes, plan: Plan, place: Place, member: int, examples: int) -> TensorBlob:
    """Read an update's blob.

    Raises:
        InvalidBlobError: With the reason for which settlement excludes it.
    """
    if len(blob) > plan.max_update_bytes:
        raise InvalidBlobError(Reason.OVERSIZED, f"{len(blob):,} bytes, the plan allows {plan.max_update_bytes:,}")
    return _checked(blob, plan, update_header(place, member, examples))


def _checked(blob: bytes, plan: Plan, header: Mapping[str, Any]) -> TensorBlob:
    decoded = decode(blob)
    for name in sorted(decoded.schema.keys() | plan.tensors.keys()):
        found, expected = decoded.schema.get(name), plan.tensors.get(name)
        if found != expected:
            raise InvalidBlobError(Reason.SCHEMA, f"tensor {name!r} is {_show(found)}, the plan says {_show(expected)}")
    for key in sorted(decoded.header.keys() | header.keys()):
        if _differ(decoded.header.get(key), header.get(key)):
            raise InvalidBlobError(
                Reason.BINDING, f"{key} is {decoded.header.get(key)!r}, expected {header.get(key)!r}"
            )
    for name, array in decoded.tensors.items():
        if not _is_finite(array, decoded.schema[name].dtype):
            raise InvalidBlobError(Reason.NONFINITE, f"tensor {name!r} has a value that is NaN or infinite")
    return decoded


def _differ(found: Any, expected: Any) -> bool:
    return type(found) is not type(expected) or found != expected


def _show(spec: TensorSpec | None) -> str:
    return f"{spec.dtype} {spec.shape}" if spec else "absent"


def _data_order(schema: Schema) -> list[str]:
    return sorted(schema, key=lambda name: (-_STORED[schema[name].dtype].itemsize, name))


def _head(header: Mapping[str, Any], schema: Schema) -> bytes:
    described: dict[str, Any] = {"__metadata__": {"fedledger": canonical(header).decode()}}
    at = 0
    for name in _data_order(schema):
        end = at + math.prod(schema[name].shape) * _STORED[schema[name].dtype].itemsize
        described[name] = {**schema[name].model_dump(mode="json"), "data_offsets": [at, end]}
        at = end
    raw = canonical(described)
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


# ------------------------------------------------------------------- numbers


def to_float64(stored: Array, dtype: str) -> npt.NDArray[np.float64]:
    """The values of a stored array; exact, since every dtype here is narrower."""
    values = (stored.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else stored
    return np.asarray(values, dtype=np.float64)


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


def _is_finite(stored: Array, dtype: str) -> bool:
    if dtype == "BF16":
        return bool(np.all(stored & 0x7F80 != 0x7F80))
    return bool(np.isfinite(stored).all())
