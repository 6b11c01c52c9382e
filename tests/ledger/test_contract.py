"""The contract on a real EVM: every refusal by its own name, the same in the pure history; and what a call costs."""

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from eth_typing import HexStr
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from web3 import Web3
from web3.datastructures import AttributeDict

from ledger.chain.artifact import artifact
from ledger.chain.contract import LedgerContract
from ledger.chain.signing import SignedUpdate, sign_update
from ledger.cid import Cid, cid_of
from ledger.entries import name_bytes
from ledger.errors import Refused, UsageError
from ledger.facts import AbortReason, Bytes32, ErasureReason, Role, RoundOpened
from ledger.history import History
from ledger.rules import apply
from tests.anvil import Anvil
from tests.chains import Chain, Embedded
from tests.twin import (
    AGE_KEY,
    ZERO,
    Abort,
    Accept,
    Action,
    Admit,
    Attest,
    ChangeCharter,
    ChangeRoles,
    Erase,
    Genesis,
    Grant,
    OfferAccount,
    OfferGovernance,
    Open,
    Post,
    ReplaceAccount,
    Settle,
    TakeAccount,
    TakeGovernance,
    Twin,
)

ROOT = Path(__file__).resolve().parents[2]
BLOB, OTHER = cid_of(b"blob"), cid_of(b"other")
NAMES = (
    "governor",
    "site 1",
    "site 2",
    "site 3",
    "aggregator",
    "auditor",
    "auditor 2",
    "stranger",
    "spare 1",
    "spare 2",
)
ACCOUNTS: dict[str, LocalAccount] = {name: Account.from_key(keccak(name.encode())) for name in NAMES}


def admit(name: str, roles: Role) -> Admit:
    return Admit(ACCOUNTS[name].address, int(roles), name_bytes(name))


SETUP: list[tuple[str, Action]] = [
    *(("governor", admit(name, Role.PARTICIPANT)) for name in ("site 1", "site 2")),
    ("governor", admit("aggregator", Role.AGGREGATOR)),
    ("governor", admit("auditor", Role.AUDITOR)),
    *((name, Accept()) for name in ("site 1", "site 2", "aggregator", "auditor")),
    ("governor", Genesis(BLOB)),
]
OPENED: list[tuple[str, Action]] = [("aggregator", Open(BLOB))]
POSTED: list[tuple[str, Action]] = [*OPENED, ("site 1", Post(1, BLOB)), ("site 2", Post(1, OTHER))]
SETTLED: list[tuple[str, Action]] = [*POSTED, ("aggregator", Settle(1, BLOB, OTHER, 2))]


def at(name: str) -> str:
    return ACCOUNTS[name].address


MOVED: list[tuple[str, Action]] = [("site 1", OfferAccount(at("spare 1"))), ("spare 1", TakeAccount(1))]


class Stage:
    """A new contract and its twin on one chain."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.contract = LedgerContract.deploy(chain.web3, ACCOUNTS["governor"], BLOB)
        self.twin = Twin(chain, self.contract, History(self.contract.genesis))

    def play(self, *steps: tuple[str, Action]) -> str | None:
        refused = None
        for name, action in steps:
            assert refused is None, "only the last step is to be refused"
            refused = self.twin.act(ACCOUNTS[name], action)
        self.twin.compare()
        return refused

    @property
    def opened(self) -> RoundOpened:
        return self.twin.history.rounds[self.twin.history.latest_round].opened

    def later(self, seconds: int) -> None:
        """Let the next call be that many seconds after the newest round's deadline."""
        self.twin.time = self.opened.deadline + seconds


class Prepared:
    """A stage on which `SETUP` was played, to begin from again and again."""

    def __init__(self, chain: Chain) -> None:
        for account in ACCOUNTS.values():
            chain.fund(account.address)
        self._stage = Stage(chain)
        assert self._stage.play(*SETUP) is None
        self._snapshot = chain.snapshot()

    def again(self) -> Stage:
        stage = copy.copy(self._stage)
        stage.chain.revert(self._snapshot)
        self._snapshot = stage.chain.snapshot()
        stage.contract = replace(stage.contract)  # it has read nothing yet
        stage.twin = Twin(stage.chain, stage.contract, copy.deepcopy(self._stage.twin.history))
        return stage


@pytest.fixture(scope="module", params=["embedded", "anvil"])
def prepared(request: pytest.FixtureRequest) -> Iterator[Prepared]:
    if request.param == "embedded":
        yield Prepared(Embedded())
    else:
        with Anvil() as chain:
            yield Prepared(chain)


@pytest.fixture
def stage(prepared: Prepared) -> Stage:
    return prepared.again()


@pytest.fixture
def chain(stage: Stage) -> Chain:
    return stage.chain


