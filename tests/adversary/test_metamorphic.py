"""The same history gives the same document, however it is kept and wherever it is read from: honest or forged."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.audit.bundle import read_bundle, write_bundle
from ledger.audit.checks import audit
from ledger.audit.evidence import Evidence, read_folder, write_folder
from ledger.audit.observe import observe
from ledger.audit.origin import Claims
from ledger.audit.report import Verdict
from ledger.chain.contract import LedgerContract
from ledger.cid import CHUNK, Cid
from ledger.storage.folder import shard
from tests.adversary import test_cheating_aggregator as aggregators
from tests.adversary.frauds import FRAUDS, Scene
from tests.anvil import Anvil
from tests.cars import section, sections
from tests.world import World, every_kind_of_entry

Json = dict[str, Any]


def document(evidence: Evidence, claims: Claims | None = None) -> Json:
    return audit(evidence, claims).document()


def exported(evidence: Evidence, path: Path) -> Path:
    """A bundle of evidence, with the altered blobs too that an export leaves out."""
    written = write_bundle(path, evidence)
    with open(path, "ab") as file:
        for cid in written.mismatched:
            with evidence.store.open(cid) as blob:
                file.write(section((bytes(cid), bytes(blob.leaf(0, bytearray(CHUNK))))))
    return path


def shuffled(bundle: Path, path: Path, seed: int) -> Path:
    """The same blocks in another order."""
    car = bundle.read_bytes()
    blocks = [block for _, _, block in sections(car)]
    random.Random(seed).shuffle(blocks)
    path.write_bytes(car[:59] + b"".join(map(section, blocks)))
    assert path.read_bytes() != car
    return path


def unpacked(folder: Path, target: Path, seed: int) -> Path:
    """The folder as it comes out of a bundle, its blobs in shards, written in any order."""
    target.mkdir()
    for file in folder.iterdir():
        if file.is_file():
            shutil.copy(file, target)
    blobs = list((folder / "blobs").iterdir())
    random.Random(seed).shuffle(blobs)
    for blob in blobs:
        place = target / "blobs" / shard(Cid.parse(blob.name))
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(blob, place)
    return target


def everywhere(folder: Path, tmp_path: Path, claims: Claims | None = None) -> Json:
    """The document of a folder, once it is that of every other way to keep the same."""
    evidence = read_folder(folder)
    expected = document(evidence, claims)
    bundle = exported(evidence, tmp_path / "history.car")
    assert document(read_bundle(bundle), claims) == expected, "a bundle"
    for seed in range(3):
        path = shuffled(bundle, tmp_path / f"shuffled {seed}.car", seed)
        assert document(read_bundle(path), claims) == expected, "a bundle in another order"
        copy = unpacked(folder, tmp_path / f"unpacked {seed}", seed)
        assert document(read_folder(copy), claims) == expected, "a folder with its blobs in shards"
    again = exported(read_folder(tmp_path / "unpacked 0"), tmp_path / "again.car")
    assert document(read_bundle(again), claims) == expected, "a bundle of that"
    return expected


def test_an_honest_history_is_the_same_everywhere(recorded: World, tmp_path: Path) -> None:
    assert everywhere(recorded.folder, tmp_path)["verdict"] == "verified"


FORGED = [
    "storage: an update: missing",
    "storage: the plan: missing",
    "storage: the manifest: missing",
    "storage: the second charter: missing",
    "storage: the plan: emptied",
    "storage: an update: a flipped bit in the last value",
    "storage: the manifest: swapped with an update",
    "storage: an excluded update: emptied",
    "entries: UpdateRecorded dropped",
    "entries: UpdateRecorded.weight edited, and all heads made to fit",
    "entries: RoundSettled dropped, and all heads made to fit",
    "entries: the head after an entry edited",
    "entries: rewritten from the middle on",
    "authors: an update signed by another member",
    "authors: a signed transaction missing",
]


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_history_is_the_same_everywhere(name: str, history_folder: Path, tmp_path: Path) -> None:
    fraud = next(fraud for fraud in FRAUDS if f"{fraud.group}: {fraud.name}" == name)
    scene = Scene(history_folder)
    fraud.play(scene)
    found = everywhere(history_folder, tmp_path, scene.claims)
    assert found["verdict"] == fraud.verdict.value
    assert found["checks"][fraud.check - 1]["status"] == fraud.verdict.value


# -------------------------------------------------------------------------------------- a live ledger


@pytest.fixture(scope="module")
def chain() -> Iterator[Anvil]:
    with Anvil() as running:
        yield running


def live(world: World, tmp_path: Path, claims: Claims | None = None) -> Json:
    """The document of a live ledger, once it is that of its folder, and of all else."""
    contract = LedgerContract.attach(world.chain.web3, world.contract.address)
    evidence = observe(contract, world.store)
    write_folder(world.folder, evidence)
    expected = document(evidence, claims)
    assert everywhere(world.folder, tmp_path, claims) == expected
    return expected


def test_an_honest_live_ledger_is_the_same_everywhere(chain: Anvil, tmp_path: Path) -> None:
    world = every_kind_of_entry(tmp_path / "world", chain)
    block = world.chain.web3.eth.get_block(world.contract.refolded()[-1][0].block)
    found = live(world, tmp_path, Claims(head=world.contract.head(), block_hash=bytes(block["hash"])))
    assert found["verdict"] == "verified"
    assert [ground["kind"] for ground in found["rests_on"]] == ["head", "block"]


@pytest.mark.parametrize(
    "name", ["publishes another model", "drops an update", "settles with another count", "counts garbage"]
)
def test_a_live_ledger_with_a_fraud_is_the_same_everywhere(name: str, chain: Anvil, tmp_path: Path) -> None:
    play, check, _ = aggregators.FRAUDS[name]
    world = aggregators.posted(tmp_path / "world", chain)
    play(world)
    found = live(world, tmp_path)
    assert found["verdict"] == Verdict.VIOLATED.value
    assert found["checks"][check - 1]["status"] == Verdict.VIOLATED.value
