"""``fedledger model``: the models that a ledger has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.options import PATH
from ledger.cli.output import about, document, facts
from ledger.cli.round_views import known_round

if TYPE_CHECKING:
    from ledger.cid import Cid
    from ledger.history import History, Round
    from ledger.updates import TensorBlob

INSTEAD = "nothing is written over it: name another file"


@click.group()
def model() -> None:
    """Get the models that rounds have made."""


@model.command()
@click.option(
    "--round",
    "number",
    type=click.IntRange(0, (1 << 32) - 1),
    metavar="N",
    help="Of round N (0: genesis), not the newest released.",
)
@click.option("--unreleased", is_flag=True, help="Also a model that is settled, and lacks approvals or was rejected.")
@click.option("-o", "--output", type=PATH, metavar="FILE", required=True, help="What to write: model.safetensors.")
@connected(store=True)
def pull(connection: Connection, number: int | None, unreleased: bool, output: Path) -> None:
    """Write the newest released model, or that of round N, to a new FILE, once it is verified.

    Verified is that the ledger's entries refold to its head and keep to its rules, that the bytes are what the model's
    CID names, and that they are a canonical model of the round's plan with finite values. Whether the model is what its
    updates give is for `fedledger audit` to say, and an approval says that an auditor has found it so.

    \b
    Exit status:
      0  written
      1  the model is not released, or not what it should be; or what the node shows is not the ledger
      2  wrong use: there is no such model, or FILE is there already or cannot be written
      3  the node cannot be reached, or the model is not to be had
    """
    from ledger.cli.files import create, require_absent
    from ledger.updates import require_finite

    require_absent(output, INSTEAD)
    history = connection.history()
    number = _newest(history, unreleased) if number is None else number
    cid, told = _genesis(history) if number == 0 else _model(known_round(history, number), unreleased)
    with about(f"the model of round {number}" if number else "the genesis model"):
        blob, decoded = _read(connection, history, number, cid)
        require_finite(decoded)
    create(output, blob, 0o666, INSTEAD)
    if connection.as_json:
        document({"round": number, "model": str(cid), **told, "bytes": len(blob), "file": str(output)})
        return
    approvals = f"{told['approvals']} of {told['needed']}, {told['rejections']} rejections" if number else None
    facts(
        [
            ("round", number or "0, the genesis model"),
            ("model", cid),
            ("status", told["status"]),
            ("approvals", approvals),
            ("written", f"{output}, {len(blob):,} bytes, {len(decoded.tensors):,} tensors"),
        ]
    )


def _newest(history: History, unreleased: bool) -> int:
    """The newest round with a released model; or with any model, where it need not be released."""
    from ledger.errors import UsageError
    from ledger.facts import RoundSettled

    settled = [number for number, known in history.rounds.items() if isinstance(known.ended, RoundSettled)]
    if newest := max(settled, default=0) if unreleased else history.latest_released:
        return newest
    if settled:
        raise UsageError(f"no model is released yet: wait for approvals of round {max(settled)}, or say --unreleased")
    raise UsageError("no round has made a model yet: --round 0 is the genesis model")


def _genesis(history: History) -> tuple[Cid, dict[str, Any]]:
    from ledger.errors import UsageError

    if history.genesis_model is None:
        raise UsageError("there is no genesis model yet: the governor records it with `fedledger round genesis`")
    return history.genesis_model.model, {"status": "genesis", "approvals": None, "needed": None, "rejections": None}


def _model(known: Round, unreleased: bool) -> tuple[Cid, dict[str, Any]]:
    """A round's model, and how it stands."""
    from ledger.errors import UsageError, ViolationError
    from ledger.facts import RoundSettled
    from ledger.history import Status

    if not isinstance(known.ended, RoundSettled):
        raise UsageError(f"round {known.number} is {known.status.value} and has no model: see `fedledger round list`")
    said = [one.approve for one in known.attestations.values()]
    approvals, rejections, needed = said.count(True), said.count(False), known.opened.approvals
    if known.status is not Status.RELEASED and not unreleased:
        raise ViolationError(
            f"the model of round {known.number} is not released: it has {approvals} of {needed} approvals and "
            f"{rejections} rejections; wait for auditors, or say --unreleased"
        )
    told = {"status": known.status.value, "approvals": approvals, "needed": needed, "rejections": rejections}
    return known.ended.model, told


def _read(connection: Connection, history: History, number: int, cid: Cid) -> tuple[bytes, TensorBlob]:
    """The bytes of a model, which have its CID, and what they hold, which is of the round's plan; genesis has none."""
    from ledger.errors import InvalidBlobError
    from ledger.plan import MAX_PLAN_BYTES, Plan
    from ledger.updates import MODEL_HEADER, decode, decode_model, max_model_bytes

    if number:
        plan = Plan.decode(connection.blobs.get(history.rounds[number].opened.plan, limit=MAX_PLAN_BYTES))
        blob = connection.blobs.get(cid, limit=max_model_bytes(plan))
        return blob, decode_model(blob, plan)
    blob = connection.blobs.get(cid)
    decoded = decode(blob)
    if decoded.header != MODEL_HEADER:
        raise InvalidBlobError("binding", "its header says something else than model")
    return blob, decoded
