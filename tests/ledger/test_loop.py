"""How a participant or an aggregator lives on its own: what is waited for, what ends it, and what it says."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web3.exceptions import Web3RPCError

from ledger.cid import cid_of
from ledger.errors import BlobMismatchedError, BlobMissingError, Refused, UnavailableError, UsageError, ViolationError
from ledger.logs import Log
from ledger.loop import LONGEST_PAUSE, alone, backoff, between, repeat, until_stopped

CID = cid_of(b"x")


def log(as_json: bool = False) -> tuple[Log, io.StringIO]:
    stream = io.StringIO()
    return Log(as_json, stream), stream


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("the node sleeps"),
        BlobMissingError(CID, "nobody has it"),
        BlobMismatchedError(CID),
        Refused("HeadMoved", "the head has moved"),
        Web3RPCError("busy", rpc_response={"jsonrpc": "2.0", "error": {"code": 1, "message": "busy"}}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    told, stream = log()
    steps = iter([error, error, False, True])

    def step() -> bool:
        next_ = next(steps)
        if isinstance(next_, Exception):
            raise next_
        return bool(next_)

    repeat(step, told, pause=0.001)
    assert next(steps, None) is None
    assert [line[9:] for line in stream.getvalue().splitlines() if "trying again" in line] != []
    assert stream.getvalue().count("trying again") == 2


@pytest.mark.parametrize(
    "error", [UsageError("no member"), ViolationError("another history"), RuntimeError("a defect")]
)
def test_what_does_not_pass_ends_it(error: Exception) -> None:
    def step() -> bool:
        raise error

    with pytest.raises(type(error)):
        repeat(step, log()[0], pause=0.001)


@given(st.floats(0.05, 3600), st.floats(0, 1e6))
def test_what_happens_is_seen_after_a_fiftieth_of_the_time_that_it_took(pause: float, quiet: float) -> None:
    waited = between(pause, quiet)
    assert waited <= max(0.1, pause / 20, quiet / 50), "so that a round waits for nobody's looking"
    assert waited <= pause
    assert waited >= min(pause, max(0.1, pause / 20)), "so that no node is asked without end"


def test_pauses_grow_to_a_limit_and_differ() -> None:
    assert all(0.5 <= backoff(0, 1.0) <= 1.0 for _ in range(50))
    assert all(LONGEST_PAUSE / 2 <= backoff(1000, 1.0) <= LONGEST_PAUSE for _ in range(50))
    assert len({backoff(5, 1.0) for _ in range(50)}) > 40


WAITING = """
import time
from ledger.logs import Log
from ledger.loop import repeat, until_stopped

def step():
    try:
        print("in a step", flush=True)
        time.sleep(60)
    except Exception:
        print("swallowed", flush=True)
    return False

with until_stopped(Log()):
    repeat(step, Log(), 60)
print("ended well", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_wherever_it_is_and_it_ends_well(number: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in a step\n"
        process.send_signal(number)
        said, told = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, b"ended well\n")
    assert b"stopped; the same command goes on from here" in told


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


def test_signals_mean_what_they_meant_before_once_it_has_ended() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with until_stopped(log()[0]):
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_one_process_does_one_kind_of_work_for_a_member(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "ledger"
    with alone(folder, "participate"):
        running = rf"`fedledger participate` runs .* as process {os.getpid()}: stop it"
        with pytest.raises(UsageError, match=running), alone(folder, "participate"):
            pass
        with alone(folder, "aggregate"):
            pass
    with alone(folder, "participate"):
        pass


def test_a_log_for_machines_is_a_document_a_line() -> None:
    told, stream = log(as_json=True)
    told.info("posted", round=3, update=CID)
    told.warn("trying again", why=UnavailableError('a "quoted"\nline'))
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first == {"time": first["time"], "level": "info", "event": "posted", "round": 3, "update": str(CID)}
    assert (second["level"], second["why"]) == ("warning", 'a "quoted"\nline')


def test_a_log_for_people_is_a_line_that_moves_no_cursor() -> None:
    told, stream = log()
    told.info("posted", why="\x1b[2Jgone\nline")
    assert stream.getvalue()[9:] == "posted  why �[2Jgone�line\n"


def test_what_is_waited_for_is_said_once_until_something_else_happens() -> None:
    told, stream = log()
    for _ in range(3):
        told.waiting("waiting for updates", have=1)
    told.waiting("waiting for updates", have=2)
    told.info("settled")
    told.waiting("waiting for updates", have=2)
    assert [line[9:] for line in stream.getvalue().splitlines()] == [
        "waiting for updates  have 1",
        "waiting for updates  have 2",
        "settled",
        "waiting for updates  have 2",
    ]
