"""Settlement in one pass: hashing and adding leaf by leaf gives what decoding every update as a whole gives."""

import hashlib
import math
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.averaging import Heads
from ledger.choices import MAX_WEIGHT, ByExamples
from ledger.cid import CHUNK, Cid, cid_of
from ledger.errors import BlobMismatchedError, BlobMissingError, InvalidBlobError
from ledger.facts import UpdateRecorded
from ledger.manifest import Reason
from ledger.plan import ITEM_BYTES, Dtype, Plan, TensorSpec, Training
from ledger.settlement import settle
from ledger.storage import Blob
from ledger.storage.folder import FolderStore
from ledger.updates import (
    MODEL_HEADER,
    NO_WITNESS,
    Array,
    Layout,
    decode_update,
    encode,
    from_float64,
    to_float64,
    update_header,
)
from tests.ledger.test_settlement import DTYPES, PLACE, InMemory, Memory

MAX_BYTES = 1 << 26
WEIGHTS = {1: 3, 2: 1_000_000, 3: 17}

Schema = Mapping[str, TensorSpec]


class Decoded(Memory):
    """Shows each blob a byte longer when it is opened, so that settlement decodes it as a whole."""

    @contextmanager
    def open(self, cid: Cid) -> Iterator[Blob]:
        yield InMemory(self.blobs[cid] + b"!")

    def get(self, cid: Cid, limit: int | None = None) -> bytes:
        return self.blobs[cid]


def plan_of(schema: Schema, quorum: int = 1) -> Plan:
    return Plan(
        seal="none",
        tensors=dict(schema),
        training=Training(epochs=1, batch_size=1, learning_rate=0.1),
        max_update_bytes=MAX_BYTES,
        window=1,
        quorum=quorum,
        approvals=0,
    )


def tensor(dtype: Dtype, *shape: int) -> TensorSpec:
    return TensorSpec(dtype=dtype, shape=list(shape))


def values_of(schema: Schema, member: int) -> dict[str, Array]:
    random = np.random.default_rng(member)
    return {
        name: from_float64(random.standard_normal(math.prod(spec.shape)) * 10.0 ** random.integers(-4, 4), spec.dtype)
        for name, spec in schema.items()
    }


def post(blobs: Memory | FolderStore, schema: Schema, member: int, values: Mapping[str, Array]) -> UpdateRecorded:
    header = update_header(PLACE, member, WEIGHTS[member], hashlib.sha256(bytes([member])).hexdigest())
    blob = encode(header, schema, values)
    return UpdateRecorded(PLACE.round, member, blobs.put(blob), None, WEIGHTS[member], PLACE.ledger)


def mean_of(schema: Schema, rows: Mapping[int, Mapping[str, Array]]) -> bytes:
    """The model as the arithmetic says it, one whole tensor at a time."""
    means = {}
    for name, spec in schema.items():
        total = np.zeros(math.prod(spec.shape))
        for member in sorted(rows):
            total = total + to_float64(rows[member][name], spec.dtype) * np.float64(WEIGHTS[member])
        means[name] = from_float64(total / np.float64(sum(WEIGHTS[member] for member in rows)), spec.dtype)
    return encode(MODEL_HEADER, schema, means)


