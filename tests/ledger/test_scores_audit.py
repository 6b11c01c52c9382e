"""What an audit says of scores, of how models fared at the sites, and of what the server remembers."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from web3.types import TxReceipt

from ledger.aggregator import Aggregator, Proposal
from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.audit.report import Report, Verdict
from ledger.choices import Equally, FedAdam, Krum
from ledger.cli import main
from ledger.facts import RoundSettled
from ledger.manifest import Manifest
from ledger.plan import Plan
from ledger.sealing import Identity
from ledger.settlement import Settlement
from tests.world import PLAN, SEALED, World, identity_of, tensors

METRICS: dict[int, dict[str, float]] = {1: {"auc": 0.75, "loss": 0.5}, 2: {"auc": 0.5}, 3: {"auc": 1.0}}


def settle(world: World, plan: Plan, metrics: Mapping[int, Mapping[str, float]] = METRICS, far: int = 0) -> None:
    """A round of three sites or more, released; the site `far` has an update that is far from the others."""
    world.aggregator.open(plan)
    for member in range(1, len(world.participants) + 1):
        values = tensors(100.0 if member == far else member / 8)
        update = world.update(member, values, metrics=metrics.get(member, {}))
        if plan.seal == "none":
            world.post(member, update)
        else:
            world.post_sealed(member, world.seal(member, update))
    world.settle()
    world.attest()


def checked(world: World, identities: list[Identity] | None = None) -> Report:
    return audit(read_folder(world.write()), identities=identities or [])


def findings(report: Report, number: int) -> list[tuple[str, str]]:
    return [(one.verdict.value, one.text) for one in report.checks[number - 1].findings]


def test_the_document_says_how_the_base_of_each_round_fared_and_where(tmp_path: Path) -> None:
    world = World(tmp_path)
    settle(world, PLAN, {})
    settle(world, PLAN)
    none, one = (row["scores"] for row in checked(world).timeline)
    assert none is None
    assert one["sites"] == {
        str(site): {"norm": None, "distance": None, "metrics": said} for site, said in METRICS.items()
    }
    assert one["figures"]["auc"] == {
        "sites": 3,
        "mean": 0.75,
        "worst": {"member": 2, "value": 0.5},
        "best": {"member": 3, "value": 1.0},
        "spread": 0.5,
        "deviation": pytest.approx((1 / 24) ** 0.5),
    }
    assert one["figures"]["loss"]["sites"] == 1
    assert [row["base_round"] for row in checked(world).timeline] == [0, 1]


def test_of_sealed_updates_only_who_opens_them_reads_scores_unless_the_plan_makes_them_public(tmp_path: Path) -> None:
    world = World(tmp_path)
    settle(world, SEALED)
    settle(world, SEALED.model_copy(update={"public_quality": True}))

    def shown(identities: list[Identity]) -> list[tuple[bool, float] | None]:
        scores = [row["scores"] for row in checked(world, identities).timeline]
        return [one and (one["sealed"], one["figures"]["auc"]["mean"]) for one in scores]

    assert shown([]) == shown([identity_of(world.participants[0])]) == [None, (False, 0.75)]
    assert shown([identity_of(world.auditor)]) == [(True, 0.75), (False, 0.75)]


def test_scores_that_the_plan_has_sealed_and_the_manifest_shows_are_seen_without_a_key(tmp_path: Path) -> None:
    world = World(tmp_path)

    def telling(settlement: Settlement) -> dict[str, Any]:
        return {"scores": {str(member): score for member, score in settlement.scores.items()}}

    cheat(world, telling)
    settle(world, SEALED)
    report = checked(world)
    assert ("violated", "its manifest shows everybody the scores that its plan has sealed") in findings(report, 7)


def cheat(world: World, changes: Callable[[Settlement], dict[str, Any]]) -> None:
    """From now on, the aggregator publishes manifests with these changes."""

    class Cheating(Aggregator):
        def publish(self, proposal: Proposal) -> TxReceipt:
            settlement = proposal.settlement
            manifest = settlement.manifest.model_copy(update=changes(settlement))
            return super().publish(replace(proposal, settlement=replace(settlement, manifest=manifest)))

    world.aggregator = Cheating(**vars(world.aggregator))


def robust(world: World) -> Plan:
    """Adam at the server, against one attacker of five."""
    changes = {"strategy": FedAdam(), "filter": Krum(attackers=1), "clipping": 1.0, "weighting": Equally(), "quorum": 5}
    return PLAN.model_copy(update=changes)


def test_who_was_filtered_stands_in_the_timeline_with_its_norm_and_distance(tmp_path: Path) -> None:
    world = World(tmp_path, participants=5)
    settle(world, robust(world), far=4)
    report = checked(world)
    assert report.verdict is Verdict.VERIFIED, report.checks
    [row] = report.timeline
    assert [one["member"] for one in row["updates"] if one["reason"] == "filtered"] == [4]
    distances = {int(site): score["distance"] for site, score in row["scores"]["sites"].items()}
    assert max(distances, key=lambda site: distances[site]) == 4


def test_what_the_server_remembers_is_a_blob_of_the_round_like_any_other(tmp_path: Path) -> None:
    world = World(tmp_path, participants=5)
    settle(world, robust(world))
    ended = world.contract.history().rounds[1].ended
    assert isinstance(ended, RoundSettled)
    state = Manifest.decode(world.store.get(ended.manifest)).state
    report = checked(world)
    [row] = report.timeline
    assert row["state"] == state
    blob = tmp_path / "blobs" / str(state)
    before, content = row["bytes"], blob.read_bytes()
    blob.unlink()
    report = checked(world)
    assert report.timeline[0]["bytes"] is None
    assert findings(report, 6) == [("incomplete", "missing: the server's state after round 1")]
    blob.write_bytes(content[:-1] + b"?")
    [(verdict, text)] = findings(checked(world), 6)
    assert (verdict, text.partition(":")[0]) == ("violated", "mismatched")
    blob.write_bytes(content)
    assert checked(world).timeline[0]["bytes"] == before


def test_without_a_key_too_a_state_that_does_not_fit_the_plan_is_seen(tmp_path: Path) -> None:
    world = World(tmp_path)

    cheat(world, lambda settlement: {"state": settlement.manifest.model})
    settle(world, SEALED)
    assert ("violated", "the server's state in it does not fit its plan") in findings(checked(world), 7)


def test_people_are_told_how_the_newest_model_fared(tmp_path: Path) -> None:
    world = World(tmp_path)
    settle(world, PLAN)
    settle(world, PLAN, {})
    text = CliRunner().invoke(main, ["audit", str(world.write())]).output.splitlines()
    at = text.index("Figures of the genesis model, as the sites say in their updates of round 1")
    assert text[at + 1 : at + 3] == [
        "    auc: mean 0.75 of 3 sites, worst 0.5 at 2 Site 2, spread 0.5",
        "    loss: mean 0.5 of 1 site, worst 0.5 at 1 Site 1, spread 0",
    ]
    document = json.loads(CliRunner().invoke(main, ["audit", str(world.folder), "--json"]).output)
    assert document["timeline"][0]["scores"]["figures"]["loss"]["worst"] == {"member": 1, "value": 0.5}
