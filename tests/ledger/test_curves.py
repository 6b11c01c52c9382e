"""The curves for TensorBoard: from the ledger alone, the same for all who read the same, and never in the way."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from ledger.choices import Equally, Krum
from ledger.curves import Curves
from ledger.errors import UsageError
from ledger.facts import RoundSettled
from ledger.following import Follower
from ledger.logs import Log
from ledger.receipts import StateFolder
from ledger.sealing import Identity
from tests.ledger.test_scores_audit import settle
from tests.world import PLAN, SEALED, World, identity_of, tensors

ROBUST = {"filter": Krum(attackers=1), "clipping": 1.0, "weighting": Equally(), "quorum": 5}


class Partner:
    """Whoever follows the ledger of a world, and has curves drawn."""

    def __init__(
        self,
        world: World,
        folder: Path,
        identity: Identity | None = None,
        member: int | None = None,
        finality: str = "latest",
    ) -> None:
        self.world, self.folder, self.said = world, folder, io.StringIO()
        self.follower = Follower(world.contract, StateFolder(folder / "state"), finality)
        self.curves = Curves(
            folder / "curves", world.store, [identity] if identity else [], member, Log(stream=self.said)
        )
        self.follower.observers.append(self.curves.follow)

    def look(self) -> Partner:
        self.follower.look()
        return self

    @property
    def file(self) -> Path:
        return file_in(self.curves.folder)

    @property
    def points(self) -> list[tuple[str, int, float]]:
        return points(self.curves.folder)


def file_in(folder: Path) -> Path:
    """The one file of curves in a folder; those of earlier processes are empty."""
    [path] = [path for path in folder.glob("events.out.tfevents.*") if path.stat().st_size]
    return path


def events(folder: Path) -> list[Event]:
    """What is in that file, read as TensorBoard does: with every checksum."""
    raw, found = file_in(folder).read_bytes(), []
    while raw:
        (size,) = struct.unpack("<Q", raw[:8])
        assert struct.unpack("<I", raw[8:12])[0] == masked_crc32c(raw[:8])
        data = raw[12 : 12 + size]
        assert struct.unpack("<I", raw[12 + size : 16 + size])[0] == masked_crc32c(data)
        found.append(Event.FromString(data))
        raw = raw[16 + size :]
    return found


def points(folder: Path) -> list[tuple[str, int, float]]:
    """Tag, step and value of every point in that file, in its order."""
    return [(one.tag, event.step, one.simple_value) for event in events(folder) for one in event.summary.value]


def test_what_sites_say_stands_at_the_step_of_the_model_and_what_is_of_updates_at_that_of_their_round(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, participants=5)
    settle(world, PLAN.model_copy(update=ROBUST), {1: {"auc": 0.5, "loss": 1.0}, 2: {"auc": 0.25}})
    settle(world, PLAN, {1: {"auc": 0.75}})
    partner = Partner(world, tmp_path / "a").look()
    first, second = events(partner.curves.folder)[:2]
    assert (first.file_version, second.session_log.status) == ("brain.Event:2", SessionLog.START)
    found = {(tag, step): value for tag, step, value in partner.points}
    assert len(found) == len(partner.points)
    auc = {tag: value for (tag, step), value in found.items() if tag.startswith("auc/") and step == 0}
    assert auc == {"auc/mean": 0.375, "auc/worst": 0.25, "auc/1 Site 1": 0.5, "auc/2 Site 2": 0.25}
    assert (found["loss/worst", 0], found["auc/mean", 1]) == (1.0, 0.75)
    assert (found["counted", 1], found["counted", 2]) == (5, 5)
    for kind in ("norm", "distance"):
        assert {step for tag, step in found if tag.startswith(f"{kind}/")} == {1}
        assert sum(tag.startswith(f"{kind}/") for tag, _ in found) == 5


def test_all_who_read_the_same_scores_get_the_same_curves_whenever_they_look(tmp_path: Path) -> None:
    world = World(tmp_path)
    aggregator = Partner(world, tmp_path / "a", identity_of(world.aggregator.account))
    for _ in range(3):
        settle(world, SEALED)
        aggregator.look().look()
    auditor = Partner(world, tmp_path / "b", identity_of(world.auditor)).look()
    assert ("auc/mean", 1, 0.75) in auditor.points
    assert sorted(aggregator.points) == sorted(auditor.points)


def test_a_site_that_cannot_open_the_annex_sees_its_own_metrics_and_no_others(tmp_path: Path) -> None:
    world = World(tmp_path)
    settle(world, SEALED)
    settle(world, SEALED.model_copy(update={"public_quality": True}))
    site = Partner(world, tmp_path / "a", identity_of(world.participants[0]), 1).look()
    told = {(tag, step) for tag, step, _ in site.points}
    assert {one for one in told if one[1] == 0} == {("auc/1 Site 1", 0), ("loss/1 Site 1", 0)}
    assert {("auc/mean", 1), ("auc/2 Site 2", 1)} <= told
    world.store.path(world.contract.history().rounds[1].updates[1].update).unlink()
    again = Partner(world, tmp_path / "b", identity_of(world.participants[0]), 1).look()
    assert {(tag, step) for tag, step, _ in again.points} == told - {("auc/1 Site 1", 0), ("loss/1 Site 1", 0)}


def test_a_process_begins_its_file_anew_and_leaves_those_of_others_alone(tmp_path: Path) -> None:
    world = World(tmp_path)
    settle(world, PLAN)
    folder = tmp_path / "a" / "curves"
    folder.mkdir(parents=True)
    other = folder / "events.of-others"
    other.write_bytes(b"theirs")
    before = Partner(world, tmp_path / "a").look().points
    for _ in range(3):
        assert Partner(world, tmp_path / "a").look().points == before
    assert other.read_bytes() == b"theirs"
    assert len(list(folder.iterdir())) == 3, "theirs, ours, and the empty one before"


def test_of_several_rounds_on_one_model_what_was_said_first_stands(tmp_path: Path) -> None:
    world = World(tmp_path)
    settle(world, PLAN)
    world.aggregator.open(PLAN, 0)
    for member in (1, 2):
        world.post(member, world.update(member, tensors(1.0), metrics={"auc": 0.0, "f1": 0.5}))
    world.post(3, world.update(3, tensors(1.0), metrics={"loss": 2.0}))
    world.settle()
    found = Partner(world, tmp_path / "a").look().points
    assert [value for tag, step, value in found if (tag, step) == ("auc/1 Site 1", 0)] == [0.75]
    assert {("f1/mean", 0, 0.5), ("loss/3 Site 3", 0, 2.0), ("counted", 2, 3.0)} <= set(found)


def test_nothing_is_drawn_before_it_is_final(tmp_path: Path) -> None:
    world = World(tmp_path)
    settle(world, PLAN)
    assert Partner(world, tmp_path / "a", finality="2").look().points == []
    assert Partner(world, tmp_path / "b", finality="1").look().points != []


def test_a_manifest_that_is_not_to_be_had_is_asked_for_again_later_and_stops_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    for _ in range(2):
        settle(world, PLAN)
    ended = world.contract.history().rounds[1].ended
    assert isinstance(ended, RoundSettled)
    path = world.store.path(ended.manifest)
    manifest = path.read_bytes()
    path.unlink()
    partner = Partner(world, tmp_path / "a").look().look()
    assert [step for tag, step, _ in partner.points if tag == "counted"] == [2]
    assert partner.said.getvalue().count("no curves of a round yet") == 1
    path.write_bytes(manifest)
    assert [step for tag, step, _ in partner.look().points if tag == "counted"] == [2], "not with every look"
    partner.curves._again.clear()
    assert [step for tag, step, _ in partner.look().points if tag == "counted"] == [1, 2], "in order, all anew"


def test_a_folder_that_cannot_be_written_any_more_is_logged_and_written_anew_once_it_can(tmp_path: Path) -> None:
    world = World(tmp_path)
    settle(world, PLAN)
    partner = Partner(world, tmp_path / "a").look()
    before = partner.points
    partner.curves.folder.rename(tmp_path / "away")
    partner.curves.folder.write_text("a file")
    settle(world, PLAN)
    partner.look()
    assert "no curves can be written" in partner.said.getvalue()
    partner.curves.folder.unlink()
    after = partner.look().points
    assert {*before, ("counted", 2, 3.0)} <= set(after)
    assert len(set(after)) == len(after)


def test_numbers_that_tensorboard_does_not_know_are_left_out(tmp_path: Path) -> None:
    world = World(tmp_path, participants=5)
    world.aggregator.open(PLAN.model_copy(update=ROBUST))
    for member in range(1, 6):
        values = tensors(member / 8)
        if member == 4:
            values["weight"] = np.full(4, 1e38, np.float32)  # its squared distance is beyond a float32
        world.post(member, world.update(member, values))
    world.settle()
    partner = Partner(world, tmp_path / "a").look()
    assert [tag for tag, _, _ in partner.points if tag.startswith("distance/")] == [
        f"distance/{member} Site {member}" for member in (1, 2, 3, 5)
    ]
    assert partner.said.getvalue() == ""


def test_what_is_no_folder_to_write_to_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is no folder to write curves to"):
        Curves(tmp_path / "file", World(tmp_path / "w", 1).store, [], None, Log(stream=io.StringIO()))


def test_without_its_extra_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['tensorboardX'] = None; import ledger.curves"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert output.stderr.splitlines()[-1].startswith("ledger.errors.UsageError: --tensorboard needs tensorboardX")
    assert output.stderr.splitlines()[-1].endswith("pip install 'fedledger[tensorboard]'")