SECOND_AUDITOR: list[tuple[str, Action]] = [
    ("governor", admit("auditor 2", Role.AUDITOR)),
    ("auditor 2", Accept()),
]
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
        ("CidInvalid", [], "aggregator", Open(ZERO)),
        ("MemberUnknown", OPENED, "stranger", Post(1, BLOB)),
        ("MemberRoleMissing", OPENED, "auditor", Post(1, BLOB)),
        ("RoundNotOpen", [], "site 1", Post(1, BLOB)),
        ("RoundNotOpen", OPENED, "site 1", Post(2, BLOB)),
        ("RoundNotOpen", SETTLED, "site 1", Post(1, BLOB)),
        (
            "MemberNotEligible",
            [*OPENED, ("governor", admit("site 3", Role.PARTICIPANT)), ("site 3", Accept())],
            "site 3",
            Post(1, BLOB),
        ),
        ("UpdateAlreadyRecorded", POSTED, "site 1", Post(1, OTHER)),
        ("WeightInvalid", OPENED, "site 1", Post(1, BLOB, weight=0)),
        ("CidInvalid", OPENED, "site 1", Post(1, ZERO)),
        ("MemberRoleMissing", POSTED, "site 1", Settle(1, BLOB, BLOB, 2)),
        ("RoundNotOpen", SETTLED, "aggregator", Settle(1, BLOB, BLOB, 2)),
        ("RoundStillRunning", POSTED[:2], "aggregator", Settle(1, BLOB, BLOB, 1)),
        ("HeadMoved", POSTED, "aggregator", Settle(1, BLOB, BLOB, 2, head=bytes(31) + b"1")),
        ("QuorumNotMet", POSTED, "aggregator", Settle(1, BLOB, BLOB, 0)),
        ("CountedExceedsRecorded", POSTED, "aggregator", Settle(1, BLOB, BLOB, 3)),
        ("CidInvalid", POSTED, "aggregator", Settle(1, ZERO, BLOB, 2)),
        ("CidInvalid", POSTED, "aggregator", Settle(1, BLOB, ZERO, 2)),
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
            [*SETTLED, ("governor", admit("auditor 2", Role.AUDITOR)), ("auditor 2", Accept())],
            "auditor 2",
            Attest(1, False, BLOB),
        ),
        (
            "AttestationAlreadyRecorded",
            [*SETTLED, ("auditor", Attest(1, True, BLOB))],
            "auditor",
            Attest(1, False, BLOB),
        ),
        ("CidInvalid", SETTLED, "auditor", Attest(1, True, ZERO)),
        ("GovernorOnly", [], "site 1", OfferGovernance(at("site 1"))),
        ("GovernorOnly", [], "site 1", ChangeCharter(OTHER)),
        ("GovernorOnly", [], "site 1", ChangeRoles(1, 7)),
        ("GovernorOnly", [], "site 1", ReplaceAccount(1, at("spare 1"))),
        ("GovernanceNotOffered", [], "stranger", TakeGovernance()),
        ("GovernanceNotOffered", [("governor", OfferGovernance(at("site 1")))], "site 2", TakeGovernance()),
        (
            "GovernanceNotOffered",
            [("governor", OfferGovernance(at("site 1"))), ("governor", OfferGovernance("0x" + "00" * 20))],
            "site 1",
            TakeGovernance(),
        ),
        (
            "GovernorOnly",
            [("governor", OfferGovernance(at("site 1"))), ("site 1", TakeGovernance())],
            "governor",
            ChangeCharter(OTHER),
        ),
        ("CidInvalid", [], "governor", ChangeCharter(ZERO)),
        ("MemberIdUnknown", [], "governor", ChangeRoles(9, 1)),
        ("MemberIdUnknown", [], "governor", ReplaceAccount(9, at("spare 1"))),
        ("MemberAccountTaken", [], "governor", ReplaceAccount(1, at("site 2"))),
        ("MemberAccountZero", [], "governor", ReplaceAccount(1, "0x" + "00" * 20)),
        ("MemberRolesInvalid", [], "governor", ChangeRoles(1, 8)),
        ("MemberUnknown", [], "stranger", Accept()),
        ("CharterOutdated", [], "site 1", Accept(OTHER)),
        ("CharterOutdated", [("governor", ChangeCharter(OTHER))], "site 1", Accept(BLOB)),
        ("AgeKeyMissing", [], "site 1", Accept(age_key=Bytes32(bytes(32)))),
        ("AccountOutdated", MOVED, "site 1", Accept()),
        ("SignatureInvalid", [], "site 1", Accept(signer=ACCOUNTS["stranger"])),
        ("MemberUnknown", [], "stranger", OfferAccount(at("spare 1"))),
        ("MemberAccountTaken", [], "site 1", OfferAccount(at("site 2"))),
        ("AccountOutdated", MOVED, "site 1", OfferAccount(at("spare 2"))),
        ("AccountNotOffered", [], "spare 1", TakeAccount(1)),
        ("AccountNotOffered", [], "spare 1", TakeAccount(9)),
        ("AccountNotOffered", [("site 1", OfferAccount(at("spare 1")))], "spare 2", TakeAccount(1)),
        (
            "MemberAccountTaken",
            [("site 1", OfferAccount(at("spare 1"))), ("governor", admit("spare 1", Role.AUDITOR))],
            "spare 1",
            TakeAccount(1),
        ),
        ("MemberAccountTaken", MOVED, "governor", admit("site 1", Role.PARTICIPANT)),
        ("AccountOutdated", [*MOVED, *OPENED], "site 1", Post(1, BLOB)),
        ("MemberNotEligible", [*OPENED, *MOVED], "spare 1", Post(1, BLOB)),
        ("CharterNotAccepted", [*OPENED, ("governor", admit("site 3", Role.PARTICIPANT))], "site 3", Post(1, BLOB)),
        ("CharterNotAccepted", [("governor", ChangeCharter(OTHER))], "aggregator", Open(BLOB)),
        ("QuorumInvalid", [("governor", ChangeCharter(OTHER)), ("aggregator", Accept())], "aggregator", Open(BLOB)),
        ("MemberRoleMissing", [("governor", ChangeRoles(1, 0)), *OPENED], "site 1", Post(1, BLOB)),
        ("QuorumInvalid", [("governor", ChangeRoles(1, 0))], "aggregator", Open(BLOB, quorum=2)),
        ("ApprovalsInvalid", [("governor", ChangeRoles(4, 0))], "aggregator", Open(BLOB)),
        ("ApprovalsInvalid", [], "aggregator", Open(BLOB, approvals=4, participants_attest=True)),
        ("SignatureInvalid", OPENED, "stranger", Post(1, BLOB, signer=ACCOUNTS["stranger"])),
        ("MemberRoleMissing", OPENED, "stranger", Post(1, BLOB, signer=ACCOUNTS["auditor"])),
        ("WeightInvalid", OPENED, "stranger", Post(1, BLOB, 0, signer=ACCOUNTS["site 1"])),
        ("RoundNotOpen", [], "stranger", Post(1, BLOB, signer=ACCOUNTS["site 1"])),
        ("RoundNotExpired", OPENED, "stranger", Abort(1, AbortReason.EXPIRED)),
        ("MemberUnknown", OPENED, "stranger", Abort(1, AbortReason.CANCELLED)),
        ("MemberIdUnknown", SETTLED, "governor", Erase(1, 9)),
        ("OwnerOrGovernorOnly", SETTLED, "site 2", Erase(1, 1)),
        ("OwnerOrGovernorOnly", [*SETTLED, *MOVED], "site 1", Erase(1, 1)),
        ("RoundUnknown", SETTLED, "site 1", Erase(0, 1)),
        ("RoundUnknown", SETTLED, "site 1", Erase(2, 1)),
        ("RoundStillOpen", POSTED, "site 1", Erase(1, 1)),
        ("DigestMissing", SETTLED, "site 1", Erase(1, 1, Bytes32(bytes(32)))),
        ("ErasureReasonMissing", SETTLED, "site 1", Erase(1, 1, AGE_KEY, ErasureReason.NONE)),
        ("MemberRoleMissing", SETTLED, "site 1", Attest(1, False, BLOB)),
        ("MemberUnknown", SETTLED, "governor", Grant(4, 1, 1, BLOB)),
        ("MemberRoleMissing", SETTLED, "site 1", Grant(4, 1, 1, BLOB)),
        ("MemberRoleMissing", [*SETTLED, ("governor", ChangeRoles(4, 0))], "auditor", Grant(4, 1, 1, BLOB)),
        (
            "AccountOutdated",
            [*SETTLED, ("auditor", OfferAccount(at("spare 1"))), ("spare 1", TakeAccount(4))],
            "auditor",
            Grant(4, 1, 1, BLOB),
        ),
        ("MemberIdUnknown", SETTLED, "aggregator", Grant(0, 1, 1, BLOB)),
        ("MemberIdUnknown", SETTLED, "aggregator", Grant(5, 1, 1, BLOB)),
        ("RoundsInvalid", [], "aggregator", Grant(4, 0, 0, BLOB)),
        ("RoundsInvalid", SETTLED, "aggregator", Grant(4, 0, 1, BLOB)),
        ("RoundsInvalid", SETTLED, "aggregator", Grant(4, 1, 0, BLOB)),
        ("RoundsInvalid", SETTLED, "aggregator", Grant(4, 1, 2, BLOB)),
        ("RoundsInvalid", SETTLED, "aggregator", Grant(4, 2, 2, BLOB)),
        ("RoundStillOpen", POSTED, "aggregator", Grant(4, 1, 1, BLOB)),
        ("RoundStillOpen", [*SETTLED, *OPENED], "aggregator", Grant(4, 1, 2, BLOB)),
        ("CidInvalid", SETTLED, "aggregator", Grant(4, 1, 1, ZERO)),
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
    assert declared - {row[0] for row in table} == {"RoundClosed"}, "which is a matter of time, below"


