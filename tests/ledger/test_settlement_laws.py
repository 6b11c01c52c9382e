"""Laws of settlement, whatever a plan chooses: what changes nothing, what bounds what, and what is no state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import robust
from ledger.choices import (
    ByExamples,
    ByTable,
    Equally,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedProx,
    FedYogi,
    Krum,
    Mean,
    Median,
    Scaffold,
    TrimmedMean,
)
from ledger.cid import CHUNK, Cid, cid_of
from ledger.errors import BlobMismatchedError
from ledger.plan import Dtype, Plan, TensorSpec
from ledger.settlement import Settlement
from ledger.storage import Blob
from ledger.storage.folder import FolderStore
from ledger.strategies import max_state_bytes, read_state
from ledger.updates import Schema, decode, encode, from_float64
from tests.ledger.test_settlement import DTYPES, InMemory, Memory
from tests.rounds import MIXED, Round, Update, drawn, first, is_finite, plan_of, stored, values_in

ACROSS = {
    "a": TensorSpec(dtype="F32", shape=[robust.BLOCK + 3]),
    "b": TensorSpec(dtype="BF16", shape=[0, 2]),
    "c": TensorSpec(dtype="F16", shape=[2 * robust.BLOCK]),
    "d": TensorSpec(dtype="F32", shape=[]),
}
"""Tensors that end in a block, at the end of one, and without any."""
LARGEST = {"F32": 3.4028234663852886e38, "F16": 65504.0, "BF16": 3.3895313892515355e38}

positive = st.floats(min_value=0, max_value=1e6, exclude_min=True, exclude_max=True)
share = st.floats(min_value=0, max_value=1, exclude_max=True)
weights = st.integers(1, 1 << 32)
rates = {"server_learning_rate": positive}
betas = {"beta_1": share, "beta_2": share, "tau": positive}
strategies: st.SearchStrategy[Any] = st.one_of(
    st.just(FedAvg()),
    st.builds(FedProx, mu=positive),
    st.builds(FedAvgM, **rates, momentum=share),
    st.builds(FedAdagrad, **rates, tau=positive),
    st.builds(FedAdam, **rates, **betas),
    st.builds(FedYogi, **rates, **betas),
    st.builds(Scaffold, **rates),
)
weightings: st.SearchStrategy[Any] = st.one_of(
    st.builds(ByExamples, cap=weights),
    st.just(Equally()),
    st.builds(ByTable, weights=st.dictionaries(st.sampled_from("1234567"), weights, min_size=1), others=weights),
)
wires = st.sampled_from([None, *DTYPES])


@st.composite
def choices(draw: st.DrawFn) -> dict[str, Any]:
    """What a plan of seven updates can choose."""
    chosen: dict[str, Any] = {"strategy": draw(strategies), "weighting": draw(weightings), "wire": draw(wires)}
    if chosen["strategy"].name == "scaffold":
        return chosen
    if draw(st.booleans()):
        chosen["filter"] = Krum(attackers=draw(st.integers(0, 2)), keep=draw(st.none() | st.integers(1, 9)))
    if draw(st.booleans()):
        chosen["clipping"] = draw(positive)
    average = st.sampled_from([Mean(), Median()]) | st.builds(
        TrimmedMean, share=st.floats(min_value=0, max_value=0.5, exclude_min=True, exclude_max=True)
    )
    chosen["average"] = draw(average)
    if chosen["average"].name != "mean":
        chosen["weighting"] = Equally()
    return chosen


def played(plan: Plan, seed: int, rounds: int = 2) -> tuple[Round, dict[int, Update]]:
    """The last of some rounds, and its updates: with a state, where there is any."""
    chance = np.random.default_rng(seed)
    round_ = first(plan, drawn(plan.tensors, chance), eligible=8)
    for number in range(1, rounds + 1):
        updates = {
            member: Update(
                stored(plan.update_tensors, drawn(plan.update_tensors, chance, 10.0 ** chance.integers(-3, 4))),
                int(chance.integers(1, 1000)),
                {"auc": float(chance.random())},
            )
            for member in range(1, 8)
        }
        if number < rounds:
            round_ = round_.next(round_.settle(updates))
    return round_, updates


def outcome(settlement: Settlement) -> tuple[object, ...]:
    """All that does not name the bytes of the updates, which are others when they are sealed."""
    rows = [(row.member, row.weight, row.excluded) for row in settlement.manifest.updates]
    return settlement.model, settlement.state, settlement.scores, settlement.manifest.model, rows


@contextmanager
def room(size: int) -> Iterator[None]:
    """Robust rules with less room than they have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robust, "ROOM", size)
        yield


