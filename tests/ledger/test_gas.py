"""What the contract costs: within its limits, no more than the committed snapshot, constant in rounds and members."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.anvil import Anvil
from tests.chains import Embedded
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
pytestmark = pytest.mark.xdist_group("gas")


@pytest.fixture(scope="module")
def measured() -> dict[str, int]:
    with Anvil() as chain:
        return measure(chain)


def test_no_call_costs_more_than_the_committed_snapshot(measured: dict[str, int]) -> None:
    snapshot = json.loads(SNAPSHOT.read_text())
    assert measured.keys() == snapshot.keys()
    risen = {call: (snapshot[call], gas) for call, gas in measured.items() if gas > snapshot[call]}
    assert risen == {}, "if that is meant: scripts/bench gas --json > tests/ledger/golden/gas.json"


@pytest.mark.parametrize("call", LIMITS)
def test_a_call_stays_within_its_limit(measured: dict[str, int], call: str) -> None:
    assert measured[call] <= LIMITS[call]


def test_the_embedded_chain_and_a_real_node_count_the_same_gas() -> None:
    with Anvil() as chain:
        on_a_node = Ledger(chain, 4)
        embedded = Ledger(Embedded(), 4)
        for _ in range(2):
            assert embedded.play_round(embedded.sites[1]) == on_a_node.play_round(on_a_node.sites[1])
        assert embedded.relayed(embedded.sites) == on_a_node.relayed(on_a_node.sites)


# --------------------------------------------------------------------------- rounds and members


@pytest.fixture(scope="module")
def few() -> Iterator[Ledger]:
    with Anvil() as chain:
        yield Ledger(chain, 4)


@pytest.fixture(scope="module")
def many() -> Iterator[Ledger]:
    with Anvil() as chain:
        yield Ledger(chain, 300)


def test_a_round_costs_the_same_in_round_2_and_200_with_4_members_and_with_300(few: Ledger, many: Ledger) -> None:
    first = few.play_round(few.sites[1])
    early = few.play_round(few.sites[1])
    assert first["update"] == early["update"]
    while few.round < 199:
        few.open()
        few.cancel()
    late = few.play_round(few.sites[1])
    assert few.round == 200
    many.play_round(many.sites[1])
    assert early == late == many.play_round(many.sites[1])


def test_the_members_with_the_highest_ids_stay_within_the_limits(many: Ledger) -> None:
    last = many.sites[-1]
    many.accept(*many.sites[-100:])
    many.play_round(last)
    costs = [many.play_round(last) for _ in range(2)]
    assert costs[0] == costs[1]
    assert costs[0]["update"] <= LIMITS["update"] + 300, "a slot more than lower ids"
    assert many.relayed(many.sites[-100:]) <= LIMITS["relayed update, 100 at once, each"]
