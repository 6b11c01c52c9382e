"""``fedledger round post`` and ``fedledger round relay``: how updates get to the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.options import FILE
from ledger.cli.output import about, document, entries_of, recorded

if TYPE_CHECKING:
    from ledger.cid import Cid
    from ledger.history import History, Member, Round
    from ledger.plan import Plan
    from ledger.sealing import Sealed


@click.command()
@click.argument("number", metavar="N", type=click.IntRange(1, (1 << 32) - 1))
@click.argument("file", metavar="UPDATE_FILE", type=FILE)
@click.option("--weight", type=click.IntRange(1, (1 << 53) - 1), required=True, help="Examples that it was trained on.")
@click.option("--sign-only", is_flag=True, help="Print the signed update, for another to relay: it needs no ether.")
@connected(writes=True, store=True)
def post(connection: Connection, number: int, file: Path, weight: int, sign_only: bool) -> None:
    """Store the update in UPDATE_FILE, sealed to the round's aggregators and auditors, and record its hash for round N.

    What settlement would exclude is refused here: an update that is recorded is never replaced. Where the plan has
    updates unsealed, this one is not stored while the round takes others, which could be copies of it: say the same
    again after that.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 node or blob cannot be had.
    """
    from ledger.chain.signed_files import UpdateFile
    from ledger.cid import cid_of
    from ledger.errors import UsageError

    contract, account = connection.contract, connection.account
    history = connection.history()
    member, known = history.member_by_account(account.address), history.rounds.get(number)
    if member is None:
        raise UsageError(f"{account.address} is no member's account: give the keystore of one")
    if known is None:
        raise UsageError(f"there is no round {number}: the newest is {history.latest_round}")
    plan, blob = _counted(connection, history, known, member.id, file, weight)
    mine, is_open = known.updates.get(member.id), known.takes_more(connection.now)
    if plan.seal == "none" and mine is not None and mine.update == cid_of(blob):
        if is_open:
            raise UsageError(
                f"round {number} still takes updates, which could be copies of {file}: store it after that"
            )
        _stored(connection, connection.blobs.put(blob))
        return
    sealed = _sealed(known, plan, member, blob)
    connection.confirm(f"Record {file} as the update of member {member.id} ({member.name}) in round {number}?")
    update, key_blob = cid_of(sealed.update), cid_of(sealed.key_blob).digest if sealed.key_blob else None
    later = sealed.key_blob is None and len(known.updates) + 1 < known.eligible and not sign_only
    blobs = [] if later else list(filter(None, (sealed.update, sealed.key_blob)))
    if sign_only:
        for one in blobs:
            connection.blobs.put(one)
        document(UpdateFile.sign(account, history, known, update, weight, key_blob).model_dump(mode="json"))
    else:
        receipt = contract.storing(connection.blobs, *blobs).post_update(account, number, update, weight, key_blob)
        note = "Not stored yet: say the same again once the round takes no more updates." if later else ""
        recorded(connection, receipt, note, update=str(update), stored=not later)


@click.command()
@click.argument("files", metavar="FILE…", type=FILE, nargs=-1, required=True)
@connected(writes=True)
def relay(connection: Connection, files: tuple[Path, ...]) -> None:
    """Carry the signed updates in FILE… to the chain, all in one transaction.

    Each is checked first, so that a bad one is named; the update of a member that has one already is skipped.

    Exit status: 0 done; 1 one was altered, or the ledger refuses; 2 wrong use; 3 the node cannot be reached.
    """
    from ledger.chain.signed_files import UpdateFile
    from ledger.chain.signing import SignedUpdate
    from ledger.errors import Refused, UsageError
    from ledger.facts import UpdateRecorded

    contract, account = connection.contract, connection.account
    history, now = connection.history(), connection.now
    carried = {file: UpdateFile.read(file) for file in files}
    number = next(iter(carried.values())).round
    for file, one in carried.items():
        if one.round != number:
            raise UsageError(f"{file} is for round {one.round}, {files[0]} for round {number}: relay them one by one")
    taken: dict[str, tuple[Path, SignedUpdate]] = {}
    skipped: list[Path] = []
    for file, one in carried.items():
        try:
            with about(file):
                signed = one.checked(history, now, account.address)
        except Refused as refused:
            if refused.name != "UpdateAlreadyRecorded":
                raise
            skipped.append(file)
            continue
        if one.account in taken:
            skipped.append(file)
        else:
            taken[one.account] = file, signed
    if taken:
        connection.confirm(f"Carry {len(taken)} signed updates for round {number} to the chain?")
        receipt = contract.relay_updates(account, number, [signed for _, signed in taken.values()])
        facts = [entry.fact for entry, _ in entries_of(connection, receipt)]
        posted = {fact.member for fact in facts if isinstance(fact, UpdateRecorded)}
        skipped += [file for signer, (file, _) in taken.items() if history.accounts[signer].member not in posted]
        recorded(connection, receipt, skipped=[str(file) for file in skipped])
    elif connection.as_json:
        document({"recorded": [], "skipped": [str(file) for file in skipped]})
    for file in skipped:
        click.echo(f"Skipped {file}: its member has an update in round {number} already", err=True)


def _stored(connection: Connection, update: Cid) -> None:
    if connection.as_json:
        document({"recorded": [], "update": str(update), "stored": True})
    else:
        click.echo(f"Stored: {update}")


def _sealed(known: Round, plan: Plan, member: Member, update: bytes) -> Sealed:
    """The update as the plan wants it to be stored."""
    from ledger.sealing import Sealed, seal_for

    if plan.seal != "none":
        return seal_for(known, update, member.age_key or bytes(32))
    click.echo("Warning: the plan has updates unsealed: WHOEVER FINDS THIS UPDATE CAN READ IT", err=True)
    return Sealed(update, None)


def _counted(
    connection: Connection, history: History, known: Round, member: int, file: Path, weight: int
) -> tuple[Plan, bytes]:
    """The plan and the update in a file, after what settlement would say to it, before it is there for ever."""
    from ledger.errors import InvalidBlobError, UsageError
    from ledger.plan import MAX_PLAN_BYTES, Plan
    from ledger.storage.folder import read_regular
    from ledger.updates import Place, decode_update

    plan = Plan.decode(connection.blobs.get(known.opened.plan, limit=MAX_PLAN_BYTES))
    try:
        blob = read_regular(file, plan.max_update_bytes)
        decode_update(blob, plan, Place.of(history.genesis, known.opened), member, weight)
    except (InvalidBlobError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"settlement would exclude {file} ({why}): make it anew for this round") from None
    return plan, blob