# ------------------------------------------------------------------------------- what changes nothing


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(choices(), st.randoms(use_true_random=False), st.integers(0, 1 << 32))
def test_neither_arrival_nor_threads_nor_seal_nor_store_nor_room_changes_a_byte(
    chosen: dict[str, Any], random: Random, seed: int
) -> None:
    schema = random.choice([MIXED, ACROSS])
    round_, updates = played(plan_of(schema, quorum=7, **chosen), seed)
    order = list(updates)
    random.shuffle(order)
    once = round_.settle(updates)
    for threads in (1, 2, 3):
        assert round_.settle(updates, order, threads) == once
    with room(random.choice([0, 1, 4 * robust.BLOCK * 7, 9 * robust.BLOCK * 7])):
        assert round_.settle(updates, order, random.choice([1, 2, 3])) == once
    with TemporaryDirectory() as folder:
        assert round_.settle(updates, order, 2, blobs=FolderStore(Path(folder))) == once
    sealed = replace(round_, plan=round_.plan.model_copy(update={"seal": "age", "public_quality": True}))
    assert outcome(sealed.settle(updates, order, random.choice([1, 2]))) == outcome(once)


@given(choices(), st.integers(0, 1 << 32))
def test_an_update_that_is_excluded_leaves_the_others_as_if_it_had_never_come(
    chosen: dict[str, Any], seed: int
) -> None:
    round_, updates = played(plan_of(MIXED, quorum=7, **chosen), seed)
    spec = next(iter(round_.plan.update_tensors.values()))
    wrong = dict(updates[1].tensors)
    name = next(iter(wrong))
    wrong[name] = from_float64(np.full(wrong[name].shape, np.nan), spec.dtype)
    with_it, without = round_.settle({**updates, 9: replace(updates[1], tensors=wrong)}), round_.settle(updates)
    assert outcome(with_it)[:4] == outcome(without)[:4]
    assert with_it.manifest.updates[:7] == without.manifest.updates
    assert with_it.manifest.updates[7].excluded == "nonfinite"


def plain_and(wire: Dtype | None, seed: int, **chosen: Any) -> tuple[Settlement, Settlement]:
    """The same updates, averaged plainly and with something that is to change nothing."""
    base = {"wire": wire, "quorum": 7}
    round_, updates = played(plan_of(ACROSS, **base, **{"weighting": chosen.pop("weighting", ByExamples())}), seed, 1)
    other = replace(round_, plan=round_.plan.model_copy(update=chosen))
    return round_.settle(updates), other.settle(updates)


@settings(max_examples=20)
@given(wires, st.integers(0, 1 << 32))
def test_clipping_at_more_than_any_norm_changes_no_byte(wire: Dtype | None, seed: int) -> None:
    plain, clipped = plain_and(wire, seed, clipping=999_999.0)
    assert max(score.norm or 0 for score in clipped.scores.values()) < 999_999
    assert clipped.model == plain.model


@settings(max_examples=20)
@given(wires, st.integers(0, 1 << 32), st.integers(7, 99))
def test_a_filter_that_keeps_all_changes_no_byte(wire: Dtype | None, seed: int, keep: int) -> None:
    plain, filtered = plain_and(wire, seed, filter=Krum(attackers=2, keep=keep))
    assert filtered.model == plain.model
    assert [row.weight for row in filtered.manifest.updates] == [row.weight for row in plain.manifest.updates]


