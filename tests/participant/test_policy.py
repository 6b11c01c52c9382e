"""A site's own policy: what it allows, key by key, and that whatever cannot be read allows nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.age import show_age_key
from ledger.cid import RAW, Cid
from ledger.cli.init import _POLICY
from ledger.errors import UsageError
from ledger.facts import RoundOpened
from ledger.history import Round
from ledger.plan import DpSgd, Plan
from participant.policy import MAX_POLICY_BYTES, Policy, PolicyFile, read_policy
from tests.world import PLAN

KEYS = [show_age_key(bytes([number]) * 32) for number in range(3)]
TASK, OTHER_TASK = "ab" * 32, "cd" * 32
SEALED = PLAN.model_copy(update={"seal": "age"})
CID = Cid(bytes(32), RAW)


def plan(**changes: Any) -> Plan:
    return SEALED.model_copy(update=changes)


def private(budget: float | None) -> Plan:
    return plan(
        privacy=DpSgd(clip=1.0, noise_multiplier=1.0, sampling_rate=0.1, local_steps=10, delta=1e-5, budget=budget)
    )


def opened(quorum: int = 2, eligible: int = 5) -> Round:
    fact = RoundOpened(1, 3, CID, 0, CID, 1000, 0, quorum, 1, 0, False)
    return Round(opened=fact, opened_at=400, opening_head=bytes(32), charter_version=1, eligible=eligible, readers={})


def refused(
    policy: Policy,
    asked: Plan = SEALED,
    known: Round | None = None,
    recipients: tuple[int, ...] = (),
    task: str = TASK,
) -> list[str]:
    keys = [bytes([number]) * 32 for number in recipients]
    return policy.refused(asked, known or opened(asked.quorum), keys, task)


ALLOWED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing is limited": ({}, {}),
    "a strategy that is listed": ({"strategies": ["median", "fedavg"]}, {}),
    "a budget at the limit": ({"max_epsilon": 8.0}, {"asked": private(8.0)}),
    "a whole number of epsilon": ({"max_epsilon": 8}, {"asked": private(8.0)}),
    "recipients that are listed": ({"recipients": KEYS[:2]}, {"recipients": (0, 1)}),
    "fewer recipients than are listed": ({"recipients": KEYS[:2]}, {"recipients": (1,)}),
    "nobody but the site itself": ({"recipients": []}, {"recipients": ()}),
    "a quorum at the limit": ({"min_sites": 3}, {"asked": plan(quorum=3)}),
    "a task that is listed": ({"tasks": [OTHER_TASK, TASK]}, {}),
    "unsealed updates, where that is said": ({"allow_unsealed": True}, {"asked": PLAN}),
    "unsealed updates are for everyone, whoever else is listed": (
        {"allow_unsealed": True, "recipients": []},
        {"asked": PLAN, "recipients": (1,)},
    ),
}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "a strategy that is not listed": (
        {"strategies": ["median", "krum"]},
        {},
        ["strategy fedavg, the policy's strategies are median, krum"],
    ),
    "any strategy": ({"strategies": []}, {}, ["strategy fedavg, the policy's strategies are none"]),
    "a budget above the limit": (
        {"max_epsilon": 8.0},
        {"asked": private(8.5)},
        ["privacy budget 8.5, the policy's max_epsilon is 8"],
    ),
    "privacy without a budget": (
        {"max_epsilon": 8.0},
        {"asked": private(None)},
        ["no privacy budget, the policy's max_epsilon is 8"],
    ),
    "no privacy": ({"max_epsilon": 8.0}, {}, ["no privacy budget, the policy's max_epsilon is 8"]),
    "a recipient that is not listed": (
        {"recipients": KEYS[:2]},
        {"recipients": (0, 2)},
        [f"recipient {KEYS[2]}, which the policy's recipients do not have"],
    ),
    "anybody but the site itself": (
        {"recipients": []},
        {"recipients": (1,)},
        [f"recipient {KEYS[1]}, which the policy's recipients do not have"],
    ),
    "a quorum under the limit": ({"min_sites": 3}, {}, ["quorum 2, the policy's min_sites is 3"]),
    "a round that was opened with a smaller quorum than its plan's": (
        {"min_sites": 3},
        {"asked": plan(quorum=3), "known": opened(quorum=1)},
        ["the round's quorum 1, the policy's min_sites is 3"],
    ),
    "fewer sites than the limit": (
        {"min_sites": 3},
        {"asked": plan(quorum=3), "known": opened(quorum=3, eligible=2)},
        ["eligible sites 2, the policy's min_sites is 3"],
    ),
    "a task that is not listed": (
        {"tasks": [OTHER_TASK]},
        {},
        [f"task {TASK}, which the policy's tasks do not have"],
    ),
    "any task": ({"tasks": []}, {}, [f"task {TASK}, which the policy's tasks do not have"]),
    "unsealed updates": ({}, {"asked": PLAN}, ["seal none, the policy's allow_unsealed is false"]),
    "several things, each told": (
        {"strategies": ["krum"], "min_sites": 9},
        {"asked": PLAN},
        [
            "strategy fedavg, the policy's strategies are krum",
            "quorum 2, the policy's min_sites is 9",
            "seal none, the policy's allow_unsealed is false",
            "eligible sites 5, the policy's min_sites is 9",
        ],
    ),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_a_policy_allows(case: str) -> None:
    keys, round_ = ALLOWED[case]
    assert refused(Policy(**keys), **round_) == []


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_policy_refuses_and_why(case: str) -> None:
    keys, round_, said = REFUSED[case]
    assert refused(Policy(**keys), **round_) == said


def test_every_key_stands_in_both_tables() -> None:
    for table in (ALLOWED, REFUSED):
        tried = {key for keys, *_ in table.values() for key in keys}
        assert tried >= set(Policy.model_fields) - {"allow_unsealed", "metrics"}, "metrics refuses no round"


POLICIES = st.fixed_dictionaries(
    {},
    optional={
        "strategies": st.lists(st.sampled_from(["fedavg", "krum"])),
        "max_epsilon": st.floats(0.1, 10),
        "recipients": st.lists(st.sampled_from(KEYS)),
        "min_sites": st.integers(1, 6),
        "tasks": st.lists(st.sampled_from([TASK, OTHER_TASK])),
    },
)
ROUNDS = st.fixed_dictionaries(
    {
        "asked": st.one_of(
            st.builds(private, st.none() | st.floats(0.1, 10)),
            st.builds(
                lambda quorum, seal: plan(quorum=quorum, seal=seal), st.integers(1, 6), st.sampled_from(["age", "none"])
            ),
        ),
        "known": st.builds(opened, st.integers(1, 6), st.integers(1, 6)),
        "recipients": st.sets(st.integers(0, 2)).map(tuple),
        "task": st.sampled_from([TASK, OTHER_TASK]),
    }
)


@given(ROUNDS)
def test_an_empty_policy_refuses_unsealed_updates_and_nothing_else(round_: dict[str, Any]) -> None:
    assert (refused(Policy(), **round_) == []) == (round_["asked"].seal != "none")
    assert refused(Policy(allow_unsealed=True), **round_) == []


@given(POLICIES, POLICIES, st.booleans(), ROUNDS)
def test_a_further_key_never_allows_more(
    keys: dict[str, Any], more: dict[str, Any], unsealed: bool, round_: dict[str, Any]
) -> None:
    before = refused(Policy(**keys, allow_unsealed=unsealed), **round_)
    after = refused(Policy(**{**more, **keys}, allow_unsealed=unsealed), **round_)
    assert set(before) <= set(after)


@given(POLICIES, ROUNDS)
def test_what_plan_and_task_alone_are_refused_for_is_refused_in_every_round(
    keys: dict[str, Any], round_: dict[str, Any]
) -> None:
    policy = Policy(**keys)
    alone = policy.refused_task(round_["task"]) + policy.refused_plan(round_["asked"])
    assert set(alone) <= set(refused(policy, **round_))


# --------------------------------------------------------------------------------------------- the file


WHOLE = f"""
strategies = ["fedavg"]
max_epsilon = 8.0
recipients = ["{KEYS[0]}"]
min_sites = 3
tasks = ["{TASK}"]
allow_unsealed = true
"""


def test_a_policy_file_can_say_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(WHOLE)
    assert read_policy(tmp_path / "policy.toml") == Policy(
        strategies=["fedavg"], max_epsilon=8.0, recipients=[KEYS[0]], min_sites=3, tasks=[TASK], allow_unsealed=True
    )


def test_what_init_writes_limits_nothing_and_names_every_key(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(_POLICY)
    assert read_policy(tmp_path / "policy.toml") == Policy()
    filled_in = re.sub(r"^# (\w+ = )", r"\1", _POLICY, flags=re.MULTILINE)
    (tmp_path / "policy.toml").write_text(filled_in)
    assert read_policy(tmp_path / "policy.toml").model_fields_set == set(Policy.model_fields)


BAD: dict[str, tuple[str | bytes, str]] = {
    "an unknown key": ("colour = 1", "'colour' is no key of it: the keys are strategies, max_epsilon, recipients,"),
    "a mistyped key": ("min_site = 3", "'min_site' is no key of it: did you mean min_sites?"),
    "a mistyped key beside a good one": ("min_sites = 3\nallow_unseald = true", "did you mean allow_unsealed?"),
    "a section": ("[policy]\nmin_sites = 3", "'policy' is no key of it"),
    "text for a list": ('strategies = "fedavg"', "strategies: Input should be a valid list"),
    "numbers for names": ("strategies = [1]", "strategies.0: Input should be a valid string"),
    "text for a number": ('max_epsilon = "8"', "max_epsilon: Input should be a valid number"),
    "a switch for a number": ("max_epsilon = true", "max_epsilon: Input should be a valid number"),
    "no epsilon": ("max_epsilon = 0", "max_epsilon: Input should be greater than 0"),
    "an endless epsilon": ("max_epsilon = inf", "max_epsilon: Input should be a finite number"),
    "an epsilon that is none": ("max_epsilon = nan", "max_epsilon: Input should be a finite number"),
    "a key that is none": ('recipients = ["age1"]', "recipients.0: an age public key is age1 and 58 letters"),
    "a key with a letter mistyped": (f'recipients = ["{KEYS[0][:-1]}q"]', "recipients.0: the checksum of"),
    "a secret key": ('recipients = ["AGE-SECRET-KEY-1X"]', "recipients.0: that is a secret key: show it to nobody"),
    "half a site": ("min_sites = 2.5", "min_sites: Input should be a valid integer"),
    "a whole number that is written as another": ("min_sites = 3.0", "min_sites: Input should be a valid integer"),
    "no site": ("min_sites = 0", "min_sites: Input should be greater than or equal to 1"),
    "a digest that is none": ('tasks = ["task.py"]', "tasks.0: String should match pattern"),
    "a digest in upper case": (f'tasks = ["{TASK.upper()}"]', "tasks.0: String should match pattern"),
    "a digest with a line end": (f'tasks = ["{TASK}\\n"]', "tasks.0: String should match pattern"),
    "a digest that is not in a list": (f'tasks = "{TASK}"', "tasks: Input should be a valid list"),
    "a word for a switch": ('allow_unsealed = "no"', "allow_unsealed: Input should be a valid boolean"),
    "a number for a switch": ("allow_unsealed = 1", "allow_unsealed: Input should be a valid boolean"),
    "no TOML": ("min_sites", "is no TOML file (Expected '='"),
    "JSON": ('{"min_sites": 3}', "is no TOML file ("),
    "a key twice": ("min_sites = 3\nmin_sites = 1", "is no TOML file (Cannot overwrite a value"),
    "endless brackets": ("tasks = " + "[" * 100_000, "is no TOML file ("),
    "no text": (b"\xff\xfe", "is no TOML file ("),
    "too much": (b"#" * (MAX_POLICY_BYTES + 1), "there is no policy to read at"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_policy_is_named_with_its_key(tmp_path: Path, case: str) -> None:
    content, said = BAD[case]
    path = tmp_path / "policy.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=re.escape(said)) as error:
        read_policy(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_named_or_was_there_before_has_to_be_there(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    missing = r"there is no policy to read at .*policy\.toml \(No such file or directory\)"
    with pytest.raises(UsageError, match=missing):
        PolicyFile(path).read()
    beside = PolicyFile(path, required=False)
    assert beside.read() is None
    path.write_text("min_sites = 3")
    assert beside.read() == Policy(min_sites=3), "it is read anew"
    path.unlink()
    with pytest.raises(UsageError, match=missing):
        beside.read()


def test_a_link_to_nowhere_is_no_policy_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").symlink_to("moved away")
    with pytest.raises(UsageError, match="there is no policy to read"):
        PolicyFile(tmp_path / "policy.toml", required=False).read()


def test_the_quorum_of_round_and_plan_are_both_looked_at() -> None:
    known = replace(opened(), eligible=9)
    assert len(refused(Policy(min_sites=3), plan(quorum=2), known)) == 1
