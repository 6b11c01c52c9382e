"""The folder store: what it returns is what the CID names, and a blob is there whole or not at all."""

import errno
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.cid import CHUNK, cid_of, cid_of_chunks
from ledger.errors import BlobMismatchedError, BlobMissingError, BlobTooLargeError, UnavailableError
from ledger.storage.folder import FolderStore, shard


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


def test_a_folder_in_the_blobs_place_is_a_missing_blob(store: FolderStore) -> None:
    cid = cid_of(b"blob")
    store.path(cid).mkdir(parents=True)
    with pytest.raises(BlobMissingError):
        store.get(cid)


# ------------------------------------------------------------------------------ copies and pins


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_copy_is_the_blob(store: FolderStore, tmp_path: Path, size: int) -> None:
    blob = os.urandom(size)
    other = FolderStore(tmp_path / "other")
    cid = other.put(blob)
    for _ in range(2):
        store.copy(cid, other)
        assert store.get(cid) == blob
    store.pin(cid)


def test_what_another_store_has_wrongly_or_not_at_all_is_not_copied(store: FolderStore, tmp_path: Path) -> None:
    other = FolderStore(tmp_path / "other")
    cid = other.put(bytes(2 * CHUNK + 5))
    for size in (2 * CHUNK + 4, 2 * CHUNK + 6, 5):
        other.path(cid).write_bytes(bytes(size))
        with pytest.raises(BlobMismatchedError, match=str(cid)):
            store.copy(cid, other)
    other.path(cid).unlink()
    with pytest.raises(BlobMissingError, match=str(cid)):
        store.copy(cid, other)
    assert not store.folder.exists() or not list(store.folder.iterdir())


def test_a_damaged_blob_is_healed_by_a_copy(store: FolderStore, tmp_path: Path) -> None:
    other = FolderStore(tmp_path / "other")
    cid = other.put(b"blob")
    store.put(b"blob")
    store.path(cid).write_bytes(b"damaged")
    with pytest.raises(BlobMismatchedError):
        store.pin(cid)
    store.copy(cid, other)
    assert store.get(cid) == b"blob"


def test_a_copy_takes_the_memory_of_a_few_leaves(store: FolderStore, tmp_path: Path) -> None:
    other, chunks = FolderStore(tmp_path / "other"), 64
    cid = other.put(bytes(chunks * CHUNK))
    tracemalloc.start()
    try:
        store.copy(cid, other)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * CHUNK


def test_what_is_there_and_whole_is_not_written_again(store: FolderStore, tmp_path: Path) -> None:
    cid = store.put(b"blob")
    before = store.path(cid).stat()
    assert store.put(b"blob") == cid
    store.copy(cid, FolderStore(tmp_path / "empty"))
    assert store.path(cid).stat().st_ino == before.st_ino


def test_a_pin_of_what_is_not_there_fails(store: FolderStore) -> None:
    with pytest.raises(BlobMissingError):
        store.pin(cid_of(b"never put"))


# ------------------------------------------------------------------------------ disks that fail


def keep_fails(store: FolderStore, blob: bytes, source: FolderStore, why: str) -> None:
    """Neither way of keeping works, both say why in one sentence, and nothing is left of them."""
    cid = source.put(blob)
    before = sorted(store.folder.iterdir()) if store.folder.is_dir() else []
    for keep in (lambda: store.put(blob), lambda: store.copy(cid, source)):
        with pytest.raises(UnavailableError, match=f"{re.escape(str(store.folder))} cannot keep .*{why}.*: ") as caught:
            keep()
        assert not isinstance(caught.value, BlobMissingError)
        with pytest.raises(BlobMissingError):
            store.get(cid)
    assert (sorted(store.folder.iterdir()) if store.folder.is_dir() else []) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for a mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_what_it_has_and_nothing_torn(small_disk: Path, tmp_path: Path) -> None:
    store = FolderStore(small_disk / "blobs")
    kept = store.put(os.urandom(CHUNK // 2))
    keep_fails(store, os.urandom(CHUNK), FolderStore(tmp_path / "other"), "No space left on device")
    store.verify(kept)
    assert store.put(b"small") == cid_of(b"small"), "what fits still does"


def test_a_disk_that_can_only_be_read_keeps_what_it_has(small_disk: Path, tmp_path: Path) -> None:
    store = FolderStore(small_disk / "blobs")
    kept = store.put(b"kept")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    keep_fails(store, b"another", FolderStore(tmp_path / "other"), "Read-only file system")
    assert store.put(b"kept") == kept, "which needs no write"


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_a_disk_that_fails_at_any_step_leaves_nothing(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    store.put(b"kept")
    other = FolderStore(tmp_path / "other")
    other.put(b"blob")

    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fails)
    keep_fails(store, b"blob", other, re.escape(os.strerror(number)))


LIMITED = """
import resource, signal, sys
from pathlib import Path
from ledger.errors import UnavailableError
from ledger.storage.folder import FolderStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19))
store = FolderStore(Path(sys.argv[1]))
store.put(b"small")
try:
    store.put(bytes(1 << 20))
except UnavailableError as error:
    print(error)
"""


def test_a_file_that_may_not_grow_is_not_left_half(store: FolderStore) -> None:
    run = [sys.executable, "-c", LIMITED, str(store.folder)]
    said = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert "cannot keep the blob" in said
    assert "File too large" in said
    assert [path.name for path in store.folder.iterdir()] == [str(cid_of(b"small"))]


@pytest.mark.parametrize("place", ["file", "file/blobs", "/dev/full", "/proc/blobs"])
def test_what_is_no_folder_keeps_nothing(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    keep_fails(FolderStore(tmp_path / place), b"blob", FolderStore(tmp_path / "other"), "")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "a file"


def test_a_folder_in_the_blobs_place_is_not_replaced(store: FolderStore, tmp_path: Path) -> None:
    store.path(cid_of(b"blob")).mkdir(parents=True)
    keep_fails(store, b"blob", FolderStore(tmp_path / "other"), "Is a directory")


def test_what_is_removed_is_gone_wherever_it_lay_and_nothing_else_is(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    flat, kept = store.put(b"flat"), store.put(b"kept")
    sharded = cid_of(b"sharded")
    (tmp_path / shard(sharded)).mkdir()
    (tmp_path / shard(sharded) / str(sharded)).write_bytes(b"sharded")
    for cid in (flat, sharded, flat):
        store.remove(cid)
        with pytest.raises(BlobMissingError):
            store.get(cid)
    assert store.get(kept) == b"kept"


def test_a_blob_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    (tmp_path / str(cid_of(b"in the way"))).mkdir()
    with pytest.raises(UnavailableError, match="cannot give up the blob"):
        FolderStore(tmp_path).remove(cid_of(b"in the way"))
