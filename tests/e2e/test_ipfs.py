"""A bundle is IPFS's own: what others wrote imports, pins, lists, unpacks, exports and fetches it."""

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ledger.audit.bundle import blobs_of
from ledger.audit.evidence import read_folder
from ledger.cid import CHUNK, Cid
from ledger.cli import main
from ledger.storage.car import write_car
from ledger.storage.car_store import CarStore
from ledger.storage.folder import FolderStore, shard
from tests.cars import sections
from tests.ipfs import Daemon, fetch_with_kubo, program
from tests.world import World

FILES = {"ledger.json": b'{"chain_id": 1}\n', "entries.jsonl": b'{"block": 1}\n' * 100_000, "code.hex": b"0x6080"}
# No CHUNK + 1: js-ipfs' `cat` leaves out a last leaf of one byte, also where it made the tree itself.
SIZES = [0, 1, 500, CHUNK - 1, CHUNK, CHUNK + 2, 3 * CHUNK + 5]

pytestmark = pytest.mark.xdist_group("ipfs")


@dataclass(frozen=True)
class Bundle:
    path: Path
    root: Cid
    blobs: dict[Cid, bytes]

    def is_what(self, other: Path) -> None:
        """Every file and blob of this bundle is in the other one, and verified."""
        bundled = CarStore(other)
        assert bundled.cut_short is None
        assert {name: bundled.file(name, 1 << 30) for name in bundled.files} == FILES
        assert {cid: bundled.get(cid) for cid in self.blobs} == self.blobs


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle")
    store = FolderStore(folder / "store")
    blobs = {store.put(blob): blob for blob in map(os.urandom, SIZES)}
    written = write_car(folder / "history.car", FILES, blobs, store)
    return Bundle(folder / "history.car", written.root, blobs)


