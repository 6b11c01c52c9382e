"""Settlement: the same bytes in any order, and to the last bit what exact arithmetic says."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import arithmetic
from ledger.arithmetic import self_test
from ledger.choices import ByExamples
from ledger.cid import CHUNK, Cid, cid_of
from ledger.errors import BlobMismatchedError, BlobMissingError, UnavailableError
from ledger.facts import Address, UpdateRecorded
from ledger.manifest import Reason
from ledger.plan import Dtype, Plan, TensorSpec, Training
from ledger.settlement import Settlement, settle
from ledger.storage import Blob, read
from ledger.updates import Array, Place, decode_model, encode, from_float64, to_float64, update_header
from tests.reference import mean_bits

DTYPES: list[Dtype] = ["F32", "F16", "BF16"]
PLACE = Place(1337, Address("0x" + "c0" * 20), 7, cid_of(b"plan"), cid_of(b"base"))


class Memory:
    """Blobs in memory, verified like any store's."""

    def __init__(self) -> None:
        self.blobs: dict[Cid, bytes] = {}

    def put(self, blob: bytes) -> Cid:
        cid = cid_of(blob)
        self.blobs[cid] = blob
        return cid

    @contextmanager
    def open(self, cid: Cid) -> Iterator[Blob]:
        if cid not in self.blobs:
            raise BlobMissingError(cid, "not put")
        yield InMemory(self.blobs[cid])

    def get(self, cid: Cid, limit: int | None = None) -> bytes:
        with self.open(cid) as blob:
            return read(blob, cid, limit)


@dataclass(frozen=True)
class InMemory:
    """A blob that is open."""

    blob: bytes

    @property
    def size(self) -> int:
        return len(self.blob)

    def leaf(self, number: int, into: bytearray | memoryview) -> memoryview:
        chunk = self.blob[number * CHUNK : (number + 1) * CHUNK]
        into[: len(chunk)] = chunk
        return memoryview(into)[: len(chunk)]


def plan(dtype: Dtype, size: int, quorum: int = 1, cap: int = 1_000_000) -> Plan:
    return Plan(
        seal="none",
        tensors={"v": TensorSpec(dtype=dtype, shape=[size])},
        training=Training(epochs=1, batch_size=1, learning_rate=0.1),
        weighting=ByExamples(cap=cap),
        max_update_bytes=1 << 20,
        window=1,
        quorum=quorum,
        approvals=0,
    )


def stored(values: Sequence[float], dtype: Dtype) -> Array:
    return from_float64(np.array(values, np.float64), dtype)


def post(blobs: Memory, member: int, of: Plan, array: Array, examples: int) -> UpdateRecorded:
    blob = encode(update_header(PLACE, member, examples), of.tensors, {"v": array})
    return UpdateRecorded(PLACE.round, member, blobs.put(blob), None, examples, PLACE.ledger)


def settled(of: Plan, rows: Sequence[Array], weights: Sequence[int], order: Sequence[int] | None = None) -> Settlement:
    blobs = Memory()
    updates = [
        post(blobs, member, of, row, weight) for member, (row, weight) in enumerate(zip(rows, weights, strict=True), 1)
    ]
    return settle(PLACE, of, [updates[at] for at in order or range(len(updates))], blobs, ())


any_value = st.floats(width=16, allow_nan=False, allow_infinity=False)
wide_value = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[Dtype, list[Array], list[int]]:
    dtype = draw(st.sampled_from(DTYPES))
    values = any_value if dtype == "F16" else wide_value
    members, size = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    rows = [stored(draw(st.lists(values, min_size=size, max_size=size)), dtype) for _ in range(members)]
    for row in rows:  # rounding to bfloat16 can leave its range
        row[~np.isfinite(to_float64(row, dtype))] = 0
    weights = draw(st.lists(st.integers(1, 1_000_000), min_size=members, max_size=members))
    return dtype, rows, weights


@given(rounds())
def test_the_mean_is_to_the_last_bit_what_exact_fractions_rounded_after_each_operation_give(
    round_: tuple[Dtype, list[Array], list[int]],
) -> None:
    dtype, rows, weights = round_
    result = settled(plan(dtype, rows[0].size), rows, weights)
    assert result.model is not None
    found = decode_model(result.model, plan(dtype, rows[0].size)).tensors["v"]
    columns = [[float(to_float64(row, dtype)[at]) for row in rows] for at in range(rows[0].size)]
    expected = mean_bits(columns, weights, dtype)
    assert found.view(np.uint32 if dtype == "F32" else np.uint16).tolist() == expected


@given(rounds(), st.randoms())
def test_the_order_in_which_updates_arrive_changes_nothing(
    round_: tuple[Dtype, list[Array], list[int]], random: Random
) -> None:
    dtype, rows, weights = round_
    order = list(range(len(rows)))
    random.shuffle(order)
    of = plan(dtype, rows[0].size)
    assert settled(of, rows, weights, order) == settled(of, rows, weights)


