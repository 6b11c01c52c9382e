"""The figures of a model over its sites: what they are, and that any numbers that sites can say have some."""

import json
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.cli.scores import figure_lines
from ledger.figures import MOST_SHOWN, Said, figures, foremost, lower_is_better
from ledger.manifest import Score

NUMBERS = st.floats(-(2.0**53), 2.0**53, exclude_min=True, exclude_max=True)
"""What metrics can be."""


def said(metric: str, values: dict[int, float]) -> dict[int, Score]:
    return {member: Score(metrics={metric: value}) for member, value in values.items()}


def test_each_site_counts_once_and_the_worst_and_the_best_are_named() -> None:
    [figure] = figures(said("auc", {4: 0.5, 1: 0.75, 7: 1.0})).values()
    assert (figure.sites, figure.mean) == (3, 0.75)
    assert (figure.worst, figure.best) == (Said(4, 0.5), Said(7, 1.0))
    assert (figure.spread, figure.deviation) == (0.5, math.sqrt(1 / 24))


@pytest.mark.parametrize(
    "metric", ["loss", "Loss", "val_loss", "loss/class 3", "error", "error_rate", "mean squared Error"]
)
def test_of_a_loss_or_an_error_the_highest_is_the_worst(metric: str) -> None:
    assert lower_is_better(metric)
    [figure] = figures(said(metric, {1: 0.5, 2: 0.75})).values()
    assert (figure.worst, figure.best) == (Said(2, 0.75), Said(1, 0.5))


@pytest.mark.parametrize("metric", ["auc", "accuracy", "f1", "glossy", "terror rate", ""])
def test_of_anything_else_the_lowest_is_the_worst(metric: str) -> None:
    assert not lower_is_better(metric)


@pytest.mark.parametrize("metric", ["auc", "loss"])
def test_of_equal_sites_the_lowest_member_id_is_named(metric: str) -> None:
    [figure] = figures(said(metric, {9: 0.5, 3: 0.5, 5: 0.5})).values()
    assert (figure.worst, figure.best) == (Said(3, 0.5), Said(3, 0.5))


def test_a_metric_counts_the_sites_that_say_it() -> None:
    scores = {1: Score(metrics={"auc": 0.5, "loss": 1}), 2: Score(metrics={"auc": 0.75}), 3: Score(norm=1.0)}
    assert {metric: figure.sites for metric, figure in figures(scores).items()} == {"auc": 2, "loss": 1}
    assert figures({}) == {}


@given(st.dictionaries(st.integers(1, 65_535), NUMBERS, min_size=1))
def test_whatever_numbers_sites_say_the_figures_are_finite_and_in_order(values: dict[int, float]) -> None:
    [figure] = figures(said("auc", values)).values()
    document = json.loads(json.dumps(figure.document(), allow_nan=False))
    assert document["worst"]["value"] <= document["mean"] <= document["best"]["value"]
    assert 0 <= document["deviation"] <= document["spread"]
    assert values[document["worst"]["member"]] == min(values.values())


@given(st.permutations([(1, 0.1), (2, 0.7), (3, 1e15), (4, -1e15)]))
def test_the_order_of_the_updates_changes_no_bit(pairs: list[tuple[int, float]]) -> None:
    assert figures(said("auc", dict(pairs))) == figures(said("auc", dict(sorted(pairs))))
    assert figures(said("auc", dict(pairs)))["auc"].mean == statistics.mean([0.1, 0.7, 1e15, -1e15])


def test_people_are_told_where_a_model_fared_worst() -> None:
    metrics = {metric: figure.document() for metric, figure in figures(said("auc", {1: 0.5})).items()}
    [_, line] = figure_lines({"round": 1, "base_round": 0, "metrics": metrics}, {})
    assert line == ("  auc", "mean 0.5 of 1 site, worst 0.5 at 1 never admitted, spread 0")


def test_of_very_many_metrics_the_rest_is_counted() -> None:
    scores = {1: Score(metrics={f"metric {number}": 0.5 for number in range(16)})}
    metrics = {metric: figure.document() for metric, figure in figures(scores).items()}
    lines = figure_lines({"round": 1, "base_round": 0, "metrics": metrics}, {})
    assert len(lines) == 1 + MOST_SHOWN + 1
    assert str(lines[-1][1]).startswith(f"{16 - MOST_SHOWN} metrics more")


def test_people_are_shown_the_metrics_that_most_sites_say() -> None:
    sites = {f"own {number}": 1 for number in range(50)} | {"loss": 9, "auc": 10}
    shown = foremost(sites)
    assert len(shown) == MOST_SHOWN
    assert {"auc", "loss"} <= set(shown)
    assert shown == sorted(shown)
