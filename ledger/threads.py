"""Work that does not depend on how many do it, shared between threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def shared(work: Callable[[range], list[Result]], count: int, threads: int) -> list[Result]:
    """`work` over the numbers below `count`, each thread with a share of them; in their order."""
    threads = min(threads, count)
    if threads < 2:
        return work(range(count))
    shares = [range(count * number // threads, count * (number + 1) // threads) for number in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return [one for part in pool.map(work, shares) for one in part]
