"""``fedledger export``."""

from __future__ import annotations

import click


@click.command()
def export() -> None:
    """Write a ledger with all its evidence into one file."""
