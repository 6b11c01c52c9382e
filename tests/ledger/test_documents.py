"""Documents have one byte form and are read back strictly."""

from typing import Any

import pytest

from ledger.documents import canonical, parse
from ledger.errors import InvalidBlobError
from ledger.manifest import Manifest
from ledger.plan import Plan
from tests.world import PLAN


def test_a_plan_is_read_back_as_it_was_written() -> None:
    assert Plan.decode(PLAN.encode()) == PLAN


def test_a_plan_states_every_setting_in_rfc_8785() -> None:
    assert PLAN.encode() == (
        b'{"approvals":1,"grace":86400,"max_update_bytes":4096,"participants_attest":false,"privacy":null,'
        b'"public_quality":false,"quorum":2,"rejections":0,"seal":"none","settlement":2,"strategy":{"name":"fedavg"},'
        b'"tensors":{"bias":{"dtype":"F16","shape":[3]},"weight":{"dtype":"F32","shape":[2,2]}},'
        b'"training":{"batch_size":1,"epochs":1,"learning_rate":0.1},'
        b'"weighting":{"by":"examples","cap":1000000},"window":600}'
    )


@pytest.mark.parametrize(
    "raw",
    [
        b'{"b":1,"a":1}',
        b'{"a": 1}',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1}\n',
        b'{"a":NaN}',
        b'{"a":9007199254740993}',
        b"[" * 100_000,
        b"\xff",
        b"",
    ],
)
def test_anything_but_canonical_json_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # whoever calls says what it was
        parse(raw)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"settlement": 3}, "settlement"),
        ({"settlement": 1}, "settlement 1 knows no privacy"),
        ({"seal": "gpg"}, "seal"),
        ({"privacy": {"name": "gaussian"}}, "privacy"),
        ({"quorum": 0}, "quorum"),
        ({"quorum": "2"}, "quorum"),
        ({"quorum": 2.5}, "quorum"),
        ({"window": 0}, "window"),
        ({"tensors": {}}, "tensors"),
        ({"tensors": {"w": {"dtype": "F64", "shape": [1]}}}, "dtype"),
        ({"tensors": {"w": {"dtype": "F32", "shape": [-1]}}}, "shape"),
        ({"tensors": {"__metadata__": {"dtype": "F32", "shape": [1]}}}, "name"),
        ({"tensors": {"w": {"dtype": "F32", "shape": [1 << 30]}}}, "do not fit"),
        ({"strategy": {"name": "magic"}}, "strategy"),
        ({"weighting": {"by": "examples", "cap": (1 << 32) + 1}}, "cap"),
        ({"deadline": 1}, "deadline"),
    ],
)
def test_a_plan_that_settlement_cannot_follow_is_refused(change: dict[str, Any], why: str) -> None:
    document = PLAN.model_dump(mode="json") | change
    with pytest.raises(InvalidBlobError, match=why) as refused:
        Plan.decode(canonical(document))
    assert refused.value.reason == "malformed"


@pytest.mark.parametrize("blob", [b"", b"null", b"{}", b"[" * 100_000, PLAN.encode() + b" ", b"\xff\xfe"])
def test_bytes_that_are_no_plan_are_refused(blob: bytes) -> None:
    with pytest.raises(InvalidBlobError, match="not a plan"):
        Plan.decode(blob)


def test_a_manifest_with_an_unknown_reason_is_refused() -> None:
    row = {"member": 1, "update": "b" + "a" * 58, "weight": None, "excluded": "dislike"}
    document = {"kind": "manifest", "settlement": 1, "chain_id": 1, "ledger": "0x", "round": 1, "plan": "p"}
    document |= {"base": "b", "updates": [row], "counted": 0, "model": None}
    with pytest.raises(InvalidBlobError, match="excluded"):
        Manifest.decode(canonical(document))
