"""Documents have one byte form and are read back strictly."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pyrage.x25519 import Identity

from ledger.cid import cid_of
from ledger.documents import canonical, parse
from ledger.errors import InvalidBlobError
from ledger.manifest import Manifest, Reason, Row, Score, are_metrics, max_manifest_bytes
from ledger.plan import Plan
from ledger.sealing import MOST_RECIPIENTS, Annex, write_annex
from tests.ledger.test_settlement import PLACE
from tests.world import PLAN, age_key, private


def test_a_plan_is_read_back_as_it_was_written() -> None:
    assert Plan.decode(PLAN.encode()) == PLAN


def test_a_plan_states_every_setting_in_rfc_8785() -> None:
    assert PLAN.encode() == (
        b'{"approvals":1,"average":{"name":"mean"},"clipping":null,"filter":null,"grace":86400,"max_update_bytes":4096,'
        b'"participants_attest":false,"privacy":null,"public_quality":false,"quorum":2,"rejections":0,"seal":"none",'
        b'"settlement":2,"strategy":{"name":"fedavg"},'
        b'"tensors":{"bias":{"dtype":"F16","shape":[3]},"weight":{"dtype":"F32","shape":[2,2]}},'
        b'"training":{"batch_size":1,"epochs":1,"learning_rate":0.1},'
        b'"weighting":{"by":"examples","cap":1000000},"window":600,"wire":null}'
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


SCAFFOLD = {"name": "scaffold", "server_learning_rate": 1}
PRIVATE = private().model_dump(mode="json")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"settlement": 3}, "settlement"),
        ({"settlement": 1}, "settlement 1 knows no average"),
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
        ({"strategy": {"name": ["fedavg"]}}, "its name is to be one of fedavg, fedprox, "),
        ({"strategy": 5}, "its name is to be one of"),
        ({"strategy": {"name": "fedprox", "mu": 0}}, "mu"),
        ({"strategy": {"name": "fedprox"}}, "mu"),
        ({"strategy": {"name": "fedavg", "mu": 1}}, "mu"),
        ({"strategy": {"name": "fedadam", "beta_1": 1}}, "beta_1"),
        ({"strategy": {"name": "fedadam", "tau": 0}}, "tau"),
        ({"strategy": {"name": "fedavgm", "server_learning_rate": 1e6}}, "server_learning_rate"),
        ({"weighting": {"by": "size"}}, "its by is to be one of examples, equal, table"),
        ({"weighting": {"by": "table", "weights": {"0": 1}, "others": 1}}, "weights"),
        ({"weighting": {"by": "table", "weights": {"01": 1}, "others": 1}}, "weights"),
        ({"weighting": {"by": "table", "weights": {"1": 0}, "others": 1}}, "weights"),
        ({"average": {"name": "mode"}}, "its name is to be one of mean, median, trimmed-mean"),
        ({"average": {"name": "median"}}, 'a median knows no weights: say so with weighting by "equal"'),
        ({"average": {"name": "trimmed-mean", "share": 0.5}, "weighting": {"by": "equal"}}, "share"),
        ({"average": {"name": "trimmed-mean", "share": 0}, "weighting": {"by": "equal"}}, "share"),
        ({"filter": {"name": "krum", "attackers": 1, "keep": None}}, "a quorum of 5"),
        ({"filter": {"name": "krum", "attackers": 0, "keep": 0}, "quorum": 3}, "keep"),
        ({"filter": {"name": "bulyan", "attackers": 0, "keep": None}}, "filter"),
        ({"clipping": 0}, "clipping"),
        ({"clipping": "1"}, "clipping"),
        ({"wire": "F64"}, "wire"),
        ({"strategy": SCAFFOLD, "clipping": 1}, "scaffold takes no filter, no clipping and the mean"),
        ({"strategy": SCAFFOLD, "tensors": {"control/w": {"dtype": "F32", "shape": [1]}}}, "rename it"),
        ({"strategy": SCAFFOLD, "max_update_bytes": 30}, "do not fit"),
        ({"strategy": SCAFFOLD, "privacy": PRIVATE}, "scaffold changes how sites train, and so does privacy"),
        ({"strategy": {"name": "fedprox", "mu": 1}, "privacy": PRIVATE}, "fedprox changes how sites train"),
    ],
)
def test_a_plan_that_settlement_cannot_follow_is_refused(change: dict[str, Any], why: str) -> None:
    document = PLAN.model_dump(mode="json") | change
    with pytest.raises(InvalidBlobError, match=why) as refused:
        Plan.decode(canonical(document))
    assert refused.value.reason == "malformed"


def test_a_table_of_weights_may_name_nobody() -> None:
    table = {"by": "table", "weights": {}, "others": 7}
    plan = Plan.decode(canonical(PLAN.model_dump(mode="json") | {"weighting": table}))
    assert (plan.weighting.most, plan.weighting.of(1, 100)) == (7, 7)


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


MANIFEST = Manifest(
    settlement=2,
    chain_id=1337,
    ledger="0x" + "5a" * 20,
    round=7,
    plan="b" + "p" * 58,
    base="b" + "a" * 58,
    updates=[
        Row(member=1, update="b" + "c" * 58, weight=212, excluded=None),
        Row(member=3, update="b" + "d" * 58, weight=None, excluded=Reason.UNOPENABLE),
        Row(member=7, update="b" + "e" * 58, weight=None, excluded=Reason.FILTERED),
    ],
    counted=2,
    model="b" + "m" * 58,
    state=str(cid_of(b"what the server remembers")),
    scores={"1": Score(norm=1e300, distance=2.5, metrics={"auc": 0.75}), "7": Score(distance=1e20)},
    annex="YW5uZXg=",
)


def test_a_manifest_is_the_known_bytes_and_says_weights_reasons_and_scores_and_nothing_else_of_updates() -> None:
    assert MANIFEST.encode() == (
        b'{"annex":"YW5uZXg=","base":"b' + b"a" * 58 + b'","chain_id":1337,"counted":2,"kind":"manifest","ledger":"0x'
        + b"5a" * 20 + b'","model":"b' + b"m" * 58 + b'","plan":"b' + b"p" * 58 + b'","round":7,'
        b'"scores":{"1":{"distance":2.5,"metrics":{"auc":0.75},"norm":1e+300},'
        b'"7":{"distance":100000000000000000000,"metrics":{},"norm":null}},"settlement":2,'
        b'"state":"bafkreib7evwgbgxow73k7srwdpqx2lx77agvaooqtnydqyayvl5wc3jd4a",'
        b'"updates":[{"excluded":null,"member":1,"update":"b' + b"c" * 58 + b'","weight":212},'
        b'{"excluded":"unopenable","member":3,"update":"b' + b"d" * 58 + b'","weight":null},'
        b'{"excluded":"filtered","member":7,"update":"b' + b"e" * 58 + b'","weight":null}]}'
    )  # fmt: skip
    assert Manifest.decode(MANIFEST.encode()) == MANIFEST


@pytest.mark.parametrize("updates", [1, 30])
def test_no_manifest_is_larger_than_it_is_read_whatever_metrics_sites_tell(updates: int) -> None:
    names = [f"{number:064b}".translate({48: '"', 49: "\\"}) for number in range(16)]
    metrics = dict.fromkeys(names, -1.2345678901234567e-6)
    assert are_metrics(metrics)
    score = Score(norm=-1.2345678901234567e-6, distance=-1.2345678901234567e-6, metrics=metrics)
    members = range(65535, 65535 - updates, -1)
    place = replace(PLACE, chain_id=(1 << 53) - 1, round=(1 << 53) - 1)
    annex = Annex({member: bytes(32) for member in members}, dict.fromkeys(members, score))
    keys = [age_key(Identity.generate()) for _ in range(MOST_RECIPIENTS)]
    row = Row(member=65535, update="b" + "c" * 58, weight=(1 << 53) - 1, excluded=None)
    manifest = Manifest(
        settlement=2,
        **place.document(),
        updates=[row] * updates,
        counted=updates,
        model="b" + "m" * 58,
        state=str(cid_of(b"what the server remembers")),
        scores={str(member): score for member in members},
        annex=write_annex(place, annex, keys),
    )
    assert len(manifest.encode()) <= max_manifest_bytes(updates, len(keys))


@pytest.mark.parametrize(
    "metrics",
    [
        {"\x1b[31mauc": 0.5},
        {"auc\n": 0.5},
        {"auc\u202e": 0.5},
        {"": 0.5},
        {"a" * 65: 0.5},
        {"auc": 2.0**53},
        {"auc": -1e308},
        {"auc": True},
        {"auc": "0.5"},
        {f"metric {number}": 0.5 for number in range(17)},
    ],
)
def test_a_manifest_with_metrics_that_no_update_can_have_is_none(metrics: dict[str, object]) -> None:
    scores = {"1": {"norm": None, "distance": None, "metrics": metrics}}
    with pytest.raises(InvalidBlobError, match=r"scores\.1\.metrics"):
        Manifest.decode(canonical({**MANIFEST.model_dump(mode="json"), "scores": scores}))


@pytest.mark.parametrize("state", ["", "b" + "a" * 58, "b" + "7" * 58, "Qm" + "a" * 44, "b" + "S" * 58, 5])
def test_a_manifest_whose_state_is_no_cid_is_none(state: object) -> None:
    with pytest.raises(InvalidBlobError, match="state"):
        Manifest.decode(canonical({**MANIFEST.model_dump(mode="json"), "state": state}))


def test_plans_and_manifests_of_settlement_1_are_read_and_written_as_before() -> None:
    later = {"seal", "privacy", "filter", "clipping", "average", "wire"}
    written = canonical(
        {key: value for key, value in json.loads(PLAN.encode()).items() if key not in later} | {"settlement": 1}
    )
    plan = Plan.decode(written)
    assert (plan.settlement, plan.seal, plan.privacy, plan.is_robust, plan.wire) == (1, "none", None, False, None)
    assert plan.encode() == written
    for key in later:
        with pytest.raises(InvalidBlobError, match=f"settlement 1 knows no {key}"):
            Plan.decode(canonical(json.loads(written) | {key: json.loads(PLAN.encode())[key]}))
    later = {"annex", "scores", "state"}
    before = {key: value for key, value in json.loads(MANIFEST.encode()).items() if key not in later}
    before |= {"settlement": 1}
    manifest = Manifest.decode(canonical(before))
    assert (manifest.annex, manifest.scores, manifest.state, manifest.encode()) == (None, None, None, canonical(before))
    for key in later:
        with pytest.raises(InvalidBlobError, match="it states everything"):
            Manifest.decode(canonical(before | {key: None}))
