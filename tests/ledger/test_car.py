"""A bundle is the audit's folder in one file, and whatever was done to that file is never taken for what it was."""

import hashlib
import os
import random
import resource
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.cid import CHUNK, DAG_PB, RAW, Cid, Node, cid_of, cid_of_chunks, directory, leaf, parent, tree, varint
from ledger.errors import (
    BlobMismatchedError,
    BlobMissingError,
    BlobTooLargeError,
    FedledgerError,
    UnavailableError,
    UsageError,
    ViolationError,
)
from ledger.storage import Blob, verify
from ledger.storage.car import write_car
from ledger.storage.car_store import CarStore
from ledger.storage.dag_pb import read_directory, read_file_node
from ledger.storage.folder import FolderStore, shard

GOLDEN = Path(__file__).parent / "golden" / "history.car"
FILES = {"ledger.json": b'{"chain_id": 1}\n', "entries.jsonl": b"{}\n" * 20}
BLOBS = [b"", b"charter", b"plan" * 30]
LIMIT = 1 << 30

Block = tuple[bytes, bytes]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def small(store: FolderStore, tmp_path: Path) -> Path:
    """The bundle of FILES and BLOBS."""
    write_car(tmp_path / "small.car", FILES, [store.put(blob) for blob in BLOBS], store)
    return tmp_path / "small.car"


def sections(car: bytes) -> list[tuple[int, int, Block]]:
    """Where each block starts and ends, its CID, its data."""
    found, at = [], 59
    while at < len(car):
        length, start = car[at] & 0x7F, at + 1
        while car[start - 1] & 0x80:
            length |= (car[start] & 0x7F) << 7 * (start - at)
            start += 1
        found.append((at, start + length, (car[start : start + 36], car[start + 36 : start + length])))
        at = start + length
    return found


def section(block: Block) -> bytes:
    return varint(len(block[0]) + len(block[1])) + block[0] + block[1]


def header(*roots: Cid) -> bytes:
    links = b"".join(b"\xd8\x2a\x58\x25\x00" + bytes(root) for root in roots)
    cbor = b"\xa2\x65roots" + bytes((0x80 + len(roots),)) + links + b"\x67version\x01"
    return varint(len(cbor)) + cbor


def bundle(path: Path, nodes: list[Node], blocks: list[Block]) -> CarStore:
    """A file with an empty root directory, these nodes, and these blocks."""
    root = directory({})
    all_blocks = [(bytes(node.cid), node.block) for node in (root, *nodes)] + blocks
    path.write_bytes(header(root.cid) + b"".join(map(section, all_blocks)))
    return CarStore(path)


