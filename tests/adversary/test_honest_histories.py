"""No false alarm: whatever honest parties do, in whatever order, the audit finds nothing wrong."""

from dataclasses import dataclass

import pytest
from eth_hash.auto import keccak
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger.audit.attest import attest, examine
from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.audit.origin import Claims
from ledger.audit.report import Verdict
from ledger.facts import AbortReason, ErasureReason, Role, RoundSettled
from ledger.plan import Plan
from tests.world import PLAN, World, tensors

ANYONE = PLAN.model_copy(update={"quorum": 1, "participants_attest": True})


@dataclass(frozen=True)
class Played:
    """What happens in one round and after it.

    Attributes:
        updates: By member: how it gets to the ledger (``direct``, ``relayed``), or what is wrong with it.
        end: How the round ends.
        attests: Whether the auditor attests.
        rejects: Members who reject whatever it is.
        erases: Members whose update is erased afterwards, and deleted.
        between: What the governor or a member does afterwards.
    """

    plan: Plan
    updates: dict[int, str]
    end: str
    attests: bool
    rejects: list[int]
    erases: list[int]
    between: str


ROUNDS = st.builds(
    Played,
    plan=st.sampled_from([PLAN, ANYONE]),
    updates=st.dictionaries(
        st.integers(1, 3), st.sampled_from(["direct", "direct", "relayed", "garbage", "lost"]), max_size=3
    ),
    end=st.sampled_from(["settled", "settled", "settled", "cancelled", "expired"]),
    attests=st.booleans(),
    rejects=st.lists(st.integers(1, 3), unique=True, max_size=1),
    erases=st.lists(st.integers(1, 3), unique=True, max_size=1),
    between=st.sampled_from(["nothing", "nothing", "rotates", "charter", "roles", "governor"]),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[object]]:
    world = World(tmp_path_factory.mktemp("honest"))
    return world, [world.snapshot()]


def play(world: World, played: Played, number: int) -> None:
    contract, aggregator = world.contract, world.aggregator
    aggregator.open(played.plan)
    for member, how in played.updates.items():
        garbage = f"garbage of member {member} for round {number}".encode()
        blob = garbage if how == "garbage" else world.update(member, tensors(member + number))
        if how == "relayed":
            world.relay(member, blob, aggregator.account)
        else:
            cid = world.post(member, blob)
            if how == "lost":
                world.store.path(cid).unlink(missing_ok=True)
    if played.end == "cancelled":
        contract.abort(aggregator.account, number, contract.head(), AbortReason.CANCELLED)
        return
    if played.end == "expired":
        world.chain.pass_time(played.plan.window + played.plan.grace + 1)
        contract.abort(world.participants[0], number, contract.head(), AbortReason.EXPIRED)
        return
    world.chain.pass_time(played.plan.window + 1)
    world.settle()
    known = contract.history().rounds[number]
    if not isinstance(known.ended, RoundSettled):
        return
    if played.attests:
        attest(contract, world.store, world.auditor, number)
    if played.plan.participants_attest:
        for member in played.rejects:
            report = world.store.put(examine(contract.history(), world.store, number).report)
            contract.attest(world.participants[member - 1], number, False, report)


def afterwards(world: World, played: Played, number: int) -> None:
    contract = world.contract
    known = contract.history().rounds[number]
    for member in played.erases:
        if member in known.updates:
            cid = known.updates[member].update
            contract.erase(world.participants[member - 1], number, member, cid.digest, ErasureReason.REQUEST)
            world.store.path(cid).unlink(missing_ok=True)
    match played.between:
        case "rotates":
            new = world.account(f"rotated {number}")
            contract.offer_account(world.participants[0], new.address)
            contract.take_account(new, 1)
            world.participants[0] = new
        case "charter":
            charter = world.store.put(f"# Charter after round {number}\n".encode())
            contract.change_charter(world.governor, charter)
            for account in [*world.participants, world.aggregator.account, world.auditor]:
                contract.accept(account, charter, keccak(b"key"))
        case "roles":
            contract.change_roles(world.governor, 3, Role.PARTICIPANT | Role.AUDITOR)
        case "governor":
            new = world.account(f"governor {number}")
            contract.offer_governance(world.governor, new.address)
            contract.take_governance(new)
            world.governor = new


@settings(
    max_examples=300 if settings().max_examples > 1000 else 20,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a smaller example is not worth minutes on a chain
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rounds=st.lists(ROUNDS, min_size=1, max_size=3))
def test_no_false_alarm_on_honest_histories(shared: tuple[World, list[object]], rounds: list[Played]) -> None:
    world, snapshots = shared
    participants, governor = list(world.participants), world.governor
    open_ended = False
    try:
        for number, played in enumerate(rounds, 1):
            play(world, played, number)
            known = world.contract.history().rounds[number]
            approved = any(one.approve and member == 5 for member, one in known.attestations.items())
            afterwards(world, played, number)
            erased = any(played.updates.get(member, "lost") != "lost" for member in played.erases)
            unclaimed = "lost" in played.updates.values() and (known.ended is None or known.ended.manifest is None)
            open_ended |= (erased and not approved) or unclaimed
        report = audit(read_folder(world.write()), Claims(head=world.contract.head()))
        wrong = [one.sentence for check in report.checks for one in check.findings if one.verdict is Verdict.VIOLATED]
        assert wrong == []
        assert report.verdict is (Verdict.INCOMPLETE if open_ended else Verdict.VERIFIED)
        assert report.checks[2].summary.startswith(f"{report.entries} of {report.entries} entries by a signature")
    finally:
        world.participants, world.governor = participants, governor
        snapshots[0] = world.revert(snapshots[0])
