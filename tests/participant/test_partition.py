"""How data are split among sites that differ."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import UsageError
from participant.partition import dirichlet

LABELS = np.arange(1000) % 10


def skew(alpha: float) -> float:
    """The share of a site's most frequent class, on average over sites."""
    parts = dirichlet(LABELS, 20, alpha, np.random.default_rng(1))
    return float(np.mean([np.bincount(LABELS[part]).max() / len(part) for part in parts]))


@given(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=10, max_size=200),
    st.integers(1, 20),
    st.sampled_from([1e-300, 1e-3, 0.5, 1.0, 1e3, 1e300]),
    st.integers(0, 9),
)
def test_every_example_is_at_one_site_and_sites_have_one_size_of_ten_at_least(
    labels: list[str], sites: int, alpha: float, seed: int
) -> None:
    sites = min(sites, len(labels) // 10)
    parts = dirichlet(labels, sites, alpha, np.random.default_rng(seed))
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    sizes = [len(part) for part in parts]
    assert min(sizes) >= 10
    assert max(sizes) - min(sizes) <= 1
    assert all(list(part) == sorted(part) for part in parts)


def test_the_generator_decides() -> None:
    def split(seed: int) -> list[list[int]]:
        return [part.tolist() for part in dirichlet(LABELS, 4, 0.5, np.random.default_rng(seed))]

    assert split(1) == split(1) != split(2)


def test_the_smaller_alpha_the_fewer_classes_has_a_site() -> None:
    assert skew(0.1) > 0.45 > skew(5) > 0.25 > skew(1e6) > 0.1


@pytest.mark.parametrize(
    ("sites", "alpha", "said"),
    [
        (101, 1.0, "1,000 examples cannot be split among 101 sites of 10 or more: take from 1 to 100"),
        (0, 1.0, "among 0 sites"),
        (2, 0.0, "alpha is 0.0: take a number above 0, such as 0.5"),
        (2, -1.0, "alpha is -1.0"),
        (2, math.nan, "alpha is nan"),
        (2, math.inf, "alpha is inf"),
    ],
)
def test_what_cannot_be_split_so_is_refused(sites: int, alpha: float, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        dirichlet(LABELS, sites, alpha, np.random.default_rng(0))
    assert said in str(caught.value)