DEADLINE, EXPIRY = 0, Open(BLOB).grace


@pytest.mark.parametrize(
    ("seconds", "sender", "action", "refused"),
    [
        (DEADLINE - 1, "site 2", Post(1, BLOB), None),
        (DEADLINE, "site 2", Post(1, BLOB), None),
        (DEADLINE + 1, "site 2", Post(1, BLOB), "RoundClosed"),
        (DEADLINE, "stranger", Post(1, BLOB, signer=ACCOUNTS["site 2"]), None),
        (DEADLINE + 1, "stranger", Post(1, BLOB, signer=ACCOUNTS["site 2"]), "RoundClosed"),
        (DEADLINE - 1, "aggregator", Settle(1, BLOB, OTHER, 1), "RoundStillRunning"),
        (DEADLINE, "aggregator", Settle(1, BLOB, OTHER, 1), "RoundStillRunning"),
        (DEADLINE + 1, "aggregator", Settle(1, BLOB, OTHER, 1), None),
        (DEADLINE, "aggregator", Abort(1, AbortReason.QUORUM, BLOB), "RoundStillRunning"),
        (DEADLINE + 1, "aggregator", Abort(1, AbortReason.QUORUM, BLOB), None),
        (DEADLINE - 1, "aggregator", Abort(1, AbortReason.CANCELLED), None),
        (EXPIRY - 1, "stranger", Abort(1, AbortReason.EXPIRED), "RoundNotExpired"),
        (EXPIRY, "stranger", Abort(1, AbortReason.EXPIRED), "RoundNotExpired"),
        (EXPIRY + 1, "stranger", Abort(1, AbortReason.EXPIRED), None),
        (EXPIRY + 1, "aggregator", Settle(1, BLOB, OTHER, 1), None),
    ],
)
def test_each_boundary_of_time_holds_to_the_second(
    stage: Stage, seconds: int, sender: str, action: Action, refused: str | None
) -> None:
    stage.play(*OPENED, ("site 1", Post(1, BLOB)))
    stage.later(seconds)
    assert stage.play((sender, action)) == refused


def test_a_codec_that_is_neither_raw_nor_dag_pb_is_refused(stage: Stage) -> None:
    with pytest.raises(Refused, match="a CID is missing, is not that"):
        stage.contract._call(ACCOUNTS["aggregator"], "open", (bytes(31) + b"1", 0x71), 0, (600, 60, 1, 0, 0, False))


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
    steps: list[tuple[str, Action]] = [
        ("aggregator", Open(BLOB, approvals=0)),
        *POSTED[1:],
        ("aggregator", Settle(1, BLOB, OTHER, 2)),
    ]
    assert stage.play(*steps, ("aggregator", Open(BLOB, base_round=1))) is None