# ------------------------------------------------------------- what is written


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_files_and_blobs_of_every_size_come_back(store: FolderStore, tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    written = write_car(tmp_path / "history.car", {"entries.jsonl": content}, [store.put(content)], store)
    bundled = CarStore(tmp_path / "history.car")
    cid = cid_of(content)
    bundled.verify(cid)
    assert bundled.has(cid)
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
        assert not bundled.has(cid)
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
            assert [len(blob.leaf(number)) for number in (0, 1023, 1024, 1025)] == [CHUNK, CHUNK, CHUNK, 1]
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
    assert store.has(cid)
    assert store.get(cid) == b"blob"
    store.verify(cid)
    path.write_bytes(b"altered")
    with pytest.raises(BlobMismatchedError):
        store.get(cid)
    store.put(b"blob")
    assert (store.folder / str(cid)).is_file(), "it is healed where a store keeps its blobs"
    assert store.get(cid) == b"blob"


# ------------------------------------------------------------- what is read


def test_blocks_may_stand_in_any_order_twice_and_among_strangers(small: Path) -> None:
    car = small.read_bytes()
    blocks = [block for _, _, block in sections(car)]
    strangers = [
        (b"\x12\x20" + hashlib.sha256(b"CIDv0").digest(), b"CIDv0"),
        (b"\x01\x71\x12\x20" + hashlib.sha256(b"\xa0").digest(), b"\xa0"),  # dag-cbor
        (b"\x01\x55\x13\x40" + hashlib.sha512(b"sha512").digest(), b"sha512"),
        (b"\x01\x55\x00\x05", b"short"),
        (bytes(cid_of(b"stranger")), b"stranger"),
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


def readings(path: Path, blobs: list[bytes]) -> tuple[int, set[int]]:
    """Read all of a bundle: how many readings gave what they should, and the exit statuses of the others."""
    try:
        bundled = CarStore(path)
    except FedledgerError as error:
        return 0, {error.exit_status}
    attempts: list[tuple[Callable[[], bytes | None], bytes | None]] = []
    attempts += [(partial(bundled.file, name, LIMIT), content) for name, content in FILES.items()]
    attempts += [(partial(bundled.get, cid_of(blob), LIMIT), blob) for blob in blobs]
    attempts += [(partial(bundled.verify, cid_of(blob)), None) for blob in blobs]
    good, statuses = 0, set()
    for attempt, expected in attempts:
        try:
            assert attempt() == expected
            good += 1
        except FedledgerError as error:
            statuses.add(error.exit_status)
    return good, statuses


@pytest.mark.parametrize("blobs", [BLOBS, [bytes(2 * CHUNK + 1)]], ids=["small", "large"])
def test_a_change_of_any_byte_is_refused_and_never_read_as_what_it_was_not(
    store: FolderStore, tmp_path: Path, blobs: list[bytes]
) -> None:
    path = tmp_path / "history.car"
    write_car(path, FILES, [store.put(blob) for blob in blobs], store)
    car = path.read_bytes()
    found = sections(car)
    unread = [(start, end) for start, end, block in found[3:] if block[1].endswith(b"\x0a\x02\x08\x01")]
    assert len(unread) == 1 + len(blobs), "the directories of blobs: our readers find blobs without them"
    alike = [
        (start + 60, end - 1) for start, end, _ in found if end - start > CHUNK
    ]  # one byte of a leaf is like another
    with open(path, "r+b") as file:
        for at in range(len(car)):
            if any(start <= at < end for start, end in alike):
                continue
            os.pwrite(file.fileno(), bytes((car[at] ^ 1 << at % 8,)), at)
            _, statuses = readings(path, blobs)
            assert statuses or any(start <= at < end for start, end in unread), f"byte {at}"
            os.pwrite(file.fileno(), car[at : at + 1], at)
    assert readings(path, blobs) == (2 + 2 * len(blobs), set())


def test_of_a_file_that_is_cut_short_anywhere_the_whole_blocks_are_read_and_the_rest_is_missing(small: Path) -> None:
    car = small.read_bytes()
    ends = [end for _, end, _ in sections(car)]
    for length in reversed(range(len(car))):
        os.truncate(small, length)
        good, statuses = readings(small, BLOBS)
        if length < 59:
            assert (good, statuses) == (0, {2})
        elif length < ends[0]:
            assert (good, statuses) == (0, {3})
        else:
            assert statuses == {3}
            assert good == sum(length >= end for end in ends[1:3]) + 2 * sum(length >= end for end in ends[-3:])
            assert (CarStore(small).cut_short is None) == (length in ends)


@given(st.binary(max_size=300))
def test_garbage_where_blocks_should_be_ends_in_one_of_our_errors(garbage: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        for start in (b"", header(directory({}).cid)):
            file.seek(0)
            file.truncate()
            file.write(start + garbage)
            file.flush()
            with pytest.raises((UsageError, UnavailableError)):
                CarStore(Path(file.name))


def other_header(car: bytes, old: bytes, new: bytes) -> bytes:
    assert old in car[:59]
    return car.replace(old, new, 1)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda car: b"", UsageError, "no bundle"),
        (lambda car: b"PK\3\4" + car, UsageError, "no bundle"),
        (lambda car: bytes(100), UsageError, "no bundle"),
        (lambda car: b"\x0a\xa1\x67version\x02" + bytes(40) + car, UsageError, "version 1 with one root"),
        (lambda car: other_header(car, b"version\x01", b"version\x02"), UsageError, "version 1 with one root"),
        (lambda car: header(cid_of(b""), cid_of(b"")) + car[59:], UsageError, "version 1 with one root"),
        (lambda car: header() + car[59:], UsageError, "version 1 with one root"),
        (lambda car: other_header(car, b"\x01\x70\x12\x20", b"\x01\x55\x12\x20"), UsageError, "no bundle"),
        (lambda car: other_header(car, b"\x01\x70\x12\x20", b"\x01\x70\x16\x20"), UsageError, "no bundle"),
        (lambda car: car[:59], UnavailableError, "is not in"),
        (lambda car: car[:59] + b"\x00" + car[59:], UnavailableError, "only the first 59 of"),
        (lambda car: car[:59] + b"\xff" * 9 + b"\x01" + car[59:], UnavailableError, "only the first 59 of"),
        (lambda car: car[:59] + b"\x80\x00" + car[59:], UnavailableError, "only the first 59 of"),
        (lambda car: car[:59] + varint(3 << 20) + bytes(3 << 20) + car[59:], UnavailableError, "only the first 59 of"),
        (lambda car: car.replace(b"ledger.json", b"ledger.jsom"), ViolationError, "root .* was altered"),
    ],
)
def test_what_is_no_bundle_or_has_no_root_is_refused(
    small: Path, change: Callable[[bytes], bytes], error: type[FedledgerError], said: str
) -> None:
    small.write_bytes(change(small.read_bytes()))
    with pytest.raises(error, match=said):
        CarStore(small)


