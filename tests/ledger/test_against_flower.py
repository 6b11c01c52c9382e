"""Every strategy and rule that Flower has, too, gives what Flower's own implementation gives, up to float rounding."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ledger.choices import (
    Equally,
    FedAdagrad,
    FedAdam,
    FedAvgM,
    FedProx,
    FedYogi,
    Krum,
    Median,
    TrimmedMean,
)
from ledger.cid import Bytes
from ledger.plan import TensorSpec
from tests.rounds import Round, Update, drawn, first, plan_of, stored, values_in

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"  # read when Flower is imported
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.serverapp import strategy as flower
    from flwr.supercore.differential_privacy import compute_clip_model_update
    from flwr.supercore.task_identity import TaskIdentity

Arrays = Mapping[str, npt.NDArray[np.float32]]

SCHEMA = {"bias": TensorSpec(dtype="F32", shape=[5]), "weight": TensorSpec(dtype="F32", shape=[5, 40])}
MEMBERS = range(1, 11)
EXAMPLES = {member: 5 * member % 13 + 1 for member in MEMBERS}
ATTACKERS = (3, 8)
ROUNDS = 3

CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "FedAvg": ({}, flower.FedAvg),
    "FedProx": ({"strategy": FedProx(mu=0.1)}, lambda: flower.FedProx(proximal_mu=0.1)),
    "FedAvgM": (
        {"strategy": FedAvgM(server_learning_rate=0.5, momentum=0.8)},
        lambda: flower.FedAvgM(server_learning_rate=0.5, server_momentum=0.8),
    ),
    "FedAdagrad": ({"strategy": FedAdagrad()}, flower.FedAdagrad),
    "FedAdam": ({"strategy": FedAdam()}, flower.FedAdam),
    "FedYogi": ({"strategy": FedYogi()}, flower.FedYogi),
    "FedAdam, other parameters": (
        {"strategy": FedAdam(server_learning_rate=0.03, beta_1=0.6, beta_2=0.8, tau=0.02)},
        lambda: flower.FedAdam(eta=0.03, beta_1=0.6, beta_2=0.8, tau=0.02),
    ),
    "FedMedian": ({"average": Median(), "weighting": Equally()}, flower.FedMedian),
    "FedTrimmedAvg": (
        {"average": TrimmedMean(share=0.2), "weighting": Equally()},
        lambda: flower.FedTrimmedAvg(beta=0.2),
    ),
    "Krum": ({"filter": Krum(attackers=2, keep=1)}, lambda: flower.Krum(num_malicious_nodes=2)),
    "MultiKrum": (
        {"filter": Krum(attackers=2, keep=6)},
        lambda: flower.MultiKrum(num_malicious_nodes=2, num_nodes_to_select=6),
    ),
}
"""What Flower calls it -> what the plan chooses, and what makes Flower's strategy. Parameters that are left out have
the same defaults in both."""


@pytest.fixture(autouse=True)
def _in_a_run_of_flowers() -> None:
    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1


def arrays_in(blob: Bytes) -> dict[str, npt.NDArray[np.float32]]:
    return {name: np.array(values, np.float32).reshape(SCHEMA[name].shape) for name, values in values_in(blob).items()}


def record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def reply(arrays: Arrays, examples: int) -> Message:
    """What Flower's server gets from a node."""
    content = RecordDict({"arrays": record(arrays), "metrics": MetricRecord({"num-examples": examples})})
    return Message(content, reply_to=Message(RecordDict(), dst_node_id=1, message_type="train"))


def posted(round_: Round, chance: np.random.Generator) -> dict[int, Update]:
    """What sites send: some steps from the base, attackers many."""
    start = values_in(round_.base)
    updates = {}
    for member in MEMBERS:
        values = drawn(SCHEMA, chance, 6.0 if member in ATTACKERS else 0.3)
        trained = {name: np.add(start[name], values[name]).tolist() for name in SCHEMA}
        updates[member] = Update(stored(SCHEMA, trained), EXAMPLES[member])
    return updates


@pytest.mark.parametrize("case", CASES)
def test_three_rounds_give_what_flower_gives(case: str) -> None:
    choices, make = CASES[case]
    chance = np.random.default_rng(1)
    round_ = first(plan_of(SCHEMA, quorum=len(MEMBERS), **choices), drawn(SCHEMA, chance))
    strategy, model = make(), arrays_in(round_.base)
    for number in range(1, ROUNDS + 1):
        updates = posted(round_, chance)
        if hasattr(strategy, "current_arrays"):  # what the server has sent out, which its grid would have told it
            strategy.current_arrays = record(model) if case == "FedAvgM" else model
        replies = [reply(arrays_in(round_.blob(one, update)), update.examples) for one, update in updates.items()]
        theirs, _ = strategy.aggregate_train(number, replies)
        assert theirs is not None
        round_ = round_.next(round_.settle(updates))
        ours, model = arrays_in(round_.base), {name: array.numpy() for name, array in theirs.items()}
        for name in SCHEMA:
            np.testing.assert_allclose(ours[name], model[name].astype(np.float32), rtol=2e-5, atol=2e-6)
        model = ours  # the next round of both starts from the same bytes: what is compared is one step


def test_clipping_gives_what_flower_clips_before_it_averages() -> None:
    bound, chance = 2.0, np.random.default_rng(2)
    round_ = first(plan_of(SCHEMA, quorum=len(MEMBERS), clipping=bound), drawn(SCHEMA, chance))
    updates, base = posted(round_, chance), arrays_in(round_.base)
    replies, norms = [], {}
    for member, update in updates.items():
        names, trained = list(SCHEMA), arrays_in(round_.blob(member, update))
        clipped = [trained[name] for name in names]
        norms[member] = np.sqrt(sum(np.sum(np.square(trained[name] - base[name])) for name in names))
        compute_clip_model_update(clipped, [base[name] for name in names], bound)
        replies.append(reply(dict(zip(names, clipped, strict=True)), update.examples))
    assert max(norms.values()) > bound
    theirs, _ = flower.FedAvg().aggregate_train(1, replies)
    assert theirs is not None
    settled = round_.settle(updates)
    assert settled.model is not None
    for name, ours in arrays_in(settled.model).items():
        np.testing.assert_allclose(ours, theirs[name].numpy(), rtol=1e-5, atol=1e-6)
    for member, score in settled.scores.items():
        assert score.norm == pytest.approx(norms[member], rel=1e-5)


def test_flowers_bits_follow_the_order_of_arrival_and_ours_do_not() -> None:
    chance = np.random.default_rng(3)
    round_ = first(plan_of(SCHEMA), drawn(SCHEMA, chance))
    updates = posted(round_, chance)
    orders = [list(MEMBERS), list(reversed(MEMBERS))]
    arrays = {member: arrays_in(round_.blob(member, update)) for member, update in updates.items()}
    theirs = [
        flower.FedAvg().aggregate_train(1, [reply(arrays[member], EXAMPLES[member]) for member in order])[0]
        for order in orders
    ]
    assert theirs[0] is not None
    assert theirs[1] is not None
    assert any((theirs[0][name].numpy() != theirs[1][name].numpy()).any() for name in SCHEMA)
    assert round_.settle(updates, orders[0]).model == round_.settle(updates, orders[1]).model