def test_a_later_rejection_is_recorded_and_does_not_undo_a_release(stage: Stage) -> None:
    steps: list[tuple[str, Action]] = [
        ("governor", admit("auditor 2", Role.AUDITOR)),
        ("auditor 2", Accept()),
        *SETTLED,
        ("auditor", Attest(1, True, BLOB)),
    ]
    assert stage.play(*steps, ("auditor 2", Attest(1, False, BLOB))) is None
    assert stage.play(("aggregator", Open(BLOB, base_round=1))) is None


def test_an_approval_after_a_rejection_releases_nothing(stage: Stage) -> None:
    steps: list[tuple[str, Action]] = [
        ("governor", admit("auditor 2", Role.AUDITOR)),
        ("auditor 2", Accept()),
        *SETTLED,
        ("auditor", Attest(1, False, BLOB)),
    ]
    assert stage.play(*steps, ("auditor 2", Attest(1, True, BLOB))) is None
    assert stage.play(("aggregator", Open(BLOB, base_round=1))) == "BaseNotReleased"


def test_a_cancelled_round_can_be_followed_by_another(stage: Stage) -> None:
    steps: list[tuple[str, Action]] = [*POSTED, ("aggregator", Abort(1, AbortReason.CANCELLED, None))]
    assert stage.play(*steps, ("aggregator", Open(BLOB))) is None


def test_a_charter_must_be_a_cid(chain: Chain) -> None:
    with pytest.raises(Refused, match="a CID is missing, is not that"):
        LedgerContract.deploy(chain.web3, ACCOUNTS["governor"], Cid(bytes(32), 0x55))


# ------------------------------------------------------------------------------ membership over time


def posts_in(stage: Stage, round_: int, name: str) -> str | None:
    return stage.play((name, Post(round_, BLOB)))


def test_a_suspended_member_takes_part_in_the_open_round_and_in_no_later_one(stage: Stage) -> None:
    stage.play(*OPENED, ("governor", ChangeRoles(1, 0)))
    assert posts_in(stage, 1, "site 1") is None
    stage.play(("aggregator", Abort(1, AbortReason.CANCELLED)), *OPENED)
    assert posts_in(stage, 2, "site 1") == "MemberRoleMissing"


def test_a_rotated_account_acts_in_the_open_round_and_the_new_one_in_later_rounds(stage: Stage) -> None:
    stage.play(*OPENED, *MOVED)
    assert posts_in(stage, 1, "spare 1") == "MemberNotEligible"
    assert posts_in(stage, 1, "site 1") is None
    stage.play(("aggregator", Abort(1, AbortReason.CANCELLED)), *OPENED)
    assert posts_in(stage, 2, "site 1") == "AccountOutdated"
    assert posts_in(stage, 2, "spare 1") is None


def test_a_lost_account_is_replaced_by_the_governor_and_the_id_stays(stage: Stage) -> None:
    stage.play(("governor", ReplaceAccount(1, at("spare 1"))), *OPENED)
    assert posts_in(stage, 1, "spare 1") is None
    assert 1 in stage.twin.history.rounds[1].updates


def test_who_did_not_accept_a_new_charter_takes_part_in_the_open_round_and_in_no_later_one(stage: Stage) -> None:
    stage.play(*OPENED, ("governor", ChangeCharter(OTHER)), ("site 2", Accept()), ("aggregator", Accept()))
    assert posts_in(stage, 1, "site 1") is None
    assert posts_in(stage, 1, "site 2") is None
    stage.play(("aggregator", Settle(1, BLOB, OTHER, 2)), ("auditor", Attest(1, True, BLOB)), ("auditor", Accept()))
    stage.play(("aggregator", Open(BLOB, base_round=1)))
    assert posts_in(stage, 2, "site 1") == "CharterNotAccepted"
    assert stage.play(("site 1", Accept())) is None
    assert posts_in(stage, 2, "site 1") == "MemberNotEligible"
    assert posts_in(stage, 2, "site 2") is None


def test_a_member_publishes_another_age_key_by_accepting_again(stage: Stage) -> None:
    stage.play(("site 1", Accept(age_key=Bytes32(b"\x07" * 32))))
    assert stage.twin.history.members[1].age_key == b"\x07" * 32


def test_roles_changed_twice_do_not_reach_back_to_rounds_before_the_first_change(stage: Stage) -> None:
    """Site 1 becomes an auditor after round 1 was opened; no later change makes it one of that time."""
    stage.play(*SETTLED, ("governor", ChangeRoles(1, 5)), ("aggregator", Open(BLOB)))
    stage.play(("governor", ChangeRoles(1, 4)))
    assert stage.play(("site 1", Attest(1, True, BLOB))) == "MemberNotEligible"


def test_a_member_with_two_roles_counts_once_among_those_who_may_attest(stage: Stage) -> None:
    stage.play(("governor", ChangeRoles(1, 5)))
    assert stage.play(("aggregator", Open(BLOB, approvals=4, participants_attest=True))) == "ApprovalsInvalid"
    assert stage.play(("aggregator", Open(BLOB, approvals=3, participants_attest=True))) is None


def test_governance_is_handed_over_in_two_steps(stage: Stage) -> None:
    assert stage.play(("governor", OfferGovernance(at("spare 1"))), ("governor", ChangeRoles(1, 5))) is None
    assert stage.play(("spare 1", TakeGovernance()), ("spare 1", ChangeRoles(1, 1))) is None
    assert stage.play(("governor", ChangeRoles(1, 5))) == "GovernorOnly"


