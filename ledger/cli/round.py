"""``fedledger round``: the rounds of a ledger, from the genesis model to erasure."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.options import FILE
from ledger.cli.output import recorded
from ledger.cli.round_agree import agree
from ledger.cli.round_updates import post, relay
from ledger.cli.round_views import known_round, list_, show

if TYPE_CHECKING:
    from ledger.cid import Cid
    from ledger.history import History
    from ledger.plan import Plan

NUMBER = click.IntRange(1, (1 << 32) - 1)


@click.group("round")
def round_() -> None:
    """See rounds; agree to plans; open, settle and abort rounds; post and relay updates; record erasures."""


for command in (list_, show, agree, post, relay):
    round_.add_command(command)


@round_.command()
@click.argument("file", metavar="MODEL_FILE", type=FILE)
@connected(writes=True, store=True)
def genesis(connection: Connection, file: Path) -> None:
    """Record the model in MODEL_FILE, a canonical tensor blob, as the one on which the first round builds.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    from ledger.cid import cid_of
    from ledger.errors import InvalidBlobError, UsageError
    from ledger.updates import MODEL_HEADER, decode, require_finite

    contract, governor, blob = connection.contract, connection.account, file.read_bytes()
    try:
        model = decode(blob)
        if model.header != MODEL_HEADER:
            raise UsageError(f"{file} holds no model, its header says something else: give a model")
        require_finite(model)
    except InvalidBlobError as error:
        raise UsageError(f"{file} holds no model ({error.detail}): write it with ledger.updates.encode") from None
    connection.confirm(f"Record {file} ({cid_of(blob)}) as the genesis model?")
    recorded(connection, contract.storing(connection.blobs, blob).record_genesis(governor, cid_of(blob)))


@round_.command("open")
@click.argument("file", metavar="PLAN_FILE", type=FILE)
@click.option(
    "--base",
    metavar="N",
    type=click.IntRange(0),
    help="Build on round N's model (0: genesis), not the newest released.",
)
@connected(writes=True, store=True)
def open_(connection: Connection, file: Path, base: int | None) -> None:
    """Open the next round by the plan in PLAN_FILE: TOML (.toml) or JSON; what it leaves out has the default.

    A plan without tensors has those of the base model. It has to be within the limits of the charter in force, see
    `fedledger charter show`.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 node or charter cannot be had.
    """
    from ledger.aggregator import Aggregator
    from ledger.plan_file import read_plan

    contract, aggregator = connection.contract, connection.account
    history = connection.history()
    base = history.latest_released if base is None else base
    plan = read_plan(file, partial(_model, connection, history, base))
    within_limits(connection, history.charter, plan, file)
    number = history.latest_round + 1
    on = f"the model of round {base}" if base else "the genesis model"
    connection.confirm(f"Open round {number} on {on}, for {plan.window} seconds?")
    if plan.seal == "none":
        click.echo(
            f'Warning: {file} has seal = "none": WHOEVER FINDS THE UPDATES OF THIS ROUND CAN READ THEM', err=True
        )
    receipt = Aggregator(contract, connection.blobs, aggregator).open(plan, base)
    number = connection.history().latest_round
    recorded(connection, receipt, f"Round {number} is open: fedledger round post {number} UPDATE_FILE", round=number)


@round_.command()
@connected(writes=True, store=True)
def settle(connection: Connection) -> None:
    """Verify and settle the open round: store model and manifest, and record them.

    Under the quorum, the round is aborted with the manifest, which says why each update does not count.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 node or blob cannot be had.
    """
    from ledger.aggregator import Aggregator, propose

    own = connection.own_identities
    aggregator = Aggregator(connection.contract, connection.blobs, connection.account, own)
    proposal = propose(connection.history(), connection.blobs, (), own)
    manifest = proposal.settlement.manifest
    for member, why in proposal.settlement.details.items():
        click.echo(f"  the update of member {member} is excluded: {why}", err=connection.as_json)
    counts = f"{manifest.counted} of {len(manifest.updates)} updates count"
    ends = "Settle" if manifest.model else "Abort, for lack of a quorum,"
    connection.confirm(f"{ends} round {proposal.round}, of which {counts}?")
    receipt = aggregator.publish(proposal)
    note = f"The model, of which {counts}: {manifest.model}" if manifest.model else "There is no model."
    recorded(connection, receipt, note, round=proposal.round, counted=manifest.counted, model=manifest.model)


@round_.command()
@click.argument("number", metavar="N", type=NUMBER)
@click.option(
    "--reason",
    type=click.Choice(["cancelled", "expired"]),
    required=True,
    help="cancelled: an aggregator ends it; expired: anyone does, after deadline and grace.",
)
@connected(writes=True)
def abort(connection: Connection, number: int, reason: str) -> None:
    """End round N without a model.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    from ledger.facts import AbortReason

    contract, account = connection.contract, connection.account
    history = connection.history()
    known = known_round(history, number)
    connection.confirm(f"Abort round {number} with its {len(known.updates)} updates, {reason}?")
    recorded(connection, contract.abort(account, number, history.head, AbortReason[reason.upper()]))


def _model(connection: Connection, history: History, base: int) -> bytes:
    """The model of a round, 0 being the genesis model, on which the next round is to build."""
    from ledger.errors import UsageError

    if (cid := history.model_of(base)) is None:
        which = f"round {base} has no released model" if base else "there is no genesis model"
        raise UsageError(f"{which} whose tensors the plan could take: see `fedledger round list`")
    return connection.blobs.get(cid)


def within_limits(connection: Connection, charter: Cid, plan: Plan, file: Path) -> None:
    """Whether a plan keeps to the limits of a charter.

    Raises:
        UsageError: If it does not.
        UnavailableError: If the charter's limits cannot be read.
    """
    from ledger.charter import limits_of
    from ledger.errors import UnavailableError, UsageError

    try:
        exceeded = limits_of(connection.blobs.get(charter)).exceeded(plan)
    except ValueError as error:
        raise UnavailableError(f"whether {file} is within them: {error}; the governor puts another in force") from None
    if exceeded:
        raise UsageError(f"{file} is outside of the charter's limits ({'; '.join(exceeded)}): change the plan")
