"""The contract on a real EVM: every refusal by its own name, the same in the pure history; and what a call costs."""

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from ledger.chain.artifact import artifact
from ledger.chain.contract import LedgerContract
from ledger.chain.embedded import EmbeddedChain
from ledger.cid import Cid, cid_of
from ledger.entries import AbortReason, Role, name_bytes
from ledger.errors import Refused
from ledger.history import History
from tests.twin import Abort, Action, Admit, Attest, Genesis, Open, Settle, Submit, Twin

BLOB, OTHER = cid_of(b"blob"), cid_of(b"other")
NAMES = ("governor", "site 1", "site 2", "site 3", "aggregator", "auditor", "auditor 2", "stranger")
ACCOUNTS: dict[str, LocalAccount] = {name: Account.from_key(keccak(name.encode())) for name in NAMES}


def admit(name: str, roles: Role) -> Admit:
    return Admit(ACCOUNTS[name].address, int(roles), name_bytes(name))


SETUP: list[tuple[str, Action]] = [
    *(("governor", admit(name, Role.PARTICIPANT)) for name in ("site 1", "site 2")),
    ("governor", admit("aggregator", Role.AGGREGATOR)),
    ("governor", admit("auditor", Role.AUDITOR)),
    ("governor", Genesis(BLOB)),
]
OPENED: list[tuple[str, Action]] = [("aggregator", Open(BLOB))]
POSTED: list[tuple[str, Action]] = [*OPENED, ("site 1", Submit(1, BLOB)), ("site 2", Submit(1, OTHER))]
SETTLED: list[tuple[str, Action]] = [*POSTED, ("aggregator", Settle(1, BLOB, OTHER, 2))]


class Stage:
    """A new contract and its twin on one chain."""

    def __init__(self, chain: EmbeddedChain) -> None:
        self.chain = chain
        self.contract = LedgerContract.deploy(chain.web3, ACCOUNTS["governor"], BLOB)
        self.twin = Twin(self.contract, History(self.contract.genesis))

    def play(self, *steps: tuple[str, Action]) -> str | None:
        refused = None
        for name, action in steps:
            assert refused is None, "only the last step is to be refused"
            refused = self.twin.act(ACCOUNTS[name], action)
        return refused


@pytest.fixture(scope="module")
def chain() -> EmbeddedChain:
    chain = EmbeddedChain()
    for account in ACCOUNTS.values():
        chain.fund(account.address)
    return chain


@pytest.fixture
def stage(chain: EmbeddedChain) -> Stage:
    stage = Stage(chain)
    assert stage.play(*SETUP) is None
    return stage


NO_NAME = Admit(ACCOUNTS["stranger"].address, 1, bytes(32))


