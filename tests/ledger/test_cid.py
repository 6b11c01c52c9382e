"""CIDs are those that any IPFS node computes with the profile unixfs-v1-2025."""

import hashlib
from collections.abc import Iterator

import pytest
from Crypto.Cipher import ChaCha20
from hypothesis import given
from hypothesis import strategies as st

from ledger.cid import CHUNK, DAG_PB, RAW, Cid, cid_of, cid_of_chunks


def kubo_random_chunks(chunks: int, seed: str) -> Iterator[bytes]:
    """The stream that Kubo's own tests use: ChaCha20 under sha256(seed), nonce zero."""
    cipher = ChaCha20.new(key=hashlib.sha256(seed.encode()).digest(), nonce=bytes(12))
    zeros = bytes(CHUNK)
    return (cipher.encrypt(zeros) for _ in range(chunks))


def test_a_small_blob_has_the_cid_that_kubo_publishes() -> None:
    # ipfs/kubo, test/cli/cid_profiles_test.go
    assert str(cid_of(b"hello world")) == "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


@pytest.mark.parametrize(
    ("mebibytes", "cid"),
    [
        (1024, "bafybeihmf37wcuvtx4hpu7he5zl5qaf2ineo2lqlfrapokkm5zzw7zyhvm"),  # as many links as one node holds
        (1025, "bafybeihmzokxxjqwxjcryerhp5ezpcog2wcawfryb2xm64xiakgm4a5jue"),  # one more: a second level
    ],
)
def test_large_blobs_have_the_cids_that_kubo_publishes(mebibytes: int, cid: str) -> None:
    # ipfs/kubo, test/cli/cid_profiles_test.go
    assert str(cid_of_chunks(kubo_random_chunks(mebibytes, "v1-2025-seed"))) == cid


@pytest.mark.parametrize(
    ("size", "codec"), [(0, RAW), (1, RAW), (CHUNK, RAW), (CHUNK + 1, DAG_PB), (3 * CHUNK, DAG_PB)]
)
def test_a_blob_of_one_chunk_is_raw_and_a_larger_one_is_a_tree(size: int, codec: int) -> None:
    assert cid_of(bytes(size)).codec == codec


def test_the_digest_of_a_small_blob_is_its_sha256() -> None:
    assert cid_of(b"blob").digest == hashlib.sha256(b"blob").digest()


@given(st.binary(min_size=32, max_size=32), st.sampled_from([RAW, DAG_PB]))
def test_parsing_gives_back_the_cid(digest: bytes, codec: int) -> None:
    cid = Cid(digest, codec)
    assert Cid.parse(str(cid)) == cid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "hello",
        "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn",
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5",
        "BAFKREIFZJUT3TE2NHYEKKLSS27NH3K72YSCO7Y32KOAO5EEI66WOF36N5E",
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5f",  # bits beyond the digest
        "bafyreihdb57fdysx5h35urvxz64ros7zvywshber7id6t6c6fek37jgyfe",  # dag-cbor
        "ñ" * 59,
    ],
)
def test_anything_but_a_cid_in_its_usual_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        Cid.parse(text)
