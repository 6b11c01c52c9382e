"""A plan's file: TOML or JSON, what follows from the base model may be left out, and every mistake is one sentence."""

import json
import string
from itertools import islice, product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.cid import cid_of
from ledger.errors import UsageError
from ledger.facts import Address
from ledger.manifest import are_metrics
from ledger.plan import Plan, TensorSpec
from ledger.plan_file import read_plan, update_bytes
from ledger.updates import MODEL_HEADER, Layout, Place, decode, encode, update_header
from tests.world import PLAN, SCHEMA, tensors

TOML = """
window = 600
quorum = 2
approvals = 1
[training]
epochs = 5
batch_size = 32
learning_rate = 0.01
"""
JSON = json.dumps(
    {
        "window": 600,
        "quorum": 2,
        "approvals": 1,
        "training": {"epochs": 5, "batch_size": 32, "learning_rate": 0.01},
    }
)


def model() -> bytes:
    return encode(MODEL_HEADER, SCHEMA, tensors(0))


def plan_of(folder: Path, text: str | bytes, name: str = "plan.toml") -> Plan:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_plan(path, model)


def refused(folder: Path, text: str | bytes, name: str = "plan.toml") -> str:
    with pytest.raises(UsageError) as caught:
        plan_of(folder, text, name)
    sentence = str(caught.value)
    assert str(folder / name) in sentence
    assert "\n" not in sentence
    return sentence


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    assert plan_of(tmp_path, TOML) == plan_of(tmp_path, JSON, "plan.json")


def test_a_plan_that_says_everything_is_read_as_it_is_and_the_base_model_is_not_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(PLAN.encode())
    assert read_plan(path).encode() == PLAN.encode()


def test_tensors_that_are_left_out_are_the_base_models(tmp_path: Path) -> None:
    assert plan_of(tmp_path, TOML).tensors == SCHEMA


def test_without_a_base_model_tensors_cannot_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(TOML)
    with pytest.raises(UsageError, match="tensors: Field required"):
        read_plan(path)


def test_a_size_that_is_left_out_is_that_of_the_largest_update(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TOML)
    most = (1 << 53) - 1
    place = Place(most, Address("0x" + "c0" * 20), most, cid_of(b"plan"), cid_of(b"base" * (1 << 20)))
    metrics = {'"' * (63 - number) + "\\" * (number + 1): -3.3333333333333333e-6 for number in range(16)}
    assert are_metrics(metrics)
    assert not are_metrics({**metrics, "one more": 0.5})
    largest = encode(update_header(place, most, most, metrics=metrics), SCHEMA, tensors(1))
    assert plan.max_update_bytes == update_bytes(SCHEMA) == len(largest)


@given(st.dictionaries(st.text(st.characters(codec="ascii")), st.floats() | st.integers(), max_size=20))
def test_no_metrics_make_a_header_longer(metrics: dict[str, float]) -> None:
    if are_metrics(metrics):
        place = Place(1, Address("0x" + "c0" * 20), 1, cid_of(b"plan"), cid_of(b"base"))
        blob = encode(update_header(place, 1, 1, metrics=metrics), SCHEMA, tensors(1))
        assert decode(blob).header["metrics"] == metrics
        assert len(blob) <= update_bytes(SCHEMA)


@pytest.mark.parametrize(("strategy", "what"), [("scaffold", "an update"), ("fedadam", "the server's state")])
def test_a_plan_whose_blobs_no_decoder_would_read_is_refused(tmp_path: Path, strategy: str, what: str) -> None:
    letters = string.ascii_letters + string.digits
    names = ["".join(three) for three in islice(product(letters, repeat=3), 29_000)]
    tensors = {name: {"dtype": "F32", "shape": [999]} for name in names}
    written = {"tensors": tensors, "strategy": {"name": strategy}, "training": PLAN.training.model_dump()}
    terms = {"window": 1, "quorum": 1, "approvals": 0}
    said = refused(tmp_path, json.dumps(written | terms), "plan.json")
    assert f"makes {what} with a header of 4," in said
    assert "4,177,920 at most: make a model of fewer tensors" in said


