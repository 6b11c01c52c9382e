"""Tensor blobs: one canonical form, readable by the safetensors library, and nothing else is taken."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ledger.cid import cid_of
from ledger.errors import InvalidBlobError
from ledger.facts import Address
from ledger.plan import TensorSpec
from ledger.updates import (
    MODEL_HEADER,
    Array,
    Place,
    decode,
    decode_model,
    encode,
    from_float64,
    to_float64,
    update_header,
)
from tests.world import PLAN, SCHEMA, tensors

GOLDEN = Path(__file__).parent / "golden"
PLACE = Place(1337, Address("0x" + "c0" * 20), 7, cid_of(b"plan"), cid_of(b"base"))
MIXED = {
    "z.weight": TensorSpec(dtype="F32", shape=[2, 3]),
    "a.half": TensorSpec(dtype="F16", shape=[3]),
    "b.brain": TensorSpec(dtype="BF16", shape=[5]),
    "a.scalar": TensorSpec(dtype="F32", shape=[]),
    "é.empty": TensorSpec(dtype="F16", shape=[0, 4]),
}


def mixed() -> dict[str, Array]:
    return {
        "z.weight": np.array([0.1, -2.5, 3e38, 1e-45, 0.0, -0.0], np.float32),
        "a.half": np.array([1.5, -65504, 6e-8], np.float16),
        "b.brain": from_float64(np.array([1.0, -3.14, 1e38, 1e-40, 0.0]), "BF16"),
        "a.scalar": np.array(7, np.float32),
        "é.empty": np.zeros((0, 4), np.float16),
    }


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("model", MODEL_HEADER),
        ("update-1", update_header(PLACE, member=3, examples=212, witness=None)),
        ("update-2", update_header(PLACE, 3, 212, "5e" * 32, {"auc": 0.75, "loss": 1.0, 'a "name"': -1e-7})),
    ],
)
def test_blobs_are_byte_for_byte_the_golden_ones(name: str, header: dict[str, Any]) -> None:
    assert encode(header, MIXED, mixed()) == (GOLDEN / f"{name}.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["model", "update-1", "update-2"])
def test_a_golden_blob_decodes_and_encodes_to_itself(name: str) -> None:
    blob = (GOLDEN / f"{name}.safetensors").read_bytes()
    decoded = decode(blob)
    assert decoded.schema == MIXED
    assert encode(decoded.header, decoded.schema, decoded.tensors) == blob


def test_the_safetensors_library_reads_our_blobs() -> None:
    loaded = safetensors.torch.load((GOLDEN / "model.safetensors").read_bytes())
    assert {name: list(tensor.shape) for name, tensor in loaded.items()} == {
        name: spec.shape for name, spec in MIXED.items()
    }
    assert loaded["b.brain"].dtype == torch.bfloat16
    for name, stored in mixed().items():
        expected = to_float64(stored.reshape(-1), MIXED[name].dtype)
        assert loaded[name].to(torch.float64).reshape(-1).numpy().tobytes() == expected.tobytes()


def test_tensors_lie_by_descending_element_size_then_name() -> None:
    blob = encode(MODEL_HEADER, MIXED, mixed())
    at = [blob.index(f'"{name}":'.encode()) for name in ("a.half", "a.scalar", "b.brain", "z.weight")]
    assert at == sorted(at), "the header is RFC 8785: keys in order"
    assert list(decode(blob).tensors) == ["a.scalar", "z.weight", "a.half", "b.brain", "é.empty"]


dtypes: st.SearchStrategy[np.dtype[Any]] = st.sampled_from([np.dtype("<f4"), np.dtype("<f2"), np.dtype("<u2")])
arrays: st.SearchStrategy[dict[str, Array]] = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda name: name != "__metadata__"),
    hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0)),
    min_size=1,
    max_size=5,
)


@given(arrays)
def test_decoding_gives_back_what_was_encoded(given_arrays: dict[str, Array]) -> None:
    names = {"<f4": "F32", "<f2": "F16", "<u2": "BF16"}
    schema = {
        name: TensorSpec.model_validate({"dtype": names[array.dtype.str], "shape": list(array.shape)})
        for name, array in given_arrays.items()
    }
    decoded = decode(encode(MODEL_HEADER, schema, given_arrays))
    assert decoded.schema == schema
    assert {name: array.tobytes() for name, array in decoded.tensors.items()} == {
        name: array.tobytes() for name, array in given_arrays.items()
    }


@given(st.binary(max_size=400))
def test_random_bytes_are_malformed_and_nothing_else(blob: bytes) -> None:
    with pytest.raises(InvalidBlobError, match="malformed"):
        decode(blob)


@given(st.integers(0), st.integers(0, 255))
def test_a_blob_with_one_byte_changed_is_refused_or_another_canonical_blob(at: int, value: int) -> None:
    blob = bytearray((GOLDEN / "update-2.safetensors").read_bytes())
    blob[at % len(blob)] = value
    with suppress(InvalidBlobError):
        decoded = decode(bytes(blob))
        assert encode(decoded.header, decoded.schema, decoded.tensors) == bytes(blob)


@given(hnp.arrays(np.dtype("<u2"), 20))
def test_every_finite_bfloat16_and_float16_survives_the_way_through_float64(bits: Array) -> None:
    brain = bits[bits & 0x7F80 != 0x7F80]
    assert from_float64(to_float64(brain, "BF16"), "BF16").tobytes() == brain.tobytes()
    half = bits[bits & 0x7C00 != 0x7C00].view("<f2")
    assert from_float64(to_float64(half, "F16"), "F16").tobytes() == half.tobytes()


def test_a_model_of_another_schema_is_refused() -> None:
    other = {"weight": SCHEMA["weight"]}
    with pytest.raises(InvalidBlobError, match="schema: tensor 'bias' is absent, the plan says F16"):
        decode_model(encode(MODEL_HEADER, other, {"weight": tensors(1)["weight"]}), PLAN)


def test_an_update_is_no_model() -> None:
    with pytest.raises(InvalidBlobError, match="binding"):
        decode_model(encode(update_header(PLACE, 1, 1), SCHEMA, tensors(1)), PLAN)


def test_what_a_wrong_blob_says_at_length_is_told_by_its_beginning() -> None:
    with pytest.raises(InvalidBlobError, match=r"binding: kind is 'x+ …\Z") as caught:
        decode_model(encode({"kind": "x" * 10**6}, SCHEMA, tensors(1)), PLAN)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight": np.zeros(4, np.float32)},
        {"weight": np.zeros(4, np.float64), "bias": np.zeros(3, np.float16)},
        {"weight": np.zeros(5, np.float32), "bias": np.zeros(3, np.float16)},
    ],
)
def test_tensors_that_do_not_fit_the_schema_are_not_encoded(wrong: dict[str, Array]) -> None:
    with pytest.raises(ValueError, match="tensor"):
        encode(MODEL_HEADER, SCHEMA, wrong)
