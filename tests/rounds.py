"""Rounds in memory, one after the other: each on the model and on the state of the one before it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pyrage.x25519 import Identity

from ledger.cid import Bytes, Cid, cid_of
from ledger.errors import InvalidBlobError
from ledger.facts import Bytes32, UpdateRecorded
from ledger.plan import Plan, TensorSpec, Training
from ledger.sealing import open_key, seal
from ledger.settlement import Settlement, settle
from ledger.updates import (
    MODEL_HEADER,
    Array,
    Place,
    Schema,
    decode,
    decode_model,
    encode,
    from_float64,
    to_float64,
    update_header,
)
from tests.ledger.test_settlement import PLACE, Memory
from tests.world import age_key

Values = Mapping[str, Sequence[float]]
"""The values of tensors, by name."""

READER = Identity.generate()
MIXED = {
    "bias": TensorSpec(dtype="F16", shape=[3]),
    "scale": TensorSpec(dtype="BF16", shape=[2]),
    "weight": TensorSpec(dtype="F32", shape=[2, 2]),
}


def plan_of(schema: Schema = MIXED, **choices: Any) -> Plan:
    """A plan that makes of the updates what is chosen, and asks for nothing else."""
    written = {
        "seal": "none",
        "tensors": dict(schema),
        "training": Training(epochs=1, batch_size=1, learning_rate=0.1),
        "max_update_bytes": 1 << 26,
        "window": 1,
        "quorum": 1,
        "approvals": 0,
    }
    return Plan(**{**written, **choices})


def stored(schema: Schema, values: Values) -> dict[str, Array]:
    """Values in stored form."""
    return {name: from_float64(np.array(values[name], np.float64), spec.dtype) for name, spec in schema.items()}


def values_in(blob: Bytes) -> dict[str, list[float]]:
    """The values of a blob's tensors."""
    decoded = decode(blob)
    return {
        name: to_float64(array, decoded.schema[name].dtype).tolist() for name, array in sorted(decoded.tensors.items())
    }


def drawn(schema: Schema, chance: np.random.Generator, scale: float = 1.0) -> dict[str, list[float]]:
    """Values that were drawn for a schema."""
    return {
        name: (scale * chance.standard_normal(math.prod(spec.shape))).tolist() for name, spec in sorted(schema.items())
    }


@dataclass(frozen=True)
class Update:
    """What a member posts.

    Attributes:
        tensors: In stored form, those of `Plan.update_tensors`.
        examples: How many it says.
        metrics: What it says of the base model.
    """

    tensors: Mapping[str, Array]
    examples: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """Bytes that a member posts for an update, and how many examples its entry says."""

    blob: bytes
    examples: int = 1


@dataclass(frozen=True)
class Round:
    """A round: a plan, the model that it builds on, and what the server remembers.

    Attributes:
        state: The blob of what the server remembers; None for nothing.
    """

    plan: Plan
    base: bytes
    state: bytes | None = None
    number: int = 1
    eligible: int = 1

    @property
    def place(self) -> Place:
        """Where its updates belong."""
        return replace(PLACE, round=self.number, plan=cid_of(self.plan.encode()), base=cid_of(self.base))

    def blob(self, member: int, update: Update | Raw) -> bytes:
        """An update's blob, not sealed."""
        if isinstance(update, Raw):
            return update.blob
        header = update_header(self.place, member, update.examples, metrics=update.metrics)
        return encode(header, self.plan.update_tensors, update.tensors)

    def post(
        self, updates: Mapping[int, Update | Raw], store: Any, order: Sequence[int] | None = None
    ) -> tuple[list[UpdateRecorded], dict[int, str]]:
        """Store updates, sealed if the plan says so; what is recorded of them, in their order, and their keys."""
        recorded, keys = [], {}
        for member in order or list(updates):
            blob, key_blob = self.blob(member, updates[member]), None
            if self.plan.seal == "age":
                sealed = seal(blob, [age_key(READER)])
                assert sealed.key_blob is not None
                blob, key_blob = sealed.update, Bytes32(cid_of(sealed.key_blob).digest)
                keys[member] = open_key(sealed.key_blob, [READER]) or ""
            cid, examples = store.put(blob), updates[member].examples
            recorded.append(UpdateRecorded(self.number, member, cid, key_blob, examples, PLACE.ledger))
        return recorded, keys

    def settle(
        self,
        updates: Mapping[int, Update | Raw],
        order: Sequence[int] | None = None,
        threads: int = 1,
        blobs: Any = None,
    ) -> Settlement:
        """Settle it, with updates that arrive in some order and are stored in memory if nowhere else."""
        store = Memory() if blobs is None else blobs
        recorded, keys = self.post(updates, store, order)
        return self.settle_posted(recorded, keys, store, threads)

    def settle_posted(
        self, recorded: Sequence[UpdateRecorded], keys: Mapping[int, str], store: Any, threads: int = 1
    ) -> Settlement:
        """Settle it, with updates that were posted."""
        store.put(self.base)
        state: Cid | None = store.put(self.state) if self.state else None
        return settle(
            self.place,
            self.plan,
            recorded,
            store,
            (),
            threads=threads,
            keys=keys,
            state=state,
            eligible=self.eligible,
        )

    def next(self, settled: Settlement) -> Round:
        """The round after it, on its model."""
        assert settled.model is not None
        return replace(self, base=bytes(settled.model), state=settled.state, number=self.number + 1)


def first(plan: Plan, values: Values, eligible: int = 1) -> Round:
    """The first round, on a model of these values."""
    return Round(plan, encode(MODEL_HEADER, plan.tensors, stored(plan.tensors, values)), eligible=eligible)


def is_finite(model: Bytes | None, plan: Plan) -> bool:
    """Whether a model is one of the plan, and finite."""
    with suppress(InvalidBlobError):
        return model is not None and bool(decode_model(model, plan))
    return False
