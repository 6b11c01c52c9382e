"""``fedledger deploy``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from ledger.cli.charter import read_charter
from ledger.cli.connection import Connection, connected
from ledger.cli.options import FILE
from ledger.cli.output import document, facts


@click.command()
@click.option("--charter", type=FILE, required=True, help="The data-use agreement that every member will accept.")
@connected(writes=True, store=True, ledger=False)
def deploy(connection: Connection, charter: Path) -> None:
    """Deploy a new ledger under a charter; the account that signs is its governor.

    Exit status: 0 done; 2 wrong use; 3 the node cannot be reached.
    """
    from ledger.chain.contract import LedgerContract
    from ledger.cid import cid_of

    text = read_charter(charter)
    chain, governor = connection.web3.eth.chain_id, connection.account
    connection.confirm(f"Deploy a ledger on chain {chain}, governed by {governor.address}?")
    sending = replace(connection.sending(connection.state_folder), before=lambda: connection.blobs.put(text))
    contract = LedgerContract.deploy(connection.web3, governor, cid_of(text), sending)
    told = {
        "ledger": contract.address,
        "chain_id": contract.genesis.chain_id,
        "governor": governor.address,
        "charter": str(contract.genesis.charter),
        "block": contract.deployed,
        "head": "0x" + contract.head().hex(),
    }
    if connection.as_json:
        document(told)
        return
    facts((name.replace("_", " "), value) for name, value in told.items())
    click.echo(f'For the next commands: ledger = "{contract.address}" in fedledger.toml, or export FEDLEDGER_LEDGER')
