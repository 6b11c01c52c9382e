"""Histories of earlier versions still audit: each was exported from a real node (anvil) by the version in its name."""

from pathlib import Path

import pytest

from ledger.audit.bundle import read_bundle
from ledger.audit.checks import audit
from ledger.audit.origin import Claims
from ledger.audit.report import Verdict

GOLDEN = Path(__file__).parent / "golden"
HISTORIES = {
    "ledger-0.1.0.car": (
        "0b1ada415031baa55bfc156fbbb1855c51ac4e6d11114f60e786af9ec383e7fd",
        "ec2e25a791cbaf73577754e0e734747be555c17cb31890bf23909e709b4a86a6",
    ),
}
"""By bundle: its head, and the hash of the block of its last entry."""


def test_every_history_that_is_kept_is_audited() -> None:
    assert {path.name for path in GOLDEN.glob("ledger-*.car")} == HISTORIES.keys()


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_of_an_earlier_version_is_verified_on_its_head_and_on_its_block(name: str) -> None:
    head, block = map(bytes.fromhex, HISTORIES[name])
    report = audit(read_bundle(GOLDEN / name), Claims(head=head, block_hash=block))
    assert report.verdict is Verdict.VERIFIED
    assert [ground.kind for ground in report.rests_on] == ["head", "block"]
    assert report.checks[2].summary == f"{report.entries} of {report.entries} entries by a signature"
    assert (report.entries, report.rounds, report.updates) == (44, 5, 8)
    assert (GOLDEN / name).stat().st_size < 1 << 20
