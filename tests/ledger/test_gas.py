"""What the contract costs: within its limits, no more than the committed snapshot, constant in rounds and members."""

import json
from pathlib import Path

import pytest

from tests.gas import Ledger, measure

SNAPSHOT = Path(__file__).parent / "golden" / "gas.json"
LIMITS = {
    "update": 44_000,
    "relayed update, 100 at once, each": 14_000,
    "open": 110_000,
    "settle": 80_000,
    "attest": 55_000,
    "deploy": 3_500_000,
}


@pytest.fixture(scope="module")
def measured() -> dict[str, int]:
    return measure()


pytestmark = pytest.mark.xdist_group("gas")


def test_no_call_costs_more_than_the_committed_snapshot(measured: dict[str, int]) -> None:
    snapshot = json.loads(SNAPSHOT.read_text())
    risen = {call: (snapshot[call], gas) for call, gas in measured.items() if gas > snapshot[call]}
    assert risen == {}, "if that is meant: scripts/bench gas --json > tests/ledger/golden/gas.json"


@pytest.mark.parametrize("call", LIMITS)
def test_a_call_stays_within_its_limit(measured: dict[str, int], call: str) -> None:
    assert measured[call] <= LIMITS[call]


def test_an_update_costs_the_same_in_round_2_and_200_with_4_members_and_with_300() -> None:
    few, many = Ledger(4), Ledger(300)
    many.update_in_round(many.sites[1])
    early = few.update_in_round(few.sites[1])[1], few.update_in_round(few.sites[1])[1]
    for _ in range(196):
        few.cancel(few.open())
    round_, late = few.update_in_round(few.sites[1])
    assert round_ == 199
    assert {late, many.update_in_round(many.sites[1])[1]} == {early[1]}


def test_a_member_with_a_high_id_pays_the_same_in_every_round() -> None:
    many = Ledger(300)
    many.update_in_round(many.sites[-1])
    costs = {many.update_in_round(many.sites[-1])[1] for _ in range(3)}
    assert len(costs) == 1
    assert costs.pop() <= LIMITS["update"] + 4_000, "the last round stands in a slot of its own"
