"""``fedledger attest``."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.options import FILE
from ledger.cli.output import plain, recorded

MAX_REPORT_BYTES = 1 << 24
"""The largest report of a member's own."""


@click.command()
@click.argument("number", metavar="N", type=click.IntRange(1, (1 << 32) - 1))
@click.option(
    "--approve/--reject", "approve", default=None, help="Record this verdict, with the report that gives its reasons."
)
@click.option("--report", type=FILE, help="The reasons for the verdict; stored, and recorded by its CID.")
@connected(writes=True, store=True)
def attest(connection: Connection, number: int, approve: bool | None, report: Path | None) -> None:
    """Attest to the settled model of round N.

    Without a verdict of your own, the round is audited: its documents are read and it is settled again from the
    updates. If all is as published, the approval is recorded; if something is wrong, the rejection; each with the
    audit's report. If something could not be checked, nothing is recorded.

    \b
    Exit status:
      0  the verdict is recorded
      1  the audit found something wrong, and the rejection is recorded; or the ledger refuses
      2  wrong use
      3  not all could be checked, or the node cannot be reached: nothing is recorded
    """
    from ledger.audit.attest import examine
    from ledger.audit.report import Verdict
    from ledger.cid import cid_of
    from ledger.errors import UsageError

    if (approve is None) != (report is None):
        raise UsageError("a verdict of your own has a report: give --approve or --reject and --report, or neither")
    contract, account = connection.contract, connection.account
    if report is None:
        examined = examine(connection.history(), connection.blobs, number, identities=connection.own_identities)
        click.echo(f"The audit of round {number}: {examined.verdict.value}", err=connection.as_json)
        for text in examined.findings:
            click.echo(f"  {plain(text)}", err=connection.as_json)
        if examined.verdict is Verdict.INCOMPLETE:
            click.echo("Not all of it could be checked, so nothing is recorded: fetch what is missing.", err=True)
            raise click.exceptions.Exit(examined.verdict.exit_status)
        approve, reasons = examined.verdict is Verdict.VERIFIED, examined.report
    else:
        approve, reasons = bool(approve), _read(report)
    verdict = "approve" if approve else "reject"
    connection.confirm(f"Record that {account.address} {verdict}s the model of round {number}?")
    receipt = contract.storing(connection.blobs, reasons).attest(account, number, approve, cid_of(reasons))
    recorded(connection, receipt, f"The verdict: {verdict}", verdict=verdict)
    if report is None:
        raise click.exceptions.Exit(examined.verdict.exit_status)


def _read(report: Path) -> bytes:
    from ledger.errors import UsageError
    from ledger.storage.folder import read_regular

    try:
        return read_regular(report, MAX_REPORT_BYTES)
    except OSError as error:
        raise UsageError(f"{report} cannot be read as a report ({error.strerror}): name another file") from None
