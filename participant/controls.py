"""SCAFFOLD's control variates at a site, before a round: the server's by its state, the site's own by what it posted.

A site keeps none itself: it has posted the difference by which each round changed its own, so that their sum is the
control variate. It survives any crash, and an earlier round can be rehearsed with what held then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ledger.choices import CONTROL
from ledger.errors import BlobMissingError, BlobTooLargeError, InvalidBlobError, ViolationError
from ledger.facts import RoundSettled
from ledger.history import Round
from ledger.logs import Log
from ledger.manifest import Reason
from ledger.manifests import read_manifest, state_before
from ledger.plan import Plan
from ledger.strategies import max_state_bytes, read_state
from ledger.updates import TensorBlob, to_float64
from participant.posted import Posted

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Controls:
    """Control variates by tensor name, flat; zeros where there is none.

    Attributes:
        server: The server's, ``c``.
        own: The site's, ``c_i``.
    """

    server: Mapping[str, Float64s] = field(default_factory=dict)
    own: Mapping[str, Float64s] = field(default_factory=dict)


def controls_before(known: Round, plan: Plan, posted: Posted, log: Log) -> Controls:
    """The control variates with which a site trains for a round.

    Args:
        known: The round.
        plan: Its plan.
        posted: What the site posted earlier.
        log: Told which earlier update cannot be read: it counts as zero.

    Raises:
        BlobMissingError: If the manifest of the base's round, or the state that it names, is not to be had.
        BlobMismatchedError: If what is stored is something else.
    """
    if plan.strategy.name != "scaffold" or (state := _state_before(known, plan, posted)) is None:
        return Controls()
    server = {name: to_float64(state.tensors[CONTROL + name], "F32") for name in plan.tensors}
    # The server's rests on as many rounds as its state has steps: those that led to the base, the newest last.
    rounds: list[Round] = []
    before = known
    while len(rounds) < state.header["steps"] and before.opened.base_round:
        before = posted.history.rounds[before.opened.base_round]
        rounds.insert(0, before)
    own = {name: np.zeros(len(values)) for name, values in server.items()}
    for before in rounds:
        try:
            earlier, update = posted.plan(before), _counted(before, posted)
        except (BlobMissingError, ViolationError) as error:
            log.warn("an earlier update of ours counts as zero in our control variate", round=before.number, why=error)
            continue
        if update is None or earlier.state_tensors != plan.state_tensors:
            continue  # other tensors only where a state claims more steps than it took, of which the audit tells
        for name, total in own.items():
            total += to_float64(update.tensors[CONTROL + name], earlier.update_tensors[CONTROL + name].dtype)
    return Controls(server, own)


def _state_before(known: Round, plan: Plan, posted: Posted) -> TensorBlob | None:
    cid = state_before(posted.history, known, posted.blobs)
    if cid is None:
        return None
    try:
        return read_state(posted.blobs.get(cid, max_state_bytes(plan)), plan, known.number)
    except BlobTooLargeError:
        return None  # that of another strategy or model


def _counted(known: Round, posted: Posted) -> TensorBlob | None:
    """What the site posted in a round; None if settlement did not average it."""
    if posted.member not in known.updates or not isinstance(known.ended, RoundSettled):
        return None
    manifest = read_manifest(known, posted.blobs)
    if manifest is None or all(row.member != posted.member or row.excluded for row in manifest.updates):
        return None
    if (update := posted.update(known)) is None:
        raise InvalidBlobError(Reason.UNOPENABLE, "none of this member's age keys opens it")
    return update
