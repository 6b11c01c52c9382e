"""Accuracy and AUC: counted exactly; and what an update's header takes of a site's measures."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import UsageError
from participant.measures import Tally, auc, checked

SCORED = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), max_size=40)


@given(SCORED)
def test_the_auc_is_the_share_of_pairs_ranked_right_a_tie_counting_half(scored: list[tuple[int, int]]) -> None:
    pairs = [(one, other) for one, label in scored for other, its in scored if label > its]
    right = sum(Fraction(2 * (one > other) + (one == other), 2) for one, other in pairs)
    expected = float(right / len(pairs)) if pairs else None
    scores, labels = np.array([score for score, _ in scored]), np.array([label for _, label in scored], int)
    assert auc(scores, labels) == expected
    if expected is not None:
        assert auc(-scores, labels) == pytest.approx(1 - expected, abs=1e-15)
        assert auc(scores / 7 + 1000, labels) == expected


@given(st.lists(st.tuples(st.tuples(*[st.integers(-2, 2)] * 3), st.integers(0, 2)), max_size=30), st.integers(1, 7))
def test_the_accuracy_is_the_share_of_right_classes_in_batches_of_any_size(
    found: list[tuple[tuple[int, int, int], int]], size: int
) -> None:
    tally = Tally()
    for at in range(0, len(found), size):
        batch = found[at : at + size]
        tally.add(np.array([outputs for outputs, _ in batch]), np.array([label for _, label in batch]))
    right = [outputs.index(max(outputs)) == label for outputs, label in found]
    assert tally.accuracy == (sum(right) / len(right) if right else None)
    assert tally.auc is None, "three classes"


def test_one_number_is_a_logit_and_two_are_told_apart_by_their_difference() -> None:
    labels = np.array([0, 1, 1, 0])
    one, two = Tally(), Tally()
    one.add(np.array([-1.0, 2.0, -3.0, 0.0]), labels)
    two.add(np.array([[1.0, 0.0], [0.0, 2.0], [4.0, 1.0], [5.0, 5.0]]), labels)
    assert (one.accuracy, one.auc) == (two.accuracy, two.auc) == (0.75, 0.5)


def test_labels_that_cross_entropy_ignores_are_not_counted() -> None:
    tally = Tally()
    tally.add(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, -100]))
    assert (tally.accuracy, tally.auc) == (1.0, None)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"a" * 65: 1.0}, "the measure 'aaaa"),
        ({"": 1.0}, "the measure '' is to have a name of 1 to 64 printable ASCII characters"),
        ({"é": 1.0}, "the measure 'é' is to have"),
        ({"a\n": 1.0}, "is to have a name of 1 to 64 printable"),
        ({str(number): 1.0 for number in range(17)}, "it gives 17 measures: give at most 16"),
    ],
)
def test_measures_that_no_header_takes_are_refused(found: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked(found)
    assert said in str(caught.value)


def test_sixteen_measures_with_names_that_print_are_taken() -> None:
    found = {f"~ {number} ".ljust(64, "x"): -0.5 for number in range(16)}
    assert checked(found) == found
    assert checked({}) == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2.0**53, -1e308])
def test_numbers_that_no_header_takes_are_left_out_and_stop_no_site(value: float) -> None:
    assert checked({"loss": value, "auc": 0.5}) == {"auc": 0.5}
