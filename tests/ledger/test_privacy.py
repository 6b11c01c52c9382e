"""What sites have spent of their examples' privacy: known answers, laws, and what a history with its plans gives."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import RDPAccountant

import ledger.privacy
from ledger.audit.bundle import write_bundle
from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.audit.report import Check, Verdict
from ledger.cli import main
from ledger.errors import BlobMissingError, UnavailableError, UsageError
from ledger.history import Round
from ledger.plan import Plan, TensorSpec
from ledger.privacy import LARGEST, Spent, after, epsilons, rounded_up, spending, told
from tests.paper import PaperLedger
from tests.world import private

DELTA = 1e-5


def spent_on(noise: float, rate: float, steps: int, delta: float = DELTA) -> float:
    epsilon, rdp = epsilons(frozenset({((noise, rate), steps)}), delta)
    assert epsilon <= rdp + ledger.privacy.TOLERANCE
    return epsilon


# ---------------------------------------------------------------------------------------- known answers


def delta_of(epsilon: float, noise: float, steps: int) -> float:
    """The delta of many Gaussian mechanisms at an epsilon, in closed form (Balle & Wang 2018, theorem 8)."""

    def normal(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    mu = math.sqrt(steps) / noise
    return normal(mu / 2 - epsilon / mu) - math.exp(epsilon) * normal(-mu / 2 - epsilon / mu)


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (5.0, 1), (0.5, 1), (4.0, 16), (20.0, 1000)])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
def test_without_sampling_it_is_the_gaussian_mechanism_in_closed_form(noise: float, steps: int, delta: float) -> None:
    epsilon = spent_on(noise, 1, steps, delta)
    assert delta_of(epsilon, noise, steps) <= delta * (1 + 1e-6), "never less than it is"
    assert delta_of(epsilon - 1e-3, noise, steps) > delta, "and hardly more"


PUBLISHED = {
    # noise, sampling rate, steps, delta: epsilon
    "Bu et al. 2020, figure 4, 20 epochs": (1.3, 256 / 60_000, 20 * 60_000 // 256, 1e-5, 1.34),
    "Bu et al. 2020, figure 4, 70 epochs": (0.7, 256 / 60_000, 70 * 60_000 // 256, 1e-5, 8.68),
    "compute_dp_sgd_privacy of TensorFlow Privacy and Opacus": (1.12, 256 / 60_000, 60 * 60_000 // 256, 1e-5, 2.92),
}
"""Upper bounds by the moments accountant, whose way from RDP to epsilon is wider than today's."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_is_somewhat_under_the_published_bounds_for_dp_sgd_on_mnist(name: str) -> None:
    noise, rate, steps, delta, published = PUBLISHED[name]
    epsilon, rdp = epsilons(frozenset({((noise, rate), steps)}), delta)
    assert 0.65 * published < epsilon < rdp < published


@pytest.mark.parametrize(("noise", "rate", "steps"), [(1.0, 0.1, 20), (1.1, 0.004, 14_000), (2.0, 0.5, 100)])
def test_the_cross_check_is_what_opacus_has_by_rdp(noise: float, rate: float, steps: int) -> None:
    opacus = RDPAccountant()
    opacus.history = [(noise, rate, steps)]
    _, rdp = epsilons(frozenset({((noise, rate), steps)}), DELTA)
    assert rdp == pytest.approx(opacus.get_epsilon(DELTA), rel=0.03)  # its orders are others


# ------------------------------------------------------------------------------------------------- laws

NOISE = st.floats(0.6, 8).map(lambda noise: round(noise, 2))
RATE = st.floats(0.01, 1).map(lambda rate: round(rate, 2))


@settings(deadline=None, max_examples=15)
@given(NOISE, RATE, st.integers(1, 200), st.integers(1, 200))
def test_more_steps_never_spend_less(noise: float, rate: float, steps: int, more: int) -> None:
    assert spent_on(noise, rate, steps + more) >= spent_on(noise, rate, steps) - 1e-4


@settings(deadline=None, max_examples=15)
@given(NOISE, RATE, RATE, st.integers(1, 200))
def test_a_higher_sampling_rate_never_spends_less(noise: float, one: float, other: float, steps: int) -> None:
    assert spent_on(noise, max(one, other), steps) >= spent_on(noise, min(one, other), steps) - 0.01


