"""A consortium of processes that come and go: what each of them does when another is slow, doubled, gone, or wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.facts import AbortReason, RoundAborted, RoundSettled
from ledger.history import Status
from tests.anvil import Anvil
from tests.cli import PASSWORD, Cli
from tests.e2e.consortium import Consortium
from tests.e2e.running import Kill
from tests.ledger.test_curves import points

pytestmark = pytest.mark.xdist_group("separate machines")


@pytest.fixture(scope="module")
def set_up(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    consortium = Consortium(Cli(anvil, tmp_path_factory.mktemp("consortium")))
    consortium.found(("second aggregator", "aggregator"))
    return consortium


@pytest.fixture
def consortium(set_up: Consortium, tmp_path: Path) -> Iterator[Consortium]:
    """The ledger as it was founded; its processes end with the test."""
    cli = set_up.cli
    before, remembered = cli.anvil.snapshot(), cli.state
    cli.state = Path(shutil.copytree(remembered, tmp_path / "state"))
    set_up.plan()
    with set_up.stopping():
        yield set_up
    cli.state = remembered
    cli.anvil.revert(before)


def test_sites_and_an_aggregator_train_for_two_rounds_and_the_history_audits_clean(consortium: Consortium) -> None:
    sites = [consortium.participate(site) for site in consortium.sites]
    aggregator = consortium.aggregate("--rounds", "2")
    assert aggregator.wait() == 0, aggregator.said
    rounds = consortium.history.rounds
    assert [known.status for known in rounds.values()] == [Status.RELEASED] * 2
    assert all(len(known.updates) == 2 for known in rounds.values())
    first, second = (known.ended for known in rounds.values())
    assert isinstance(first, RoundSettled)
    assert rounds[2].opened.base == first.model
    assert first.model != second.model, "it learns"  # type: ignore[union-attr]
    assert [site.stop() for site in sites] == [0, 0], [site.said for site in sites]
    consortium.audited()
    mirrored = consortium.cli.look("mirror")
    assert mirrored == {"pinned": 15, "missing": [], "altered": []}, (
        "charter, genesis, 2 rounds: plan, updates, their key blobs, results"
    )


def test_every_partner_has_the_same_curves_drawn(consortium: Consortium, tmp_path: Path) -> None:
    parties = [*consortium.sites, "aggregator"]
    curves = {party: tmp_path / party / "curves" for party in parties}
    sites = [consortium.participate(site, "--tensorboard", str(curves[site])) for site in consortium.sites]
    aggregator = consortium.aggregate("--rounds", "2", "--tensorboard", str(curves["aggregator"]))
    assert aggregator.wait() == 0, aggregator.said
    for site in sites:
        consortium.until_said(site, "newest 2")
    for folder in curves.values():
        counted = [point for point in points(folder) if point[0] == "counted"]
        assert counted == [("counted", 1, 2.0), ("counted", 2, 2.0)]


def test_a_round_settles_at_its_deadline_when_one_site_is_gone_for_good(consortium: Consortium) -> None:
    consortium.plan(quorum=1)
    site, aggregator = consortium.participate("site 1"), consortium.aggregate()
    consortium.until(lambda history: history.rounds and history.rounds[1].updates, site, aggregator)
    consortium.cli.anvil.pass_time(601)
    assert aggregator.wait() == 0, aggregator.said
    ended = consortium.history.rounds[1].ended
    assert isinstance(ended, RoundSettled)
    assert ended.counted == 1
    consortium.audited()


def test_a_round_without_a_quorum_is_aborted_and_the_next_one_begins(consortium: Consortium) -> None:
    site, aggregator = consortium.participate("site 1"), consortium.aggregate("--rounds", "2")
    consortium.until(lambda history: history.rounds and history.rounds[1].updates, site, aggregator)
    consortium.cli.anvil.pass_time(601)
    consortium.until(lambda history: history.latest_round == 2, site, aggregator)
    late = consortium.participate("site 2")
    assert aggregator.wait() == 0, aggregator.said + late.said
    first, second = consortium.history.rounds.values()
    assert isinstance(first.ended, RoundAborted)
    assert first.ended.reason is AbortReason.QUORUM
    assert isinstance(second.ended, RoundSettled)
    consortium.audited()


def test_when_the_aggregator_is_gone_anyone_aborts_after_the_grace_time_and_another_goes_on(
    consortium: Consortium,
) -> None:
    consortium.plan(grace=100)
    sites = [consortium.participate(site) for site in consortium.sites]
    aggregator = consortium.aggregate(kill=Kill("before", "round settled"))
    assert aggregator.wait() == -9
    consortium.cli.anvil.pass_time(601)
    early = consortium.cli.refused(1, "site 1", "round", "abort", "1", "--reason", "expired")
    assert "only aggregators" in early
    consortium.cli.anvil.pass_time(101)
    consortium.cli.ok("site 1", "round", "abort", "1", "--reason", "expired")
    second = consortium.aggregate(party="second aggregator")
    assert second.wait() == 0, second.said
    first, next_ = consortium.history.rounds.values()
    assert (first.status, next_.status) == (Status.ABORTED, Status.RELEASED)
    assert next_.opened.aggregator != first.opened.aggregator
    assert all(site.status is None for site in sites)
    consortium.audited()


def test_another_aggregator_settles_what_the_first_one_opened(consortium: Consortium) -> None:
    for site in consortium.sites:
        consortium.participate(site)
    assert consortium.aggregate(kill=Kill("before", "round settled")).wait() == -9
    second = consortium.aggregate("--once", party="second aggregator")
    assert second.wait() == 0, second.said
    known = consortium.history.rounds[1]
    assert isinstance(known.ended, RoundSettled)
    assert known.ended.aggregator != known.opened.aggregator
    consortium.audited()


def test_an_aggregator_for_one_round_that_dies_when_it_is_settled_opens_no_other(consortium: Consortium) -> None:
    for site in consortium.sites:
        consortium.participate(site)
    assert consortium.aggregate("--once", kill=Kill("after", "transaction mined", 2)).wait() == -9
    assert isinstance(consortium.history.rounds[1].ended, RoundSettled)
    again = consortium.aggregate("--once")
    assert again.wait() == 0, again.said
    assert list(consortium.history.rounds) == [1]


def test_two_aggregators_by_mistake_open_and_settle_each_round_once(consortium: Consortium) -> None:
    for site in consortium.sites:
        consortium.participate(site)
    both = [consortium.aggregate("--rounds", "2", party=party) for party in ("aggregator", "second aggregator")]
    assert [process.wait() for process in both] == [0, 0], [process.said for process in both]
    rounds = consortium.history.rounds
    assert len(rounds) in (2, 3), "both work on the same rounds; one that came late does its two"
    assert all(isinstance(known.ended, RoundSettled) for known in rounds.values())
    consortium.audited()


def test_a_second_process_for_a_member_is_refused_where_they_share_a_state_folder(consortium: Consortium) -> None:
    first = consortium.participate("site 1")
    consortium.aggregate()
    consortium.until(lambda history: history.rounds and history.rounds[1].updates, first)
    second = consortium.participate("site 1")
    assert second.wait() == 2
    assert f"runs for this member already, as process {first.pid}" in second.said
    assert second.said.count("Error: ") == 1


def test_two_processes_with_one_key_on_two_machines_post_one_update(consortium: Consortium, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(consortium.cli.state / "site 1", tmp_path / "elsewhere"))
    both = [
        consortium.participate("site 1", "--once"),
        consortium.participate("site 1", "--once", environment={"FEDLEDGER_STATE": str(elsewhere)}),
        consortium.participate("site 2", "--once"),
    ]
    aggregator = consortium.aggregate()
    assert aggregator.wait() == 0, aggregator.said
    known = consortium.history.rounds[1]
    assert isinstance(known.ended, RoundSettled)
    assert sorted(known.updates) == [1, 2]
    assert known.ended.counted == 2
    assert "Traceback" not in both[0].said + both[1].said
    consortium.audited()


def test_a_site_whose_clock_is_wrong_by_a_day_takes_part(consortium: Consortium) -> None:
    sites = [
        consortium.participate("site 1", "--once", skew=86_400),
        consortium.participate("site 2", "--once", skew=-86_400),
    ]
    aggregator = consortium.aggregate()
    assert aggregator.wait() == 0, aggregator.said
    assert [site.wait() for site in sites] == [0, 0], [site.said for site in sites]
    assert len(consortium.history.rounds[1].updates) == 2


def test_a_site_without_ether_hands_its_update_over_and_the_aggregator_relays_it(
    consortium: Consortium, tmp_path: Path
) -> None:
    consortium.cli.anvil.fund(consortium.cli.address("site 2"), 0)
    folder = tmp_path / "handed over"
    folder.mkdir()
    (folder / "garbage.json").write_text("{}")
    consortium.participate("site 1", "--once")
    handing = consortium.participate("site 2", "--once", "--handover", str(folder))
    aggregator = consortium.aggregate("--relay", str(folder))
    assert aggregator.wait() == 0, aggregator.said
    assert handing.wait() == 0, handing.said
    known = consortium.history.rounds[1]
    sender = known.updates[2].sender
    assert sender == consortium.cli.party("aggregator").address.lower()
    assert isinstance(known.ended, RoundSettled)
    assert known.ended.counted == 2
    assert "garbage.json is no signed update" in aggregator.said
    consortium.audited()


def test_logs_in_json_are_a_document_a_line_and_hold_no_secret(consortium: Consortium) -> None:
    site = consortium.participate("site 1", "--log-format", "json")
    aggregator = consortium.aggregate("--log-format", "json")
    consortium.participate("site 2")
    assert aggregator.wait() == 0, aggregator.said
    site.stop()
    keys = {consortium.cli.party(party).key.hex() for party in ("site 1", "aggregator")}
    for process in (site, aggregator):
        events = [json.loads(line) for line in process.said.splitlines()]
        assert all({"time", "level", "event"} <= set(event) for event in events)
        assert not any(secret in process.said for secret in {*keys, PASSWORD.strip()})
    assert {"opened", "settled"} <= {json.loads(line)["event"] for line in aggregator.said.splitlines()}