def test_every_order_of_four_updates_gives_the_same_bytes() -> None:
    rows = [np.array([10.0**exponent, -1 / 3], np.float32) for exponent in (8, -8, 0, 7)]
    results = [settled(plan("F32", 2), rows, [3, 1, 4, 1], order) for order in itertools.permutations(range(4))]
    assert all(result == results[0] for result in results)


def test_tensors_larger_than_the_step_of_the_arithmetic_come_out_the_same_everywhere() -> None:
    pattern = np.array([0.1, -7.25, 3e-40, 1e30], np.float32)
    large = np.tile(pattern, 20_000)
    model = settled(plan("F32", large.size), [large, large[::-1].copy()], [5, 11]).model
    small = settled(plan("F32", 4), [pattern, pattern[::-1].copy()], [5, 11]).model
    assert model is not None
    assert small is not None
    expected = np.tile(decode_model(small, plan("F32", 4)).tensors["v"], 20_000)
    assert decode_model(model, plan("F32", large.size)).tensors["v"].tobytes() == expected.tobytes()


def test_a_weight_above_the_cap_counts_as_the_cap() -> None:
    rows = [np.array([value], np.float32) for value in (0, 1)]
    result = settled(plan("F32", 1, cap=10), rows, [10, 1_000_000])
    assert [row.weight for row in result.manifest.updates] == [10, 10]
    assert result.model is not None
    assert decode_model(result.model, plan("F32", 1)).tensors["v"] == [0.5]


def test_an_update_claimed_unavailable_is_excluded_even_if_it_is_there() -> None:
    blobs, of = Memory(), plan("F32", 1)
    updates = [post(blobs, member, of, np.array([member], np.float32), 1) for member in (1, 2)]
    result = settle(PLACE, of, updates, blobs, {2})
    assert [(row.weight, row.excluded) for row in result.manifest.updates] == [(1, None), (None, Reason.UNAVAILABLE)]


def test_an_update_that_is_missing_and_not_claimed_stops_settlement() -> None:
    blobs, of = Memory(), plan("F32", 1)
    update = post(blobs, 1, of, np.array([1], np.float32), 1)
    blobs.blobs.clear()
    with pytest.raises(BlobMissingError):
        settle(PLACE, of, [update], blobs, ())


def test_an_update_of_other_bytes_than_its_cid_names_stops_settlement() -> None:
    blobs, of = Memory(), plan("F32", 1)
    update = post(blobs, 1, of, np.array([1], np.float32), 1)
    blobs.blobs[update.update] += b"!"
    with pytest.raises(BlobMismatchedError):
        settle(PLACE, of, [update], blobs, ())


def test_under_the_quorum_there_is_no_model_and_the_manifest_says_so() -> None:
    result = settled(plan("F32", 1, quorum=2), [np.array([1], np.float32)], [1])
    assert result.model is None
    assert (result.manifest.model, result.manifest.counted) == (None, 1)


def test_the_self_test_passes_here() -> None:
    self_test()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_self_test_vector_is_what_exact_fractions_give(dtype: Dtype) -> None:
    values = [np.array(row, np.float32).astype(float) for row in arithmetic._SELF_TEST_VALUES]
    bits = mean_bits(list(zip(*values, strict=True)), [1023, 1], dtype)
    expected = np.array(bits, "<u4" if dtype == "F32" else "<u2").tobytes().hex()
    assert arithmetic._SELF_TEST_MEANS[dtype] == expected


def test_the_self_test_refuses_a_machine_that_rounds_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(values: Array, dtype: str) -> Array:
        return from_float64(values.astype(np.float32).astype(np.float64), dtype)

    monkeypatch.setattr(arithmetic, "from_float64", twice)
    with pytest.raises(UnavailableError, match="IEEE 754"):
        self_test()


def test_the_self_test_refuses_a_machine_that_flushes_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def flush(values: Array, dtype: str) -> Array:
        smallest = {"F32": 2.0**-126, "F16": 2.0**-14, "BF16": 2.0**-126}[dtype]
        return from_float64(np.where(np.abs(values) < smallest, 0.0, values), dtype)

    monkeypatch.setattr(arithmetic, "from_float64", flush)
    with pytest.raises(UnavailableError, match="IEEE 754"):
        self_test()


@settings(max_examples=300)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=1, max_size=8))
def test_rounding_to_bfloat16_is_rounding_once(values: list[float]) -> None:
    inside = [value + 0.0 for value in values if abs(value) < 3e38]  # a sum that starts at zero is never -0.0
    found = from_float64(np.array(inside, np.float64), "BF16").tolist()
    assert found == [bits for value in inside for bits in mean_bits([[value]], [1], "BF16")]
