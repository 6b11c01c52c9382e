"""A charter's limits to plans: one block of JSON in its text, read strictly, and what in a plan is outside of them."""

from typing import Any

import pytest

from ledger.charter import Limits, limits_of
from ledger.choices import ByExamples
from ledger.plan import Plan
from tests.world import CHARTER_2, PLAN, private


def charter(block: str) -> bytes:
    return f"# Charter\n\nWe agree.\n\n```fedledger-limits\n{block}\n```\n\nSigned.\n".encode()


def test_the_limits_stand_in_one_block_of_the_text() -> None:
    assert limits_of(CHARTER_2) == Limits(min_quorum=2, min_approvals=1, max_update_bytes=4096)
    assert limits_of(CHARTER_2.replace(b"\n", b"\r\n")) == limits_of(CHARTER_2)
    assert limits_of(CHARTER_2.replace(b"fedledger-limits", b"fedledger-limits  ")) == limits_of(CHARTER_2)
    assert limits_of(charter('{\n "min_quorum": 3\n}')) == Limits(min_quorum=3)


@pytest.mark.parametrize(
    "text",
    [b"", b"# Charter\n", b"\xff\xfe\x00", b"```json\n{}\n```\n", b"It has no fedledger-limits.\n", charter("{}")],
)
def test_a_charter_without_them_limits_nothing(text: bytes) -> None:
    assert limits_of(text) == Limits()
    assert limits_of(text).exceeded(PLAN) == []


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("", "the block: Invalid JSON"),
        ("min_quorum: 3", "the block: Invalid JSON"),
        ("[]", "the block: Input should be an object"),
        ('{"min_quorum": 3', "the block: Invalid JSON"),
        ('{"min_quorum": "3"}', "min_quorum: Input should be a valid integer"),
        ('{"min_quorum": 3.0}', "min_quorum: Input should be a valid integer"),
        ('{"min_quorum": true}', "min_quorum: Input should be a valid integer"),
        ('{"min_quorum": -1}', "min_quorum: Input should be greater than or equal to 0"),
        ('{"max_weight": 9007199254740992}', "max_weight: Input should be less than 9007199254740992"),
        ('{"max_quorum": 3}', "max_quorum: Extra inputs are not permitted"),
        ("[" * 100_000, "the block: Invalid JSON"),
    ],
)
def test_a_block_that_cannot_be_read_is_not_taken_for_no_limits(block: str, said: str) -> None:
    with pytest.raises(ValueError, match="the charter's limits cannot be read: ") as refused:
        limits_of(charter(block))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        '```fedledger-limits\n{"min_quorum": 3}\n',
        '   ```fedledger-limits\n   {"min_quorum": 3}\n   ```\n',
        '``` fedledger-limits\n{"min_quorum": 3}\n```\n',
        '~~~fedledger-limits\n{"min_quorum": 3}\n~~~\n',
        '```Fedledger-Limits\n{"min_quorum": 3}\n```\n',
        '```fedledger-limits {"min_quorum": 3} ```\n',
        '> ```fedledger-limits\n> {"min_quorum": 3}\n> ```\n',
    ],
)
def test_a_block_that_people_read_and_machines_would_not_find_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="between a line ```fedledger-limits and a line ```"):
        limits_of(text.encode())


def test_a_charter_has_one_block_of_limits() -> None:
    with pytest.raises(ValueError, match="the charter has 2 blocks of limits: it may have one"):
        limits_of(charter('{"min_quorum": 3}') + charter('{"min_quorum": 1}'))
    with pytest.raises(ValueError, match="the charter has 3 blocks"):
        limits_of(charter("{}") * 2 + b"```fedledger-limits\n")


LIMITED: dict[str, tuple[dict[str, Any], str]] = {
    "min_quorum": ({"quorum": 2}, "quorum"),
    "min_approvals": ({"approvals": 2}, "approvals"),
    "max_rejections": ({"rejections": 2}, "rejections"),
    "min_window": ({"window": 2}, "window"),
    "max_window": ({"window": 2}, "window"),
    "max_weight": ({"weighting": ByExamples(cap=2)}, "weight"),
    "max_update_bytes": ({"max_update_bytes": 2}, "update_bytes"),
    "max_epsilon": ({"privacy": private(budget=2.0)}, "epsilon"),
}
"""Every limit: a plan in which what it limits is 2, and how that is called."""


def test_there_are_no_other_limits() -> None:
    assert LIMITED.keys() == Limits.model_fields.keys()


@pytest.mark.parametrize("name", LIMITED)
def test_a_plan_is_within_a_limit_up_to_and_including_it(name: str) -> None:
    changes, what = LIMITED[name]
    plan: Plan = PLAN.model_copy(update=changes)
    outside = {"min": [3, 4], "max": [0, 1]}[name.partition("_")[0]]
    for limit in range(5):
        said = [f"{what} 2, the charter's {name} is {limit}"] if limit in outside else []
        assert Limits(**{name: limit}).exceeded(plan) == said


def test_everything_outside_is_said() -> None:
    limits = Limits(min_quorum=3, min_approvals=1, max_window=10)
    assert limits.exceeded(PLAN) == [
        "quorum 2, the charter's min_quorum is 3",
        "window 600, the charter's max_window is 10",
    ]
