"""The IPFS store against a node that lies, drips, floods, breaks off or is none: never its lie for the blob.

That a blob is missing and that the node is not to be had are kept apart, for an aggregator may claim the one only.
"""

import gzip
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from ledger.cid import CHUNK, Cid, cid_of, leaf, parent
from ledger.errors import (
    BlobMismatchedError,
    BlobMissingError,
    BlobTooLargeError,
    FedledgerError,
    UnavailableError,
    UsageError,
)
from ledger.storage import ipfs, ipfs_rpc
from ledger.storage.folder import FolderStore
from ledger.storage.ipfs import Deadline, IpfsStore
from ledger.storage.location import open_store
from tests.lying_ipfs import PATIENCE, Call, Lie, blocks_of, lying

BLOB = random.Random(0).randbytes(5 * CHUNK // 2)  # three leaves
SMALL = b"a blob of one block " * 20
CID, SMALL_CID = cid_of(BLOB), cid_of(SMALL)
BLOCKS = blocks_of(BLOB) | blocks_of(SMALL)
LAST = str(leaf(BLOB[2 * CHUNK :]).cid)
OTHER_TREE = blocks_of(bytes(len(BLOB)))[cid_of(bytes(len(BLOB)))]
SOON = Deadline(seconds=1.0)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow one another faster than they do at work."""
    monkeypatch.setattr(ipfs_rpc, "FIRST_DELAY", 0.001)


def about(cid: Cid | str, *commands: str) -> Callable[[Callable[[Call], None]], Lie]:
    """A lie about one block."""

    def only(tell: Callable[[Call], None]) -> Lie:
        def lie(call: Call) -> bool:
            if call.cid != str(cid) or call.name not in (commands or ("block/get",)):
                return False
            tell(call)
            return True

        return lie

    return only


def always(tell: Callable[[Call], None]) -> Lie:
    def lie(call: Call) -> bool:
        tell(call)
        return True

    return lie


def first(times: int, tell: Callable[[Call], None]) -> Lie:
    """A lie that is told a few times."""
    told = count()
    return lambda call: next(told) < times and always(tell)(call)


def cut(call: Call) -> None:
    call.head({"Content-Length": str(len(call.block))})
    call.write(call.block[: len(call.block) // 2])
    call.hang_up()


def cut_as_if_whole(call: Call) -> None:
    call.answer(call.block[: len(call.block) // 2])


def cut_with_a_trailer(call: Call) -> None:
    half = call.block[: len(call.block) // 2]
    call.head({"Transfer-Encoding": "chunked", "Trailer": "X-Stream-Error"})
    call.write(b"%x\r\n%s\r\n0\r\nX-Stream-Error: disk failed\r\n\r\n" % (len(half), half))


def cut_in_a_chunk(call: Call) -> None:
    call.head({"Transfer-Encoding": "chunked"})
    call.write(b"%x\r\n%s" % (len(call.block), call.block[: len(call.block) // 2]))
    call.hang_up()


def broken_chunks(call: Call) -> None:
    call.head({"Transfer-Encoding": "chunked"})
    call.write(b"xyz\r\n" + call.block)
    call.hang_up()


def without_end(call: Call) -> None:
    call.head({"Content-Type": "application/octet-stream"})
    for _ in range(512):  # MiB
        call.write(bytes(CHUNK))
    call.hang_up()


def flood(call: Call) -> None:
    call.head({"Content-Type": "application/json"}, 500)
    for _ in range(512):
        call.write(b"[" * CHUNK)
    call.hang_up()


def slow_bytes(call: Call) -> None:
    call.head({"Content-Length": str(len(call.block))})
    call.drip(call.block)


def slow_head(call: Call) -> None:
    call.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 4000 + b"\r\nContent-Length: %d\r\n\r\n" % len(call.block))
    call.write(call.block)


def silent(call: Call) -> None:
    call.server.over.wait(PATIENCE)
    call.tell_the_truth()


def packed(call: Call) -> None:
    call.answer(gzip.compress(call.block[: len(call.block) // 2]), headers={"Content-Encoding": "gzip"})


def no_http(call: Call) -> None:
    call.write(b"SSH-2.0-OpenSSH_9.7\r\n")
    call.hang_up()


def in_html(call: Call) -> None:
    call.answer(b"<!DOCTYPE html><title>Welcome to nginx!</title>", headers={"Content-Type": "text/html"})


ABOUT_THE_BLOB = {
    "cut": (cut, BlobMissingError),
    "cut, as if it were whole": (cut_as_if_whole, BlobMissingError),
    "cut, and an error told in a trailer": (cut_with_a_trailer, BlobMissingError),
    "cut within a chunk": (cut_in_a_chunk, BlobMissingError),
    "in chunks that are none": (broken_chunks, BlobMissingError),
    "not there": (lambda call: call.refuse("ipld: could not find " + call.cid), BlobMissingError),
    "not found in time": (lambda call: call.refuse("failed to get block: context deadline exceeded"), BlobMissingError),
    "byte by byte": (slow_bytes, BlobMissingError),
    "with a head that comes byte by byte": (slow_head, BlobMissingError),
    "never answered": (silent, BlobMissingError),
    "nothing": (lambda call: call.answer(b""), BlobMissingError),
    "with another byte": (lambda call: call.answer(b"?" + call.block[1:]), BlobMismatchedError),
    "with a byte more": (lambda call: call.answer(call.block + b"?"), BlobMismatchedError),
    "without end": (without_end, BlobMismatchedError),
    "in place of another": (lambda call: call.answer(OTHER_TREE.ljust(len(call.block))), BlobMismatchedError),
    "packed": (packed, BlobMissingError),
}


@pytest.mark.parametrize("lied_about", [LAST, str(CID), str(SMALL_CID)], ids=["leaf", "root", "only block"])
@pytest.mark.parametrize(("tell", "error"), ABOUT_THE_BLOB.values(), ids=ABOUT_THE_BLOB)
def test_a_block_told_wrongly_is_missing_where_it_was_cut_and_mismatched_where_it_was_altered(
    tell: Callable[[Call], None], error: type[FedledgerError], lied_about: str, tmp_path: Path
) -> None:
    cid = SMALL_CID if lied_about == str(SMALL_CID) else CID
    with lying(BLOCKS, about(lied_about)(tell)) as (node, url):
        store, folder = IpfsStore(url, deadline=SOON), FolderStore(tmp_path)
        readings: list[Callable[[], object]] = [lambda: store.get(cid)]
        if tell not in (slow_bytes, slow_head, silent):  # each waits for a second
            readings += [lambda: store.verify(cid), lambda: store.pin(cid), lambda: folder.copy(cid, store)]
        for reading in readings:
            with pytest.raises(FedledgerError, match=str(cid)) as caught:
                reading()
            assert type(caught.value) is error
        assert node.sent < 8 * CHUNK * node.calls.total(), "what a connection holds, and no more"
        assert "pin/add" not in node.calls
        assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------ the node itself


def refused(message: str) -> Callable[[Call], None]:
    return lambda call: call.refuse(message)


def status(code: int, body: bytes = b"") -> Callable[[Call], None]:
    return lambda call: call.answer(body, code)


def elsewhere(call: Call) -> None:
    call.answer(b"", 307, {"Location": f"http://localhost:{call.server.server_address[1]}/elsewhere"})


DOWN, NO_RPC = "does not answer", "is no IPFS node's RPC: name another"
NO_NODE = {
    "busy": (status(503), DOWN),
    "busy, and says so": (lambda call: call.refuse("too many calls", 429), DOWN),
    "broken": (status(500), DOWN),
    "broken, in megabytes": (flood, DOWN),
    "hanging up": (Call.hang_up, DOWN),
    "no HTTP": (no_http, "does not speak HTTP"),
    "silent": (silent, "the time for it is over"),
    "out of order": (refused("leveldb: I/O error on disk"), "refuses .*leveldb: I/O error on disk"),
    "a web page": (in_html, NO_RPC),
    "a page that is not found": (status(404, b"404 page not found"), NO_RPC),
    "a gateway": (status(405, b"Method Not Allowed"), NO_RPC),
    "elsewhere": (elsewhere, NO_RPC),
    "nested JSON": (status(200, b"[" * 60_000), NO_RPC),
    "half of a JSON": (status(200, b'{"Size": 5'), NO_RPC),
    "JSON of another kind": (status(200, b'{"Size": "5", "Keys": []}'), NO_RPC),
    "a list": (status(200, b"[]"), NO_RPC),
    "without end": (without_end, NO_RPC),
}


@pytest.mark.parametrize(("tell", "said"), NO_NODE.values(), ids=NO_NODE)
def test_a_node_that_is_not_to_be_had_says_nothing_of_a_blob(
    tell: Callable[[Call], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipfs, "ANSWERS_WITHIN", 0.5)
    with lying(BLOCKS, always(tell)) as (node, url):
        store = IpfsStore(url, deadline=SOON)
        for asking in (
            lambda: store.get(SMALL_CID),
            lambda: store.verify(CID),
            lambda: store.size(SMALL_CID),
            lambda: store.put(SMALL),
            lambda: store.pin(CID),
        )[: 2 if tell is silent else 5]:
            with pytest.raises(UnavailableError, match=said) as caught:
                asking()
            assert not isinstance(caught.value, BlobMissingError)
            assert url in str(caught.value)
        assert node.sent < 8 * CHUNK * node.calls.total(), "what a connection holds, and no more"
        assert "elsewhere" not in " ".join(node.calls)


@pytest.mark.parametrize(
    "tell", [status(503), status(500), status(429), Call.hang_up, cut], ids=["503", "500", "429", "hang up", "cut"]
)
def test_what_goes_wrong_for_a_moment_is_tried_again(tell: Callable[[Call], None]) -> None:
    with lying(BLOCKS, first(ipfs_rpc.ATTEMPTS - 1, lambda call: tell(call))) as (node, url):
        assert IpfsStore(url).get(CID) == BLOB
    with lying(BLOCKS, first(ipfs_rpc.ATTEMPTS, lambda call: tell(call))) as (node, url):
        with pytest.raises(UnavailableError):
            IpfsStore(url).get(CID)
        assert node.calls["block/get"] == ipfs_rpc.ATTEMPTS


def test_what_a_node_does_not_have_is_not_asked_for_again() -> None:
    with lying({}) as (node, url):
        with pytest.raises(BlobMissingError, match="could not find"):
            IpfsStore(url).get(CID)
        assert node.calls == {"block/get": 1}


def test_the_waits_between_attempts_take_a_second_and_a_half_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert sum(ipfs_rpc.FIRST_DELAY * 2**attempt for attempt in range(ipfs_rpc.ATTEMPTS - 1)) <= 1.5


def test_what_a_node_says_is_shown_in_one_line_without_orders_for_the_terminal() -> None:
    with lying(BLOCKS, always(refused("\x1b[2Jgone\n\rwrong" + "!" * 1000))) as (_, url):
        with pytest.raises(UnavailableError, match=r"refuses .*gone.*wrong") as caught:
            IpfsStore(url).get(CID)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("code", [401, 403])
def test_a_token_that_is_missing_or_wrong_is_told_in_one_sentence(code: int) -> None:
    with lying(BLOCKS, always(status(code))) as (_, url):
        with pytest.raises(UsageError, match=f"wants a token .HTTP {code}.: name its token"):
            IpfsStore(url).get(CID)
        with pytest.raises(UsageError, match="wants another token") as caught:
            IpfsStore(url, token="s3cret").get(CID)
        assert "s3cret" not in str(caught.value)


def test_the_token_goes_to_the_node_and_nothing_that_the_machine_knows_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login me password other\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with lying(BLOCKS) as (node, url):
        assert IpfsStore(url, token="s3cret").get(SMALL_CID) == SMALL
        assert set(node.tokens) == {"Bearer s3cret"}
        node.tokens.clear()
        assert IpfsStore(url).get(SMALL_CID) == SMALL
        assert set(node.tokens) == {None}


@pytest.mark.parametrize("token", ["", " ", "a\nb", "a\r\nX: y", "ü"])
def test_a_token_that_no_header_can_carry_is_wrong_use(token: str) -> None:
    with pytest.raises(UsageError, match="token"):
        IpfsStore("http://127.0.0.1:5001", token=token)


# ------------------------------------------------------------------------------ where it is

WRONG = {
    "http://10.0.0.1:5001": "plain HTTP",
    "http://ipfs.example.org:5001": "plain HTTP",
    "http://localhost.example.org": "plain HTTP",
    "http://0.0.0.0:5001": "plain HTTP",
    "http://[2001:db8::1]:5001": "plain HTTP",
    "http://": "give a URL",
    "https://:5001": "give a URL",
    "http://127.0.0.1:port": "give a URL",
    "http://127.0.0.1:99999": "give a URL",
    "http://127.0.0.1:0": "give a URL",
    "http://127.0.0.1:5001/api/v0": "give a URL",
    "http://127.0.0.1:5001?key=1": "give a URL",
    "http://127.0.0.1:5001#": "give a URL",
    "http://[::1": "give a URL",
    "https://two words:5001": "give a URL",
    "https://me:s3cret@ipfs.example.org": "a URL with a password in it",
    "unix://run/ipfs.sock": "give a URL",
}


@pytest.mark.parametrize(("url", "said"), WRONG.items(), ids=WRONG)
def test_what_is_no_place_of_a_node_is_wrong_use(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        open_store(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:5001",
        "http://127.9.9.9/",
        "http://LOCALHOST:5001",
        "http://[::1]:5001",
        "https://a_node.example",
    ],
)
def test_a_node_on_this_machine_or_behind_tls_may_be_named(url: str) -> None:
    assert isinstance(open_store(url), IpfsStore)


def test_plain_http_to_another_machine_is_for_who_asks_for_it() -> None:
    assert isinstance(open_store("http://10.0.0.1:5001", plain_http=True), IpfsStore)


def test_what_is_no_url_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    store = open_store("~/blobs")
    assert isinstance(store, FolderStore)
    assert store.folder == tmp_path / "blobs"


def test_a_folder_is_opened_without_the_library_for_ipfs() -> None:
    code = "import sys; from ledger.storage.location import open_store; open_store('x'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"ipfshttpclient", "requests", "urllib3"} & set(loaded)


def test_a_node_is_reached_through_a_unix_socket(tmp_path: Path) -> None:
    with lying(BLOCKS, path=tmp_path / "ipfs.sock") as (_, url):
        assert open_store(url).get(CID) == BLOB
    with pytest.raises(UnavailableError, match=r"does not answer \((No such file|Connection refused)"):
        open_store(url).get(CID)


def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, to make a certificate")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *files]
    subprocess.run(made, check=True, capture_output=True)
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "key").read_bytes() + (tmp_path / "certificate").read_bytes())
    with lying(BLOCKS, certificate=both) as (_, url):
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            open_store(url).get(CID)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate"))
        assert open_store(url).get(CID) == BLOB
    with lying(BLOCKS, about(LAST)(slow_bytes), certificate=both) as (_, url), pytest.raises(BlobMissingError):
        IpfsStore(url, deadline=SOON).get(CID)


# ------------------------------------------------------------------------------ limits


def test_the_limit_holds_before_the_bytes_are_taken_and_too_large_is_only_what_the_cid_names() -> None:
    with lying(BLOCKS) as (node, url):
        store = IpfsStore(url)
        assert store.size(CID) == len(BLOB)
        assert node.sent < 1000
        assert store.get(CID, limit=len(BLOB)) == BLOB
        with pytest.raises(BlobTooLargeError, match=f"{len(BLOB):,} bytes"):
            store.get(CID, limit=len(BLOB) - 1)
    altered = about(LAST)(lambda call: call.answer(b"?" + call.block[1:]))
    with lying(BLOCKS, altered) as (_, url), pytest.raises(BlobMismatchedError):
        IpfsStore(url).get(CID, limit=1)


@pytest.mark.parametrize(
    ("cid", "size", "asked"), [(CID, len(BLOB), "block/get"), (SMALL_CID, len(SMALL), "block/stat")]
)
def test_of_what_is_too_large_to_be_pinned_nothing_but_its_size_is_asked_for(cid: Cid, size: int, asked: str) -> None:
    with lying(BLOCKS) as (node, url), pytest.raises(BlobTooLargeError, match=f"{size:,} bytes"):
        IpfsStore(url).pin(cid, limit=size - 1)
    assert node.calls == {asked: 1}


def test_what_is_larger_than_its_limit_gets_no_more_time_than_that() -> None:
    def slow(call: Call) -> None:
        call.server.over.wait(0.4)
        call.tell_the_truth()

    store_for = Deadline(seconds=0.9, rate=len(BLOB) / 5)
    with lying(BLOCKS, always(slow)) as (_, url):
        assert IpfsStore(url, deadline=store_for).get(CID) == BLOB
        with pytest.raises(BlobMissingError, match="in time"):
            IpfsStore(url, deadline=store_for).get(CID, limit=1)


def test_a_few_blocks_that_claim_a_million_terabytes_are_verified_at_once_and_kept_by_nobody() -> None:
    full = leaf(bytes(CHUNK))
    nodes = [parent([full] * 1024)]
    for _ in range(2):
        nodes.append(parent([nodes[-1]] * 1024))
    nodes.append(parent([nodes[-1]] * 512))
    with lying({full.cid: bytes(CHUNK)} | {node.cid: node.block for node in nodes}) as (node, url):
        store = IpfsStore(url)
        store.verify(nodes[-1].cid)
        with pytest.raises(BlobTooLargeError, match="576,460,752,303,423,488 bytes"):
            store.get(nodes[-1].cid, limit=1 << 30)
        assert node.sent < 4 * CHUNK


def test_a_block_is_not_waited_for_longer_than_a_blob_though_others_come() -> None:
    def late(call: Call) -> None:
        call.server.over.wait(0.4)
        call.tell_the_truth()

    with lying(BLOCKS, always(late)) as (_, url), pytest.raises(BlobMissingError, match="in time"):
        IpfsStore(url, deadline=Deadline(seconds=0.9, rate=1e9)).verify(CID)


def test_readers_that_take_turns_have_the_time_that_each_would_have_alone() -> None:
    others = Deadline(seconds=1.0, rate=1e9)
    with lying(BLOCKS) as (node, url), IpfsStore(url, deadline=others).open(CID) as blob:
        node.over.wait(1.5)  # with other blobs
        assert bytes(blob.leaf(0, bytearray(CHUNK))) == BLOB[:CHUNK]


# ------------------------------------------------------------------------------ keeping


def pretends(call: Call) -> bool:
    """Takes an upload, and keeps nothing."""
    if call.name != "dag/import":
        return False
    while size := int(call.rfile.readline(), 16):
        call.rfile.read(size + 2)
    call.rfile.readline()
    call.say({"Root": {"Cid": {"/": call.cid}, "PinErrorMsg": "pin: no space left on device"}})
    return True


def test_a_blob_is_not_kept_until_its_pin_is_there() -> None:
    with lying(BLOCKS, pretends) as (_, url):
        store = IpfsStore(url)
        for keeping in (lambda: store.put(BLOB), lambda: store.pin(CID)):
            with pytest.raises(UnavailableError, match="did not pin it"):
                keeping()


def test_what_is_pinned_is_not_uploaded_again(tmp_path: Path) -> None:
    def pinned(call: Call) -> None:
        call.say({"Keys": {call.cid: {"Type": "recursive"}}})

    with lying({}, always(pinned)) as (node, url):
        store = IpfsStore(url)
        assert store.put(BLOB) == CID
        store.copy(CID, FolderStore(tmp_path))
        assert node.calls == {"pin/ls": 2}
