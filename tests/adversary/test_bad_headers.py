"""Updates whose headers say what none may say: left out for the right reason, wherever they are read, and alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ledger.choices import FedAdam, Krum
from ledger.cid import cid_of
from ledger.manifest import Reason
from ledger.plan import Plan
from ledger.updates import NO_WITNESS, Layout, encode, update_header
from tests.rounds import MIXED, Raw, Round, Update, drawn, first, plan_of, stored
from tests.world import private

BAD, HONEST = 4, (1, 2, 3, 5, 6)
VALUES = stored(MIXED, {name: [0.5] * size for name, size in (("bias", 3), ("scale", 2), ("weight", 4))})

READ: dict[str, Plan] = {
    "as it comes": plan_of(),
    "as it comes, after a filter": plan_of(filter=Krum(attackers=1), quorum=5),
    "opened": plan_of(seal="age"),
    "opened, after a filter": plan_of(seal="age", filter=Krum(attackers=1), quorum=5),
    "as it comes, and the server remembers": plan_of(strategy=FedAdam()),
}


def header(round_: Round, **changes: Any) -> dict[str, Any]:
    return {**update_header(round_.place, BAD, 1, metrics={"auc": 0.5}), **changes}


def saying(**changes: Any) -> Callable[[Round], bytes]:
    return lambda round_: encode(header(round_, **changes), MIXED, VALUES)


def without(key: str) -> Callable[[Round], bytes]:
    def blob(round_: Round) -> bytes:
        said = header(round_)
        del said[key]
        return encode(said, MIXED, VALUES)

    return blob


def written(old: str, new: str, examples: int = 1) -> Callable[[Round], bytes]:
    """What no header of ours can say: other bytes in the place of some, and all lengths made to fit."""

    def blob(round_: Round) -> bytes:
        layout = Layout(MIXED)
        whole = encode(header(round_, examples=examples), MIXED, VALUES)
        head, data = whole[8 : len(whole) - layout.size].rstrip(b" "), whole[len(whole) - layout.size :]
        assert head.count(old.encode()) == 1
        head = head.replace(old.encode(), new.encode())
        head += b" " * (-len(head) % 8)
        return len(head).to_bytes(8, "little") + head + data

    return blob


SEVENTEEN = {f"metric {number}": 0.5 for number in range(17)}
TABLE: dict[str, tuple[Callable[[Round], bytes], Reason]] = {
    "seventeen metrics": (saying(metrics=SEVENTEEN), Reason.BINDING),
    "a metric that is text": (saying(metrics={"auc": "0.5"}), Reason.BINDING),
    "a metric that is true": (saying(metrics={"auc": True}), Reason.BINDING),
    "a metric that is null": (saying(metrics={"auc": None}), Reason.BINDING),
    "a metric in a list": (saying(metrics={"auc": [0.5]}), Reason.BINDING),
    "metrics in metrics": (saying(metrics={"auc": {"auc": 0.5}}), Reason.BINDING),
    "a metric that is NaN": (written(r"{\"auc\":0.5}", r"{\"auc\":NaN}"), Reason.MALFORMED),
    "a metric that is infinite": (written(r"{\"auc\":0.5}", r"{\"auc\":1e999}"), Reason.MALFORMED),
    "a metric of 2^53": (written(r"{\"auc\":0.5}", r"{\"auc\":9007199254740992}"), Reason.MALFORMED),
    "a metric of 1e20": (written(r"{\"auc\":0.5}", r"{\"auc\":100000000000000000000}"), Reason.MALFORMED),
    "a metric of 1e21": (saying(metrics={"auc": 1e21}), Reason.BINDING),
    "a metric written otherwise": (written(r"{\"auc\":0.5}", r"{\"auc\":0.50}"), Reason.MALFORMED),
    "a metric with a space": (written(r"{\"auc\":0.5}", r"{\"auc\": 0.5}"), Reason.MALFORMED),
    "a metric twice": (written(r"{\"auc\":0.5}", r"{\"auc\":0.5,\"auc\":0.5}"), Reason.MALFORMED),
    "metrics in another order": (written(r"{\"auc\":0.5}", r"{\"b\":0.5,\"a\":0.5}"), Reason.MALFORMED),
    "metrics twice": (written(r"{\"auc\":0.5}", r"{},\"metrics\":{}"), Reason.MALFORMED),
    "a key more after the metrics": (written(r"{\"auc\":0.5}", r"{},\"note\":{}"), Reason.BINDING),
    "a name without a letter": (saying(metrics={"": 0.5}), Reason.BINDING),
    "a name of 65 letters": (saying(metrics={"a" * 65: 0.5}), Reason.BINDING),
    "a name that is not ASCII": (saying(metrics={"é": 0.5}), Reason.BINDING),
    "a name of two lines": (saying(metrics={"a\nb": 0.5}), Reason.BINDING),
    "a name that ends a line": (saying(metrics={"auc\n": 0.5}), Reason.BINDING),
    "a name that rings a bell": (saying(metrics={"\x07": 0.5}), Reason.BINDING),
    "a name written otherwise": (written(r"\"auc\"", r"\"\\u0061uc\""), Reason.MALFORMED),
    "metrics in a list": (saying(metrics=[]), Reason.BINDING),
    "metrics that are null": (saying(metrics=None), Reason.BINDING),
    "metrics that are text": (saying(metrics="{}"), Reason.BINDING),
    "no metrics": (without("metrics"), Reason.BINDING),
    "no witness": (without("witness"), Reason.BINDING),
    "neither": (lambda round_: encode(update_header(round_.place, BAD, 1, None), MIXED, VALUES), Reason.BINDING),
    "a witness of 63 digits": (saying(witness="0" * 63), Reason.BINDING),
    "a witness of 65 digits": (saying(witness="0" * 65), Reason.BINDING),
    "a witness in capitals": (saying(witness="A" * 64), Reason.BINDING),
    "a witness and the end of a line": (saying(witness=NO_WITNESS + "\n"), Reason.BINDING),
    "a witness that is a number": (saying(witness=0), Reason.BINDING),
    "a witness that is null": (saying(witness=None), Reason.BINDING),
    "a witness written otherwise": (written("0" * 64, r"\\u0030" + "0" * 63), Reason.MALFORMED),
    "true for the examples": (saying(examples=True), Reason.BINDING),
    "true for the round": (saying(round=True), Reason.BINDING),
    "other examples than its entry": (saying(examples=2), Reason.BINDING),
    "examples and nothing": (written(r"\"examples\":1", r"\"examples\":1.0"), Reason.MALFORMED),
    "examples and a zero before": (written(r"\"examples\":1", r"\"examples\":01"), Reason.MALFORMED),
    "another member": (saying(member=1), Reason.BINDING),
    "another plan": (saying(plan=str(cid_of(b"another"))), Reason.BINDING),
    "another base": (saying(base=str(cid_of(b"another"))), Reason.BINDING),
    "a key more": (saying(note="x"), Reason.BINDING),
    "a key more of the file": (written("{\"fedledger\":", "{\"a\":\"\",\"fedledger\":"), Reason.MALFORMED),
}  # fmt: skip


def honest(round_: Round) -> dict[int, Update | Raw]:
    return {
        member: Update(stored(MIXED, drawn(MIXED, np.random.default_rng(member))), member, {"auc": member / 8})
        for member in HONEST
    }


@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("what", TABLE)
def test_a_header_that_says_what_none_may_say_excludes_its_update_and_touches_no_other(what: str, read: str) -> None:
    make, reason = TABLE[what]
    round_ = first(READ[read], drawn(MIXED, np.random.default_rng(0)))
    updates = honest(round_)
    without_it = round_.settle(updates)
    settled = round_.settle({**updates, BAD: Raw(make(round_))})
    rows = {row.member: (row.weight, row.excluded) for row in settled.manifest.updates}
    assert rows.pop(BAD) == (None, reason)
    assert rows == {row.member: (row.weight, row.excluded) for row in without_it.manifest.updates}
    assert (settled.model, settled.state, settled.scores) == (without_it.model, without_it.state, without_it.scores)
    assert settled.details[BAD]


@pytest.mark.parametrize("read", READ)
def test_the_longest_names_and_the_most_metrics_that_there_can_be_count(read: str) -> None:
    metrics = {f"{number:02}" + '"\\' * 31: -1.5e-300 for number in range(16)}
    round_ = first(READ[read], drawn(MIXED, np.random.default_rng(0)))
    updates = honest(round_) | {BAD: Update(VALUES, 1, metrics)}
    settled = round_.settle(updates)
    assert settled.manifest.counted == len(HONEST) + 1
    assert settled.scores[BAD].metrics == metrics


@pytest.mark.parametrize("seal", ["none", "age"])
def test_in_a_private_round_an_update_that_tells_metrics_is_left_out(seal: str) -> None:
    round_ = first(plan_of(privacy=private(), seal=seal), drawn(MIXED, np.random.default_rng(0)))
    updates: dict[int, Update | Raw] = {member: Update(VALUES) for member in HONEST}
    settled = round_.settle(updates | {BAD: Update(VALUES, 1, {"auc": 0.5})})
    assert {row.member: row.excluded for row in settled.manifest.updates} == dict.fromkeys(HONEST) | {
        BAD: Reason.BINDING
    }
    assert settled.scores == {}


@pytest.mark.parametrize("examples", [1 << 53, (1 << 63) - 1])
@pytest.mark.parametrize("read", READ)
def test_more_examples_than_a_document_can_say_do_not_count_whoever_writes_them(read: str, examples: int) -> None:
    round_ = first(READ[read], drawn(MIXED, np.random.default_rng(0)))
    blob = written(r"\"examples\":1", rf"\"examples\":{examples}")(round_)
    settled = round_.settle({**honest(round_), BAD: Raw(blob, examples)})
    assert {row.member: row.excluded for row in settled.manifest.updates}[BAD] is Reason.MALFORMED