@settings(deadline=None, max_examples=15)
@given(NOISE, NOISE, RATE, st.integers(1, 200))
def test_less_noise_never_spends_less(one: float, other: float, rate: float, steps: int) -> None:
    assert spent_on(min(one, other), rate, steps) >= spent_on(max(one, other), rate, steps) - 0.01


@given(st.floats(0, 200))
def test_what_is_shown_is_never_less_than_it_is_and_hardly_more(epsilon: float) -> None:
    assert epsilon <= rounded_up(epsilon) <= epsilon + 0.0011
    assert told(epsilon) == f"{rounded_up(epsilon):.3f}"


def test_steps_of_different_kinds_spend_more_than_the_larger_part_and_less_than_the_sum() -> None:
    one, other = ((1.0, 0.1), 20), ((2.0, 0.5), 30)
    together, _ = epsilons(frozenset({one, other}), DELTA)
    parts = [epsilons(frozenset({part}), DELTA)[0] for part in (one, other)]
    assert max(parts) < together < sum(parts)


@pytest.mark.parametrize("steps", [((1e-6, 0.1), 1), ((0.29, 0.001), 1), ((1.0, 1.0), 10_000), ((1.0, 0.5), 10**9)])
def test_what_protects_nothing_is_unlimited_and_takes_no_time(steps: tuple[tuple[float, float], int]) -> None:
    assert epsilons(frozenset({steps}), DELTA) == (math.inf, math.inf)
    assert told(math.inf) == "unlimited"


def test_a_rate_too_low_to_compute_counts_as_a_higher_one() -> None:
    assert 0 <= spent_on(1.0, 5e-324, 1) < 0.01


def test_accountants_that_disagree_give_an_error_and_no_number() -> None:
    with pytest.raises(UnavailableError, match="the two accountants disagree: epsilon inf by PLD, "):
        epsilons(frozenset({((1.0, 0.01), 1)}), 1e-30)


# -------------------------------------------------------------------------------------------- histories


@pytest.fixture
def paper(tmp_path: Path) -> PaperLedger:
    return PaperLedger(tmp_path / "history", 2, {"w": TensorSpec(dtype="F32", shape=[3])}, 4096)


def play(paper: PaperLedger, *plans: dict[str, float] | None) -> PaperLedger:
    """A round by each plan: what it says of privacy, None for nothing."""
    for changes in plans:
        privacy = None if changes is None else private(**changes)
        paper.plan = paper.plan.model_copy(update={"privacy": privacy})
        paper.play_round()
    return paper


def plan_of(paper: PaperLedger) -> Callable[[Round], Plan]:
    return lambda known: Plan.decode(paper.store.get(known.opened.plan))


def of_member(paper: PaperLedger, member: int = 1) -> list[Spent]:
    return [one for one in spending(paper.history, plan_of(paper)) if one.member == member]


def test_rounds_by_the_same_plan_spend_as_one_of_all_their_steps(paper: PaperLedger) -> None:
    found = of_member(play(paper, {}, {}, {}))
    assert [one.epsilon for one in found] == [spent_on(1.5, 0.5, steps) for steps in (4, 8, 12)]
    assert [(one.round, one.rounds, one.delta, one.budget) for one in found] == [
        (number, number, 1e-5, None) for number in (1, 2, 3)
    ]


def test_it_is_told_at_the_delta_of_each_rounds_plan(paper: PaperLedger) -> None:
    found = of_member(play(paper, {}, {"delta": 1e-3}))
    assert [one.epsilon for one in found] == [spent_on(1.5, 0.5, 4), spent_on(1.5, 0.5, 8, 1e-3)]


def test_a_round_without_privacy_makes_it_unlimited_for_ever(paper: PaperLedger) -> None:
    found = of_member(play(paper, {}, None, {}))
    assert [told(one.epsilon) for one in found] == ["3.738", "unlimited", "unlimited"]


def test_what_is_next_is_told_as_it_will_be_once_it_is_recorded(paper: PaperLedger) -> None:
    play(paper, {}, {"noise_multiplier": 2.0})
    history, last = paper.history, paper.history.rounds[2]
    recorded = of_member(paper)
    assert after(history, 1, last, plan_of(paper)) == recorded[-1]
    del last.updates[1]
    assert after(history, 1, last, plan_of(paper)) == recorded[-1]
    assert after(history, 9, last, plan_of(paper)).epsilon == spent_on(2.0, 0.5, 4), "its first round"