def test_a_dead_aggregator_cannot_freeze_the_ledger(stage: Stage) -> None:
    stage.play(*OPENED)
    stage.chain.pass_time(600 + 60 + 2)
    assert stage.play(("stranger", Abort(1, AbortReason.EXPIRED))) is None
    stage.play(("governor", admit("spare 1", Role.AGGREGATOR)), ("spare 1", Accept()))
    assert stage.play(("spare 1", Open(BLOB))) is None


def test_another_aggregator_can_settle_a_round(stage: Stage) -> None:
    stage.play(("governor", admit("spare 1", Role.AGGREGATOR)), ("spare 1", Accept()), *POSTED)
    assert stage.play(("spare 1", Settle(1, BLOB, OTHER, 2))) is None


def test_participants_release_a_model_where_the_round_says_so(stage: Stage) -> None:
    opened = ("aggregator", Open(BLOB, approvals=2, rejections=1, participants_attest=True))
    stage.play(opened, *POSTED[1:], ("aggregator", Settle(1, BLOB, OTHER, 2)))
    stage.play(("auditor", Attest(1, False, BLOB)), ("site 1", Attest(1, True, BLOB)))
    assert stage.twin.history.latest_released == 0
    assert stage.play(("site 2", Attest(1, True, BLOB))) is None
    assert stage.twin.history.latest_released == 1


def test_a_second_vote_after_rotating_a_key_is_refused(stage: Stage) -> None:
    steps: list[tuple[str, Action]] = [("auditor", OfferAccount(at("spare 1"))), ("spare 1", TakeAccount(4))]
    stage.play(*SETTLED, ("auditor", Attest(1, False, BLOB)), *steps)
    assert stage.play(("spare 1", Attest(1, True, BLOB))) == "MemberNotEligible"
    assert stage.play(("auditor", Attest(1, True, BLOB))) == "AttestationAlreadyRecorded"


def test_an_erasure_is_recorded_by_its_owner_or_the_governor_and_the_hash_stays(stage: Stage) -> None:
    stage.play(*SETTLED)
    assert stage.play(("site 1", Erase(1, 1)), ("governor", Erase(1, 2))) is None
    assert [erasure.member for erasure in stage.twin.history.rounds[1].erasures] == [1, 2]
    assert stage.twin.history.rounds[1].updates[1].update == BLOB


def test_who_can_open_sealed_updates_grants_them_to_a_member_that_was_admitted_later(stage: Stage) -> None:
    stage.play(*SETTLED, *OPENED, ("governor", admit("auditor 2", Role.AUDITOR)))
    assert stage.play(("aggregator", Grant(5, 1, 1, BLOB)), ("auditor", Grant(5, 1, 1, OTHER))) is None
    assert [(one.member, one.to, one.keys) for one in stage.twin.history.grants] == [(3, 5, BLOB), (4, 5, OTHER)]


def test_a_grant_is_up_to_the_role_and_account_of_the_present_and_not_of_the_rounds(stage: Stage) -> None:
    stage.play(*SETTLED, ("governor", admit("auditor 2", Role.AUDITOR)), ("governor", ChangeRoles(1, 5)), *MOVED)
    assert stage.play(("auditor 2", Grant(4, 1, 1, BLOB)), ("spare 1", Grant(5, 1, 1, BLOB))) is None
    assert stage.play(("governor", ChangeRoles(5, 1)), ("auditor 2", Grant(4, 1, 1, BLOB))) == "MemberRoleMissing"


# ------------------------------------------------------------------------------------ signed updates


def signed(stage: Stage, name: str, update: Cid = BLOB, round_: int = 1, weight: int = 10) -> SignedUpdate:
    return stage.twin.signed_update(Post(round_, update, weight, signer=ACCOUNTS[name]))


def carry(stage: Stage, *updates: SignedUpdate, round_: int = 1) -> str | None:
    try:
        stage.contract.relay_updates(ACCOUNTS["stranger"], round_, updates)
    except Refused as refused:
        assert stage.contract.head() == stage.twin.history.head, "a refusal changes nothing"
        return str(refused)
    for entry in stage.contract.entries()[stage.twin.history.entries :]:
        apply(stage.twin.history, entry)
    stage.twin.compare()
    return None


def test_a_site_without_ether_takes_part(chain: Chain) -> None:
    stage = Stage(chain)
    poor: LocalAccount = Account.from_key(keccak(b"poor"))
    assert chain.web3.eth.get_balance(poor.address) == 0
    stage.play(*SETUP, ("governor", Admit(poor.address, 1, name_bytes("poor"))))
    assert stage.play(("stranger", Accept(signer=poor)), *OPENED, ("stranger", Post(1, BLOB, signer=poor))) is None
    recorded = stage.twin.history.rounds[1].updates[5]
    assert (recorded.update, recorded.sender) == (BLOB, at("stranger").lower())


def test_many_signed_updates_go_in_one_transaction(stage: Stage) -> None:
    stage.play(*OPENED)
    assert carry(stage, signed(stage, "site 1"), signed(stage, "site 2", OTHER)) is None
    assert list(stage.twin.history.rounds[1].updates) == [1, 2]


def test_an_update_that_its_site_posted_meanwhile_is_skipped(stage: Stage) -> None:
    stage.play(*OPENED)
    batch = [signed(stage, "site 1"), signed(stage, "site 2")]
    stage.play(("site 1", Post(1, BLOB)))
    assert carry(stage, *batch) is None
    assert stage.twin.history.rounds[1].updates[1].sender == at("site 1").lower()
    assert carry(stage, *batch) is None
    assert len(stage.twin.history.rounds[1].updates) == 2


def high_s(one: SignedUpdate) -> SignedUpdate:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    vs = int.from_bytes(one.vs, "big")
    s, parity = vs & (2**255 - 1), vs >> 255
    flipped = (order - s) % 2**255 | (1 - parity) << 255
    return replace(one, vs=flipped.to_bytes(32, "big"))