@pytest.mark.parametrize(
    "names", [["a", "a"], ["a/b"], ["../a"], [""], ["."], [".."], ["a\0"], ["a\n"], ["\ud800"], ["x" * 100, "x" * 100]]
)
def test_a_root_with_names_twice_or_not_fit_for_files_is_no_bundle(tmp_path: Path, names: list[str]) -> None:
    links = b"".join(
        b"\x12" + varint(len(link)) + link
        for raw in (name.encode("utf-8", "surrogatepass") for name in names)
        for link in [b"\x0a\x24" + bytes(cid_of(b"")) + b"\x12" + varint(len(raw)) + raw + b"\x18\x00"]
    )
    block = links + b"\x0a\x02\x08\x01"
    root = Cid(hashlib.sha256(block).digest(), DAG_PB)
    (tmp_path / "history.car").write_bytes(header(root) + section((bytes(root), block)))
    with pytest.raises(UsageError, match="no bundle"):
        CarStore(tmp_path / "history.car")


def test_a_car_file_of_something_else_is_no_bundle(tmp_path: Path) -> None:
    root = tree([leaf(bytes(CHUNK)), leaf(b"x")])[-1]
    (tmp_path / "film.car").write_bytes(header(root.cid) + section((bytes(root.cid), root.block)))
    with pytest.raises(UsageError, match="its root is a node that is no directory"):
        CarStore(tmp_path / "film.car")


@pytest.mark.parametrize("path", ["nothing", "."])
def test_a_file_that_is_not_there_or_none_is_wrong_use(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError, match="give the file that an export wrote"):
        CarStore(tmp_path / path)


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


# ------------------------------------------------------------- trees that are not ours


def node_of(links: list[bytes], unixfs: bytes) -> Node:
    """A dag-pb node with these CIDs and this data."""
    block = b"".join(
        b"\x12" + varint(len(link)) + link
        for cid in links
        for link in [b"\x0a" + varint(len(cid)) + cid + b"\x12\x00\x18\x00"]
    )
    block += b"\x0a" + varint(len(unixfs)) + unixfs
    return Node(Cid(hashlib.sha256(block).digest(), DAG_PB), 0, 0, block)


def claiming(size: int, *children: Node) -> Node:
    return node_of([bytes(child.cid) for child in children], b"\x08\x02\x18" + varint(size))


