"""What is gone for a while: the chain's node, IPFS, blocks that the chain takes back, room on the disk."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ledger.facts import RoundSettled
from tests.anvil import Anvil
from tests.cli import Cli
from tests.e2e.consortium import Consortium
from tests.ipfs import Daemon

pytestmark = pytest.mark.xdist_group("outages")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    """A node that keeps its state when it is shut down."""
    with Anvil("--state", str(tmp_path_factory.mktemp("node") / "state.json")) as anvil:
        yield anvil


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


@pytest.fixture
def consortium(node: Anvil, tmp_path: Path) -> Iterator[Consortium]:
    made = Consortium(Cli(node, tmp_path))
    made.found()
    made.plan()
    with made.stopping():
        yield made


def counted(consortium: Consortium) -> int:
    ended = consortium.history.rounds[1].ended
    assert isinstance(ended, RoundSettled)
    return ended.counted


def test_a_node_that_is_restarted_in_the_middle_of_a_round_is_waited_for(consortium: Consortium, node: Anvil) -> None:
    site, aggregator = consortium.participate("site 1"), consortium.aggregate()
    consortium.until(lambda history: history.rounds and history.rounds[1].updates, site, aggregator)
    node.shut_down()
    for process in (site, aggregator):
        consortium.until_said(process, "trying again")
        assert "does not answer" in process.said
    node.start()
    consortium.participate("site 2")
    assert aggregator.wait() == 0, aggregator.said
    assert site.status is None
    assert counted(consortium) == 2
    consortium.audited()


def test_sites_wait_for_ipfs_and_then_post(consortium: Consortium, daemon: Daemon) -> None:
    cli = consortium.cli
    cli.move_blobs(daemon.url)
    cli.ok("aggregator", "round", "open", str(cli.path("plan.toml")))
    daemon.shut_down()
    sites = [consortium.participate(site) for site in consortium.sites]
    for site in sites:
        consortium.until_said(site, "trying again")
    assert not consortium.history.rounds[1].updates
    daemon.start()
    consortium.until(lambda history: len(history.rounds[1].updates) == 2, *sites)


def test_an_aggregator_whose_own_ipfs_node_is_down_claims_nothing(consortium: Consortium, daemon: Daemon) -> None:
    cli = consortium.cli
    cli.move_blobs(daemon.url)
    cli.ok("aggregator", "round", "open", str(cli.path("plan.toml")))
    sites = [consortium.participate(site) for site in consortium.sites]
    consortium.until(lambda history: len(history.rounds[1].updates) == 2, *sites)
    cli.anvil.pass_time(601)
    daemon.shut_down()
    aggregator = consortium.aggregate("--patience", "0")
    consortium.until_said(aggregator, "trying again")
    assert consortium.history.rounds[1].ended is None
    daemon.start()
    assert aggregator.wait() == 0, aggregator.said
    assert counted(consortium) == 2
    consortium.audited()


def test_an_update_whose_entry_the_chain_takes_back_is_posted_again(consortium: Consortium, node: Anvil) -> None:
    cli = consortium.cli
    cli.ok("aggregator", "round", "open", str(cli.path("plan.toml")))
    site = consortium.participate("site 1", environment={"FEDLEDGER_FINALITY": "5"})
    consortium.until_said(site, "waiting for the round's opening to be final")
    assert not consortium.history.rounds[1].updates, "nothing is acted upon before it is final"
    node.rpc("anvil_mine", "0x5")
    posted = consortium.until(lambda history: history.rounds[1].updates, site)
    first = posted.rounds[1].updates[1].update
    consortium.until_said(site, "waiting for it to be final")
    node.rpc("anvil_reorg", 1, [])
    assert not consortium.history.rounds[1].updates
    again = consortium.until(lambda history: history.rounds[1].updates, site)
    assert again.rounds[1].updates[1].update == first
    assert "an entry of ours is not on the chain any more" in site.said
    node.rpc("anvil_mine", "0x5")
    consortium.until_said(site, "posted, and final")
    assert site.stop() == 0
    receipts = cli.run("site 1", "receipt", "list", yes=False, environment={"FEDLEDGER_FINALITY": "5"}).output
    assert "UpdateRecorded" in receipts
    assert "displaced" in receipts


def test_a_site_whose_disk_is_full_goes_on_once_there_is_room(consortium: Consortium, tmp_path: Path) -> None:
    cli, small = consortium.cli, tmp_path / "small"
    shutil.copytree(cli.state / "site 1", tmp_path / "remembered")
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        shutil.copytree(tmp_path / "remembered", small, dirs_exist_ok=True)
        with suppress(OSError), open(small / "filler", "wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        assert shutil.disk_usage(small).free == 0
        cli.ok("aggregator", "round", "open", str(cli.path("plan.toml")))
        site = consortium.participate("site 1", "--once", environment={"FEDLEDGER_STATE": str(small)})
        consortium.until_said(site, "No space left on device")
        assert not consortium.history.rounds[1].updates
        (small / "filler").unlink()
        assert site.wait() == 0, site.said
        assert len(consortium.history.rounds[1].updates) == 1
    finally:
        for process in consortium.processes:
            process.kill()
        subprocess.run(["umount", str(small)], check=True)
