"""``fedledger grant``."""

from __future__ import annotations

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.options import ADDRESS
from ledger.cli.output import recorded


@click.command()
@click.option("--to", metavar="0x…", type=ADDRESS, required=True, help="The account of the member to whom they open.")
@click.option(
    "--rounds", metavar="3-7", help="Only the updates of these rounds; say 3, 3-7 or 1,4-6. All, if not given."
)
@connected(writes=True, store=True)
def grant(connection: Connection, to: str, rounds: str | None) -> None:
    """Open the sealed updates of earlier rounds for a member that was not there yet, such as a new auditor.

    The keys that your age.key leads to, of rounds that have ended, are sealed to that member's age key, stored, and
    recorded on the ledger for everybody to see; the sites are not asked. What was erased stays erased. Aggregators and
    auditors can do this.

    Exit status: 0 done; 1 the ledger refuses; 2 wrong use, or you can open none; 3 node or blob cannot be had.
    """
    from ledger.audit.opening import handed_on
    from ledger.cid import cid_of
    from ledger.cli.audit import chosen_rounds
    from ledger.errors import UsageError
    from ledger.sealing import is_usable, write_grant

    contract, account, history = connection.contract, connection.account, connection.history()
    member = history.member_by_account(to)
    if member is None:
        raise UsageError(f"{to} is no member's account: have the governor admit it, then `fedledger join`")
    if member.age_key is None or not is_usable(member.age_key):
        raise UsageError(f"member {member.id} ({member.name}) has no age key to seal to: it publishes one by joining")
    asked = chosen_rounds(rounds)
    ended = [known for known in history.rounds.values() if known.ended and (asked is None or known.number in asked)]
    if asked is not None and (missing := asked - {known.number for known in ended}):
        raise UsageError(f"round {min(missing)} has not ended, or is none: leave it out")
    keys = handed_on(history, ended, connection.blobs, connection.identities)
    if not keys:
        raise UsageError("you can open no sealed update of these rounds: nothing to grant")
    blob = write_grant(history.genesis, keys, member.age_key)
    count = sum(len(masked) for masked in keys.values())
    about = f"{count} updates of rounds {min(keys)} to {max(keys)} for member {member.id} ({member.name})"
    connection.confirm(f"Open {about}?")
    receipt = contract.storing(connection.blobs, blob).grant(account, member.id, min(keys), max(keys), cid_of(blob))
    recorded(connection, receipt, f"Opened: {about}", rounds=sorted(keys), updates=count)
