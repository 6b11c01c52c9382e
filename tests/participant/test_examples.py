"""A site's examples: which are held out, and the digest that says which they were."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import namedtuple
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from ledger.errors import UsageError
from participant.examples import Part, fingerprint, split

HELD_OUT_OF_10 = [4, 9]
HELD_OUT_OF_1000 = "419d290c0f0198c3358c0218c2aaa932bd59feb9c658071221889c37123ea9ce"
FINGERPRINT = "b04bae95e2271b1e2700a9ade0ba884c78f083f8b21498eeea791cdf4b3c3585"

# ------------------------------------------------------------------------------------------------- split


@given(st.integers(1, 2000))
def test_every_fifth_example_is_held_out_and_every_example_is_in_one_part(count: int) -> None:
    train, held_out = split(list(range(count)))
    assert len(held_out) == (count // 5 if count >= 10 else 0)
    assert sorted([*train, *held_out]) == list(range(count))
    assert [*train] == sorted(train)
    assert [*held_out] == sorted(held_out)


def test_the_split_of_so_many_examples_is_the_same_for_ever() -> None:
    assert list(split(list(range(10)))[1]) == HELD_OUT_OF_10
    rows = np.array(list(split(list(range(1000)))[1]), "<i8")
    assert hashlib.sha256(rows.tobytes()).hexdigest() == HELD_OUT_OF_1000


def test_it_depends_on_nothing_but_how_many_there_are() -> None:
    np.random.seed(1)
    first = list(split([str(number) for number in range(50)])[1])
    np.random.seed(2)
    assert first == [str(number) for number in split(list(range(50)))[1]]


def test_the_held_out_are_spread_over_the_data_as_chance_would_have_it() -> None:
    held_out = np.array(list(split(list(range(10_000)))[1]))
    counts = np.histogram(held_out, 10, (0, 10_000))[0]
    assert ((counts - 200) ** 2 / 160).sum() < 30, "data that are sorted by label are not cut between two labels"


def test_fewer_than_ten_are_all_trained_on() -> None:
    data = [1, 2, 3]
    train, held_out = split(data)
    assert train is data
    assert len(held_out) == 0


def test_a_part_of_an_array_is_an_array_and_of_a_dataset_one_that_a_loader_takes() -> None:
    table = np.arange(40.0).reshape(20, 2)
    train, _ = split(table)
    assert isinstance(train, np.ndarray)
    assert train.shape == (16, 2)
    part = split(TensorDataset(torch.from_numpy(table)))[0]
    [[loaded]] = list(DataLoader(part, 16))
    assert np.array_equal(loaded, train)
    [sliced] = part[:3]
    assert np.array_equal(sliced, train[:3])
    assert np.array_equal(part[-1][0], train[-1])
    with pytest.raises(IndexError):
        part[16]


# ------------------------------------------------------------------------------------------- fingerprint

Pair = namedtuple("Pair", "x y")

DATA: list[Any] = [
    (torch.tensor([1.0, 2.0]), 1),
    {"image": np.zeros((2, 2), np.uint8), "text": "é", "none": None, "raw": b"\0"},
    [True, 1.5, np.float32(1), 1 << 80, Pair(1, 2)],
    (torch.tensor(1.0, dtype=torch.bfloat16), torch.zeros(0, 3), torch.tensor(1j)),
    "text",
]


def test_the_digest_of_some_data_is_the_same_for_ever() -> None:
    assert fingerprint(DATA).hex() == FINGERPRINT


def test_another_process_gives_the_same_digest() -> None:
    program = (
        "from tests.participant.test_examples import DATA, fingerprint; print(fingerprint(DATA).hex(), flush=True)"
    )
    root = Path(__file__).resolve().parents[2]
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert output.stdout.strip() == fingerprint(DATA).hex()


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (torch.tensor([1.0, 2.0]), np.array([1, 2], np.float32)),
        (torch.arange(6).reshape(2, 3).T, np.arange(6).reshape(2, 3).T.copy()),
        (np.array([1, 2], ">f8"), np.array([1, 2], "<f8")),
        (torch.ones(2, requires_grad=True), torch.ones(2)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (torch.ones(2, dtype=torch.complex64).conj(), np.ones(2, np.complex64).conj()),
    ],
)
def test_the_same_numbers_have_the_same_digest_however_they_are_kept(one: Any, same: Any) -> None:
    assert fingerprint([one]) == fingerprint([same])


DIFFERENT: list[Any] = [
    [],
    [[]],
    [0],
    [0.0],
    [-0.0],
    [False],
    [None],
    ["0"],
    [b"0"],
    [np.float32(0)],
    [np.float64(0)],
    [np.zeros(1, np.float32)],
    [np.zeros((1, 1), np.float32)],
    [np.zeros(2, np.float16)],
    [torch.zeros(2, dtype=torch.bfloat16)],
    [np.zeros(2, np.float32)],
    [np.array([0, -0.0], np.float32)],
    [(0, 0)],
    [((0,), 0)],
    [(0, (0,))],
    [0, 0],
    ["ab", "c"],
    ["a", "bc"],
    [("ab", "c")],
    [{"a": 1}],
    [{"a": 1, "b": 2}],
    [{"a": {"b": 2}}],
    [[("a", 1)]],
]


def test_whatever_differs_has_another_digest() -> None:
    assert len({fingerprint(data) for data in DIFFERENT}) == len(DIFFERENT)
    assert fingerprint([1], [2]) != fingerprint([1, 2], []) != fingerprint([2, 1], [])


@given(st.recursive(st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.booleans(), st.lists))
def test_any_data_of_plain_values_has_a_digest_of_its_own(item: Any) -> None:
    assert fingerprint([item]) == fingerprint([item])
    assert fingerprint([item]) != fingerprint([item, item])
    assert fingerprint([item]) != fingerprint([[item]])


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (object(), "object"),
        (Fraction(1, 2), "Fraction"),
        ((1, {2}), "set"),
        (np.array([object()]), "ndarray"),
        (np.ma.masked_array([1, 2], [True, False]), "MaskedArray"),
        (torch.ones(2).to_sparse(), "Tensor"),
    ],
)
def test_what_has_no_fixed_bytes_is_refused_with_the_examples_number(item: Any, kind: str) -> None:
    with pytest.raises(UsageError) as caught:
        fingerprint([1, item])
    assert str(caught.value).startswith(f"example 1 holds a {kind}, of which no fingerprint can be taken: give tensors")


def test_one_example_is_read_at_a_time_and_each_once() -> None:
    read: list[int] = []

    class Streamed:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, at: int) -> int:
            read.append(at)
            return at

    assert fingerprint(Part(Streamed(), np.array([2, 0])), Streamed()) == fingerprint([2, 0], [0, 1, 2])
    assert read == [2, 0, 0, 1, 2]