@pytest.mark.parametrize(
    ("name", "before", "sender", "action"),
    [
        ("GovernorOnly", [], "aggregator", admit("stranger", Role.PARTICIPANT)),
        ("GovernorOnly", [], "stranger", Genesis(BLOB)),
        ("MemberAccountZero", [], "governor", Admit("0x" + "00" * 20, 1, name_bytes("x"))),
        ("MemberAccountTaken", [], "governor", admit("site 1", Role.AUDITOR)),
        ("MemberRolesInvalid", [], "governor", admit("stranger", Role(0))),
        ("MemberRolesInvalid", [], "governor", Admit(ACCOUNTS["stranger"].address, 8, name_bytes("x"))),
        ("MemberNameMissing", [], "governor", NO_NAME),
        ("GenesisAlreadyRecorded", [], "governor", Genesis(OTHER)),
        ("MemberUnknown", [], "stranger", Open(BLOB)),
        ("MemberUnknown", [], "governor", Open(BLOB)),
        ("MemberRoleMissing", [], "site 1", Open(BLOB)),
        ("RoundStillOpen", OPENED, "aggregator", Open(BLOB)),
        ("BaseNotReleased", [], "aggregator", Open(BLOB, base_round=1)),
        ("BaseNotReleased", SETTLED, "aggregator", Open(BLOB, base_round=1)),
        (
            "BaseNotReleased",
            [*SETTLED, ("auditor", Attest(1, False, BLOB))],
            "aggregator",
            Open(BLOB, base_round=1),
        ),
        ("WindowInvalid", [], "aggregator", Open(BLOB, window=0)),
        ("QuorumInvalid", [], "aggregator", Open(BLOB, quorum=0)),
        ("QuorumInvalid", [], "aggregator", Open(BLOB, quorum=3)),
        ("ApprovalsInvalid", [], "aggregator", Open(BLOB, approvals=2)),
        ("CidInvalid", [], "aggregator", Open(None)),
        ("MemberUnknown", OPENED, "stranger", Submit(1, BLOB)),
        ("MemberRoleMissing", OPENED, "auditor", Submit(1, BLOB)),
        ("RoundNotOpen", [], "site 1", Submit(1, BLOB)),
        ("RoundNotOpen", OPENED, "site 1", Submit(2, BLOB)),
        ("RoundNotOpen", SETTLED, "site 1", Submit(1, BLOB)),
        (
            "MemberNotEligible",
            [*OPENED, ("governor", admit("site 3", Role.PARTICIPANT))],
            "site 3",
            Submit(1, BLOB),
        ),
        ("UpdateAlreadyRecorded", POSTED, "site 1", Submit(1, OTHER)),
        ("WeightInvalid", OPENED, "site 1", Submit(1, BLOB, weight=0)),
        ("CidInvalid", OPENED, "site 1", Submit(1, None)),
        ("MemberRoleMissing", POSTED, "site 1", Settle(1, BLOB, BLOB, 2)),
        ("RoundNotOpen", SETTLED, "aggregator", Settle(1, BLOB, BLOB, 2)),
        ("RoundStillRunning", POSTED[:2], "aggregator", Settle(1, BLOB, BLOB, 1)),
        ("HeadMoved", POSTED, "aggregator", Settle(1, BLOB, BLOB, 2, head=bytes(31) + b"1")),
        ("QuorumNotMet", POSTED, "aggregator", Settle(1, BLOB, BLOB, 0)),
        ("CountedExceedsRecorded", POSTED, "aggregator", Settle(1, BLOB, BLOB, 3)),
        ("CidInvalid", POSTED, "aggregator", Settle(1, None, BLOB, 2)),
        ("CidInvalid", POSTED, "aggregator", Settle(1, BLOB, None, 2)),
        ("MemberRoleMissing", POSTED, "auditor", Abort(1, AbortReason.CANCELLED, None)),
        ("RoundNotOpen", [], "aggregator", Abort(1, AbortReason.CANCELLED, None)),
        ("AbortReasonMissing", POSTED, "aggregator", Abort(1, AbortReason.NONE, None)),
        ("RoundStillRunning", OPENED, "aggregator", Abort(1, AbortReason.QUORUM, BLOB)),
        ("HeadMoved", POSTED, "aggregator", Abort(1, AbortReason.QUORUM, BLOB, head=bytes(31) + b"1")),
        ("CidInvalid", POSTED, "aggregator", Abort(1, AbortReason.QUORUM, None)),
        ("CidInvalid", POSTED, "aggregator", Abort(1, AbortReason.CANCELLED, BLOB)),
        ("MemberRoleMissing", SETTLED, "site 1", Attest(1, True, BLOB)),
        ("RoundNotSettled", POSTED, "auditor", Attest(1, True, BLOB)),
        ("RoundNotSettled", [], "auditor", Attest(0, True, BLOB)),
        (
            "MemberNotEligible",
            [*SETTLED, ("governor", admit("auditor 2", Role.AUDITOR))],
            "auditor 2",
            Attest(1, False, BLOB),
        ),
        (
            "AttestationAlreadyRecorded",
            [*SETTLED, ("auditor", Attest(1, True, BLOB))],
            "auditor",
            Attest(1, False, BLOB),
        ),
        ("CidInvalid", SETTLED, "auditor", Attest(1, True, None)),
    ],
)
def test_contract_and_history_refuse_by_the_same_name(
    stage: Stage, name: str, before: list[tuple[str, Action]], sender: str, action: Action
) -> None:
    assert stage.play(*before, (sender, action)) == name
    assert stage.contract.head() == stage.twin.history.head, "a refusal changes nothing"


