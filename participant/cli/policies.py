"""The option for a site's own policy, and the file that it leads to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.config import FILE_NAME, POLICY_NAME, Config
from ledger.cli.options import setting

if TYPE_CHECKING:
    from participant.policy import PolicyFile

POLICY = setting("policy")


def policy_file(named: Path | None) -> PolicyFile:
    """The policy that a command goes by: the one that was named, else one beside the config file, if there is one."""
    from participant.policy import PolicyFile

    if named is not None:
        return PolicyFile(named)
    config = click.get_current_context().find_object(Config)
    return PolicyFile((config.path if config else Path(FILE_NAME)).parent / POLICY_NAME, required=False)