def test_a_plan_that_cannot_be_had_makes_it_unknown_and_not_zero(paper: PaperLedger) -> None:
    play(paper, {}, {}, {"budget": 1})
    missing = paper.history.rounds[1].opened.plan
    first = paper.plan.model_copy(update={"privacy": private(delta=1e-6)})
    paper.plan = first

    def without_the_second(known: Round) -> Plan:
        if known.number == 2:
            raise BlobMissingError(missing, "nothing is there")
        return plan_of(paper)(known)

    found = [one for one in spending(paper.history, without_the_second) if one.member == 1]
    assert [told(one.epsilon) for one in found] == ["3.738", "unknown", "unknown"]
    assert "the plan of round 2 cannot be had" in str(found[2].unknown)
    assert not any(one.exceeds for one in found)


# ------------------------------------------------------------------------------------------------ audit


def rules_of(paper: PaperLedger) -> Check:
    return audit(read_folder(paper.write())).checks[4]


def test_the_audit_finds_a_site_that_went_over_the_budget_with_round_member_and_epsilon(paper: PaperLedger) -> None:
    check = rules_of(play(paper, {"budget": 4}, {"budget": 4}, {"budget": 9}))
    assert check.status is Verdict.VIOLATED
    assert [(one.round, one.member and one.member.id, one.expected, one.found) for one in check.findings] == [
        (2, member, "epsilon 4 at most", "epsilon 5.219") for member in (1, 2)
    ]
    assert all(one.by == str(one.member) for one in check.findings)


def test_the_audit_accepts_what_is_within_the_budget(paper: PaperLedger) -> None:
    assert rules_of(play(paper, {"budget": 8}, {"budget": 8})).findings == ()


def test_rounds_that_are_left_out_count_all_the_same(paper: PaperLedger) -> None:
    from ledger.audit.checks import Asked

    folder = play(paper, {"budget": 4}, {"budget": 4}).write()
    check = audit(read_folder(folder), asked=Asked(rounds={2})).checks[4]
    assert {one.found for one in check.findings} == {"epsilon 5.219"}


def test_an_audit_without_an_earlier_plan_cannot_tell(paper: PaperLedger) -> None:
    play(paper, {}, {"delta": 1e-6, "budget": 4})
    paper.store.path(paper.history.rounds[1].opened.plan).unlink()
    check = rules_of(paper)
    assert check.status is Verdict.INCOMPLETE
    assert "the plan of round 1 cannot be had" in check.findings[0].text


def test_the_timeline_tells_what_every_site_has_spent(paper: PaperLedger) -> None:
    folder = play(paper, {}, None, {"budget": 8}).write()
    one, two, three = (row["privacy"] for row in audit(read_folder(folder)).timeline)
    spent = {"known": True, "epsilon": 3.738, "rdp": 4.166}
    assert one == {"delta": 1e-5, "budget": None, "spent": [{"member": 1, **spent}, {"member": 2, **spent}]}
    assert two is None
    unlimited = {"known": True, "epsilon": None, "rdp": None}
    assert three == {"delta": 1e-5, "budget": 8, "spent": [{"member": 1, **unlimited}, {"member": 2, **unlimited}]}


@pytest.fixture
def without_dp_accounting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "dp_accounting"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    monkeypatch.setattr(ledger.privacy, "epsilons", epsilons.__wrapped__)
    ledger.privacy._one_step.cache_clear()
    yield
    ledger.privacy._one_step.cache_clear()


@pytest.mark.usefixtures("without_dp_accounting")
def test_without_dp_accounting_budgets_cannot_be_checked_and_all_else_can(paper: PaperLedger) -> None:
    check = rules_of(play(paper, {"budget": 4}))
    assert (check.status, len(check.findings)) == (Verdict.INCOMPLETE, 1)
    assert "pip install 'fedledger[privacy]'" in check.findings[0].text
    with pytest.raises(UsageError, match="dp_accounting"):
        of_member(paper)


