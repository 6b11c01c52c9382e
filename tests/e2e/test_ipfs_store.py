"""Blobs kept on a real IPFS node: pinned, read through another one, in little memory; it goes away and comes back."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from ledger.cid import CHUNK, MAX_LINKS, Cid, cid_of, cid_of_chunks
from ledger.errors import BlobMismatchedError, BlobMissingError, UnavailableError
from ledger.storage import Blob
from ledger.storage.folder import FolderStore
from ledger.storage.ipfs import Deadline, IpfsStore
from tests.ipfs import Daemon, fetch_with_kubo

NIGHTLY = settings().max_examples > 1000
LARGE = (500 if NIGHTLY else 64) << 20
HEADROOM = 24 << 20
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 20 * CHUNK + 7]

pytestmark = pytest.mark.xdist_group("ipfs")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


@pytest.fixture(scope="module")
def store(daemon: Daemon) -> IpfsStore:
    return IpfsStore(daemon.url, deadline=Deadline(seconds=10.0))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A node at which no upload broke off: after one, js-ipfs may hold the lock for ever that a removal waits for."""
    with Daemon(tmp_path_factory.mktemp("whole")) as running:
        yield running


def pins(daemon: Daemon) -> set[str]:
    return set(daemon.ask("pin/ls", type="recursive", cid_base="base32")["Keys"])


@pytest.mark.parametrize("size", SIZES)
def test_a_blob_is_pinned_under_our_cid_and_comes_back(store: IpfsStore, daemon: Daemon, size: int) -> None:
    blob = os.urandom(size)
    for _ in range(2):
        cid = store.put(blob)
        assert cid == cid_of(blob)
        assert str(cid) in pins(daemon)
    assert store.get(cid) == blob
    assert store.size(cid) == size
    store.verify(cid)
    store.pin(cid)


def test_a_node_with_the_settings_of_our_profile_gives_the_same_cid(
    store: IpfsStore, daemon: Daemon, tmp_path: Path
) -> None:
    blob = os.urandom(3 * CHUNK + 5)
    (tmp_path / "blob").write_bytes(blob)
    options = {"chunker": f"size-{CHUNK}", "cid_version": "1", "raw_leaves": "true", "cid_base": "base32"}
    assert json.loads(daemon.rpc("add", file=tmp_path / "blob", **options))["Hash"] == str(cid_of(blob))
    assert store.get(cid_of(blob)) == blob


class Zeros:
    """A blob of zeros, of any size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def leaf(self, number: int, into: bytearray | memoryview) -> memoryview:
        return memoryview(bytes(min(CHUNK, self.size - number * CHUNK)))

    @contextmanager
    def open(self, cid: Cid) -> Iterator[Blob]:
        yield self


class Source(FolderStore):
    """A store whose one blob is zeros, whatever it is asked for."""

    def __init__(self, size: int) -> None:
        super().__init__(Path("/nonexistent"))
        self.zeros = Zeros(size)

    @contextmanager
    def open(self, cid: Cid) -> Iterator[Blob]:
        yield self.zeros


def test_a_blob_of_more_leaves_than_a_node_has_links_is_kept_and_found(store: IpfsStore, daemon: Daemon) -> None:
    size = MAX_LINKS * CHUNK + 1
    cid = cid_of_chunks(bytes(min(CHUNK, size - at)) for at in range(0, size, CHUNK))
    store.copy(cid, Source(size))
    assert str(cid) in pins(daemon)
    assert store.size(cid) == size
    store.verify(cid)
    with store.open(cid) as blob:
        assert bytes(blob.leaf(MAX_LINKS - 1, bytearray(CHUNK))) == bytes(CHUNK)
        assert bytes(blob.leaf(MAX_LINKS, bytearray(CHUNK))) == bytes(1)


def test_a_copy_of_what_is_altered_or_missing_is_not_pinned(store: IpfsStore, daemon: Daemon, tmp_path: Path) -> None:
    folder = FolderStore(tmp_path)
    cid = folder.put(os.urandom(3 * CHUNK))
    before = pins(daemon)
    for size in (3 * CHUNK, 3 * CHUNK + 1, 5):
        with pytest.raises(BlobMismatchedError, match=str(cid)):
            store.copy(cid, Source(size))
    folder.path(cid).unlink()
    with pytest.raises(BlobMissingError, match=str(cid)):
        store.copy(cid, folder)
    assert pins(daemon) == before


def test_another_node_that_is_connected_reads_and_pins_what_one_has(
    store: IpfsStore, daemon: Daemon, tmp_path: Path
) -> None:
    blobs = [os.urandom(size) for size in (0, 100, CHUNK + 1, 2 * CHUNK + 5)]
    cids = [store.put(blob) for blob in blobs]
    with Daemon(tmp_path) as second:
        other = IpfsStore(second.url, deadline=Deadline(seconds=2.0))
        with pytest.raises(BlobMissingError, match="timed out"):
            other.pin(cids[-1])
        assert other.size(cids[-1]) is None
        second.connect(daemon)
        patient = IpfsStore(second.url)
        for cid, blob in zip(cids, blobs, strict=True):
            patient.pin(cid)
            assert patient.get(cid) == blob
        assert set(map(str, cids)) <= pins(second)


def test_kubo_reads_what_was_kept(store: IpfsStore, daemon: Daemon, tmp_path: Path) -> None:
    blob = os.urandom(5 * CHUNK + 3)
    assert fetch_with_kubo(tmp_path, daemon.address(), str(store.put(blob))) == blob


def test_a_node_that_was_stopped_is_not_to_be_had_and_goes_on_when_it_is_back(tmp_path: Path) -> None:
    with Daemon(tmp_path) as running:
        store = IpfsStore(running.url)
        cid = store.put(b"kept")
        running.shut_down()
        for asking in (lambda: store.get(cid), lambda: store.put(b"new"), lambda: store.pin(cid)):
            with pytest.raises(UnavailableError, match=r"does not answer \(Connection refused\): start it") as caught:
                asking()
            assert not isinstance(caught.value, BlobMissingError)
        running.start()
        assert store.get(cid) == b"kept"
        assert store.get(store.put(b"new")) == b"new"
        assert {str(cid), str(cid_of(b"new"))} <= pins(running)


MEASURED = """
import sys
from pathlib import Path
from ledger.cid import Cid
from ledger.storage.folder import FolderStore
from ledger.storage.ipfs import IpfsStore