def test_every_refusal_of_the_contract_is_tested_here() -> None:
    declared = {item["name"] for item in artifact().abi if item["type"] == "error"}
    table = test_contract_and_history_refuse_by_the_same_name.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert declared - {row[0] for row in table} == {"RoundClosed"}, "which has a test of its own, below"


def test_an_update_after_the_deadline_is_refused(stage: Stage) -> None:
    stage.play(*OPENED)
    stage.chain.pass_time(601)
    assert stage.play(("site 1", Submit(1, BLOB))) == "RoundClosed"


def test_a_codec_that_is_neither_raw_nor_dag_pb_is_refused(stage: Stage) -> None:
    with pytest.raises(Refused, match="CidInvalid"):
        stage.contract._call(ACCOUNTS["aggregator"], "open", (bytes(31) + b"1", 0x71), 0, 600, 1, 0)


def test_a_round_can_be_settled_before_its_deadline_once_all_have_posted(stage: Stage) -> None:
    assert stage.play(*SETTLED) is None


def test_a_round_can_be_settled_with_some_updates_after_its_deadline(stage: Stage) -> None:
    stage.play(*POSTED[:2])
    stage.chain.pass_time(601)
    assert stage.play(("aggregator", Settle(1, BLOB, OTHER, 1))) is None


def test_a_model_is_released_by_its_approvals_and_the_next_round_builds_on_it(stage: Stage) -> None:
    assert stage.play(*SETTLED, ("auditor", Attest(1, True, BLOB)), ("aggregator", Open(BLOB, base_round=1))) is None
    assert stage.twin.history.rounds[2].opened.base == BLOB


def test_a_round_without_needed_approvals_is_released_at_once(stage: Stage) -> None:
    steps = [("aggregator", Open(BLOB, approvals=0)), *POSTED[1:], ("aggregator", Settle(1, BLOB, OTHER, 2))]
    assert stage.play(*steps, ("aggregator", Open(BLOB, base_round=1))) is None


def test_a_later_rejection_is_recorded_and_does_not_undo_a_release(stage: Stage) -> None:
    steps = [("governor", admit("auditor 2", Role.AUDITOR)), *SETTLED, ("auditor", Attest(1, True, BLOB))]
    assert stage.play(*steps, ("auditor 2", Attest(1, False, BLOB))) is None
    assert stage.play(("aggregator", Open(BLOB, base_round=1))) is None


def test_an_approval_after_a_rejection_releases_nothing(stage: Stage) -> None:
    steps = [("governor", admit("auditor 2", Role.AUDITOR)), *SETTLED, ("auditor", Attest(1, False, BLOB))]
    assert stage.play(*steps, ("auditor 2", Attest(1, True, BLOB))) is None
    assert stage.play(("aggregator", Open(BLOB, base_round=1))) == "BaseNotReleased"


def test_a_cancelled_round_can_be_followed_by_another(stage: Stage) -> None:
    steps = [*POSTED, ("aggregator", Abort(1, AbortReason.CANCELLED, None))]
    assert stage.play(*steps, ("aggregator", Open(BLOB))) is None


def test_a_charter_must_be_a_cid(chain: EmbeddedChain) -> None:
    with pytest.raises(Refused, match="CidInvalid"):
        LedgerContract.deploy(chain.web3, ACCOUNTS["governor"], Cid(bytes(32), 0x55))


