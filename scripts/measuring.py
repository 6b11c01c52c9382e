"""Seconds and memory, as the measurements behind scripts/bench take them."""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turn(works: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """The least seconds of each work: all of them in turn, so that what slows the machine down slows down all."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            took[name].append(seconds(work))
    return {name: min(times) for name, times in took.items()}


def reset_peak() -> float:
    """Forget the most memory that this program has had (see `peak`); returns what it has now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return peak()


def peak() -> float:
    """The most memory that this program has had, in MB; what ``getrusage`` tells is its parent's, too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024 / 1e6  # type: ignore[index]


def memory(work: Callable[[], object]) -> float:
    """The most memory that the work takes above what is there before, in MB."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before, and is not given back yet, would hide what is taken now
    before = reset_peak()
    work()
    return peak() - before


def apart(what: str, *options: str) -> Any:
    """What a measurement in a process of its own prints, as JSON."""
    command = [sys.executable, str(Path(__file__).with_name("benchmarks.py")), what, *options]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
