"""Many rounds on a real chain and IPFS while processes are killed at random; then the audit.

In the nightly profile eight sites play fifty rounds (at most fifteen minutes); else three sites play three.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import settings

from ledger.facts import RoundSettled
from ledger.storage.ipfs import IpfsStore
from tests.anvil import Anvil
from tests.cli import Cli
from tests.e2e.consortium import Consortium
from tests.e2e.running import Process
from tests.ipfs import Daemon

NIGHTLY = settings().max_examples > 1000
SITES, ROUNDS = (8, 50) if NIGHTLY else (3, 3)
MOST_SECONDS = 15 * 60

pytestmark = pytest.mark.xdist_group("soak")


def test_rounds_go_on_and_audit_clean_while_processes_are_killed_at_random(tmp_path: Path) -> None:
    """Sites keep their blobs on one IPFS node, the aggregator on another one that is its peer."""
    chance, sites = random.Random(5), [f"site {number}" for number in range(1, SITES + 1)]
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    with Anvil() as node, Daemon(tmp_path / "here") as here, Daemon(tmp_path / "there") as there:
        consortium = Consortium(Cli(node, tmp_path), sites)
        there.connect(here)
        consortium.cli.store = here.url
        consortium.found()
        consortium.plan(window=86_400)
        calmly = ("--poll", "1")
        on_another_node = {"FEDLEDGER_STORE": there.url}
        with consortium.stopping():
            running = {site: consortium.participate(site, *calmly) for site in sites}
            aggregator = consortium.aggregate("--rounds", str(ROUNDS), *calmly, environment=on_another_node)
            kills, deadline = 0, time.monotonic() + MOST_SECONDS
            while aggregator.status != 0:
                assert time.monotonic() < deadline, (consortium.history.latest_round, aggregator.said)
                time.sleep(chance.uniform(0.2, 2.0))
                victim: Process = chance.choice([*running.values(), aggregator])
                if victim.status is None and consortium.history.latest_round <= ROUNDS:
                    victim.kill()
                    kills += 1
                for site, process in running.items():
                    if process.status is not None:
                        assert process.status == -9, process.said
                        running[site] = consortium.participate(site, *calmly)
                if aggregator.status is not None and aggregator.status != 0:
                    assert aggregator.status == -9, aggregator.said
                    aggregator = consortium.aggregate("--rounds", str(ROUNDS), *calmly, environment=on_another_node)
            history = consortium.history
        assert kills >= ROUNDS // 2
        assert history.latest_round == ROUNDS
        for known in history.rounds.values():
            assert isinstance(known.ended, RoundSettled)
            assert (known.ended.counted, len(known.updates)) == (SITES, SITES)
        consortium.cli.store = there.url
        consortium.audited()
        assert all(IpfsStore(there.url).get(one.update) for one in history.rounds[1].updates.values())