@settings(max_examples=20)
@given(wires, st.integers(0, 1 << 32), st.floats(min_value=0, max_value=1 / 8, exclude_min=True))
def test_trimming_nothing_is_the_plain_mean_but_for_the_order_of_its_sum(
    wire: Dtype | None, seed: int, cut: float
) -> None:
    plain, trimmed = plain_and(wire, seed, average=TrimmedMean(share=cut), weighting=Equally())
    assert plain.model is not None
    assert trimmed.model is not None
    for (name, one), other in zip(values_in(plain.model).items(), values_in(trimmed.model).values(), strict=True):
        width = {"F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}[ACROSS[name].dtype]
        np.testing.assert_allclose(one, other, rtol=4 * width, atol=1e-9)


def test_trimming_nothing_of_two_updates_is_the_plain_mean_to_the_byte() -> None:
    round_, updates = played(plan_of(MIXED, weighting=Equally()), 5, 1)
    two = {member: updates[member] for member in (1, 2)}
    trimmed = replace(round_, plan=round_.plan.model_copy(update={"average": TrimmedMean(share=0.4)}))
    assert trimmed.settle(two).model == round_.settle(two).model


# ------------------------------------------------------------------------------ what is read a second time


class Changing(Memory):
    """Shows one blob otherwise once it was read."""

    def __init__(self, change: Callable[[bytes], bytes], cid: Cid) -> None:
        super().__init__()
        self.change, self.cid, self.times = change, cid, 0

    @contextmanager
    def open(self, cid: Cid) -> Iterator[Blob]:
        self.times += cid == self.cid
        whole = self.blobs[cid]
        yield InMemory(self.change(whole) if cid == self.cid and self.times > 1 else whole)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "cut by a value": lambda blob: blob[:-4],
    "cut by a leaf": lambda blob: blob[:-CHUNK],
    "cut to whole leaves": lambda blob: blob[: len(blob) // CHUNK * CHUNK],
    "cut to its head": lambda blob: blob[:100],
    "emptied": lambda blob: b"",
    "longer by a value": lambda blob: blob[:-4] + bytes(4) + blob[-4:],
    "longer by a leaf": lambda blob: blob[:CHUNK] + blob,
    "altered": lambda blob: blob[:-9] + bytes([blob[-9] ^ 1]) + blob[-8:],
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("size", [1 << 28, 100_000])
def test_an_update_that_was_changed_after_it_was_read_first_is_mismatched(how: str, size: int) -> None:
    schema: Schema = {"w": TensorSpec(dtype="F32", shape=[3 * CHUNK // 4])}
    round_ = first(plan_of(schema, average=Median(), weighting=Equally()), {"w": [0.0] * (3 * CHUNK // 4)})
    updates = {member: Update({"w": np.arange(3 * CHUNK // 4, dtype=np.float32) + member}) for member in (1, 2, 3)}
    store = Changing(CHANGES[how], cid_of(round_.blob(2, updates[2])))
    with room(size), pytest.raises(BlobMismatchedError) as error:
        round_.settle(updates, blobs=store)
    assert error.value.cid == store.cid


# ----------------------------------------------------------------------------------- what bounds what

ONE: Schema = {"w": TensorSpec(dtype="F32", shape=[6])}
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
rows_of = st.lists(st.lists(numbers, min_size=6, max_size=6), min_size=1, max_size=9)
robust_averages = st.sampled_from([Median(), TrimmedMean(share=0.1), TrimmedMean(share=0.34), TrimmedMean(share=0.49)])


def averaged(rows: list[list[float]], **chosen: Any) -> list[float]:
    round_ = first(plan_of(ONE, **chosen), {"w": [0.0] * 6})
    settled = round_.settle({member: Update(stored(ONE, {"w": row})) for member, row in enumerate(rows, 1)})
    assert settled.model is not None
    return values_in(settled.model)["w"]


@given(st.sampled_from([1, 2, 3, 4, 5, 1000, 2048, 2049, robust.BLOCK]), st.integers(0, 99))
def test_sums_are_those_of_blocks_filled_with_zeros_up_to_their_whole_size(width: int, seed: int) -> None:
    squares = np.square(np.random.default_rng(seed).standard_normal((2, width)))
    halves = np.pad(squares, ((0, 0), (0, robust.BLOCK - width)))
    while halves.shape[1] > 1:
        halves = halves[:, : halves.shape[1] // 2] + halves[:, halves.shape[1] // 2 :]
    assert robust.folded(squares).tobytes() == halves[:, 0].tobytes()


@given(rows_of, robust_averages)
def test_median_and_trimmed_mean_lie_between_the_smallest_and_the_largest(rows: list[list[float]], rule: Any) -> None:
    for found, column in zip(averaged(rows, average=rule, weighting=Equally()), zip(*rows, strict=True), strict=True):
        assert min(column) <= found <= max(column)


@given(rows_of, robust_averages)
def test_zeros_of_either_sign_are_one_number_to_median_and_trimmed_mean(rows: list[list[float]], rule: Any) -> None:
    turned = [[-0.0 if value == 0 else value for value in row] for row in rows]
    found = [averaged(some, average=rule, weighting=Equally()) for some in (rows, turned)]
    assert np.array(found[0]).tobytes() == np.array(found[1]).tobytes()


@given(st.lists(numbers, min_size=6, max_size=6), st.lists(numbers, min_size=6, max_size=6), st.integers(3, 9))
def test_one_liar_among_honest_equal_updates_moves_neither_median_nor_trimmed_mean(
    honest: list[float], liar: list[float], count: int
) -> None:
    rows = [honest] * (count - 1) + [liar]
    clean = [value + 0.0 for value in honest]  # a sum that starts at zero is never -0.0
    assert averaged(rows, average=Median(), weighting=Equally()) == clean
    assert averaged(rows, average=TrimmedMean(share=0.49), weighting=Equally()) == pytest.approx(clean, rel=1e-7)
    assert averaged(rows, filter=Krum(attackers=0, keep=1), quorum=3) == clean


@given(
    st.integers(0, 3),
    st.integers(0, 3),
    st.lists(numbers, min_size=6, max_size=6),
    st.lists(st.lists(numbers, min_size=6, max_size=6), min_size=3, max_size=3),
    st.none() | st.integers(1, 12),
    st.randoms(use_true_random=False),
)
def test_krum_never_keeps_attackers_only_when_the_honest_ones_agree(
    attackers: int, more: int, honest: list[float], lies: list[list[float]], keep: int | None, random: Random
) -> None:
    count = 2 * attackers + 3 + more
    rows = [honest] * (count - attackers) + lies[:attackers]
    order = list(range(1, count + 1))
    random.shuffle(order)
    liars = {member for member, row in zip(order, rows, strict=True) if row != honest}
    plan = plan_of(ONE, filter=Krum(attackers=attackers, keep=keep), quorum=2 * attackers + 3)
    updates = {member: Update(stored(ONE, {"w": row})) for member, row in zip(order, rows, strict=True)}
    settled = first(plan, {"w": [0.0] * 6}).settle(updates)
    kept = {row.member for row in settled.manifest.updates if row.excluded is None}
    wanted = count - attackers if keep is None else min(keep, count)
    assert len(kept) == wanted
    assert kept - liars
    assert len(kept & liars) <= max(0, wanted - (count - len(liars)))  # only once no honest one is left
    assert {row.excluded for row in settled.manifest.updates if row.member not in kept} <= {"filtered"}
    assert settled.manifest.counted == count


@settings(max_examples=50)
@given(wires, st.integers(0, 1 << 32), st.floats(min_value=1e-3, max_value=1e3))
def test_no_clipped_difference_is_longer_than_the_bound(wire: Dtype | None, seed: int, bound: float) -> None:
    plan = plan_of({"w": TensorSpec(dtype="F32", shape=[50])}, wire=wire, clipping=bound)
    round_, updates = played(plan, seed, 1)
    settled = round_.settle({4: updates[4]})  # the model is the base and what is left of the one difference
    assert settled.model is not None
    start, end = values_in(round_.base)["w"], values_in(settled.model)["w"]
    norm = math.dist(start, end)
    rounding = 2.0**-24 * math.hypot(*start, *end)
    assert norm <= bound * (1 + 1e-12) + rounding
    recorded = settled.scores[4].norm
    assert recorded is not None
    assert norm == pytest.approx(min(bound, recorded), rel=1e-6, abs=2 * rounding)


@settings(max_examples=30)
@given(st.integers(0, 1 << 32), choices())
def test_a_round_of_sites_that_change_nothing_changes_nothing_of_the_model_where_the_server_has_no_momentum(
    seed: int, chosen: dict[str, Any]
) -> None:
    plan = plan_of(MIXED, quorum=7, **chosen)
    base = drawn(MIXED, np.random.default_rng(seed))
    round_ = first(plan, base)
    zeros = {name: [0.0] * len(from_) for name, from_ in values_of_update(plan, base).items()}
    values = zeros if plan.wire else zeros | values_in(round_.base)
    updates = {member: Update(stored(plan.update_tensors, values)) for member in range(1, 8)}
    settled = round_.settle(updates)
    assert settled.model is not None
    before, after = values_in(round_.base), values_in(settled.model)
    for name, spec in MIXED.items():
        width = {"F32": 2.0**-24, "F16": 2.0**-11, "BF16": 2.0**-8}[spec.dtype]
        np.testing.assert_allclose(after[name], before[name], rtol=2 * width, atol=1e-7)


def values_of_update(plan: Plan, base: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: base[name.removeprefix("control/")] for name in plan.update_tensors}


# ---------------------------------------------------------------------------------------- what is finite


@st.composite
def extreme(draw: st.DrawFn, schema: Schema, smallest: float = -math.inf) -> dict[str, Any]:
    """Any finite values at all, the largest ones among them."""
    values = {}
    for name, spec in schema.items():
        most = LARGEST[spec.dtype]
        number = st.sampled_from([most, -most, 0.0, 1e-45]) | st.floats(-most, most, width=32)
        row = draw(st.lists(number, min_size=math.prod(spec.shape), max_size=math.prod(spec.shape)))
        values[name] = [min(max(value, -most, smallest), most) for value in row]
    return stored(schema, values)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_whatever_is_finite_and_legal_gives_a_finite_model_and_a_state_that_is_one(data: st.DataObject) -> None:
    plan = plan_of(MIXED, quorum=7, **data.draw(choices()))
    round_ = first(plan, drawn(MIXED, np.random.default_rng(0)), eligible=8)
    round_ = replace(round_, base=encode({"kind": "model"}, MIXED, data.draw(extreme(MIXED))), number=3)
    if plan.state_tensors:
        state = data.draw(extreme(plan.state_tensors))
        state |= {name: np.abs(array) for name, array in state.items() if name.startswith("v/")}
        header = {"kind": "state", "strategy": plan.strategy.name, "steps": 2}
        round_ = replace(round_, state=encode(header, plan.state_tensors, state))
        assert read_state(round_.state or b"", plan, 3) is not None
    some = [Update(data.draw(extreme(plan.update_tensors))) for _ in range(2)]
    settled = round_.settle({member: some[member % 2] for member in range(1, 8)})
    assert is_finite(settled.model, plan)
    if plan.state_tensors:
        assert settled.state is not None
        assert read_state(settled.state, plan, 4) is not None


@pytest.mark.parametrize("strategy", [FedAdam, FedYogi])
def test_a_step_beyond_all_numbers_is_one_to_the_largest(strategy: Any) -> None:
    schema: Schema = {"w": TensorSpec(dtype="F32", shape=[3])}
    plan = plan_of(schema, strategy=strategy(server_learning_rate=999_999.0, tau=5e-324), wire="F32")
    state = {"m/w": np.array([0, 3e38, -3e38], np.float32), "v/w": np.zeros(3, np.float32)}
    blob = encode({"kind": "state", "strategy": plan.strategy.name, "steps": 1}, plan.state_tensors, state)
    round_ = replace(first(plan, {"w": [1.0, 1.0, 1.0]}), state=blob, number=2)
    settled = round_.settle({1: Update(stored(schema, {"w": [0.0, 0.0, 0.0]}))})
    assert settled.model is not None
    assert values_in(settled.model)["w"] == [1.0, LARGEST["F32"], -LARGEST["F32"]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_leaves_the_range_of_a_dtype_becomes_its_largest_number(dtype: Dtype, sign: float) -> None:
    schema: Schema = {"w": TensorSpec(dtype=dtype, shape=[1])}
    most = LARGEST[dtype]
    plan = plan_of(schema, wire=dtype)
    round_ = first(plan, {"w": [sign * most]})
    settled = round_.settle({1: Update(stored(schema, {"w": [sign * most]}))})
    assert settled.model is not None
    assert values_in(settled.model)["w"] == [sign * most]


# --------------------------------------------------------------------------------- what the server remembers

STATEFUL = [FedAvgM(), FedAdagrad(), FedAdam(), FedYogi(), Scaffold()]


def adam_round() -> tuple[Round, dict[int, Update]]:
    return played(plan_of(MIXED, strategy=FedAdam(), quorum=7), 11, 3)


@pytest.mark.parametrize("strategy", STATEFUL, ids=lambda one: one.name)
@pytest.mark.parametrize("wire", [None, "BF16"])
def test_what_was_remembered_is_read_back(strategy: Any, wire: Any) -> None:
    plan = plan_of(MIXED, strategy=strategy, wire=wire, quorum=7)
    round_, updates = played(plan, 3, 2)
    state = round_.settle(updates).state
    assert state is not None
    found = read_state(state, plan, 3)
    assert found is not None
    assert found.header == {"kind": "state", "strategy": strategy.name, "steps": 2}
    assert encode(found.header, plan.state_tensors, found.tensors) == state
    assert len(state) <= max_state_bytes(plan)


def with_header(state: bytes, **changes: Any) -> bytes:
    decoded = decode(state)
    return encode({**decoded.header, **changes}, decoded.schema, decoded.tensors)


def with_value(state: bytes, kind: str, value: float) -> bytes:
    decoded = decode(state)
    tensors = {name: array.copy() for name, array in decoded.tensors.items()}
    tensors[f"{kind}weight"][1] = value
    return encode(decoded.header, decoded.schema, tensors)


NO_STATES: dict[str, Any] = {
    "of another strategy": lambda state: with_header(state, strategy="fedyogi"),
    "of another kind": lambda state: with_header(state, kind="model"),
    "of more rounds than there were": lambda state: with_header(state, steps=3),
    "of so many rounds that it would take days": lambda state: with_header(state, steps=(1 << 53) - 1),
    "of no round": lambda state: with_header(state, steps=0),
    "of rounds that are no number": lambda state: with_header(state, steps="2"),
    "of a round that is true": lambda state: with_header(state, steps=True),
    "with more in its header": lambda state: with_header(state, note="x"),
    "with NaN": lambda state: with_value(state, "m/", math.nan),
    "with infinity": lambda state: with_value(state, "v/", math.inf),
    "with a negative second moment": lambda state: with_value(state, "v/", -1e-30),
    "that is a model": lambda state: encode({"kind": "model"}, MIXED, {
        name: decode(state).tensors["m/" + name].astype(np.float32) if spec.dtype == "F32"
        else from_float64(decode(state).tensors["m/" + name].astype(np.float64), spec.dtype)
        for name, spec in MIXED.items()
    }),
    "that was cut": lambda state: state[:-1],
    "that is longer": lambda state: state + b" ",
    "that is too large": lambda state: state + bytes(1 << 16),
    "that is nothing": lambda state: b"",
}  # fmt: skip


@pytest.mark.parametrize("what", NO_STATES)
def test_a_state_that_is_none_counts_as_none(what: str) -> None:
    round_, updates = adam_round()
    assert round_.state is not None
    assert read_state(round_.state, round_.plan, round_.number) is not None
    false = NO_STATES[what](round_.state)
    assert read_state(false, round_.plan, round_.number) is None
    without = replace(round_, state=None).settle(updates)
    assert replace(round_, state=false).settle(updates) == without
    assert round_.settle(updates) != without


def test_a_state_of_another_schema_counts_as_none() -> None:
    round_, _ = adam_round()
    other = plan_of({**MIXED, "more": TensorSpec(dtype="F32", shape=[1])}, strategy=FedAdam())
    assert read_state(round_.state or b"", other, round_.number) is None


def test_a_strategy_that_remembers_nothing_asks_for_no_state() -> None:
    round_, updates = played(plan_of(MIXED), 1, 1)
    assert replace(round_, state=b"anything").settle(updates) == round_.settle(updates)