def peak():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024

url, folder, large = sys.argv[1], Path(sys.argv[2]), Cid.parse(sys.argv[3])
source, node, copies = FolderStore(folder / "source"), IpfsStore(url), FolderStore(folder / "copies")
copies.copy(node.put(b"small"), node)
before = peak()
node.copy(large, source)
copies.copy(large, node)
node.pin(large)
copied = peak()
with open(copies.path(large), "rb") as file:
    blob = file.read(copies.size(large) - 1)
reading = peak()
node.put(blob)
print(copied - before, peak() - reading)
"""


def test_a_large_blob_is_kept_and_read_in_little_memory(daemon: Daemon, tmp_path: Path) -> None:
    cid = FolderStore(tmp_path / "source").put(os.urandom(LARGE))
    run = [sys.executable, "-c", MEASURED, daemon.url, str(tmp_path), str(cid)]
    result = subprocess.run(run, capture_output=True, text=True, check=True)
    copied, put = map(int, result.stdout.split())
    assert copied < HEADROOM
    assert put < HEADROOM
    FolderStore(tmp_path / "copies").verify(cid)


def test_what_is_removed_is_unpinned_and_not_to_be_had_any_more(whole: Daemon) -> None:
    store = IpfsStore(whole.url, deadline=Deadline(seconds=2.0))
    key_blob, kept = store.put(os.urandom(500)), store.put(b"kept")
    store.remove(key_blob)
    assert str(key_blob) not in pins(whole)
    with pytest.raises(BlobMissingError):
        store.get(key_blob)
    store.remove(key_blob)
    assert store.get(kept) == b"kept"


def test_a_removal_that_broke_off_between_pin_and_block_is_finished_by_the_next(whole: Daemon) -> None:
    store = IpfsStore(whole.url, deadline=Deadline(seconds=2.0))
    cid = store.put(os.urandom(500))
    whole.ask("pin/rm", str(cid))
    assert store.remove(cid) is False
    with pytest.raises(BlobMissingError):
        store.get(cid)


def test_a_blob_of_several_blocks_is_unpinned_for_the_nodes_next_collection(whole: Daemon) -> None:
    store = IpfsStore(whole.url, deadline=Deadline(seconds=10.0))
    cid = store.put(os.urandom(2 * CHUNK))
    assert store.remove(cid, lambda blob: False) is False
    assert str(cid) in pins(whole)
    assert store.remove(cid, lambda blob: blob.size == 2 * CHUNK) is True
    assert str(cid) not in pins(whole)
    assert store.remove(cid) is False
