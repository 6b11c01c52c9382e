"""Curves for TensorBoard: how models fared at the sites and how updates compare, round after round.

They come from the ledger and its blobs alone: whoever can read the same scores gets the same curves. A site cannot
open the annex of a sealed plan's manifest; of such rounds it gets what its own update says, and what everybody can see.
Importing this raises `UsageError` where the extra `tensorboard` is not installed; its library takes torch along where
that is.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ledger.cid import RAW, Cid
from ledger.errors import BlobMissingError, FedledgerError, UsageError
from ledger.facts import RoundSettled
from ledger.figures import figures
from ledger.following import View
from ledger.history import History, Round
from ledger.logs import Log
from ledger.manifest import Manifest, Score, are_metrics
from ledger.manifests import read_manifest
from ledger.plan import MAX_PLAN_BYTES, Plan
from ledger.scores import scores_in
from ledger.sealing import MAX_KEY_BLOB_BYTES, Identity, largest_sealed, open_key, open_update
from ledger.storage import Blobs
from ledger.updates import decode

try:
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.record_writer import masked_crc32c
except ImportError as error:
    raise UsageError(f"--tensorboard needs {error.name}: pip install 'fedledger[tensorboard]'") from None

Scalar = tuple[str, int, float]
"""Tag, step and value."""

Points = dict[tuple[str, int], tuple[float, int]]
"""Value and time, by tag and step."""

OURS = "events.out.tfevents.{}.fedledger"
"""Files of ours; TensorBoard reads those of a folder in the order of their names."""
A_WHILE = 2.0
"""Seconds after which one look ends: the loop has other things to do."""
AGAIN = 60.0
"""Seconds until what was not to be had is asked for again."""
LARGEST = 3.4e38
"""TensorBoard knows no larger numbers."""


@dataclass
class Curves:
    """The curves in one folder, begun anew by each process, so that no point is in them twice.

    Attributes:
        folder: Where TensorBoard looks; files of ours in it are replaced, and no others.
        store: Where the ledger's blobs are.
        identities: The member's own age identities.
        member: The site whose own updates are read where the scores are sealed to others; None for none.
        log: Told what cannot be written or read.
    """

    folder: Path
    store: Blobs
    identities: Sequence[Identity]
    member: int | None
    log: Log
    _file: Path | None = field(default=None, init=False)
    """None where it has to be begun."""
    _points: Points = field(default_factory=dict, init=False)
    """All that are known; of several rounds on one model, what was said first stands."""
    _rounds: set[int] = field(default_factory=set, init=False)
    """Those whose points these are."""
    _again: dict[int, float] = field(default_factory=dict, init=False)
    """When to ask again for what a round needs."""

    def __post_init__(self) -> None:
        try:
            self._write(Points())
        except OSError as error:
            raise UsageError(
                f"{self.folder} is no folder to write curves to ({error.strerror}): name another with --tensorboard"
            ) from None

    def follow(self, view: View) -> None:
        """Write the rounds that are settled for good and not written yet; whoever calls is not stopped by an error."""
        try:
            added = self._new(view)
            if added or self._file is None:
                self._write(added)
        except Exception as error:
            self._file = None  # half a record may be at its end
            self.log.stuck("no curves can be written", why=error)

    def _new(self, view: View) -> Points:
        started, added = time.monotonic(), Points()
        for entry, _ in view.entries:
            fact = entry.fact
            if entry.block > view.final or time.monotonic() > started + A_WHILE:
                break
            if isinstance(fact, RoundSettled) and fact.round not in self._rounds:
                for tag, step, value in self._read(view.history, view.history.rounds[fact.round]):
                    if abs(value) <= LARGEST and (tag, step) not in self._points:
                        added.setdefault((tag, step), (value, entry.time))
        return added

    def _read(self, history: History, known: Round) -> list[Scalar]:
        """What a round adds; nothing where that is not to be had yet."""
        number = known.number
        if time.monotonic() < self._again.get(number, 0.0):
            return []
        try:
            manifest = read_manifest(known, self.store)
            scores = scores_in(history, known, manifest, lambda: self.identities) if manifest else {}
            own = self._own(known) if scores is None else {}
        except FedledgerError as error:
            self._again[number] = time.monotonic() + AGAIN
            self.log.stuck("no curves of a round yet", round=number, why=error)
            return []
        self._rounds.add(number)
        return list(scalars(history, known, manifest, scores, own)) if manifest else []

    def _write(self, added: Points) -> None:
        last = dict(sorted(self._points))  # the last step of each tag
        self._points |= added
        if self._file is not None and all(step > last.get(tag, -1) for tag, step in added):
            with self._file.open("ab") as file:
                file.write(b"".join(map(self._point, sorted(added))))
            return
        # TensorBoard forgets the points of a tag that are behind one that it reads later: all anew, in order.
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob(OURS.format("*")):
            if old.stat().st_size:
                os.truncate(old, 0)  # TensorBoard, if it reads it now, goes on with the next one only if it is there
            else:
                old.unlink()
        self._file = self.folder / OURS.format(f"{time.time_ns() // 10**6:013}")
        # The second: what TensorBoard has read in this folder before is not to be shown any more.
        first = Event(file_version="brain.Event:2"), Event(session_log=SessionLog(status=SessionLog.START))
        self._file.write_bytes(b"".join(map(_record, first)) + b"".join(map(self._point, sorted(self._points))))

    def _point(self, at: tuple[str, int]) -> bytes:
        (tag, step), (value, moment) = at, self._points[at]
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        return _record(Event(wall_time=moment, step=step, summary=summary))

    def _own(self, known: Round) -> dict[int, Score]:
        """What the member's own update says."""
        update = known.updates.get(self.member or 0)
        if update is None or update.key_blob is None:
            return {}
        plan = Plan.decode(self.store.get(known.opened.plan, MAX_PLAN_BYTES))
        try:
            key = open_key(self.store.get(Cid(update.key_blob, RAW), MAX_KEY_BLOB_BYTES), self.identities)
            sealed = self.store.get(update.update, largest_sealed(plan.max_update_bytes))
        except BlobMissingError:
            return {}  # it was erased, or is elsewhere
        blob = open_update(sealed, key) if key else None
        metrics = decode(blob).header.get("metrics") if blob else None
        return {update.member: Score(metrics=metrics)} if metrics is not None and are_metrics(metrics) else {}