LEAF = 3 * CHUNK // 4  # two of these do not fit a leaf
sizes = st.one_of(
    st.integers(0, 9),
    st.builds(int.__add__, st.sampled_from([LEAF // 4, CHUNK // 4, CHUNK // 2]), st.integers(-160, 9)),
)
LIKE_A_WITNESS = [
    start + NO_WITNESS + end
    for start in ("", '!"witness":"', '\\"witness\\":\\"')
    for end in ("", '"}"}', '\\"}"}', '"}', "\\")
]
"""Names that look like where the witness stands."""
schemas = st.dictionaries(
    st.text('aZ_é"{}:', min_size=1, max_size=4) | st.sampled_from(LIKE_A_WITNESS),
    st.builds(tensor, st.sampled_from(DTYPES), sizes),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40)
@given(schemas)
def test_adding_as_it_is_read_or_after_decoding_gives_the_same_bytes_on_one_thread_or_more(schema: Schema) -> None:
    rows = {member: values_of(schema, member) for member in WEIGHTS}
    as_read, decoded = Memory(), Decoded()
    updates = [post(as_read, schema, member, row) for member, row in rows.items()]
    for member, row in rows.items():
        post(decoded, schema, member, row)
    one = settle(PLACE, plan_of(schema), updates, as_read, (), threads=1)
    assert one.model == mean_of(schema, rows)
    assert one.manifest.model == str(cid_of(one.model))
    assert one == settle(PLACE, plan_of(schema), updates, as_read, (), threads=3)
    assert one == settle(PLACE, plan_of(schema), updates, decoded, (), threads=2)
    without_bytes = settle(PLACE, plan_of(schema), updates, as_read, (), keep_model=False)
    assert (without_bytes.model, without_bytes.manifest) == (None, one.manifest)


THREE_LEAVES = {"a": tensor("F32", CHUNK // 2), "b": tensor("BF16", CHUNK // 4), "c": tensor("F16", 5)}


@pytest.mark.parametrize("at", [0, 9, 500, CHUNK - 1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, -1])
@pytest.mark.parametrize("member", WEIGHTS)
def test_an_update_that_is_altered_in_any_leaf_is_mismatched(at: int, member: int) -> None:
    blobs = Memory()
    updates = [post(blobs, THREE_LEAVES, number, values_of(THREE_LEAVES, number)) for number in WEIGHTS]
    cid = updates[member - 1].update
    altered = bytearray(blobs.blobs[cid])
    altered[at] ^= 1
    blobs.blobs[cid] = bytes(altered)
    with pytest.raises(BlobMismatchedError) as error:
        settle(PLACE, plan_of(THREE_LEAVES), updates, blobs, ())
    assert error.value.cid == cid


def test_of_several_updates_that_are_not_as_they_should_be_the_first_members_is_named() -> None:
    blobs = Memory()
    updates = [post(blobs, THREE_LEAVES, member, values_of(THREE_LEAVES, member)) for member in WEIGHTS]
    blobs.blobs[updates[0].update] = blobs.blobs[updates[0].update][:-1] + b"!"
    del blobs.blobs[updates[1].update]
    with pytest.raises(BlobMismatchedError) as mismatched:
        settle(PLACE, plan_of(THREE_LEAVES), updates, blobs, ())
    assert mismatched.value.cid == updates[0].update
    with pytest.raises(BlobMissingError) as missing:
        settle(PLACE, plan_of(THREE_LEAVES), updates, blobs, {1})
    assert missing.value.cid == updates[1].update


@dataclass(frozen=True)
class Shrinking(InMemory):
    """A file that is cut short after it was opened."""

    def leaf(self, number: int, into: bytearray | memoryview) -> memoryview:
        chunk = super().leaf(number, into)
        return chunk if number == 0 else chunk[:-8]


class CutShort(Memory):
    @contextmanager
    def open(self, cid: Cid) -> Iterator[Blob]:
        yield Shrinking(self.blobs[cid])


def test_an_update_that_is_cut_short_while_it_is_read_is_mismatched() -> None:
    blobs = CutShort()
    update = post(blobs, THREE_LEAVES, 1, values_of(THREE_LEAVES, 1))
    with pytest.raises(BlobMismatchedError):
        settle(PLACE, plan_of(THREE_LEAVES), [update], blobs, ())


@dataclass(frozen=True)
class OnlyOnce(InMemory):
    """Shows other bytes to whoever reads a leaf again."""

    seen: set[int]

    def leaf(self, number: int, into: bytearray | memoryview) -> memoryview:
        chunk = super().leaf(number, into)
        again = number in self.seen
        self.seen.add(number)
        return memoryview(bytes(len(chunk))) if again else chunk


class ReadOnce(Memory):
    @contextmanager
    def open(self, cid: Cid) -> Iterator[Blob]:
        yield OnlyOnce(self.blobs[cid], set())


def test_what_is_looked_at_what_is_added_and_what_is_hashed_are_the_same_bytes() -> None:
    blobs, row = ReadOnce(), values_of(THREE_LEAVES, 1)
    update = post(blobs, THREE_LEAVES, 1, row)
    assert settle(PLACE, plan_of(THREE_LEAVES), [update], blobs, ()).model == mean_of(THREE_LEAVES, {1: row})


NOT_FINITE: dict[str, list[Array]] = {  # NaN, a signaling NaN, both infinities
    "a": list(np.array([0x7FC00000, 0x7F800001, 0x7F800000, 0xFF800000], "<u4").view("<f4")),
    "b": list(np.array([0x7FC0, 0x7F81, 0x7F80, 0xFF80], "<u2")),
    "c": list(np.array([0x7E00, 0x7C01, 0x7C00, 0xFC00], "<u2").view("<f2")),
}


@settings(max_examples=30)
@given(st.data())
def test_a_value_that_is_not_finite_excludes_its_update_and_the_others_are_summed(
    data: st.DataObject,
) -> None:
    rows = {member: values_of(THREE_LEAVES, member) for member in WEIGHTS}
    name = data.draw(st.sampled_from(sorted(NOT_FINITE)))
    bad = data.draw(st.sets(st.sampled_from(sorted(WEIGHTS)), min_size=1, max_size=2))
    at = data.draw(st.integers(0, rows[1][name].size - 1))
    for member in bad:  # in one place, so that infinities of two signs meet
        rows[member][name][at] = data.draw(st.sampled_from(NOT_FINITE[name]))
    blobs = Memory()
    updates = [post(blobs, THREE_LEAVES, member, row) for member, row in rows.items()]
    result = settle(PLACE, plan_of(THREE_LEAVES), updates, blobs, ())
    assert {row.member: row.excluded for row in result.manifest.updates} == {
        member: Reason.NONFINITE if member in bad else None for member in WEIGHTS
    }
    assert result.model == mean_of(THREE_LEAVES, {member: row for member, row in rows.items() if member not in bad})


def test_a_value_that_is_not_finite_is_found_under_the_quorum_too() -> None:
    row = values_of(THREE_LEAVES, 1)
    row["c"][4] = np.inf
    blobs = Memory()
    result = settle(PLACE, plan_of(THREE_LEAVES, 2), [post(blobs, THREE_LEAVES, 1, row)], blobs, ())
    assert (result.model, result.manifest.counted) == (None, 0)
    assert result.manifest.updates[0].excluded is Reason.NONFINITE


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_values_with_the_largest_weights_are_finite(dtype: Dtype) -> None:
    schema = {"v": tensor(dtype, 2)}
    largest = {"F32": 3.4028234663852886e38, "F16": 65504.0, "BF16": 3.3895313892515355e38}[dtype]
    row = {"v": from_float64(np.array([largest, -largest]), dtype)}
    blobs, most = Memory(), (1 << 53) - 1
    blob = encode(update_header(PLACE, 1, most), schema, row)
    update = UpdateRecorded(PLACE.round, 1, blobs.put(blob), None, most, PLACE.ledger)
    plan = plan_of(schema).model_copy(update={"weighting": ByExamples(cap=MAX_WEIGHT)})
    assert settle(PLACE, plan, [update], blobs, ()).model == encode(MODEL_HEADER, schema, row)


def test_an_update_of_more_examples_than_a_blob_can_say_is_excluded() -> None:
    blobs, schema = Memory(), {"v": tensor("F32", 2)}
    update = post(blobs, schema, 1, values_of(schema, 1))
    result = settle(PLACE, plan_of(schema), [replace(update, weight=1 << 63)], blobs, ())
    assert result.manifest.updates[0].excluded is Reason.BINDING


@pytest.mark.parametrize("key", ["round", "member", "examples"])
def test_true_in_the_place_of_a_one_is_another_header(key: str) -> None:
    blobs, schema, place = Memory(), {"v": tensor("F32", 2)}, replace(PLACE, round=1)
    blob = encode({**update_header(place, 1, 1), key: True}, schema, values_of(schema, 1))
    update = UpdateRecorded(1, 1, blobs.put(blob), None, 1, PLACE.ledger)
    assert settle(place, plan_of(schema), [update], blobs, ()).manifest.updates[0].excluded is Reason.BINDING


TOKENS = [
    b"true",
    b"1",
    b"0.5",
    b"1e3",
    b"{}",
    b"\\",
    b'"',
    b'\\"',
    b'\\\\\\"',
    b":",
    b",",
    b" ",
    b"\xff",
    b"\\u0061",
    b"}",
]
SAID: list[dict[str, float]] = [{}, {"auc": 0.5}, {'a "b"': 1, "\\": -2.5e-300}]


@settings(max_examples=500)
@given(st.data(), st.sampled_from(SAID), st.sampled_from([1, 2]))
def test_a_head_is_taken_as_it_is_read_if_and_only_if_it_is_when_it_is_decoded(
    data: st.DataObject, metrics: dict[str, float], version: int
) -> None:
    schema: Schema = {"v": tensor("F32", 1)}
    plan = plan_of(schema).model_copy(update={"settlement": version})
    header = update_header(PLACE, 1, 3, NO_WITNESS if version == 2 else None, metrics)
    layout, head = Layout(schema), bytearray(Layout(schema).head(header))
    for _ in range(data.draw(st.integers(0, 2))):
        at, token = data.draw(st.integers(8, len(head))), data.draw(st.sampled_from(TOKENS))
        head[at : at + data.draw(st.integers(0, 3))] = token
    if data.draw(st.booleans()):  # as long as it says
        raw = bytes(head[8:]).rstrip(b" ")
        head[:] = (len(raw) + -len(raw) % 8).to_bytes(8, "little") + raw + b" " * (-len(raw) % 8)
    try:
        decoded = decode_update(bytes(head) + bytes(4), plan, PLACE, 1, 3)
    except InvalidBlobError:
        expected = None
    else:
        expected = decoded.header.get("metrics", {})
    assert Heads(layout, PLACE, plan).metrics(bytes(head), 1, 3) == expected


def test_updates_with_a_head_larger_than_a_leaf_count() -> None:
    schema = {f"{number:0256}": tensor("F32", 1) for number in range(4000)}
    rows = {member: values_of(schema, member) for member in (1, 2)}
    blobs = Memory()
    updates = [post(blobs, schema, member, row) for member, row in rows.items()]
    assert settle(PLACE, plan_of(schema), updates, blobs, ()).model == mean_of(schema, rows)


def test_the_updates_that_were_hashed_are_all_but_those_claimed_unavailable() -> None:
    blobs, schema = Memory(), {"v": tensor("F32", 2)}
    updates = [post(blobs, schema, 1, values_of(schema, 1)), post(blobs, schema, 2, values_of(schema, 2))]
    too_large = UpdateRecorded(PLACE.round, 3, blobs.put(bytes(MAX_BYTES + 1)), None, 1, PLACE.ledger)
    result = settle(PLACE, plan_of(schema), [*updates, too_large], blobs, {2})
    assert [row.excluded for row in result.manifest.updates] == [None, Reason.UNAVAILABLE, Reason.OVERSIZED]
    assert result.hashed == {updates[0].update, too_large.update}


@pytest.mark.parametrize(("dtype", "keep_model", "times"), [("F32", True, 3), ("F32", False, 2), ("BF16", False, 4)])
def test_memory_is_that_of_the_sums_and_the_model_however_many_updates_there_are(
    dtype: Dtype, keep_model: bool, times: int, tmp_path: Path
) -> None:
    size = 48 << 20
    schema, store = {"w": tensor(dtype, size // ITEM_BYTES[dtype])}, FolderStore(tmp_path)
    row = values_of(schema, 1)
    updates = [post(store, schema, member, row) for member in WEIGHTS]
    tracemalloc.start()
    try:
        settle(PLACE, plan_of(schema), updates, store, (), keep_model)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < times * size + (16 << 20)
