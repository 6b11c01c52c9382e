"""Sealing decides who can read an update, and never what becomes of it: the same rounds, sealed and not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyrage.x25519 import Identity

from ledger.choices import ByExamples
from ledger.facts import Bytes32, UpdateRecorded
from ledger.manifest import Manifest, Reason, Row
from ledger.plan import Plan, TensorSpec
from ledger.sealing import largest_sealed, open_key, seal
from ledger.settlement import Settlement, settle
from ledger.updates import Layout, encode, from_float64, update_header
from tests.adversary.test_malformed_updates import BAD, EXAMPLES, HONEST, KINDS, assembled, header_and_data, honest
from tests.ledger.test_settlement import DTYPES, PLACE, Memory
from tests.world import PLAN, age_key

READER = Identity.generate()
THREADS = st.integers(1, 3)
MOST = (1 << 53) - 1  # examples that a header can say


@dataclass(frozen=True)
class Update:
    """What a member posts."""

    blob: bytes
    weight: int


@dataclass(frozen=True)
class Played:
    """A round's updates as the members post them."""

    plan: Plan
    updates: Mapping[int, Update]
    unavailable: frozenset[int] = frozenset()

    def unsealed(self, random: Random, threads: int) -> Settlement:
        blobs = Memory()
        recorded = [self._recorded(blobs, member, one.blob, None) for member, one in self.updates.items()]
        random.shuffle(recorded)
        plan = self.plan.model_copy(update={"seal": "none"})
        return settle(PLACE, plan, recorded, blobs, self.unavailable, threads=threads)

    def sealed(self, random: Random, threads: int) -> Settlement:
        """With fresh keys at each call."""
        blobs, recorded, keys = Memory(), [], []
        for member, one in self.updates.items():
            sealed = seal(one.blob, [age_key(READER)])
            key_blob = sealed.key_blob or b""
            recorded.append(self._recorded(blobs, member, sealed.update, blobs.put(key_blob).digest))
            keys.append((member, open_key(key_blob, [READER]) or ""))
        random.shuffle(recorded)
        random.shuffle(keys)
        plan = self.plan.model_copy(update={"seal": "age"})
        return settle(PLACE, plan, recorded, blobs, self.unavailable, threads=threads, keys=dict(keys))

    def _recorded(self, blobs: Memory, member: int, blob: bytes, key_blob: bytes | None) -> UpdateRecorded:
        named = None if key_blob is None else Bytes32(key_blob)
        return UpdateRecorded(PLACE.round, member, blobs.put(blob), named, self.updates[member].weight, PLACE.ledger)


def outcome(settlement: Settlement) -> tuple[object, ...]:
    """All that a settlement decides; the updates' CIDs are of other bytes when these are sealed."""
    manifest = settlement.manifest
    rows = [(row.member, row.weight, row.excluded) for row in manifest.updates]
    return settlement.model, manifest.model, manifest.counted, rows


# ------------------------------------------------------------------------------------ any round


def flipped(blob: bytes, random: Random) -> bytes:
    at = random.randrange(len(blob))
    return blob[:at] + bytes([blob[at] ^ 1 << random.randrange(8)]) + blob[at + 1 :]


def cut(blob: bytes, random: Random) -> bytes:
    return blob[: random.randrange(len(blob))]


def extended(blob: bytes, random: Random) -> bytes:
    return blob + random.randbytes(random.randint(1, 20))


def padded(blob: bytes, random: Random) -> bytes:
    header, data = header_and_data(blob)
    return assembled(header + b" " * 8, data)


def oversized(blob: bytes, random: Random) -> bytes:
    return blob + bytes(random.choice([1 << 12, 1 << 13, 1 << 14, 1 << 16]))


ALTERED: list[Callable[[bytes, Random], bytes]] = [flipped, cut, extended, padded, oversized]