FULL = leaf(bytes(CHUNK))
LAST = leaf(b"x")
EMPTY = leaf(b"")
HALF = leaf(bytes(CHUNK // 2))
LARGE = leaf(bytes(CHUNK + 1))
LEAVES = [(bytes(cid_of(chunk)), chunk) for chunk in (bytes(CHUNK), b"x", b"", bytes(CHUNK // 2))]
LEAVES.append((bytes(LARGE.cid), bytes(CHUNK + 1)))

two = parent([FULL, LAST])
one = parent([FULL])
STRANGE = {
    "a small file wrapped": [parent([LAST])],
    "a full leaf wrapped": [one],
    "an empty file wrapped": [parent([EMPTY])],
    "an empty last leaf": [parent([FULL, EMPTY])],
    "an empty leaf after two": [parent([FULL, FULL, EMPTY])],
    "smaller leaves": [parent([HALF, HALF, HALF])],
    "a larger last leaf": [parent([FULL, LARGE])],
    "one larger leaf": [parent([LARGE])],
    "a short leaf in the middle": [parent([FULL, LAST, FULL])],
    "a level too many": [two, parent([two])],
    "leaves at different depths": [two, parent([FULL, two])],
    "an inner node that is not full": [two, one, parent([two, one])],
    "more links than a node has": [parent([FULL] * 1025)],
    "no links": [claiming(0)],
    "no links, and a size": [claiming(5 * CHUNK)],
    "more claimed than there is": [claiming(2 * CHUNK + 1, FULL, LAST)],
    "less claimed than there is": [claiming(CHUNK + 1, FULL, FULL)],
    "nothing claimed": [claiming(0, FULL, LAST)],
    "far more claimed than there is": [claiming((1 << 63) - 1, FULL, LAST)],
    "data in the node": [node_of([], b"\x08\x02\x12\x01x\x18\x01")],
    "a directory": [directory({"a": FULL})],
    "a symlink": [node_of([], b"\x08\x04\x12\x01a")],
    "no unixfs": [node_of([bytes(FULL.cid)], b"")],
    "a leaf of another kind": [node_of([b"\x01\x71" + bytes(FULL.cid)[2:]] * 2, b"\x08\x02\x18" + varint(2 * CHUNK))],
    "a leaf of another hash": [node_of([b"\x01\x55\x16\x20" + bytes(32)] * 2, b"\x08\x02\x18" + varint(2 * CHUNK))],
    "a leaf that is a node": [claiming(2 * CHUNK, FULL, Node(Cid(FULL.cid.digest, DAG_PB), 0, 0))],
    "a node that is a leaf": [two, claiming(1024 * CHUNK + 1, Node(Cid(two.cid.digest, RAW), 0, 0), two)],
}


@pytest.mark.parametrize("nodes", STRANGE.values(), ids=STRANGE)
def test_no_other_tree_passes_for_a_blob(tmp_path: Path, nodes: list[Node]) -> None:
    extra = [(bytes(Cid(node.cid.digest, RAW)), node.block) for node in nodes]
    extra.append((bytes(Cid(FULL.cid.digest, DAG_PB)), bytes(CHUNK)))
    bundled, cid = bundle(tmp_path / "history.car", nodes, LEAVES + extra), nodes[-1].cid
    with pytest.raises(BlobMismatchedError, match=str(cid)):
        bundled.verify(cid)
    with pytest.raises(BlobMismatchedError, match=str(cid)):
        bundled.get(cid, LIMIT)
    with pytest.raises(BlobMismatchedError, match=str(cid)), bundled.open(cid) as blob:
        verify(blob, cid)


def test_a_raw_block_above_the_size_of_a_leaf_is_no_blob(tmp_path: Path) -> None:
    bundled = bundle(tmp_path / "history.car", [], LEAVES)
    for reading in (bundled.verify, bundled.get):
        with pytest.raises(BlobMismatchedError):
            reading(LARGE.cid)


def test_a_few_blocks_that_claim_a_million_terabytes_are_verified_at_once(tmp_path: Path) -> None:
    nodes = [parent([FULL] * 1024)]
    for _ in range(2):
        nodes.append(parent([nodes[-1]] * 1024))
    nodes.append(parent([nodes[-1]] * 512))
    bundled, cid = bundle(tmp_path / "history.car", nodes, LEAVES), nodes[-1].cid
    bundled.verify(cid)
    with pytest.raises(BlobTooLargeError, match="576,460,752,303,423,488 bytes"):
        bundled.get(cid, LIMIT)
    with bundled.open(cid) as blob:
        assert blob.leaf(511 << 30) == bytes(CHUNK)


cids = st.builds(lambda digest, codec: bytes(Cid(digest, codec)), st.binary(min_size=32, max_size=32), st.just(RAW))


@given(st.one_of(st.binary(max_size=200), st.builds(lambda cid, data: node_of([cid], data).block, cids, st.binary())))
def test_a_node_of_any_bytes_is_read_or_refused(block: bytes) -> None:
    for read in (read_file_node, read_directory):
        with suppress(ValueError):
            read(block)
