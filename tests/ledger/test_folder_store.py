"""The folder store: what it returns is what the CID names, and a blob is there whole or not at all."""

import os
import tracemalloc
from pathlib import Path

import pytest

from ledger.cid import CHUNK, cid_of, cid_of_chunks
from ledger.errors import BlobMismatchedError, BlobMissingError, BlobTooLargeError
from ledger.storage.folder import FolderStore


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "blobs")


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
def test_a_blob_comes_back_under_the_name_of_its_cid(store: FolderStore, size: int) -> None:
    blob = os.urandom(size)
    cid = store.put(blob)
    assert cid == cid_of(blob)
    assert store.size(cid) is not None
    assert store.get(cid) == blob
    assert (store.folder / str(cid)).read_bytes() == blob


def test_a_blob_that_is_not_there_is_missing(store: FolderStore) -> None:
    cid = cid_of(b"never put")
    assert store.size(cid) is None
    with pytest.raises(BlobMissingError, match=str(cid)):
        store.get(cid)
    with pytest.raises(BlobMissingError, match=str(cid)):
        store.verify(cid)


def test_changing_any_byte_adding_one_or_cutting_one_is_a_mismatch(store: FolderStore) -> None:
    blob = bytes(range(200))
    cid = store.put(blob)
    changed = [blob[:at] + bytes((blob[at] ^ 1,)) + blob[at + 1 :] for at in range(len(blob))]
    for other in [*changed, blob + b"\0", blob[:-1], b""]:
        store.path(cid).write_bytes(other)
        with pytest.raises(BlobMismatchedError, match=str(cid)):
            store.get(cid)
        with pytest.raises(BlobMismatchedError, match=str(cid)):
            store.verify(cid)


def test_a_damaged_blob_is_healed_by_putting_it_again(store: FolderStore) -> None:
    cid = store.put(b"blob")
    store.path(cid).write_bytes(b"damaged")
    assert store.put(b"blob") == cid
    assert store.get(cid) == b"blob"


def test_a_blob_above_the_limit_is_refused_as_too_large_and_an_altered_one_as_altered(store: FolderStore) -> None:
    cid = store.put(bytes(1000))
    assert store.get(cid, limit=1000) == bytes(1000)
    with pytest.raises(BlobTooLargeError, match="1,000 bytes"):
        store.get(cid, limit=999)
    store.path(cid).write_bytes(bytes(1001))
    with pytest.raises(BlobMismatchedError):
        store.get(cid, limit=999)


def test_a_huge_blob_is_hashed_and_refused_in_bounded_memory(store: FolderStore) -> None:
    chunks = 512
    cid = cid_of_chunks(bytes(CHUNK) for _ in range(chunks))
    store.put(b"")
    with open(store.path(cid), "wb") as file:
        file.truncate(chunks * CHUNK)
    tracemalloc.start()
    try:
        store.verify(cid)
        with pytest.raises(BlobTooLargeError):
            store.get(cid, limit=1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * CHUNK


def test_a_write_that_fails_leaves_nothing_behind(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(b"one")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.put(b"two")
    assert [path.name for path in store.folder.iterdir()] == [str(cid_of(b"one"))]


def test_a_folder_in_the_blobs_place_is_a_missing_blob(store: FolderStore) -> None:
    cid = cid_of(b"blob")
    store.path(cid).mkdir(parents=True)
    with pytest.raises(BlobMissingError):
        store.get(cid)