@pytest.fixture(scope="module")
def daemon(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that has imported the bundle."""
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        imported = json.loads(running.rpc("dag/import", file=bundle.path, cid_base="base32"))
        assert imported == {"Root": {"Cid": {"/": str(bundle.root)}, "PinErrorMsg": ""}}
        yield running


def test_a_daemon_imports_a_bundle_and_pins_all_of_it_by_its_root(bundle: Bundle, daemon: Daemon) -> None:
    pinned = daemon.ask("pin/ls", type="recursive", cid_base="base32")["Keys"]
    assert pinned[str(bundle.root)] == {"Type": "recursive"}
    below = daemon.ask("pin/ls", type="indirect", cid_base="base32")["Keys"]
    assert {str(cid) for cid in bundle.blobs} <= below.keys()


def test_a_daemon_shows_the_folder_as_it_was(bundle: Bundle, daemon: Daemon) -> None:
    for name, content in FILES.items():
        assert daemon.rpc("cat", f"{bundle.root}/{name}") == content
    for cid, blob in bundle.blobs.items():
        assert daemon.rpc("cat", f"{bundle.root}/blobs/{shard(cid)}/{cid}") == blob


def test_a_daemon_finds_the_sizes_in_the_root_true(bundle: Bundle, daemon: Daemon) -> None:
    blocks = {cid for _, _, (cid, _) in sections(bundle.path.read_bytes())}
    sizes = [daemon.ask("block/stat", str(Cid(cid[-32:], cid[1])))["Size"] for cid in blocks]
    assert daemon.ask("files/stat", f"/ipfs/{bundle.root}")["CumulativeSize"] == sum(sizes)


def test_what_a_daemon_exports_is_the_same_bundle(bundle: Bundle, daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "exported.car").write_bytes(daemon.rpc("dag/export", str(bundle.root)))
    bundle.is_what(tmp_path / "exported.car")


def test_kubo_fetches_a_blob_of_a_bundle_from_a_daemon_that_imported_it(
    bundle: Bundle, daemon: Daemon, tmp_path: Path
) -> None:
    cid = max(bundle.blobs, key=lambda cid: len(bundle.blobs[cid]))
    assert fetch_with_kubo(tmp_path, daemon.address(), str(cid)) == bundle.blobs[cid]


def ipfs_car(*arguments: str | Path) -> list[str]:
    command = [*program("ipfs-car"), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()


def test_ipfs_car_lists_a_bundle(bundle: Bundle) -> None:
    blobs = [f"./blobs/{shard(cid)}/{cid}" for cid in bundle.blobs]
    folders = {str(Path(path).parent) for path in blobs}
    listed = ipfs_car("ls", bundle.path)
    assert ipfs_car("roots", bundle.path) == [str(bundle.root)]
    assert sorted(listed) == sorted([".", "./blobs", *(f"./{path}" for path in folders | FILES.keys()), *blobs])


def test_ipfs_car_unpacks_a_bundle_to_the_folder_it_was_made_of(bundle: Bundle, tmp_path: Path) -> None:
    ipfs_car("unpack", bundle.path, "--output", tmp_path / "history")
    store = FolderStore(tmp_path / "history" / "blobs")
    assert {cid: store.get(cid) for cid in bundle.blobs} == bundle.blobs
    assert {path.name: path.read_bytes() for path in (tmp_path / "history").iterdir() if path.is_file()} == FILES
    written = write_car(tmp_path / "again.car", FILES, bundle.blobs, store)
    assert written.root == bundle.root
    assert (tmp_path / "again.car").read_bytes() == bundle.path.read_bytes()


def test_what_ipfs_car_packs_from_that_folder_has_the_same_blobs(bundle: Bundle, tmp_path: Path) -> None:
    ipfs_car("unpack", bundle.path, "--output", tmp_path / "history")
    ipfs_car("pack", tmp_path / "history", "--output", tmp_path / "packed.car")
    bundle.is_what(tmp_path / "packed.car")


# --------------------------------------------------------------------------------------- a real history


@dataclass(frozen=True)
class Exported:
    """The bundle of a real history, as the command exports it.

    Attributes:
        path: The file.
        root: Its root's CID.
        verdict: The document of its audit.
    """

    path: Path
    root: str
    verdict: dict[str, Any]


def fedledger(*arguments: str) -> Any:
    """The JSON document that a command prints, which must end with 0."""
    result = CliRunner().invoke(main, [*arguments, "--json"], env={"FEDLEDGER_STATE": "/nonexistent"})
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def exported(recorded: World, daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A history with every kind of entry, exported, and imported by the daemon."""
    path = tmp_path_factory.mktemp("exported") / "history.car"
    root = fedledger("export", str(recorded.folder), "-o", str(path))["root"]
    imported = json.loads(daemon.rpc("dag/import", file=path, cid_base="base32"))
    assert imported == {"Root": {"Cid": {"/": root}, "PinErrorMsg": ""}}
    return Exported(path, root, fedledger("audit", str(path)))


def test_a_daemon_pins_a_whole_history_by_its_root(recorded: World, exported: Exported, daemon: Daemon) -> None:
    pinned = daemon.ask("pin/ls", type="recursive", cid_base="base32")["Keys"]
    assert exported.root in pinned
    below = daemon.ask("pin/ls", type="indirect", cid_base="base32")["Keys"]
    assert {str(cid) for cid in blobs_of(read_folder(recorded.folder))} <= below.keys()
    assert exported.verdict["verdict"] == "verified"


def test_what_a_daemon_exports_of_a_history_is_audited_with_the_same_result(
    exported: Exported, daemon: Daemon, tmp_path: Path
) -> None:
    again = tmp_path / "again.car"
    again.write_bytes(daemon.rpc("dag/export", exported.root))
    assert again.read_bytes() != exported.path.read_bytes(), "it has an order of its own"
    assert fedledger("audit", str(again)) == exported.verdict
    assert fedledger("export", str(again), "-o", str(tmp_path / "ours.car"))["root"] == exported.root
    assert (tmp_path / "ours.car").read_bytes() == exported.path.read_bytes()


def test_kubo_fetches_a_model_of_a_history_from_a_daemon_that_imported_it(
    recorded: World, exported: Exported, daemon: Daemon, tmp_path: Path
) -> None:
    model = exported.verdict["timeline"][0]["model"]
    fetched = fetch_with_kubo(tmp_path, daemon.address(), model)
    assert fetched == recorded.store.get(Cid.parse(model))


def test_ipfs_car_unpacks_a_history_to_a_folder_that_is_audited_with_the_same_result(
    exported: Exported, tmp_path: Path
) -> None:
    ipfs_car("unpack", exported.path, "--output", tmp_path / "history")
    assert fedledger("audit", str(tmp_path / "history")) == exported.verdict