def scalars(
    history: History,
    known: Round,
    manifest: Manifest,
    scores: Mapping[int, Score] | None,
    own: Mapping[int, Score],
) -> Iterator[Scalar]:
    """What a settled round adds to the curves. Pure.

    What the sites say is about the round's base, and stands at the step of the round whose model that is; what is about
    the updates stands at the step of their round.

    Args:
        history: The whole history.
        known: The round.
        manifest: Its manifest.
        scores: The scores of its updates, None where they are sealed to others.
        own: What is known of single updates then.
    """
    yield "counted", known.number, manifest.counted
    base = known.opened.base_round
    for metric, figure in figures(scores or {}).items():
        yield f"{metric}/mean", base, figure.mean
        yield f"{metric}/worst", base, figure.worst.value
    for member, score in sorted((own if scores is None else scores).items()):
        site = f"{member} {history.members[member].name if member in history.members else 'never admitted'}"
        yield from ((f"{metric}/{site}", base, value) for metric, value in sorted(score.metrics.items()))
        if score.norm is not None:
            yield f"norm/{site}", known.number, score.norm
        if score.distance is not None:
            yield f"distance/{site}", known.number, score.distance


def _record(event: Event) -> bytes:
    """An event as it stands in the file: a TFRecord."""
    data: bytes = event.SerializeToString(deterministic=True)
    size = struct.pack("<Q", len(data))
    return size + struct.pack("<I", masked_crc32c(size)) + data + struct.pack("<I", masked_crc32c(data))
