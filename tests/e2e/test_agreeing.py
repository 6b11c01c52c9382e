"""A person says yes to a plan: at the terminal of `participate`, or elsewhere for one that runs as a service."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.anvil import Anvil
from tests.cli import Cli
from tests.e2e.consortium import Consortium
from tests.terminal import on_a_terminal

pytestmark = pytest.mark.xdist_group("separate machines")


@pytest.fixture(scope="module")
def set_up(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    consortium = Consortium(Cli(anvil, tmp_path_factory.mktemp("agreeing")), ["site 1"])
    consortium.found()
    consortium.cli.ok("aggregator", "round", "open", consortium.plan())
    return consortium


@pytest.fixture
def consortium(set_up: Consortium) -> Iterator[Consortium]:
    """Round 1 is open, and nobody has agreed to its plan."""
    before, remembered = set_up.cli.anvil.snapshot(), set_up.cli.state
    set_up.cli.state = Path(shutil.copytree(remembered, set_up.cli.folder / f"state {before}"))
    with set_up.stopping():
        yield set_up
    set_up.cli.state = remembered
    set_up.cli.anvil.revert(before)


def arguments(consortium: Consortium) -> list[str]:
    files = ["--task", str(consortium.cli.path("task.py")), "--data", str(consortium.cli.path("site 1.csv"))]
    return ["participate", *files, "--poll", "0.2", "--yes", "--once"]


def at_a_terminal(consortium: Consortium, *answers: str) -> tuple[int, str]:
    variables = {name: value for name, value in consortium.cli.variables("site 1").items() if value}
    return on_a_terminal(arguments(consortium), answers, variables)


def test_at_a_terminal_participate_shows_the_plan_asks_and_goes_on(consortium: Consortium) -> None:
    status, shown = at_a_terminal(consortium, "perhaps", "y")
    assert status == 0, shown
    assert shown.count("Train by this plan? [y/N]:") == 2
    assert "training.learning_rate  0.1" in shown
    assert "a person agreed to the plan  round 1" in shown
    assert "posted, and final  round 1" in shown
    assert 1 in consortium.history.rounds[1].updates


def test_at_the_question_ctrl_c_ends_participate_as_it_always_does(consortium: Consortium) -> None:
    status, shown = at_a_terminal(consortium, "\x03")
    assert status == 0, shown
    assert "stopped; the same command goes on from here" in shown
    assert not consortium.history.rounds[1].updates


def test_a_service_waits_for_round_agree_and_is_told_to_stop_or_goes_on(consortium: Consortium) -> None:
    service = consortium.start("site 1", *arguments(consortium))
    consortium.until_said(service, "waiting for a person's yes to the plan")
    assert service.stop() == 0, service.said
    service = consortium.start("site 1", *arguments(consortium))
    consortium.until_said(service, "do `fedledger round agree 1` shows it, and asks")
    consortium.cli.ok("site 1", "round", "agree", "1")
    assert service.wait() == 0, service.said
    assert 1 in consortium.history.rounds[1].updates
