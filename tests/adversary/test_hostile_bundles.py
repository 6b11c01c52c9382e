"""Whatever was done to a bundle, it is never read as what it was not, and costs no more than its bytes."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.cid import CHUNK, DAG_PB, RAW, Cid, Node, cid_of, directory, leaf, parent, tree, varint
from ledger.errors import (
    BlobMismatchedError,
    BlobTooLargeError,
    FedledgerError,
    UnavailableError,
    UsageError,
    ViolationError,
)
from ledger.storage import verify
from ledger.storage.car import write_car
from ledger.storage.car_store import CarStore
from ledger.storage.dag_pb import read_directory, read_file_node, read_varint
from ledger.storage.folder import FolderStore
from tests.cars import BLOBS, FILES, LIMIT, bundle, header, section, sections


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def small(store: FolderStore, tmp_path: Path) -> Path:
    """A file with the bundle of FILES and BLOBS."""
    write_car(tmp_path / "small.car", FILES, [store.put(blob) for blob in BLOBS], store)
    return tmp_path / "small.car"


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
    "one leaf more claimed than there is": [claiming(2 * CHUNK + 1, FULL, FULL)],
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


def test_a_node_is_hashed_before_it_is_followed(tmp_path: Path) -> None:
    other = claiming(CHUNK + 1, FULL, LAST)
    bundled = bundle(tmp_path / "history.car", [Node(two.cid, 0, 0, other.block)], LEAVES)
    with pytest.raises(BlobMismatchedError, match=str(two.cid)), bundled.open(two.cid):
        pass


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
        assert blob.leaf(511 << 30, bytearray(CHUNK)) == bytes(CHUNK)


@pytest.mark.parametrize("block", [two.block, directory({"a": two, "b": LAST}).block], ids=["file", "directory"])
def test_a_node_that_is_cut_short_or_goes_on_is_refused(block: bytes) -> None:
    for damaged in [*(block[:length] for length in range(len(block))), block + b"\0", block + block]:
        for read in (read_file_node, read_directory):
            with pytest.raises(ValueError, match=r"field|number|node"):
                read(damaged)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xa5\x00", b"\xff" * 9 + b"\x01", b"\xff" * 8])
def test_a_number_that_is_cut_off_too_large_or_overlong_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="a number that is cut off, too large, or longer than it need be"):
        read_varint(data, 0)


@given(st.integers(0, (1 << 63) - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_a_number_is_read_as_it_was_written(number: int, before: bytes, after: bytes) -> None:
    written = before + varint(number)
    assert read_varint(written + after, len(before)) == (number, len(written))


cids = st.builds(lambda digest, codec: bytes(Cid(digest, codec)), st.binary(min_size=32, max_size=32), st.just(RAW))


@given(st.one_of(st.binary(max_size=200), st.builds(lambda cid, data: node_of([cid], data).block, cids, st.binary())))
def test_a_node_of_any_bytes_is_read_or_refused(block: bytes) -> None:
    for read in (read_file_node, read_directory):
        with suppress(ValueError):
            read(block)