@pytest.mark.parametrize(
    "forge",
    [
        high_s,
        lambda one: replace(one, r=bytes(32), vs=bytes(32)),
        lambda one: replace(one, weight=one.weight + 1),
        lambda one: replace(one, update=OTHER),
        lambda one: replace(one, key_blob=AGE_KEY),
        lambda one: replace(one, vs=bytes([one.vs[0] ^ 0x80]) + one.vs[1:]),
    ],
)
def test_a_bad_signature_fails_its_batch_and_is_named_by_its_index(
    stage: Stage, forge: Callable[[SignedUpdate], SignedUpdate]
) -> None:
    stage.play(*OPENED)
    refused = carry(stage, signed(stage, "site 1"), forge(signed(stage, "site 2")))
    assert refused is not None
    assert "index 1 is no member's" in refused


def test_a_signed_update_cannot_be_replayed_in_another_round(stage: Stage) -> None:
    stage.play(*OPENED)
    first = signed(stage, "site 1")
    stage.play(("aggregator", Abort(1, AbortReason.CANCELLED)), *OPENED)
    assert "index 0 is no member's" in str(carry(stage, first, round_=2))


def test_a_signed_update_cannot_be_replayed_on_another_contract_or_in_another_history(
    stage: Stage, chain: Chain
) -> None:
    stage.play(*OPENED)
    one = signed(stage, "site 1")
    other = Stage(chain)
    other.play(*SETUP, *OPENED)
    assert "index 0 is no member's" in str(carry(other, one))
    rewritten = sign_update(ACCOUNTS["site 1"], stage.contract.genesis, 1, keccak(b"another history"), BLOB, 10)
    assert "index 0 is no member's" in str(carry(stage, rewritten))


def test_a_signed_update_cannot_be_replayed_on_another_chain(stage: Stage) -> None:
    stage.play(*OPENED)
    genesis, opening = stage.contract.genesis, stage.contract.head()
    elsewhere = sign_update(ACCOUNTS["site 1"], replace(genesis, chain_id=1), 1, opening, BLOB, 10)
    assert "index 0 is no member's" in str(carry(stage, elsewhere))


def test_a_signed_acceptance_cannot_be_replayed(stage: Stage) -> None:
    old = stage.twin.signed_acceptance(ACCOUNTS["site 1"], None, AGE_KEY)
    stage.play(("stranger", Accept(signer=ACCOUNTS["site 1"], age_key=Bytes32(b"\x07" * 32))))
    with pytest.raises(Refused, match="index 0 is no member's"):
        stage.contract.accept_signed(ACCOUNTS["stranger"], old)


def test_a_strangers_copy_of_a_hash_takes_nobodys_credit_and_locks_nobody_out(stage: Stage) -> None:
    stage.play(*OPENED)
    assert posts_in(stage, 1, "stranger") == "MemberUnknown"
    assert posts_in(stage, 1, "site 2") is None  # a member that posts the same hash first
    assert posts_in(stage, 1, "site 1") is None
    assert [one.update for one in stage.twin.history.rounds[1].updates.values()] == [BLOB, BLOB]


def test_an_update_is_never_replaced(stage: Stage) -> None:
    stage.play(*POSTED, ("aggregator", Settle(1, BLOB, OTHER, 2)))
    assert stage.play(("site 1", Post(1, OTHER))) == "RoundNotOpen"


@pytest.mark.parametrize(
    ("before", "action"),
    [
        (OPENED, Post(1, BLOB)),
        (POSTED, Settle(1, BLOB, OTHER, 2)),
        (POSTED, Abort(1, AbortReason.CANCELLED)),
        (SETTLED, Attest(1, True, BLOB)),
        ([], Open(BLOB)),
    ],
)
def test_a_governor_takes_no_part_in_the_history_that_it_governs(
    stage: Stage, before: list[tuple[str, Action]], action: Action
) -> None:
    assert stage.play(*before, ("governor", action)) == "MemberUnknown"


def test_what_a_governor_does_later_changes_no_recorded_round(stage: Stage) -> None:
    stage.play(*SETTLED, ("auditor", Attest(1, False, BLOB)))
    before = copy.deepcopy(stage.twin.history.rounds[1])
    stage.play(("governor", ChangeRoles(4, 0)), ("governor", ReplaceAccount(1, at("spare 1"))))
    stage.play(("governor", ChangeCharter(OTHER)))
    assert stage.twin.history.rounds[1] == before
    assert stage.twin.history.latest_released == 0


def test_a_call_that_the_estimate_allowed_and_its_block_refused_is_told_by_name() -> None:
    with Anvil() as chain:
        stage = Prepared(chain).again()
        stage.play(*OPENED)
        chain.rpc("evm_setNextBlockTimestamp", stage.opened.deadline + 1)
        with pytest.raises(Refused) as refused:
            stage.contract.post_update(ACCOUNTS["site 1"], 1, BLOB, 10)
        assert refused.value.name == "RoundClosed"
        assert stage.contract.head() == stage.twin.history.head


def test_the_contract_takes_no_ether(stage: Stage) -> None:
    functions = [item for item in artifact().abi if item["type"] in ("function", "constructor", "receive", "fallback")]
    assert {item["stateMutability"] for item in functions} <= {"view", "pure", "nonpayable"}


# ------------------------------------------------------------------------------ what the node shows


