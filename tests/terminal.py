"""A terminal of its own for a command, and somebody who types the answers."""

from __future__ import annotations

import os
import pty
import sys
from collections.abc import Mapping, Sequence


def on_a_terminal(
    arguments: Sequence[str], answers: Sequence[str], environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run the installed command on a terminal of its own, and type an answer at each question."""
    pid, terminal = pty.fork()
    if pid == 0:
        program = "from ledger.cli import main; main()"
        os.execve(sys.executable, [sys.executable, "-c", program, *arguments], {**os.environ, **(environment or {})})
    shown = b""
    for answer in [*answers, None]:
        try:
            while answer is None or not shown.rstrip().endswith((b":", b"]:")):
                shown += os.read(terminal, 4096)
            os.write(terminal, answer.encode() + b"\n")
            shown += b"\n> "
        except OSError:  # the command has ended
            break
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()
