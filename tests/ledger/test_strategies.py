"""Every strategy and rule is what its paper says, rounded once where something is stored."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest

from ledger.choices import (
    CONTROL,
    ByExamples,
    ByTable,
    Equally,
    FedAdagrad,
    FedAdam,
    FedAvgM,
    FedProx,
    FedYogi,
    Krum,
    Median,
    Scaffold,
    TrimmedMean,
)
from ledger.plan import Plan
from ledger.updates import Schema, decode, to_float64
from tests import reference
from tests.reference import F32, FORMATS, Format, Server, Vector, minus
from tests.rounds import MIXED, Round, Update, drawn, first, plan_of, stored, values_in

MEMBERS = range(1, 8)
ROUNDS = 4
ELIGIBLE = 9
EXAMPLES = {member: 3 * member % 11 + 1 for member in MEMBERS}
ATTACKERS = (2, 5)

CASES: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedavg, capped": {"weighting": ByExamples(cap=5)},
    "fedavg, equally": {"weighting": Equally()},
    "fedavg, by a table": {"weighting": ByTable(weights={"1": 7, "5": 2}, others=3)},
    "fedprox": {"strategy": FedProx(mu=0.1)},
    "fedavgm": {"strategy": FedAvgM()},
    "fedavgm, other parameters": {"strategy": FedAvgM(server_learning_rate=0.3, momentum=0.0)},
    "fedadagrad": {"strategy": FedAdagrad()},
    "fedadam": {"strategy": FedAdam()},
    "fedadam, other parameters": {
        "strategy": FedAdam(server_learning_rate=0.05, beta_1=0.5, beta_2=0.75, tau=0.01),
        "weighting": Equally(),
    },
    "fedyogi": {"strategy": FedYogi()},
    "scaffold": {"strategy": Scaffold(), "weighting": Equally()},
    "scaffold, other parameters": {"strategy": Scaffold(server_learning_rate=0.7)},
    "median": {"average": Median(), "weighting": Equally()},
    "median of an even number": {"average": Median(), "weighting": Equally(), "filter": Krum(attackers=2, keep=4)},
    "trimmed mean": {"average": TrimmedMean(share=0.3), "weighting": Equally()},
    "trimmed mean, of halves": {"average": TrimmedMean(share=0.49), "weighting": Equally()},
    "krum": {"filter": Krum(attackers=2, keep=1)},
    "multi-krum": {"filter": Krum(attackers=2)},
    "multi-krum, three": {"filter": Krum(attackers=1, keep=3)},
    "clipping": {"clipping": 1.5},
    "filter, clipping, median, adam": {
        "filter": Krum(attackers=2),
        "clipping": 1.0,
        "average": Median(),
        "weighting": Equally(),
        "strategy": FedAdam(),
    },
    "filter, clipping, trimmed mean, momentum": {
        "filter": Krum(attackers=1),
        "clipping": 2.0,
        "average": TrimmedMean(share=0.2),
        "weighting": Equally(),
        "strategy": FedAvgM(),
    },
}


def flat(values: dict[str, list[float]]) -> Vector:
    """All elements, tensors by name."""
    return [Fraction(value) for name in sorted(values) for value in values[name]]


def split(values: dict[str, list[float]]) -> tuple[Vector, Vector]:
    """An update's tensors, and the changes of its site's control variates."""
    controls = {name: row for name, row in values.items() if name.startswith(CONTROL)}
    return flat({name: row for name, row in values.items() if name not in controls}), flat(controls)


def formats(schema: Schema) -> list[Format]:
    """The format of each element, tensors by name."""
    return [FORMATS[spec.dtype] for _, spec in sorted(schema.items()) for _ in range(int(np.prod(spec.shape)))]


def update(round_: Round, member: int, chance: np.random.Generator) -> Update:
    """What a member posts: some steps from the base, that of an attacker many."""
    plan, start = round_.plan, values_in(round_.base)
    far = 8.0 if member in ATTACKERS else 0.5
    values = drawn(plan.update_tensors, chance, far)
    if not plan.wire:
        values |= {name: [old + new for old, new in zip(start[name], values[name], strict=True)] for name in start}
    return Update(stored(plan.update_tensors, values), EXAMPLES[member])


class Paper:
    """The same rounds, by the papers."""

    def __init__(self, plan: Plan) -> None:
        strategy = {key: value for key, value in plan.strategy.model_dump().items() if key not in ("name", "mu")}
        names = {"server_learning_rate": "rate"}
        parameters: dict[str, Any] = {names.get(key, key): Fraction(value) for key, value in strategy.items()}
        self.plan, self.server = plan, Server(plan.strategy.name, **parameters)
        self.kept: list[int] = []
        self.norms: dict[int, Fraction] = {}
        self.distances: dict[int, Fraction] = {}

    def settle(self, base: Vector, updates: dict[int, Vector], controls: dict[int, Vector]) -> Vector:
        """The model, not rounded."""
        plan = self.plan
        rows = {
            member: [start + way for start, way in zip(base, row, strict=True)] if plan.wire else row
            for member, row in updates.items()
        }
        self.norms = {member: reference.root(reference.squared(minus(row, base))) for member, row in rows.items()}
        kept = list(rows)
        if plan.filter:
            scores = reference.krum_scores(list(rows.values()), plan.filter.attackers)
            self.distances = dict(zip(rows, scores, strict=True))
            keep = plan.filter.keep or len(rows) - plan.filter.attackers
            kept = sorted(sorted(rows, key=lambda member: self.distances[member])[:keep])
        self.kept = kept
        if plan.clipping:
            rows = {member: reference.clipped(rows[member], base, Fraction(plan.clipping)) for member in kept}
        weights = [weight(plan, member) for member in kept]
        taken = [rows[member] for member in kept]
        match plan.average:
            case Median():
                average = reference.median(taken)
            case TrimmedMean(share=share):
                average = reference.trimmed_mean(taken, share)
            case _:
                average = reference.mean(taken, weights)
        if plan.strategy.name == "scaffold":
            change = reference.mean([controls[member] for member in kept], weights)
            self.server.controlled(change, len(kept), ELIGIBLE)
        return self.server.step(base, minus(average, base))


def weight(plan: Plan, member: int) -> int:
    """What an update weighs."""
    if isinstance(plan.weighting, ByTable):
        return plan.weighting.weights.get(str(member), plan.weighting.others)
    return min(EXAMPLES[member], plan.weighting.cap) if isinstance(plan.weighting, ByExamples) else 1


def assert_rounded_once(found: Vector, exact: Vector, forms: list[Format]) -> None:
    for one, other, form in zip(found, exact, forms, strict=True):
        assert abs(one - other) <= reference.unit_of(other, form) * Fraction("0.5001")


def assert_rounded_alike(found: Vector, expected: Vector) -> None:
    """To the same float32, or to the next one where the exact number lies between the two."""
    for one, other in zip(found, expected, strict=True):
        assert abs(one - other) <= reference.unit_of(other, F32)


@pytest.mark.parametrize("wire", [None, "F32", "F16", "BF16"])
@pytest.mark.parametrize("case", CASES)
def test_it_is_what_its_paper_says_round_after_round(case: str, wire: str | None) -> None:
    quorum = len(MEMBERS)
    plan = plan_of(MIXED, wire=cast(Any, wire), quorum=quorum, **CASES[case])
    chance = np.random.default_rng(sum(map(ord, case)))
    round_, paper = first(plan, drawn(MIXED, chance), ELIGIBLE), Paper(plan)
    for _ in range(ROUNDS):
        updates = {member: update(round_, member, chance) for member in MEMBERS}
        settled = round_.settle(updates)
        rows, controls = {}, {}
        for member, one in updates.items():
            rows[member], controls[member] = split(values_in(round_.blob(member, one)))
        exact = paper.settle(flat(values_in(round_.base)), rows, controls)

        assert settled.model is not None
        assert_rounded_once(flat(values_in(settled.model)), exact, formats(MIXED))
        kept = [row.member for row in settled.manifest.updates if row.excluded is None]
        assert (kept, settled.manifest.counted) == (paper.kept, len(MEMBERS))
        assert [row.weight for row in settled.manifest.updates if row.weight] == [weight(plan, one) for one in kept]
        for member, score in settled.scores.items():
            if plan.clipping:
                assert score.norm == pytest.approx(float(paper.norms[member]), rel=1e-12)
            if plan.filter:
                assert score.distance == pytest.approx(float(paper.distances[member]), rel=1e-12)
        assert set(settled.scores) == (set(MEMBERS) if plan.filter or plan.clipping else set())
        assert_state(settled.state, paper.server, plan)
        round_ = round_.next(settled)


def assert_state(state: bytes | None, server: Server, plan: Plan) -> None:
    remembered = {"m/": server.first, "v/": server.second, CONTROL: server.control}
    kinds = {
        "fedavgm": ["m/"],
        "fedadagrad": ["v/"],
        "fedadam": ["m/", "v/"],
        "fedyogi": ["m/", "v/"],
        "scaffold": [CONTROL],
    }.get(plan.strategy.name)
    if kinds is None:
        assert state is None
        return
    assert state is not None
    decoded = decode(state)
    assert decoded.header == {"kind": "state", "strategy": plan.strategy.name, "steps": server.rounds}
    names = [kind + name for kind, name in itertools.product(kinds, sorted(plan.tensors))]
    assert set(decoded.tensors) == set(names)
    for kind in kinds:
        found = {name: to_float64(decoded.tensors[kind + name], "F32").tolist() for name in plan.tensors}
        assert_rounded_alike(flat(found), remembered[kind])


def test_every_choice_of_a_plan_stands_in_the_table() -> None:
    plans = [plan_of(MIXED, quorum=len(MEMBERS), **choices) for choices in CASES.values()]
    assert {plan.strategy.name for plan in plans} == {
        "fedavg",
        "fedprox",
        "fedavgm",
        "fedadagrad",
        "fedadam",
        "fedyogi",
        "scaffold",
    }
    assert {plan.weighting.by for plan in plans} == {"examples", "equal", "table"}
    assert {plan.average.name for plan in plans} == {"mean", "median", "trimmed-mean"}
    assert {plan.filter is None for plan in plans} == {plan.clipping is None for plan in plans} == {True, False}
