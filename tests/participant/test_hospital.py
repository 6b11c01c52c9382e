"""A hospital keeps its rows to itself, and trains and tests the same way every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from participant import heart
from participant.federation import PLAN, hospitals
from participant.hospital import BINS, Counts, total
from participant.training import initial


def test_the_records_are_those_of_four_hospitals() -> None:
    splits = heart.load(0)
    assert {name: len(split.train_y) + len(split.test_y) for name, split in splits.items()} == {
        "Cleveland": 304,
        "Hungary": 293,
        "Switzerland": 123,
        "VA Long Beach": 200,
    }


def test_each_hospital_standardises_with_its_own_training_rows() -> None:
    for split in heart.load(0).values():
        numbers = split.train_x[:, :5]
        varied = numbers.std(axis=0) > 0
        assert np.allclose(numbers.mean(axis=0), 0, atol=1e-6)
        assert np.all(numbers.std(axis=0)[varied] <= 1.0001)
        assert varied.sum() >= 4, "in Switzerland cholesterol was never recorded: 0 means missing"


def test_the_same_share_of_either_label_is_tested() -> None:
    for split in heart.load(0).values():
        for label in (0, 1):
            rows = (split.train_y == label).sum() + (split.test_y == label).sum()
            assert (split.test_y == label).sum() == round(rows * heart.TEST_SHARE)


def test_another_seed_splits_otherwise() -> None:
    assert not np.array_equal(heart.load(0)["Hungary"].train_x, heart.load(1)["Hungary"].train_x)


def test_training_twice_gives_the_same_bytes_and_another_round_others() -> None:
    start = initial(heart.FEATURES, 0)
    first, second = (hospitals(0)["Hungary"].train(start, PLAN.training, 1) for _ in range(2))
    other = hospitals(0)["Hungary"].train(start, PLAN.training, 2)
    assert all(first[name].tobytes() == second[name].tobytes() for name in start)
    assert any(first[name].tobytes() != other[name].tobytes() for name in start)


def test_a_hospitals_rows_are_no_attribute_that_others_reach() -> None:
    hospital = hospitals(0)["Hungary"]
    assert {name for name in vars(hospital) if not name.startswith("_")} == {"name"}


def by_pairs(positives: list[int], negatives: list[int]) -> float:
    """The AUC from its definition: of all pairs, how many are ranked right; a tie counts half."""
    pairs = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
    return sum(pairs) / len(pairs)


bins = st.lists(st.integers(0, BINS - 1), min_size=1, max_size=30)


@given(bins, bins)
def test_the_auc_of_counts_is_the_share_of_pairs_ranked_right(positives: list[int], negatives: list[int]) -> None:
    counts = Counts(np.bincount(positives, minlength=BINS), np.bincount(negatives, minlength=BINS))
    assert counts.auc == pytest.approx(by_pairs(positives, negatives))


@given(bins, bins, bins, bins)
def test_the_overall_auc_comes_from_counts_alone(p1: list[int], n1: list[int], p2: list[int], n2: list[int]) -> None:
    parts = [Counts(np.bincount(p, minlength=BINS), np.bincount(n, minlength=BINS)) for p, n in ((p1, n1), (p2, n2))]
    assert total(parts).auc == pytest.approx(by_pairs(p1 + p2, n1 + n2))
