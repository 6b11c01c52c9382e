"""What processes say that run on their own."""

from __future__ import annotations

import io

from ledger.logs import Log


def test_what_is_waited_for_is_said_once_until_something_happens() -> None:
    log = Log(stream=io.StringIO())
    for _ in range(3):
        for member in (1, 2):
            log.waiting("an update is not to be had", member=member)
        log.waiting("waiting for updates")
    log.info("posted")
    log.waiting("waiting for updates")
    said = [line.partition(" ")[2] for line in log.stream.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert said == [
        "an update is not to be had  member 1",
        "an update is not to be had  member 2",
        "waiting for updates",
        "posted",
        "waiting for updates",
    ]
