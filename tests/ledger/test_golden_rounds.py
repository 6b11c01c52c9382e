"""Three small rounds for every choice of a plan, whose models are known by their CIDs: they are the rules.

Whoever settles otherwise to a single bit has other rules. `tests/ledger/golden/rounds.json` has, for each case, the
plan as its JSON stands in the ledger, and the CIDs of model, state and manifest after each round. Seven members post.
In round r, element k of all (tensors by name, those of an update with SCAFFOLD's changes of controls among them) of
member i is ((17 i + 31 k + 7 r) mod 101 - 50) / 64, and 8 times that of members 2 and 5; where updates are no
differences the base's element is added, and the sum rounded to the tensor's dtype. Member i has 3 i mod 11 + 1
examples, and {"auc": i / 8} for metrics. Of the first base model element k is (29 k mod 61 - 30) / 16.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ledger.choices import CONTROL, Krum, Scaffold
from ledger.cid import cid_of
from ledger.documents import canonical
from ledger.plan import Plan
from ledger.strategies import read_state
from ledger.updates import MODEL_HEADER, Schema, decode, decode_update, encode
from tests.ledger.test_strategies import ATTACKERS, CASES, ELIGIBLE, EXAMPLES, MEMBERS, Paper, flat, formats, split
from tests.reference import Vector, rounded
from tests.rounds import MIXED, Round, Update, first, plan_of, stored, values_in

GOLDEN = Path(__file__).parent / "golden"
ROUNDS = 3
PLANS = {
    f"{case}, {wire}" if wire else case: plan_of(MIXED, wire=wire, quorum=len(MEMBERS), **choices)
    for case, choices in CASES.items()
    for wire in (None, *(["BF16"] if case in ("fedavg", "scaffold", "clipping", "fedyogi") else []))
}


def laid_out(schema: Schema, values: list[float]) -> dict[str, list[float]]:
    """Values of all elements, tensors by name."""
    rest, out = iter(values), {}
    for name, spec in sorted(schema.items()):
        out[name] = [next(rest) for _ in range(int(np.prod(spec.shape)))]
    return out


def base_of() -> dict[str, list[float]]:
    return laid_out(MIXED, [(29 * k % 61 - 30) / 16 for k in range(9)])


def posted(plan: Plan, start: dict[str, list[float]], member: int, number: int) -> Update:
    schema, times = plan.update_tensors, 8 if member in ATTACKERS else 1
    values = laid_out(schema, [times * ((17 * member + 31 * k + 7 * number) % 101 - 50) / 64 for k in range(18)])
    if not plan.wire:
        values |= {name: [old + new for old, new in zip(start[name], values[name], strict=True)] for name in start}
    return Update(stored(schema, values), EXAMPLES[member], {"auc": member / 8})


def played(plan: Plan) -> dict[str, Any]:
    """What comes of it, as the golden file has it."""
    round_: Round = first(plan, base_of(), ELIGIBLE)
    models, states, manifests = [], [], []
    for number in range(1, ROUNDS + 1):
        settled = round_.settle({member: posted(plan, values_in(round_.base), member, number) for member in MEMBERS})
        models.append(settled.manifest.model)
        states.append(settled.manifest.state)
        manifests.append(str(cid_of(settled.manifest.encode())))
        round_ = round_.next(settled)
    return {"plan": plan.model_dump(mode="json"), "models": models, "states": states, "manifests": manifests}


def known() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((GOLDEN / "rounds.json").read_text())
    return document


def test_every_case_is_known_and_no_other() -> None:
    assert set(known()) == set(PLANS)


@pytest.mark.parametrize("case", PLANS)
def test_models_states_and_manifests_are_the_golden_ones(case: str) -> None:
    golden = known()[case]
    assert Plan.decode(canonical(golden["plan"])) == PLANS[case]
    assert played(PLANS[case]) == golden


@pytest.mark.parametrize("case", PLANS)
def test_exact_arithmetic_that_shares_no_code_with_ours_gives_the_same_models(case: str) -> None:
    plan = PLANS[case]
    paper, base, models = Paper(plan), base_of(), []
    for number in range(1, ROUNDS + 1):
        rows: dict[int, Vector] = {}
        controls: dict[int, Vector] = {}
        for member in MEMBERS:
            values = posted(plan, base, member, number).tensors
            rows[member], controls[member] = split(values_in(encode({}, plan.update_tensors, values)))
        exact = paper.settle(flat(base), rows, controls)
        pairs = zip(exact, formats(MIXED), strict=True)
        base = laid_out(MIXED, [float(rounded(value, form)) for value, form in pairs])
        models.append(str(cid_of(encode(MODEL_HEADER, MIXED, stored(MIXED, base)))))
    assert models == known()[case]["models"]


EVERYTHING = plan_of(
    MIXED,
    strategy=CASES["fedadam, other parameters"]["strategy"],
    filter=Krum(attackers=1, keep=4),
    clipping=2.5,
    average=CASES["trimmed mean"]["average"],
    weighting=CASES["median"]["weighting"],
    wire="BF16",
    quorum=5,
    public_quality=True,
)


def test_a_plan_that_chooses_everything_is_byte_for_byte_the_golden_one() -> None:
    blob = (GOLDEN / "plan-2.json").read_bytes()
    assert EVERYTHING.encode() == blob
    assert Plan.decode(blob) == EVERYTHING


def scaffold_round() -> tuple[Plan, Round, Update]:
    plan = plan_of(MIXED, strategy=Scaffold(), wire="BF16")
    return plan, first(plan, base_of()), posted(plan, base_of(), 3, 1)


def test_an_update_of_scaffold_in_bfloat16_with_metrics_is_byte_for_byte_the_golden_one() -> None:
    plan, round_, update = scaffold_round()
    blob = (GOLDEN / "update-scaffold.safetensors").read_bytes()
    assert round_.blob(3, update) == blob
    decoded = decode_update(blob, plan, round_.place, 3, EXAMPLES[3])
    assert decoded.header["metrics"] == {"auc": 0.375}
    assert set(decoded.tensors) == {*MIXED, *(CONTROL + name for name in MIXED)}
    assert {spec.dtype for spec in decoded.schema.values()} == {"BF16"}


def test_a_state_is_byte_for_byte_the_golden_one() -> None:
    plan = PLANS["fedadam"]
    round_ = first(plan, base_of(), ELIGIBLE)
    settled = round_.settle({member: posted(plan, base_of(), member, 1) for member in MEMBERS})
    blob = (GOLDEN / "state.safetensors").read_bytes()
    assert settled.state == blob
    assert decode(blob).header == {"kind": "state", "steps": 1, "strategy": "fedadam"}
    remembered = read_state(blob, plan, 2)
    assert remembered is not None
    difference = Fraction(sum(posted_difference(plan, member) * EXAMPLES[member] for member in MEMBERS))
    exact = difference / sum(EXAMPLES.values())
    assert remembered.tensors["m/weight"][0] == np.float32(float(exact) * 0.1)


def posted_difference(plan: Plan, member: int) -> Fraction:
    """How far a member's update is from the base in the first element of the weights."""
    update, start = posted(plan, base_of(), member, 1), stored(MIXED, base_of())
    return Fraction(float(update.tensors["weight"][0])) - Fraction(float(start["weight"][0]))
