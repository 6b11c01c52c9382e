"""Every fraud of the corpus is caught by the check that should catch it, and named with its party and place."""

import shutil
from pathlib import Path

import pytest

from ledger.audit.report import Verdict
from tests.adversary.frauds import FRAUDS, Fraud, Scene
from tests.world import World


@pytest.mark.parametrize("fraud", FRAUDS, ids=lambda fraud: f"{fraud.group}: {fraud.name}")
def test_a_fraud_is_caught_by_its_check_and_named_with_party_and_place(
    fraud: Fraud, recorded: World, tmp_path: Path
) -> None:
    scene = Scene(Path(shutil.copytree(recorded.folder, tmp_path / "history")))
    expected = fraud.play(scene)
    report = scene.audit()
    found = [finding for finding in report.checks[fraud.check - 1].findings if finding.verdict is fraud.verdict]
    sentences = "\n".join(finding.sentence for finding in found)
    assert any(all(word in finding.sentence for word in expected) for finding in found), (expected, sentences)
    assert report.verdict in (fraud.verdict, Verdict.VIOLATED)
