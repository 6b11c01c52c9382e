"""A participant that posts garbage: excluded for the right reason, whatever it is, and the round goes on."""

import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.cid import CHUNK, Bytes, Cid, cid_of, cid_of_chunks
from ledger.errors import InvalidBlobError
from ledger.facts import AbortReason, RoundAborted, RoundSettled, UpdateRecorded
from ledger.manifest import Manifest, Reason
from ledger.plan import Plan, TensorSpec
from ledger.settlement import settle
from ledger.updates import Place, decode, encode, update_header
from tests.ledger.test_settlement import PLACE, Memory
from tests.world import PLAN, SCHEMA, World, tensors

HONEST, BAD = (1, 2, 3), 4
EXAMPLES = 10
QUORUM_MET, QUORUM_MISSED = PLAN.model_copy(update={"quorum": 3}), PLAN.model_copy(update={"quorum": 4})


def honest(member: int, value: float = 1.0) -> bytes:
    return encode(update_header(PLACE, member, EXAMPLES), SCHEMA, tensors(value))


def header_and_data(blob: bytes) -> tuple[bytes, bytes]:
    end = 8 + int.from_bytes(blob[:8], "little")
    return blob[8:end], blob[end:]


def assembled(header: bytes, data: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def truncated(random: Random) -> bytes:
    blob = honest(BAD)
    return blob[: random.randrange(len(blob))]


def extended(random: Random) -> bytes:
    return honest(BAD) + random.randbytes(random.randint(1, 50))


def random_bytes(random: Random) -> bytes:
    return random.randbytes(random.randint(0, 500))


def not_finite(random: Random, place: Place = PLACE, member: int = BAD) -> bytes:
    values = tensors(random.uniform(-5, 5))
    array = values[random.choice(list(values))]
    array[random.randrange(array.size)] = random.choice([np.nan, np.inf, -np.inf])
    return encode(update_header(place, member, EXAMPLES), SCHEMA, values)


def wrong_name(random: Random) -> bytes:
    name = "weight" + random.choice("abc")
    values = tensors(1)
    return encode(
        update_header(PLACE, BAD, EXAMPLES),
        {"bias": SCHEMA["bias"], name: SCHEMA["weight"]},
        {"bias": values["bias"], name: values["weight"]},
    )


def more_or_fewer_tensors(random: Random) -> bytes:
    schema, values = dict(SCHEMA), tensors(1)
    if random.random() < 0.5:
        schema["extra"] = TensorSpec(dtype="F32", shape=[1])
        values["extra"] = np.zeros(1, np.float32)
    else:
        name = random.choice(list(SCHEMA))
        del schema[name], values[name]
    return encode(update_header(PLACE, BAD, EXAMPLES), schema, values)


def wrong_dtype(random: Random) -> bytes:
    schema = {**SCHEMA, "bias": TensorSpec(dtype=random.choice(["F32", "BF16"]), shape=[3])}
    stored = np.zeros(3, np.float32 if schema["bias"].dtype == "F32" else np.uint16)
    return encode(update_header(PLACE, BAD, EXAMPLES), schema, {**tensors(1), "bias": stored})


def unknown_dtype(random: Random) -> bytes:
    header, data = header_and_data(honest(BAD))
    return assembled(header.replace(b"F16", random.choice([b"F64", b"I16", b"f16", b"BOO"])), data)


def wrong_shape(random: Random) -> bytes:
    shape = random.choice([[4], [1, 4], [4, 1], [2, 2, 1], [2, 3], []])
    schema = {**SCHEMA, "weight": TensorSpec(dtype="F32", shape=shape)}
    values = np.zeros(int(np.prod(shape)), np.float32)
    return encode(update_header(PLACE, BAD, EXAMPLES), schema, {**tensors(1), "weight": values})


def other_binding(random: Random) -> bytes:
    change: dict[str, Any] = random.choice(
        [
            {"round": random.randint(8, 99)},
            {"member": random.randint(1, 3)},
            {"examples": random.randint(11, 99)},
            {"chain_id": 1},
            {"ledger": "0x" + "00" * 20},
            {"plan": str(cid_of(random.randbytes(3)))},
            {"base": str(cid_of(random.randbytes(3)))},
            {"kind": "model"},
            {"round": "7"},
            {"member": 4.5},
            {"examples": True},
            {"witness": "0" * 63},
            {"witness": "A" * 64},
            {"witness": "0" * 63 + "\n"},
            {"witness": 5},
            {"witness": None},
            {"note": "more than there should be"},
        ]
    )
    return encode({**update_header(PLACE, BAD, EXAMPLES), **change}, SCHEMA, tensors(1))


def without_witness(random: Random) -> bytes:
    return encode(update_header(PLACE, BAD, EXAMPLES, witness=None), SCHEMA, tensors(random.random()))


def copied(random: Random) -> bytes:
    return honest(random.choice(HONEST))


def duplicate_key(random: Random) -> bytes:
    header, data = header_and_data(honest(BAD))
    described = json.loads(header)
    name = random.choice(list(described))
    twice = json.dumps({name: described[name]}, separators=(",", ":"))[1:-1].encode()
    return assembled(b"{" + twice + b"," + header[1:], data)


def padded_header(random: Random) -> bytes:
    header, data = header_and_data(honest(BAD))
    return assembled(header + random.choice([b" ", b"\n", b"\0"]) * random.randint(1, 64), data)


def other_spacing(random: Random) -> bytes:
    header, data = header_and_data(honest(BAD))
    at = random.choice([at for at, byte in enumerate(header) if byte in b",:"])
    return assembled(header[: at + 1] + b" " + header[at + 1 :], data)


def pickled(random: Random) -> bytes:
    return pickle.dumps(tensors(random.random()), protocol=random.randint(0, 5))


def nested(random: Random) -> bytes:
    depth = random.randint(201, 750)
    header = random.choice([b"[" * depth, b'{"a":' * depth, b'{"__metadata__":' + b"[" * depth])
    return assembled(header, b"")


def lying_length(random: Random) -> bytes:
    return random.choice([1 << 63, 1 << 32, (1 << 64) - 1]).to_bytes(8, "little") + honest(BAD)[8:]


def huge_shape(random: Random) -> bytes:
    header, data = header_and_data(honest(BAD))
    shape = random.choice([b"[4503599627370496,4503599627370496]", b"[1e300]", b"[-1]", b"[null]", b'"all"', b"[[2]]"])
    return assembled(header.replace(b"[2,2]", shape), data)


def oversized(random: Random) -> bytes:
    return honest(BAD) + bytes(PLAN.max_update_bytes + random.randint(0, 9000))


def posted(member: int, cid: Cid) -> UpdateRecorded:
    return UpdateRecorded(PLACE.round, member, cid, None, EXAMPLES, PLACE.ledger)


KINDS: dict[Callable[[Random], bytes], Reason] = {
    truncated: Reason.MALFORMED,
    extended: Reason.MALFORMED,
    random_bytes: Reason.MALFORMED,
    not_finite: Reason.NONFINITE,
    wrong_name: Reason.SCHEMA,
    more_or_fewer_tensors: Reason.SCHEMA,
    wrong_dtype: Reason.SCHEMA,
    unknown_dtype: Reason.MALFORMED,
    wrong_shape: Reason.SCHEMA,
    other_binding: Reason.BINDING,
    without_witness: Reason.BINDING,
    copied: Reason.BINDING,
    duplicate_key: Reason.MALFORMED,
    padded_header: Reason.MALFORMED,
    other_spacing: Reason.MALFORMED,
    pickled: Reason.MALFORMED,
    nested: Reason.MALFORMED,
    lying_length: Reason.MALFORMED,
    huge_shape: Reason.MALFORMED,
    oversized: Reason.OVERSIZED,
}
PER_KIND = 1000 // len(KINDS) + 1


def reason_and_model(of: Plan, bad: bytes) -> tuple[Reason | None, Bytes | None]:
    blobs = Memory()
    updates = [
        posted(member, blobs.put(blob))
        for member, blob in [*((member, honest(member, member)) for member in HONEST), (BAD, bad)]
    ]
    settlement = settle(PLACE, of, updates, blobs, ())
    assert [row.excluded for row in settlement.manifest.updates[:3]] == [None] * 3
    return settlement.manifest.updates[3].excluded, settlement.model


def test_nesting_that_would_overflow_the_stack_is_malformed() -> None:
    for opening in (b"[", b'{"a":'):
        with pytest.raises(InvalidBlobError, match="malformed"):
            decode(assembled(opening * 200_000, b""))


def test_at_least_1000_malformed_updates_are_tried() -> None:
    assert PER_KIND * len(KINDS) >= 1000


@pytest.mark.parametrize(("kind", "reason"), KINDS.items(), ids=lambda value: getattr(value, "__name__", None))
def test_malformed_updates_are_excluded_for_the_right_reason_and_the_round_settles(
    kind: Callable[[Random], bytes], reason: Reason
) -> None:
    blobs = Memory()
    updates = [posted(member, blobs.put(honest(member, member))) for member in HONEST]
    without = settle(PLACE, QUORUM_MET, updates, blobs, ()).model
    random = Random(kind.__name__)
    tracemalloc.start()
    try:
        for _ in range(PER_KIND):
            bad = kind(random)
            assert reason_and_model(QUORUM_MET, bad) == (reason, without)
            assert reason_and_model(QUORUM_MISSED, bad) == (reason, None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("kind", [not_finite, other_binding, wrong_shape, pickled, oversized])
def test_without_a_quorum_the_round_is_aborted_on_the_ledger_for_that_reason(
    kind: Callable[..., bytes], tmp_path: Path
) -> None:
    world = World(tmp_path, participants=2)
    world.aggregator.open(PLAN)
    world.post(1, world.update(1, tensors(1)))
    world.post(2, not_finite(Random(0), world.place(), 2) if kind is not_finite else kind(Random(0)))
    world.settle()
    ended = world.contract.history().rounds[1].ended
    assert isinstance(ended, RoundAborted)
    assert ended.reason is AbortReason.QUORUM
    assert ended.manifest is not None
    manifest = Manifest.decode(world.store.get(ended.manifest))
    assert [row.excluded for row in manifest.updates] == [None, KINDS[kind]]
    assert (manifest.model, manifest.counted) == (None, 1)


def test_an_update_of_a_gibibyte_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.aggregator.open(PLAN)
    for member in (1, 2):
        world.post(member, world.update(member, tensors(member)))
    huge = cid_of_chunks(bytes(CHUNK) for _ in range(1024))
    with open(world.store.path(huge), "wb") as file:
        file.truncate(1 << 30)
    world.contract.post_update(world.participants[2], 1, huge, EXAMPLES)
    tracemalloc.start()
    try:
        world.settle()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    ended = world.contract.history().rounds[1].ended
    assert isinstance(ended, RoundSettled)
    assert Manifest.decode(world.store.get(ended.manifest)).updates[2].excluded is Reason.OVERSIZED
    assert peak < 32 << 20


def test_updates_that_are_gone_or_altered_are_claimed_unavailable_and_the_round_settles(tmp_path: Path) -> None:
    world = World(tmp_path, participants=4)
    world.aggregator.open(PLAN)
    cids = [world.post(member, world.update(member, tensors(member))) for member in (1, 2, 3, 4)]
    world.store.path(cids[1]).unlink()
    world.store.path(cids[3]).write_bytes(b"altered")
    world.settle()
    ended = world.contract.history().rounds[1].ended
    assert isinstance(ended, RoundSettled)
    rows = Manifest.decode(world.store.get(ended.manifest)).updates
    assert [row.excluded for row in rows] == [None, Reason.UNAVAILABLE, None, Reason.UNAVAILABLE]


def test_two_members_that_name_one_blob_that_nobody_has_do_not_stop_settlement(tmp_path: Path) -> None:
    world = World(tmp_path, participants=4)
    world.aggregator.open(PLAN)
    for member in (1, 2):
        world.post(member, world.update(member, tensors(member)))
    for member in (3, 4):
        world.contract.post_update(world.participants[member - 1], 1, cid_of(b"nobody has this"), EXAMPLES)
    world.settle()
    ended = world.contract.history().rounds[1].ended
    assert isinstance(ended, RoundSettled)
    rows = Manifest.decode(world.store.get(ended.manifest)).updates
    assert [row.excluded for row in rows] == [None, None, Reason.UNAVAILABLE, Reason.UNAVAILABLE]
    assert audit(read_folder(world.write())).verdict == "verified"