@st.composite
def rounds(draw: st.DrawFn) -> Played:
    shapes = st.lists(st.integers(0, 5), max_size=3)
    specs = st.builds(lambda dtype, shape: TensorSpec(dtype=dtype, shape=shape), st.sampled_from(DTYPES), shapes)
    schema = draw(st.dictionaries(st.text('ab"\\é', min_size=1, max_size=4), specs, min_size=1, max_size=3))
    random = Random(draw(st.integers(0, 1 << 32)))
    members = draw(st.lists(st.integers(1, 65535), min_size=1, max_size=5, unique=True))
    updates = {}
    for member in members:
        weight = draw(st.one_of(st.integers(1, 300), st.integers(1, 2 * MOST)))
        kind = draw(st.sampled_from(["honest", "honest", "nonfinite", "binding", "schema", "altered"]))
        header = update_header(PLACE, member, min(weight, MOST), f"{random.getrandbits(256):064x}")
        if kind == "binding":
            header[random.choice(list(header))] = random.choice([0, "", "0" * 64, None, 7])
        own = {**schema, "more": TensorSpec(dtype="F32", shape=[1])} if kind == "schema" else schema
        tensors = {}
        for name, spec in own.items():
            values = np.array([random.uniform(-9, 9) for _ in range(int(np.prod(spec.shape, dtype=int)))])
            if kind == "nonfinite" and values.size:
                values[random.randrange(values.size)] = random.choice([np.nan, np.inf, -np.inf])
            tensors[name] = from_float64(values, spec.dtype)
        blob = encode(header, own, tensors)
        updates[member] = Update(random.choice(ALTERED)(blob, random) if kind == "altered" else blob, weight)
    size = len(Layout(schema).head(update_header(PLACE, 65535, MOST))) + Layout(schema).size
    changes = {
        "tensors": schema,
        "quorum": draw(st.integers(1, 4)),
        "weighting": ByExamples(cap=draw(st.sampled_from([1, 100, 1_000_000]))),
        "max_update_bytes": max(1, size + draw(st.sampled_from([-9, 0, 3000]))),
    }
    absent = draw(st.frozensets(st.sampled_from(members), max_size=1))
    return Played(PLAN.model_copy(update=changes), updates, absent)


@settings(max_examples=300)
@given(rounds(), st.randoms(use_true_random=False), THREADS, THREADS)
def test_model_weights_and_reasons_of_any_round_are_those_of_the_same_round_unsealed(
    round_: Played, random: Random, threads: int, others: int
) -> None:
    expected = outcome(round_.unsealed(random, threads))
    assert outcome(round_.sealed(random, others)) == expected
    assert outcome(round_.sealed(random, threads)) == expected  # with other keys, in another order


@given(rounds(), st.randoms(use_true_random=False), st.from_regex("[A-Za-z0-9+/]{1,60}", fullmatch=True))
def test_what_the_annex_says_changes_nothing_but_the_annex(round_: Played, random: Random, annex: str) -> None:
    without = round_.sealed(random, 1).manifest
    with_it = Manifest.decode(without.model_copy(update={"annex": annex}).encode())
    assert (with_it.annex, without.annex) == (annex, None)
    assert with_it.model_copy(update={"annex": None}) == without


# ------------------------------------------------------------------------- what is known to be bad


@pytest.mark.parametrize(("kind", "reason"), KINDS.items(), ids=lambda value: getattr(value, "__name__", None))
def test_a_malformed_update_is_excluded_for_the_same_reason_when_it_is_sealed(
    kind: Callable[[Random], bytes], reason: Reason
) -> None:
    random = Random(f"sealed {kind.__name__}")
    for _ in range(10):
        updates = {member: Update(honest(member, member), EXAMPLES) for member in HONEST}
        updates[BAD] = Update(kind(random), EXAMPLES)
        round_ = Played(PLAN.model_copy(update={"quorum": random.choice([3, 4])}), updates)
        sealed = round_.sealed(random, 1)
        assert outcome(sealed) == outcome(round_.unsealed(random, 1))
        assert sealed.manifest.updates[-1] == Row(
            member=BAD, update=sealed.manifest.updates[-1].update, weight=None, excluded=reason
        )


@pytest.mark.parametrize("excess", [1, 100, 4000, 5000, 100_000])
def test_an_update_too_large_is_oversized_whether_its_seal_shows_that_or_only_what_is_in_it(excess: int) -> None:
    most = PLAN.max_update_bytes
    blob = bytes(most + excess)
    shows = len(seal(blob, [age_key(READER)]).update) > largest_sealed(most)
    assert shows or excess < 4200
    assert not shows or excess > 100
    round_ = Played(PLAN, {1: Update(honest(1), EXAMPLES), 2: Update(honest(2), EXAMPLES), 3: Update(blob, EXAMPLES)})
    random = Random(0)
    assert outcome(round_.sealed(random, 1)) == outcome(round_.unsealed(random, 1))
    assert round_.sealed(random, 1).manifest.updates[2].excluded is Reason.OVERSIZED
