"""``fedledger receipt``: what a member keeps of its own entries."""

from __future__ import annotations

import click


@click.group()
def receipt() -> None:
    """List, show and verify the receipts of what this member recorded."""
