"""What lives on its own, and how it is told to stop."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

LOOP = """
import os, signal
from ledger.logs import Log
from ledger.loop import repeat, until_stopped

class Loud(Log):
    def info(self, event, **fields):
        os.kill(os.getpid(), signal.SIGINT)
        super().info(event, **fields)

log = Loud()
with until_stopped(log):
    print("runs", flush=True)
    repeat(lambda: False, log, 60)
os.kill(os.getpid(), signal.SIGTERM)
print("ends")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_several_times_at_once_a_process_ends_with_0(number: signal.Signals) -> None:
    command = [sys.executable, "-c", LOOP]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "runs\n"
        process.send_signal(number)
        said, told = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "ends\n"), told
    assert told.count("\n") == 1