def test_a_third_party_refolds_the_head_from_raw_logs_with_keccak256_alone(stage: Stage) -> None:
    stage.play(*SETTLED, ("auditor", Attest(1, True, BLOB)), ("site 1", Erase(1, 1)), ("auditor", Grant(3, 1, 1, BLOB)))
    eth, genesis = stage.chain.web3.eth, stage.contract.genesis
    head = keccak(
        (1).to_bytes(32, "big")
        + genesis.chain_id.to_bytes(32, "big")
        + bytes.fromhex(genesis.ledger[2:]).rjust(32, b"\0")
        + bytes.fromhex(genesis.governor[2:]).rjust(32, b"\0")
        + genesis.charter.digest
        + genesis.charter.codec.to_bytes(32, "big")
    )
    for log in eth.get_logs({"address": stage.contract.address, "fromBlock": 0}):
        time = eth.get_block(log["blockNumber"])["timestamp"]
        words = log["blockNumber"].to_bytes(32, "big") + time.to_bytes(32, "big")
        head = keccak(head + log["topics"][0] + log["data"] + words)
    assert head == stage.contract.head()


def test_the_events_of_the_abi_are_the_facts_field_by_field(stage: Stage) -> None:
    """What an explorer decodes with the ABI is what `ledger.entries` reads from the log."""
    stage.play(*SETTLED, ("auditor", Attest(1, True, BLOB)), ("site 1", Erase(1, 1)), ("auditor", Grant(3, 1, 1, BLOB)))
    entries = stage.contract.entries()
    for name in {type(entry.fact).__name__ for entry in entries}:
        event = getattr(stage.contract._contract.events, name)()
        decoded = [vars(log["args"]) for log in event.get_logs(from_block=0)]
        shown = [vars(entry.fact) for entry in entries if type(entry.fact).__name__ == name]
        assert [_abi(fact) for fact in shown] == decoded


def _abi(fact: dict[str, Any]) -> dict[str, Any]:
    """A fact's fields, named and typed as the ABI does."""
    return {re.sub(r"_(.)", lambda match: match[1].upper(), name): _abi_value(value) for name, value in fact.items()}


def _abi_value(value: Any) -> Any:
    match value:
        case Cid(digest, codec):
            return AttributeDict({"digest": digest, "codec": codec})
        case None:
            return bytes(32)
        case str() if value.startswith("0x"):
            return Web3.to_checksum_address(value)
        case str():
            return name_bytes(value)
    return value


EVERY_FUNCTION: list[tuple[str, Action]] = [
    ("governor", OfferGovernance(at("spare 2"))),
    ("spare 2", TakeGovernance()),
    ("spare 2", OfferGovernance(at("governor"))),
    ("governor", TakeGovernance()),
    *MOVED,
    ("governor", ReplaceAccount(1, at("site 3"))),
    ("governor", ChangeRoles(2, 5)),
    ("governor", ChangeCharter(OTHER)),
    *((name, Accept()) for name in ("site 2", "aggregator", "auditor")),
    ("stranger", Accept(signer=ACCOUNTS["site 3"])),
    *OPENED,
    ("site 2", Post(1, BLOB)),
    ("stranger", Post(1, OTHER, signer=ACCOUNTS["site 3"])),
    ("aggregator", Settle(1, BLOB, OTHER, 2)),
    ("auditor", Attest(1, True, BLOB)),
    ("site 2", Erase(1, 2)),
    ("aggregator", Grant(4, 1, 1, BLOB)),
    *OPENED,
    ("aggregator", Abort(2, AbortReason.CANCELLED)),
]


def test_every_function_emits_what_its_natspec_says(stage: Stage) -> None:
    interface = (ROOT / "contracts" / "IFederatedLedger.sol").read_text(encoding="utf-8")
    documented = re.findall(r"Emits \{(\w+)\}(?:(?!Emits)[\s\S])*?function (\w+)\(", interface)
    stage.play(*EVERY_FUNCTION)
    eth, contract = stage.chain.web3.eth, stage.contract._contract
    seen = set()
    for entry in stage.contract.entries():
        function, _ = contract.decode_function_input(eth.get_transaction(HexStr(entry.transaction))["input"])
        seen.add((type(entry.fact).__name__, function.fn_name))
    assert seen == set(documented)
    changing = {
        item["name"] for item in artifact().abi if item.get("stateMutability") == "nonpayable" and "name" in item
    }
    assert {function for _, function in seen} == changing


def test_a_ledger_is_found_again_by_its_address(stage: Stage) -> None:
    stage.play(("governor", OfferGovernance(at("spare 1"))), ("spare 1", TakeGovernance()))
    found = LedgerContract.attach(stage.chain.web3, stage.contract.address)
    assert (found.genesis, found.deployed) == (stage.contract.genesis, stage.contract.deployed)
    assert found.history().head == stage.contract.head()


def test_an_address_without_a_ledger_is_refused(stage: Stage) -> None:
    with pytest.raises(UsageError, match="no contract is at"):
        LedgerContract.attach(stage.chain.web3, at("stranger"))


def test_members_above_the_bitmaps_take_part_like_all_others() -> None:
    """Members 1 to 112 have a bit in the round's slot; the paths for higher ids give the same rules."""
    with Anvil() as chain:
        stage = Prepared(chain).again()
        for number in range(5, 113):
            stage.contract.admit(ACCOUNTS["governor"], "0x" + f"{number:040x}", Role.PARTICIPANT, f"site {number}")
        _take_part_with_a_high_id(stage)


def _take_part_with_a_high_id(stage: Stage) -> None:
    for entry in stage.contract.entries()[stage.twin.history.entries :]:
        apply(stage.twin.history, entry)
    both = Role.PARTICIPANT | Role.AUDITOR
    stage.play(("governor", admit("site 3", both)), ("site 3", Accept()), *POSTED, ("site 3", Post(1, OTHER)))
    assert stage.twin.history.member_by_account(at("site 3")).id == 113  # type: ignore[union-attr]
    assert stage.play(("site 3", Post(1, BLOB))) == "UpdateAlreadyRecorded"
    stage.play(("aggregator", Settle(1, BLOB, OTHER, 3)), ("site 3", Attest(1, True, BLOB)))
    assert stage.play(("site 3", Attest(1, True, BLOB))) == "AttestationAlreadyRecorded"


