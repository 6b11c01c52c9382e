"""``fedledger erase``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.output import document, recorded

if TYPE_CHECKING:
    from ledger.facts import UpdateRecorded
    from ledger.history import History


@click.command()
@click.argument("blob", metavar="CID")
@click.option(
    "--reason", type=click.Choice(["request", "withdrawal", "mistake"]), required=True, help="Why it is to go."
)
@click.option("--round", "number", metavar="N", type=click.IntRange(1), help="The round, where CID is in several.")
@click.option("--member", metavar="ID", type=click.IntRange(1), help="The member, where several posted CID.")
@connected(writes=True, store=True)
def erase(connection: Connection, blob: str, reason: str, number: int | None, member: int | None) -> None:
    """Erase an update: record that it is to go, and destroy what opens it in the store.

    CID is an update's or its key blob's, or 0x and its digest. Of a sealed update the key blob goes: without it nobody
    opens the update again, neither with the manifest's annex nor with a grant. Of one that is not sealed the update
    itself goes. The hash stays on the ledger. Aggregators, sites and mirrors that run see the entry and do the same;
    copies that others made are out of reach. The member itself or the governor can do this, once the round has ended.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use; 3 the node or the store cannot be reached.
    """
    from ledger.cid import RAW, Cid
    from ledger.erasing import erased
    from ledger.errors import UnavailableError
    from ledger.facts import ErasureReason

    contract, account = connection.contract, connection.account
    history = connection.history()
    update = _meant(history, blob, number, member)
    cid = Cid(update.key_blob, RAW) if update.key_blob else update.update
    what = "the key blob" if update.key_blob else "the update"
    about = f"{what} of member {update.member} ({history.members[update.member].name}) in round {update.round}"
    receipt = None
    if not any(
        (one.member, one.digest) == (update.member, cid.digest) for one in history.rounds[update.round].erasures
    ):
        connection.confirm(f"Erase {about}, {cid}, by {reason}?")
        receipt = contract.erase(account, update.round, update.member, cid.digest, ErasureReason[reason.upper()])
    gone = cid in erased(history.genesis, [entry for entry, _ in connection.look().entries])
    kept = f"Kept: {cid} is something else on this ledger, too, or another member's."
    note = f"Removed from {connection.store}: {cid}" if gone else kept
    try:
        if gone:
            connection.blobs.remove(cid)
    except UnavailableError:
        note, gone = f"Not removed yet from {connection.store}: {cid}", False
        raise
    finally:  # what is recorded is told in any case
        if receipt is not None:
            recorded(connection, receipt, note, blob=str(cid), removed=gone)
        elif connection.as_json:
            document({"recorded": [], "blob": str(cid), "removed": gone})
        else:
            click.echo(f"Recorded before: {about} is erased.\n{note}")


def _meant(history: History, blob: str, number: int | None, member: int | None) -> UpdateRecorded:
    """The update that is meant.

    Raises:
        UsageError: If there is none, or there are several.
    """
    from ledger.errors import UsageError

    digest = _digest(blob)
    found = [
        update
        for known in history.rounds.values()
        for update in known.updates.values()
        if digest in (update.update.digest, update.key_blob)
        and number in (None, update.round)
        and member in (None, update.member)
    ]
    if not found:
        where = f" in round {number}" if number else ""
        whose = f" of member {member}" if member else ""
        raise UsageError(f"{blob} is no update{whose}{where}, nor its key blob: see `fedledger round show`")
    if len(found) > 1:
        places = ", ".join(f"round {one.round} by member {one.member}" for one in found[:5])
        raise UsageError(f"{blob} was posted {len(found)} times ({places}): say which, with --round and --member")
    return found[0]


def _digest(text: str) -> bytes:
    import re

    from ledger.cid import Cid
    from ledger.errors import UsageError

    if re.fullmatch("0x[0-9a-f]{64}", text):
        return bytes.fromhex(text[2:])
    try:
        return Cid.parse(text).digest
    except ValueError:
        raise UsageError(f"{text!r} is no blob: give its CID, or 0x and its digest in 64 hex digits") from None
