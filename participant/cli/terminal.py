"""Whoever sits at the terminal of a command that goes on meanwhile."""

from __future__ import annotations

import os
import select
import sys
import termios

import click


class Terminal:
    """A person who is asked without waiting for the answer, see `participant.consent.Person`."""

    _question = ""

    @property
    def there(self) -> bool:
        """Whether there is a terminal, and this process is in its foreground."""
        try:
            return os.isatty(sys.stdin.fileno()) and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
        except (OSError, ValueError):
            return False

    def ask(self, text: str) -> None:
        """Show a question, for a yes or no."""
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)  # what was typed before is no answer to this
        self._question = text.splitlines()[-1]
        click.echo(text, err=True, nl=False)

    def answer(self) -> bool | None:
        """The answer, once a line was typed; what is neither yes nor no is asked again."""
        descriptor = sys.stdin.fileno()
        if not select.select([descriptor], [], [], 0)[0]:
            return None
        said = os.read(descriptor, 1024).decode(errors="replace").strip().lower()
        if said in ("y", "yes", "n", "no"):
            return said.startswith("y")
        click.echo(self._question, err=True, nl=False)
        return None