# ------------------------------------------------------------------------------------------ any calls


class TwinMachine(RuleBasedStateMachine):
    """Any calls by anyone in any order: the contract and the history stay equal."""

    prepared: Prepared | None = None

    @initialize()
    def begin(self) -> None:
        assert TwinMachine.prepared is not None
        self.stage = TwinMachine.prepared.again()

    def act(self, sender: str, action: Action) -> None:
        self.stage.twin.act(ACCOUNTS[sender], action)
        self.stage.twin.compare()

    def near(self, data: st.DataObject) -> int:
        return max(self.stage.twin.history.latest_round + data.draw(st.sampled_from([0, 0, 0, 0, 1, -1])), 0)

    @rule(name=st.sampled_from(NAMES), roles=st.integers(0, 7), sender=st.sampled_from(["governor"] * 4 + ["site 1"]))
    def admit(self, name: str, roles: int, sender: str) -> None:
        self.act(sender, admit(name, Role(roles)))

    @rule(member=st.integers(0, 6), roles=st.integers(0, 7))
    def change_roles(self, member: int, roles: int) -> None:
        self.act("governor", ChangeRoles(member, roles))

    @rule(member=st.integers(1, 6), name=st.sampled_from(NAMES))
    def replace_account(self, member: int, name: str) -> None:
        self.act("governor", ReplaceAccount(member, at(name)))

    @rule(sender=st.sampled_from(NAMES), name=st.sampled_from(NAMES))
    def offer_account(self, sender: str, name: str) -> None:
        self.act(sender, OfferAccount(at(name)))

    @rule(sender=st.sampled_from(NAMES), member=st.integers(1, 6))
    def take_account(self, sender: str, member: int) -> None:
        self.act(sender, TakeAccount(member))

    @rule(charter=st.sampled_from([BLOB, OTHER]))
    def change_charter(self, charter: Cid) -> None:
        self.act("governor", ChangeCharter(charter))

    @rule(sender=st.sampled_from(NAMES), signer=st.sampled_from([None, None, *NAMES]))
    def accept(self, sender: str, signer: str | None) -> None:
        self.act(sender, Accept(signer=ACCOUNTS[signer] if signer else None))

    @rule(
        data=st.data(),
        sender=st.sampled_from(["aggregator"] * 4 + ["auditor"]),
        quorum=st.integers(0, 3),
        approvals=st.integers(0, 2),
        rejections=st.integers(0, 1),
        window=st.sampled_from([600, 600, 0]),
        participants_attest=st.booleans(),
    )
    def open(
        self,
        data: st.DataObject,
        sender: str,
        quorum: int,
        approvals: int,
        rejections: int,
        window: int,
        participants_attest: bool,
    ) -> None:
        base = data.draw(st.integers(0, self.stage.twin.history.latest_round))
        self.act(sender, Open(BLOB, base, window, quorum, approvals, rejections, participants_attest))

    @rule(
        data=st.data(),
        sender=st.sampled_from(NAMES[1:4]),
        signer=st.sampled_from([None, *NAMES[1:4], "stranger", "spare 1"]),
        weight=st.sampled_from([10, 10, 10, 0]),
    )
    def post(self, data: st.DataObject, sender: str, signer: str | None, weight: int) -> None:
        self.act(sender, Post(self.near(data), OTHER, weight, signer=ACCOUNTS[signer] if signer else None))

    @rule(data=st.data(), counted=st.integers(0, 3), moved=st.booleans())
    def settle(self, data: st.DataObject, counted: int, moved: bool) -> None:
        head = bytes(31) + b"1" if moved else None
        self.act("aggregator", Settle(self.near(data), BLOB, OTHER, counted, head))

    @rule(
        data=st.data(),
        sender=st.sampled_from(["aggregator", "stranger"]),
        reason=st.sampled_from(AbortReason),
        manifest=st.sampled_from([BLOB, None]),
    )
    def abort(self, data: st.DataObject, sender: str, reason: AbortReason, manifest: Cid | None) -> None:
        self.act(sender, Abort(self.near(data), reason, manifest))

    @rule(data=st.data(), sender=st.sampled_from(["auditor", "auditor 2", "site 1"]), approve=st.booleans())
    def attest(self, data: st.DataObject, sender: str, approve: bool) -> None:
        self.act(sender, Attest(self.near(data), approve, BLOB))

    @rule(data=st.data(), sender=st.sampled_from(["governor", "site 1", "site 2"]), member=st.integers(0, 3))
    def erase(self, data: st.DataObject, sender: str, member: int) -> None:
        self.act(sender, Erase(self.near(data), member))

    @rule(
        data=st.data(),
        sender=st.sampled_from(["aggregator", "aggregator", "auditor", "site 1", "governor"]),
        to=st.integers(0, 6),
        first=st.integers(0, 2),
    )
    def grant(self, data: st.DataObject, sender: str, to: int, first: int) -> None:
        self.act(sender, Grant(to, first, self.near(data), BLOB))

    @rule(seconds=st.sampled_from([601, 700]))
    def wait(self, seconds: int) -> None:
        self.stage.chain.pass_time(seconds)


def test_any_calls_by_anyone_in_any_order_keep_contract_and_history_equal() -> None:
    nightly = settings().max_examples > 1000
    with Anvil() as chain:
        TwinMachine.prepared = Prepared(chain)
        run_state_machine_as_test(
            TwinMachine,
            settings=settings(
                max_examples=300 if nightly else 12, stateful_step_count=40 if nightly else 20, deadline=None
            ),
        )