def test_numbers_are_taken_as_people_write_them(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, TOML.replace("0.01", "1").replace("= 5", "= 5.0"))
    assert (plan.training.learning_rate, plan.training.epochs) == (1.0, 5)
    assert Plan.decode(plan.encode()) == plan


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert plan_of(tmp_path, b"\xef\xbb\xbf" + TOML.encode()) == plan_of(tmp_path, TOML)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("window", "windw"), "'windw' is no key of it: did you mean window?"),
        (("window", "zzz"), "'zzz' is no key of it: the keys there are settlement, tensors, "),
        (("epochs", "epoch"), "'training.epoch' is no key of it: did you mean epochs?"),
        (
            ("epochs = 5", "epochs = 5\ngrace = 5"),
            "'training.grace' is no key of it: did you mean grace, before the first",
        ),
        (
            ("quorum = 2", "quorum = 2\nbatch_size = 2"),
            "'batch_size' is no key of it: did you mean training.batch_size?",
        ),
        (
            ("[training]", '[strategy]\nname = "fedadam"\nrate = 1\n\n[training]'),
            "'strategy.rate' is no key of it: the keys there are name, server_learning_rate, ",
        ),
        (("0.01", "0"), "training.learning_rate: Input should be greater than 0; correct it"),
        (("0.01", "nan"), "training.learning_rate: Input should be less than 1000000"),
        (("0.01", "inf"), "training.learning_rate: Input should be less than 1000000"),
        (("0.01", "true"), "training.learning_rate: Input should be a valid number"),
        (("= 5", "= 5.5"), "training.epochs: Input should be a valid integer"),
        (("= 5", "= '5'"), "training.epochs: Input should be a valid integer"),
        (("= 5", "= 2020-01-01"), "training.epochs: Input should be a valid integer"),
        (("= 5", "= 99999999999999999999"), "training.epochs: Input should be less than"),
        (("quorum = 2", ""), "quorum: Field required"),
        (("quorum = 2", "quorum = 2\nquorum = 3"), "Invalid TOML: Cannot overwrite a value (at line 4"),
        (("quorum = 2", "quorum 2"), "Invalid TOML: Expected '=' after a key in a key/value pair (at line 3"),
        (("quorum = 2", "quorum = 2\nmax_update_bytes = 3"), "tensors of 22 bytes do not fit an update of 3"),
        (("quorum = 2", "quorum = 2\ntensors = 3"), "tensors: Input should be a valid dictionary"),
        (("quorum = 2", "quorum = 2\ntensors = {}"), "tensors: Dictionary should have at least 1 item"),
        (
            ("[training]", "[tensors]\nw = {dtype='F64', shape=[2]}\n[training]"),
            "tensors.w.dtype: Input should be 'F32'",
        ),
        (
            ("[training]", "[tensors]\nw = {type='F32', shape=[2]}\n[training]"),
            "'tensors.w.type' is no key of it: did you",
        ),
        (("[training]", "[tensors]\nw.a = {dtype='F32', shape=[2]}\n[training]"), "'tensors.w.a' is no key of it"),
        (
            ("[training]", f"[tensors]\n{'w' * 257} = {{dtype='F32', shape=[2]}}\n[training]"),
            "not a tensor's name: 'www",
        ),
        (
            ("[training]", f"[tensors]\nw = {{dtype='F32', shape={[1 << 39] * 3}}}\n[training]"),
            "bytes do not fit an update of 9,007,199,254,740,991; correct it",
        ),
        (("quorum = 2", "quorum = " + "[" * 10_000), "Invalid TOML: "),
    ],
)
def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert said in refused(tmp_path, TOML.replace(*change, 1))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("plan.json", "garbage", "Invalid JSON (name it .toml if it is TOML): "),
        ("plan.json", TOML, "name it .toml if it is TOML"),
        ("plan.json", "[]", "is to be one object with keys"),
        ("plan.json", "[" * 10_000, "Invalid JSON"),
        ("plan.json", b"\xff\xfe{}", "Invalid JSON"),
        ("plan.toml", JSON, "Invalid TOML"),
        ("plan.toml", b"\xff", "Invalid TOML"),
        ("plan.toml", "", "training: Field required"),
    ],
)
def test_a_file_that_is_no_plan_at_all_is_refused(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    assert said in refused(tmp_path, text, name)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_plan(path)


def test_a_base_model_that_is_none_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(TOML)
    with pytest.raises(
        UsageError, match=r"the base model, whose tensors .*plan.toml would take, is none .*: build on an"
    ):
        read_plan(path, lambda: b"garbage")


def test_a_plan_that_no_site_would_read_is_not_made(tmp_path: Path) -> None:
    spec = TensorSpec(dtype="F32", shape=[1])
    schema = {f"{number:0250}": spec for number in range(4000)}
    path = tmp_path / "plan.toml"
    path.write_text(TOML)
    blob = Layout(schema).head(MODEL_HEADER) + bytes(4 * 4000)
    with pytest.raises(UsageError, match="1,048,576 at most: make a model of fewer tensors"):
        read_plan(path, lambda: blob)
