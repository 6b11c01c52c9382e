"""A step, again and again, until it is done or told to stop: how a participant or an aggregator lives on its own.

A step looks at the ledger and does what is due; it relies on nothing that the step before left in memory. So it does
not matter where it is interrupted, and what cannot be reached is tried again.
"""

from __future__ import annotations

import fcntl
import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from web3.exceptions import Web3Exception

from ledger.chain.refusals import node_words
from ledger.errors import BlobMismatchedError, Refused, UnavailableError, UsageError
from ledger.logs import Log

SHORTEST_PAUSE = 0.1
"""Seconds between two looks, at least."""
HASTE = 20
"""At most so many times as often as when nothing happens: whoever asks a node seldom never asks it much."""
ALERT = 50
"""What one waits for is seen after a fraction of the time that it took: one of so many parts of it."""
LONGEST_PAUSE = 30.0
"""Seconds between two tries of what fails."""
ONE_WISH = 1.0
"""Seconds within which several signals are one: a terminal and a supervisor both pass on the same Ctrl-C."""


class StoppedError(BaseException):
    """The process was told to stop; not an error of the step that it interrupts."""


def repeat(step: Callable[[], bool], log: Log, pause: float, quiet: Callable[[], float] = lambda: math.inf) -> None:
    """Repeat a step until it says that it is done.

    Whatever is not to be had is waited for, longer each time; evidence that something is wrong, and wrong use, end it.

    Args:
        step: Does what is due; returns whether all is done.
        log: Told what is waited for.
        pause: Seconds between two steps that went well, at most.
        quiet: Gives the seconds since something happened on the ledger, see `between`.
    """
    failures = 0
    while True:
        try:
            if step():
                return
            failures, wait = 0, between(pause, quiet())
        except (UnavailableError, BlobMismatchedError, Refused, Web3Exception) as error:
            failures += 1
            wait = backoff(failures, pause)
            log.warn(
                "trying again",
                why=node_words(error) if isinstance(error, Web3Exception) else error,
                seconds=round(wait, 1),
            )
        time.sleep(wait)


def between(pause: float, quiet: float) -> float:
    """Seconds between two looks at a ledger on which nothing has happened for `quiet` seconds; `pause` at most.

    A round of seconds is not slowed down, and one of hours asks no more of a node than it has to.
    """
    return min(pause, max(SHORTEST_PAUSE, pause / HASTE, quiet / ALERT))


def backoff(failures: int, pause: float) -> float:
    """Seconds to wait after so many failures in a row: twice as long each time, and not for all parties the same."""
    most = min(LONGEST_PAUSE, pause * 2.0 ** min(failures, 16))
    return random.uniform(most / 2, most)  # noqa: S311  # no secret


@contextmanager
def until_stopped(log: Log) -> Iterator[None]:
    """End what runs inside, wherever it is, when the process is told to (SIGINT, SIGTERM)."""
    told = -ONE_WISH

    def stop(*_: object) -> None:
        nonlocal told
        before, told = told, time.monotonic()
        if told - before >= ONE_WISH:
            raise StoppedError

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except StoppedError:
        before = dict.fromkeys(before, signal.SIG_IGN)  # the process ends, and with the right status
        log.info("stopped; the same command goes on from here")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def alone(folder: Path, work: str) -> Iterator[None]:
    """Hold a folder's lock for a kind of work, so that no other process does the same for this member.

    Args:
        folder: The ledger's folder in the member's state; it is made if need be.
        work: The command, such as ``participate``.

    Raises:
        UsageError: If another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{work}.lock", "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UsageError(
                f"`fedledger {work}` runs for this member already, as process {lock.read() or 'unknown'}: stop it, or, "
                "for another member, name another state folder with --state"
            ) from None
        with suppress(OSError):  # the number is for people; the lock holds on a full disk, too
            os.truncate(lock.fileno(), 0)
            os.write(lock.fileno(), str(os.getpid()).encode())
        yield
