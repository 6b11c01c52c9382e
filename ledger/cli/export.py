"""``fedledger export``."""

from __future__ import annotations

from pathlib import Path

import click

from ledger.cli.audit import progress
from ledger.cli.options import ADDRESS, JSON, PATH, PLAIN_HTTP, STORE
from ledger.cli.output import document, facts
from ledger.cli.sources import BLOCK_HASH, read_source


@click.command()
@click.argument("source", metavar="LEDGER")
@click.option("-o", "--output", type=PATH, metavar="FILE", required=True, help="The bundle to write: history.car.")
@click.option("--ledger", type=ADDRESS, metavar="0x…", help="The ledger's address, where LEDGER is a node.")
@STORE
@PLAIN_HTTP
@BLOCK_HASH
@JSON
def export(
    source: str,
    output: Path,
    ledger: str | None,
    store: str,
    plain_http: bool,
    block_hash: bytes | None,
    as_json: bool,
) -> None:
    """Write a ledger with all its evidence and blobs into one file, for an audit without network.

    LEDGER is a node's address (http://…, with --ledger and --store), a folder that the demo left behind, or another
    bundle. The file is a CAR: IPFS nodes import and pin it as it is. The same history gives the same bytes.

    \b
    Exit status:
      0  the bundle is written
      1  written, without blobs that are not what their CIDs say
      2  wrong use: LEDGER is nothing to export
      3  written, without blobs that are missing and not recorded as erased; or the node cannot be reached
    """
    from ledger.audit.bundle import write_bundle
    from ledger.audit.replay import Replay
    from ledger.cli.files import require_writable

    require_writable(output, "bundle")
    with progress() as told:
        evidence = read_source(source, ledger, store, plain_http, block_hash, told)
        written = write_bundle(output, evidence)
        replayed = Replay(evidence, told, frozenset()) if written.missing else None  # the audit's rule for erasures
    missing = [cid for cid in written.missing if replayed is None or replayed.excused(cid) is None]
    told_facts = {
        "root": str(written.root),
        "head": "0x" + evidence.head.hex(),
        "entries": len(evidence.entries),
        "bytes": output.stat().st_size,
    }
    if as_json:
        left_out = {"missing": written.missing, "mismatched": written.mismatched}
        document({**told_facts, **{name: [str(cid) for cid in cids] for name, cids in left_out.items()}})
    else:
        facts(told_facts.items())
    for cid in written.missing:
        why = "is missing" if cid in missing else "is missing, and was recorded as erased"
        click.echo(f"Not in the bundle: {cid} {why}", err=True)
    for cid in written.mismatched:
        click.echo(f"Not in the bundle: what is stored as {cid} is something else: it was altered", err=True)
    if written.mismatched or missing:
        raise click.exceptions.Exit(1 if written.mismatched else 3)