@pytest.mark.usefixtures("without_dp_accounting")
def test_without_budgets_nothing_is_missing(paper: PaperLedger) -> None:
    report = audit(read_folder(play(paper, {}).write()))
    assert report.checks[4].findings == ()
    assert report.timeline[0]["privacy"] == {"delta": 1e-5, "budget": None, "spent": None}


def test_an_audit_without_private_plans_imports_no_accountant(paper: PaperLedger) -> None:
    folder = play(paper, None).write()
    program = (
        "import sys; from pathlib import Path; from ledger.audit.checks import audit; "
        "from ledger.audit.evidence import read_folder; audit(read_folder(Path(sys.argv[1]))); "
        "print(*sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
    assert not {"dp_accounting", "scipy"} & set(output.stdout.split())


# -------------------------------------------------------------------------------------- the command line


def run(*arguments: object) -> Result:
    environment = dict.fromkeys(("FEDLEDGER_RPC", "FEDLEDGER_LEDGER", "FEDLEDGER_STORE"))
    result = CliRunner().invoke(main, ["privacy", *map(str, arguments)], env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_command_tells_each_sites_epsilon_and_whose_word_it_is_not(paper: PaperLedger) -> None:
    result = run(play(paper, {"budget": 8}, {"budget": 8}).write())
    assert result.exit_code == 0, result.output
    head, one, two, word = result.stdout.splitlines()
    assert head.split() == ["site", "rounds", "epsilon", "RDP", "delta", "budget", "left"]
    assert one.split() == ["1", "Site", "1", "2", "5.219", "5.776", "1e-05", "8", "2.781"]
    assert two.startswith("2 Site 2")
    assert word == "That a site clipped and added noise at all is its word: no history shows it."


def test_its_document_has_every_round_of_every_site(paper: PaperLedger, tmp_path: Path) -> None:
    bundle = tmp_path / "history.car"
    write_bundle(bundle, read_folder(play(paper, {"budget": 8}, None).write()))
    document: dict[str, Any] = json.loads(run(bundle, "--json").stdout)
    assert document["head"] == "0x" + paper.history.head.hex()
    one, two = document["sites"]
    assert (one["member"], one["name"], two["rounds"]) == (1, "Site 1", one["rounds"])
    first = {"round": 1, "known": True, "epsilon": 3.738, "rdp": 4.166, "delta": 1e-5, "budget": 8, "left": 4.262}
    last = {"round": 2, "known": True, "epsilon": None, "rdp": None, "delta": None, "budget": None, "left": None}
    assert one["rounds"] == [row | {"exceeds": False, "unknown": None} for row in (first, last)]


def test_the_command_ends_with_1_over_a_budget_and_with_3_where_a_plan_is_missing(paper: PaperLedger) -> None:
    folder = play(paper, {}, {"budget": 1}).write()
    result = run(folder)
    assert result.exit_code == 1
    assert "over the budget in round 2" in result.stdout
    paper.store.path(paper.history.rounds[1].opened.plan).unlink()
    result = run(folder)
    assert result.exit_code == 3
    assert "Unknown, round 2, Site 1: the plan of round 1 cannot be had" in result.stderr
    assert result.stdout.splitlines()[1].split()[4] == "unknown"


def test_the_command_refuses_a_history_that_is_none(paper: PaperLedger, tmp_path: Path) -> None:
    folder = play(paper, {}).write()
    for said, arguments, status in (("give SOURCE", [], 2), ("is not there", [tmp_path / "none"], 2)):
        result = run(*arguments)
        assert (result.exit_code, said in result.stderr) == (status, True), result.output
    lines = (folder / "entries.jsonl").read_text().splitlines(keepends=True)
    (folder / "entries.jsonl").write_text("".join(lines[:-1]))
    result = run(folder)
    assert result.exit_code == 1, result.output
    assert "do not lead to its head" in result.stderr


@pytest.mark.usefixtures("without_dp_accounting")
def test_the_command_says_what_to_install(paper: PaperLedger) -> None:
    result = run(play(paper, {}).write())
    assert (result.exit_code, result.stdout) == (2, "")
    assert "which is not installed: pip install 'fedledger[privacy]'" in result.stderr


def test_a_number_above_the_largest_is_not_told() -> None:
    assert spent_on(1.0, 1.0, 50) < LARGEST
    assert math.isinf(spent_on(1.0, 1.0, 200))