def test_an_update_costs_the_same_gas_in_every_round_and_at_most_50_000(chain: EmbeddedChain) -> None:
    costs: dict[tuple[int, int], int] = {}
    for members in (2, 40):
        ledger = LedgerContract.deploy(chain.web3, ACCOUNTS["governor"], BLOB)
        governor, aggregator = ACCOUNTS["governor"], ACCOUNTS["aggregator"]
        ledger.admit(governor, aggregator.address, Role.AGGREGATOR, "aggregator")
        for name in ("site 1", "site 2"):
            ledger.admit(governor, ACCOUNTS[name].address, Role.PARTICIPANT, name)
        for number in range(members - 2):
            ledger.admit(governor, "0x" + f"{number + 1:040x}", Role.PARTICIPANT, f"other {number}")
        ledger.record_genesis(governor, BLOB)
        for round_ in range(1, 5):
            ledger.open(aggregator, BLOB, 0, 600, 1, 0)
            ledger.submit(ACCOUNTS["site 1"], round_, BLOB, 10)
            costs[members, round_] = ledger.submit(ACCOUNTS["site 2"], round_, BLOB, 10)["gasUsed"]
            ledger.abort(aggregator, round_, ledger.head(), AbortReason.CANCELLED)
    steady = {gas for (_, round_), gas in costs.items() if round_ > 1}
    assert len(steady) == 1, f"gas by members and round: {costs}"
    assert steady.pop() <= 50_000


class TwinMachine(RuleBasedStateMachine):
    """Any calls by anyone in any order: the contract and the history stay equal."""

    chain: EmbeddedChain | None = None

    @initialize()
    def deploy(self) -> None:
        if TwinMachine.chain is None:
            TwinMachine.chain = EmbeddedChain()
            for account in ACCOUNTS.values():
                TwinMachine.chain.fund(account.address)
        self.stage = Stage(TwinMachine.chain)
        self.stage.play(*SETUP)

    def act(self, sender: str, action: Action) -> None:
        self.stage.twin.act(ACCOUNTS[sender], action)

    def near(self, data: st.DataObject) -> int:
        return self.stage.twin.history.latest_round + data.draw(st.sampled_from([0, 0, 0, 0, 1, -1]))

    @rule(name=st.sampled_from(NAMES), roles=st.integers(0, 7), sender=st.sampled_from(["governor"] * 4 + ["site 1"]))
    def admit(self, name: str, roles: int, sender: str) -> None:
        self.act(sender, admit(name, Role(roles)))

    @rule(
        data=st.data(),
        sender=st.sampled_from(["aggregator"] * 4 + ["auditor"]),
        quorum=st.integers(0, 3),
        approvals=st.integers(0, 2),
        window=st.sampled_from([600, 600, 0]),
    )
    def open(self, data: st.DataObject, sender: str, quorum: int, approvals: int, window: int) -> None:
        base = data.draw(st.integers(0, self.stage.twin.history.latest_round))
        self.act(sender, Open(BLOB, base, window, quorum, approvals))

    @rule(data=st.data(), sender=st.sampled_from(NAMES[1:4]), weight=st.integers(0, 3))
    def submit(self, data: st.DataObject, sender: str, weight: int) -> None:
        self.act(sender, Submit(max(self.near(data), 0), OTHER, weight))

    @rule(data=st.data(), counted=st.integers(0, 3), moved=st.booleans())
    def settle(self, data: st.DataObject, counted: int, moved: bool) -> None:
        head = bytes(31) + b"1" if moved else None
        self.act("aggregator", Settle(max(self.near(data), 0), BLOB, OTHER, counted, head))

    @rule(data=st.data(), reason=st.sampled_from(AbortReason), manifest=st.sampled_from([BLOB, None]))
    def abort(self, data: st.DataObject, reason: AbortReason, manifest: Cid | None) -> None:
        self.act("aggregator", Abort(max(self.near(data), 0), reason, manifest))

    @rule(data=st.data(), sender=st.sampled_from(["auditor", "auditor 2", "site 1"]), approve=st.booleans())
    def attest(self, data: st.DataObject, sender: str, approve: bool) -> None:
        self.act(sender, Attest(max(self.near(data), 0), approve, BLOB))

    @rule()
    def wait(self) -> None:
        assert TwinMachine.chain is not None
        TwinMachine.chain.pass_time(601)


TestTwinMachine = TwinMachine.TestCase
TestTwinMachine.settings = settings(
    max_examples=max(10, settings().max_examples // 10), stateful_step_count=15, deadline=None
)
