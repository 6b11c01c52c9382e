"""A bundle is the audit's folder in one file, and whatever was done to that file is never taken for what it was."""

import hashlib
import os
import random
import resource
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.cid import CHUNK, DAG_PB, Cid, cid_of, cid_of_chunks, directory
from ledger.errors import (
    BlobMismatchedError,
    BlobMissingError,
    BlobTooLargeError,
    UnavailableError,
    ViolationError,
)
from ledger.storage import Blob, verify
from ledger.storage.car import write_car
from ledger.storage.car_store import CarStore
from ledger.storage.dag_pb import read_directory
from ledger.storage.folder import FolderStore, shard
from tests.cars import BLOBS, FILES, LIMIT, section, sections

GOLDEN = Path(__file__).parent / "golden" / "history.car"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def small(store: FolderStore, tmp_path: Path) -> Path:
    """A file with the bundle of FILES and BLOBS."""
    write_car(tmp_path / "small.car", FILES, [store.put(blob) for blob in BLOBS], store)
    return tmp_path / "small.car"


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_files_and_blobs_of_every_size_come_back(store: FolderStore, tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    written = write_car(tmp_path / "history.car", {"entries.jsonl": content}, [store.put(content)], store)
    bundled = CarStore(tmp_path / "history.car")
    cid = cid_of(content)
    bundled.verify(cid)
    assert bundled.size(cid) is not None
    assert bundled.get(cid) == bundled.file("entries.jsonl", size) == content
    with bundled.open(cid) as blob:
        verify(blob, cid)
        assert blob.size == size
    assert not written.missing
    assert not written.mismatched
    assert bundled.cut_short is None


names = st.text("abcé_.", min_size=1).filter(lambda name: name not in (".", ".."))


@given(st.dictionaries(names, st.binary(max_size=300), max_size=5), st.lists(st.binary(max_size=300), max_size=5))
def test_any_files_and_blobs_come_back_in_the_same_bytes_whatever_their_order(
    files: dict[str, bytes], blobs: list[bytes]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store, path, again = FolderStore(Path(folder) / "store"), Path(folder) / "one.car", Path(folder) / "two.car"
        cids = [store.put(blob) for blob in blobs]
        written = write_car(path, files, cids, store)
        reversed_ = dict(reversed(files.items()))
        assert write_car(again, reversed_, [*reversed(cids), *cids], store) == written
        assert again.read_bytes() == path.read_bytes()
        bundled = CarStore(path)
        assert {name: bundled.file(name, 300) for name in bundled.files} == files
        assert [bundled.get(cid) for cid in cids] == blobs
        blocks = [block for _, _, block in sections(path.read_bytes())]
        assert len({cid for cid, _ in blocks}) == len(blocks), "no block stands there twice"
        assert all(hashlib.sha256(data).digest() == cid[4:] for cid, data in blocks)


def test_the_order_in_which_many_blobs_are_named_changes_nothing(store: FolderStore, tmp_path: Path) -> None:
    cids = [store.put(b"%d" % number) for number in range(300)]  # more than there are shards
    gone = [cid_of(b"gone %d" % number) for number in range(5)]
    written = write_car(tmp_path / "one.car", FILES, [*cids, *gone], store)
    assert write_car(tmp_path / "two.car", FILES, [*reversed(gone), *reversed(cids)], store) == written
    assert (tmp_path / "one.car").read_bytes() == (tmp_path / "two.car").read_bytes()


def test_the_bytes_of_a_bundle_stay_what_they_were(small: Path, store: FolderStore, tmp_path: Path) -> None:
    assert small.read_bytes() == GOLDEN.read_bytes()
    write_car(tmp_path / "large.car", {}, [store.put(bytes(2 * CHUNK + 1))], store)
    digest = hashlib.sha256((tmp_path / "large.car").read_bytes()).hexdigest()
    assert digest == "244d5f0610ba51e713ad6137ff16a82329daeaa6c85a9da77ce58330d0d1ffb7"


def test_the_empty_directory_has_the_cid_that_every_ipfs_node_gives_it() -> None:
    assert str(directory({}).cid) == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


def test_the_root_links_every_file_and_every_blob(small: Path) -> None:
    blocks = {Cid(cid[4:], cid[1]): data for _, _, (cid, data) in sections(small.read_bytes())}
    root = read_directory(blocks[Cid(small.read_bytes()[18:50], DAG_PB)])
    assert list(root) == ["blobs", "entries.jsonl", "ledger.json"], "sorted by name, as UnixFS wants"
    shards = read_directory(blocks[root["blobs"]])
    linked = {name: cid for folder in shards.values() for name, cid in read_directory(blocks[folder]).items()}
    assert linked == {str(cid_of(blob)): cid_of(blob) for blob in BLOBS}
    assert all(str(cid) in read_directory(blocks[shards[shard(cid)]]) for cid in linked.values())


def test_a_blob_that_is_missing_or_altered_is_left_out_and_named(store: FolderStore, tmp_path: Path) -> None:
    good, gone = store.put(b"good"), cid_of(b"gone")
    small, large = store.put(b"altered"), store.put(bytes(CHUNK + 1))
    store.path(small).write_bytes(b"something else")
    store.path(large).write_bytes(bytes(CHUNK) + b"\1")
    written = write_car(tmp_path / "history.car", {}, [gone, small, good, large], store)
    assert (written.missing, set(written.mismatched)) == ((gone,), {small, large})
    bundled = CarStore(tmp_path / "history.car")
    assert bundled.get(good) == b"good"
    for cid in (gone, small, large):
        assert bundled.size(cid) is None
    assert written.root == write_car(tmp_path / "good.car", {}, [good], store).root


@pytest.mark.parametrize("blobs", [[b"blob"], [bytes(3 * CHUNK)]])
def test_a_blob_that_changes_while_it_is_written_leaves_no_file(tmp_path: Path, blobs: list[bytes]) -> None:
    class Changing(FolderStore):
        @contextmanager
        def open(self, cid: Cid) -> Iterator[Blob]:
            with super().open(cid) as blob:
                yield blob
            self.path(cid).write_bytes(bytes(blob.size - 1) + b"\1")

    store = Changing(tmp_path / "store")
    with pytest.raises(BlobMismatchedError):
        write_car(tmp_path / "history.car", {}, [store.put(blob) for blob in blobs], store)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_a_full_disk_is_no_missing_blob_and_leaves_the_file_that_was_there(store: FolderStore, tmp_path: Path) -> None:
    path = tmp_path / "history.car"
    path.write_bytes(b"the bundle of yesterday")
    cid = store.put(os.urandom(3 * CHUNK))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_car(path, FILES, [cid], store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"the bundle of yesterday"
    assert {found.name for found in tmp_path.iterdir()} == {"store", "history.car"}


def test_a_blob_of_more_leaves_than_one_node_links_is_written_and_read_in_bounded_memory(
    store: FolderStore, tmp_path: Path
) -> None:
    size = 1025 * CHUNK + 1
    cid = cid_of_chunks([bytes(CHUNK)] * 1025 + [b"\0"])
    store.put(b"")
    with open(store.path(cid), "wb") as file:
        file.truncate(size)
    tracemalloc.start()
    try:
        written = write_car(tmp_path / "history.car", FILES, [cid], store)
        bundled = CarStore(tmp_path / "history.car")
        bundled.verify(cid)
        with bundled.open(cid) as blob:
            verify(blob, cid)
            assert [len(blob.leaf(number, bytearray(CHUNK))) for number in (0, 1023, 1024, 1025)] == [
                CHUNK,
                CHUNK,
                CHUNK,
                1,
            ]
            assert blob.size == size
        with pytest.raises(BlobTooLargeError):
            bundled.get(cid, limit=size - 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert not written.missing
    assert peak < 8 * CHUNK


def test_a_folder_taken_out_of_a_bundle_is_a_store(store: FolderStore, tmp_path: Path) -> None:
    cid = cid_of(b"blob")
    path = store.folder / shard(cid) / str(cid)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"blob")
    assert store.size(cid) is not None
    assert store.get(cid) == b"blob"
    store.verify(cid)
    path.write_bytes(b"altered")
    with pytest.raises(BlobMismatchedError):
        store.get(cid)
    store.put(b"blob")
    assert (store.folder / str(cid)).is_file(), "it is healed where a store keeps its blobs"
    assert store.get(cid) == b"blob"


def test_blocks_may_stand_in_any_order_twice_and_among_strangers(small: Path) -> None:
    car = small.read_bytes()
    blocks = [block for _, _, block in sections(car)]
    strangers = [
        (b"\x12\x20" + hashlib.sha256(b"CIDv0").digest(), b"CIDv0"),
        (b"\x01\x71\x12\x20" + hashlib.sha256(b"\xa0").digest(), b"\xa0"),  # dag-cbor
        (b"\x01\x55\x13\x40" + hashlib.sha512(b"sha512").digest(), b"sha512"),
        (b"\x01\x55\x00\x05", b"short"),
        (bytes(cid_of(b"stranger")), b"stranger"),
        (b"\x01\x55\x12\x20", b"cut"),
        (b"", b"?"),
    ]
    for seed in range(30):
        mixed = [*blocks, *blocks, *strangers]
        random.Random(seed).shuffle(mixed)
        small.write_bytes(car[:59] + b"".join(map(section, mixed)))
        bundled = CarStore(small)
        assert {name: bundled.file(name, LIMIT) for name in bundled.files} == FILES
        assert [bundled.get(cid_of(blob)) for blob in BLOBS] == BLOBS
        assert bundled.cut_short is None


def test_a_file_that_is_missing_too_large_or_altered_is_named(small: Path, store: FolderStore, tmp_path: Path) -> None:
    bundled = CarStore(small)
    with pytest.raises(UnavailableError, match=r"holds no proof\.json"):
        bundled.file("proof.json", LIMIT)
    with pytest.raises(ViolationError, match=r"ledger\.json .* the limit is 15"):
        bundled.file("ledger.json", 15)
    small.write_bytes(small.read_bytes().replace(b"chain_id", b"chain_ix"))
    with pytest.raises(ViolationError, match=r"ledger\.json in .*altered"):
        CarStore(small).file("ledger.json", LIMIT)
    os.truncate(small, sections(small.read_bytes())[1][1])
    with pytest.raises(UnavailableError, match=r"ledger\.json in .* is not in"):
        CarStore(small).file("ledger.json", LIMIT)


def test_a_blob_that_is_not_there_or_lacks_a_leaf_is_missing(store: FolderStore, tmp_path: Path) -> None:
    path, blob = tmp_path / "history.car", bytes(CHUNK) + b"last"
    write_car(path, {}, [store.put(blob)], store)
    blocks = [block for _, _, block in sections(path.read_bytes()) if block[1] != b"last"]
    path.write_bytes(path.read_bytes()[:59] + b"".join(map(section, blocks)))
    bundled, cid = CarStore(path), cid_of(blob)
    with pytest.raises(BlobMissingError, match=rf"blob {cid} .*\(its block {cid_of(b'last')} is not in"):
        bundled.verify(cid)
    with pytest.raises(BlobMissingError, match=str(cid)):
        bundled.get(cid)
    with pytest.raises(BlobMissingError):
        bundled.get(cid_of(b"nothing"))
    path.unlink()
    with pytest.raises(BlobMissingError, match="No such file"):
        bundled.get(cid)
