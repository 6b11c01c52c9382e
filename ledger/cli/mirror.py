"""``fedledger mirror``."""

from __future__ import annotations

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.following import LOG_FORMAT, POLL, log_of
from ledger.cli.output import document


@click.command()
@click.option("--follow", is_flag=True, help="Go on with what is recorded later, until stopped.")
@click.option(
    "--max-gb",
    type=click.FloatRange(min=0, min_open=True),
    default=16.0,
    show_default=True,
    metavar="GB",
    help="The largest blob to take: a member can post whatever it likes.",
)
@POLL
@LOG_FORMAT
@connected(store=True)
def mirror(connection: Connection, follow: bool, max_gb: float, poll: float, log_format: str) -> None:
    """Fetch, verify and pin every blob of the ledger on your own IPFS node: an auditor's copy.

    With a folder as store, its blobs are verified, and those that are missing are named. What is recorded as erased
    is given up.

    \b
    Exit status:
      0  every blob is there
      1  a blob is not what its CID says; or the node shows another history than before, or one that breaks the rules
      2  wrong use
      3  blobs are not to be had or too large, and named; or the node cannot be reached
    """
    from ledger.loop import repeat, until_stopped
    from ledger.mirroring import Mirroring

    log = log_of(log_format)
    work = Mirroring(connection.follower, connection.blobs, int(max_gb * 10**9), log)
    with until_stopped(log):
        if follow:
            repeat(work.step, log, poll, lambda: connection.follower.quiet)
        else:
            work.step()
    if connection.as_json:
        lists = {"missing": work.missing, "altered": work.altered}
        document({"pinned": len(work.pinned), **{name: [str(cid) for cid in cids] for name, cids in lists.items()}})
    elif not follow:
        lacks = f"{len(work.missing)} are not to be had, {len(work.altered)} were altered"
        click.echo(f"{len(work.pinned)} blobs are here, verified and pinned; {lacks}")
    if work.altered or work.missing:
        raise click.exceptions.Exit(1 if work.altered else 3)
