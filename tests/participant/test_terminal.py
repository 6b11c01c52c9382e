"""Somebody at a terminal is asked without being waited for, and answers what was asked."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from participant.cli.terminal import Terminal

QUESTION = "Round 1\nTrain by this plan? [y/N]: "


class Keyboard:
    """The other end of the terminal that is standard input."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._typing, slave = os.openpty()
        self.stdin = os.fdopen(slave)
        monkeypatch.setattr("sys.stdin", self.stdin)

    def type(self, line: str) -> None:
        os.write(self._typing, line.encode() + b"\n")
        assert select.select([self.stdin], [], [], 10)[0], "it arrives"

    def close(self) -> None:
        self.stdin.close()
        os.close(self._typing)


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyboard]:
    found = Keyboard(monkeypatch)
    yield found
    found.close()


@pytest.mark.parametrize(("said", "meant"), [("y", True), ("YES", True), (" n ", False), ("No", False)])
def test_a_yes_is_a_yes_and_nobody_is_waited_for(keyboard: Keyboard, said: str, meant: bool) -> None:
    terminal = Terminal()
    terminal.ask(QUESTION)
    assert terminal.answer() is None
    keyboard.type(said)
    assert terminal.answer() is meant
    assert terminal.answer() is None


def test_what_was_typed_before_the_question_is_no_answer_to_it(keyboard: Keyboard) -> None:
    terminal = Terminal()
    keyboard.type("y")
    terminal.ask(QUESTION)
    assert terminal.answer() is None


@pytest.mark.parametrize("said", ["", "maybe", "yn", "\x04"])
def test_what_is_neither_yes_nor_no_is_asked_again(
    keyboard: Keyboard, capfd: pytest.CaptureFixture[str], said: str
) -> None:
    terminal = Terminal()
    terminal.ask(QUESTION)
    keyboard.type(said)
    assert terminal.answer() is None
    assert capfd.readouterr().err == QUESTION + QUESTION.splitlines()[-1]
    terminal.ask(QUESTION)
    keyboard.type("y")
    assert terminal.answer() is True


def test_nobody_is_there_without_a_terminal_or_in_the_background_of_one(
    keyboard: Keyboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not Terminal().there, "a terminal, and not the one that this process is in the foreground of"
    with open(os.devnull) as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        assert not Terminal().there
