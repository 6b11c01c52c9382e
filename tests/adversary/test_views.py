"""An older copy is no other history, a part is not the whole, and no word from elsewhere counts for more than it is."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.audit.checks import Asked, audit
from ledger.audit.evidence import read_folder
from ledger.audit.observe import observe
from ledger.audit.origin import Claims, Provider
from ledger.audit.report import Report, Verdict
from ledger.entries import extend
from ledger.facts import UpdateRecorded
from tests.adversary.forging import forge
from tests.adversary.frauds import Scene
from tests.anvil import Anvil
from tests.world import PLAN, World


@pytest.fixture
def scene(recorded: World, tmp_path: Path) -> Scene:
    return Scene(Path(shutil.copytree(recorded.folder, tmp_path / "history")))


def older(scene: Scene, claims: Claims, left_out: int = 3) -> Report:
    """What an auditor who knows all of it says to the honest history as it was some entries ago."""
    forge(scene, [entry for entry, _ in scene.true[:-left_out]])
    scene.claims = claims
    return scene.audit()


def sentences(report: Report, check: int, verdict: Verdict) -> list[str]:
    return [one.sentence for one in report.checks[check - 1].findings if one.verdict is verdict]


def test_an_older_copy_is_incomplete_to_a_member_that_has_seen_more(scene: Scene) -> None:
    report = older(scene, Claims(receipts=(("this member's own memory", tuple(scene.true)),)))
    assert report.verdict is Verdict.INCOMPLETE
    (said,) = sentences(report, 4, Verdict.INCOMPLETE)
    assert "remembers entries after the last one here: the source is older, or withholds them" in said
    assert [ground.kind for ground in report.rests_on] == ["source"]


def test_an_older_copy_is_incomplete_to_who_asks_another_node(scene: Scene) -> None:
    report = older(scene, Claims(providers=(Provider("http://honest", tuple(scene.true)),)))
    assert report.verdict is Verdict.INCOMPLETE
    (said,) = sentences(report, 2, Verdict.INCOMPLETE)
    assert "provider http://honest shows 3 entries after the last one here" in said


def test_another_history_is_a_violation_however_short_it_is(scene: Scene) -> None:
    """The entry remembered after the last one here does not follow from it."""
    entry = scene.true[-4][0]
    forge(scene, [*(one for one, _ in scene.true[:-4]), replace(entry, time=entry.time + 1)])
    for remembered in (scene.true, scene.true[-3:-2]):
        scene.claims = Claims(receipts=(("a member's receipts", tuple(remembered)),))
        report = scene.audit()
        assert report.verdict is Verdict.VIOLATED
        (said,) = sentences(report, 4, Verdict.VIOLATED)
        assert "what a member's receipts remembers is another history" in said


@pytest.mark.parametrize("field", ["fact", "time", "block"])
def test_a_receipt_that_says_something_else_with_a_true_head_is_forged(scene: Scene, field: str) -> None:
    entry, head = scene.true[scene.row("UpdateRecorded", round=1, member=1)]
    assert isinstance(entry.fact, UpdateRecorded)
    changed = {"fact": replace(entry.fact, weight=1000), "time": entry.time + 1, "block": entry.block + 1}
    forged = replace(entry, **{field: changed[field]})  # type: ignore[arg-type]
    before = scene.true[entry.index - 1][1]
    assert extend(before, forged) != head
    scene.claims = Claims(receipts=(("a member's receipts", ((forged, head),)),))
    report = scene.audit()
    assert report.verdict is Verdict.VIOLATED
    (said,) = sentences(report, 4, Verdict.VIOLATED)
    assert "is not what its head commits to: it was edited; by whoever wrote a member's receipts" in said


def test_what_covers_nothing_is_not_taken_for_more(scene: Scene) -> None:
    """The genesis head, and a node that shows no entry."""
    genesis = read_folder(scene.folder).genesis.head()
    scene.claims = Claims(head=genesis, providers=(Provider("http://empty", ()),))
    report = scene.audit()
    count = len(scene.true)
    texts = [ground.text for ground in report.rests_on]
    assert any(text.endswith(f"which covers 0 of {count} entries") for text in texts)
    assert f"provider http://empty shows the same history for 0 of {count} entries" in texts
    (said,) = sentences(report, 2, Verdict.VERIFIED)
    assert f"entries 0 to {count - 1} are consistent with themselves: no head from elsewhere covers them" in said


def test_who_asks_since_the_newest_head_is_told_that_nothing_was_looked_at(scene: Scene) -> None:
    head = scene.true[-1][1]
    report = audit(read_folder(scene.folder), Claims(since=head), Asked(since=head))
    assert report.scope.rounds == ()
    assert "5 of 5 rounds were left out" in report.sentence()
    assert f"the first {len(scene.true)} entries were audited before, by whoever says so" in report.sentence()


def test_a_missing_charter_is_nobodys_guilt(scene: Scene) -> None:
    scene.blob(str(scene.true[scene.row("CharterChanged")][0].fact.charter)).unlink()  # type: ignore[union-attr]
    report = scene.audit()
    (found,) = report.checks[4].findings
    assert (found.verdict, found.by) == (Verdict.INCOMPLETE, None)


def test_an_honest_block_of_an_honest_chain_is_never_evidence_of_a_fraud(tmp_path: Path) -> None:
    """The proof of another block, and a block from before the ledger was there."""
    with Anvil() as anvil:
        early = bytes(anvil.web3.eth.get_block("latest")["hash"])
        world = World(tmp_path, chain=anvil)
        world.aggregator.open(PLAN)
        world.write()
        anvil.pass_time(5)
        world.account("somebody else")
        anvil.web3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]
        late = bytes(anvil.web3.eth.get_block("latest")["hash"])
        report = audit(read_folder(world.folder), Claims(block_hash=late))
        assert report.verdict is Verdict.INCOMPLETE
        assert "from another block than the one whose hash was given" in sentences(report, 2, Verdict.INCOMPLETE)[0]
        report = audit(observe(world.contract, world.store, early), Claims(block_hash=early))
        assert report.verdict is Verdict.INCOMPLETE
