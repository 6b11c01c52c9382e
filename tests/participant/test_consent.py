"""What has to be said before a site trains: its policy allows the round, and a person has said yes to the plan."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from eth_hash.auto import keccak

from ledger.aggregator import terms
from ledger.agreement import AGREED, Agreed
from ledger.chain.contract import LedgerContract
from ledger.errors import UnavailableError
from ledger.facts import AbortReason, Role
from ledger.following import Follower
from ledger.history import Round
from ledger.logs import Log
from ledger.plan import Plan, Training
from ledger.receipts import StateFolder
from ledger.sealing import public_key
from ledger.updates import decode
from participant.answering import Answering
from participant.consent import Consent
from participant.policy import PolicyFile
from tests.trainers import Adds
from tests.world import PLAN, SEALED, World, identity_of

TASK = "ab" * 32
UNSEALED = "allow_unsealed = true\n"
SLOWER = PLAN.model_copy(update={"training": Training(epochs=1, batch_size=1, learning_rate=0.05)})


class Somebody:
    """A person who is there or not, and says what the test says."""

    def __init__(self, there: bool = False) -> None:
        self.there = there
        self.asked: list[str] = []
        self.says: bool | None = None

    def ask(self, text: str) -> None:
        self.asked.append(text)
        self.says = None

    def answer(self) -> bool | None:
        return self.says


class Site:
    """Site 1 of a ledger with two."""

    def __init__(self, folder: Path, *, policy: str | None = UNSEALED, accept_plans: bool = False) -> None:
        self.world = World(folder, 2)
        self.policy = folder / "policy.toml"
        if policy is not None:
            self.policy.write_text(policy)
        self.memory = StateFolder(folder / "state")
        self.agreed = Agreed(self.memory.folder)
        self.person, self.stream, self.trainer = Somebody(), io.StringIO(), Adds()
        self.accept_plans = accept_plans
        self.start()

    def start(self) -> None:
        """A new process, which knows what is on disk."""
        world, log = self.world, Log(stream=self.stream)
        follower = Follower(LedgerContract.attach(world.chain.web3, world.contract.address), self.memory, "latest")
        own = PolicyFile(self.policy, required=False)
        consent = Consent(own, TASK, self.agreed, self.person, log, self.accept_plans)
        account = world.participants[0]
        identities = [identity_of(account)]
        self.loop = Answering(follower, world.store, account, self.trainer, log, consent=consent, identities=identities)

    def open(self, plan: Plan = PLAN) -> None:
        self.world.aggregator.open(plan)

    def end(self) -> None:
        """Abort the round, so that the next one can be opened."""
        contract = self.world.contract
        aggregator, number = self.world.aggregator.account, self.round.number
        contract.abort(aggregator, number, contract.head(), AbortReason.CANCELLED)

    def steps(self, count: int = 3) -> None:
        for _ in range(count):
            self.loop.step()

    @property
    def round(self) -> Round:
        history = self.world.contract.history()
        return history.rounds[history.latest_round]

    @property
    def posted(self) -> bool:
        return 1 in self.round.updates

    @property
    def said(self) -> str:
        return self.stream.getvalue()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# --------------------------------------------------------------------------------------- a person's yes


def test_nothing_is_trained_before_somebody_agrees_and_what_to_do_is_said_once(site: Site) -> None:
    site.open()
    site.steps(4)
    assert (site.trainer.trained, site.posted) == (0, False)
    assert site.said.count("waiting for a person's yes to the plan") == 1
    assert "UPDATES ARE NOT SEALED" in site.said
    assert "do `fedledger round agree 1` shows it, and asks" in site.said


def test_who_agrees_meanwhile_in_another_process_lets_the_round_be_answered(site: Site) -> None:
    site.open()
    site.steps()
    Agreed(site.memory.folder).add(site.round.opened.plan)
    site.steps(1)
    assert site.posted


def test_a_yes_holds_for_later_rounds_of_the_same_plan_and_for_the_next_process(site: Site) -> None:
    site.open()
    site.agreed.add(site.round.opened.plan)
    site.end()
    site.open()
    site.start()
    site.steps()
    assert site.posted
    assert "waiting for a person's yes" not in site.said


def test_another_plan_takes_another_yes_and_only_what_changed_is_said(site: Site) -> None:
    site.open()
    site.agreed.add(site.round.opened.plan)
    site.end()
    site.open(SLOWER)
    site.steps()
    assert not site.posted
    assert "changed training.learning_rate 0.1 -> 0.05" in site.said


def test_at_a_terminal_the_plan_is_shown_in_full_asked_for_once_and_answered(site: Site) -> None:
    site.person.there = True
    site.open()
    site.steps()
    assert not site.posted
    [asked] = site.person.asked
    for line in (
        "Round 1 trains by a plan that nobody here has agreed to yet.",
        "opened by  3 Aggregator",
        f"plan       {site.round.opened.plan}",
        "updates    NOT SEALED: whoever reaches the store can read them",
        "quorum                  2",
        "training.learning_rate  0.1",
        "tensors                 2, 7 numbers in all",
    ):
        assert line in asked
    assert asked.endswith("Train by this plan? [y/N]: ")
    site.person.says = True
    site.steps()
    assert site.posted
    assert site.agreed.plans() == [site.round.opened.plan]


def test_at_a_terminal_a_later_plan_is_shown_as_what_is_different(site: Site) -> None:
    site.person.there = True
    site.open()
    site.agreed.add(site.round.opened.plan)
    site.end()
    site.open(SLOWER)
    site.steps()
    [asked] = site.person.asked
    assert "What is different from the plan agreed to last:\n  training.learning_rate  0.1 -> 0.05\n" in asked
    assert "approvals" not in asked


def test_a_no_passes_the_round_and_is_asked_for_no_more(site: Site) -> None:
    site.person.there = True
    site.open()
    site.steps()
    site.person.says = False
    site.steps()
    assert (site.trainer.trained, site.posted, len(site.person.asked)) == (0, False, 1)
    assert site.said.count("passed, as a person here said no to its plan  round 1") == 1
    assert site.agreed.plans() == []


def test_an_answer_that_comes_when_the_round_is_over_is_not_taken(site: Site) -> None:
    site.person.there = True
    site.open()
    site.steps()
    site.end()
    site.person.says = True
    site.steps()
    assert site.agreed.plans() == []
    assert site.said.count("the round is over, without our update  round 1") == 1
    site.open()
    site.steps()
    assert len(site.person.asked) == 2, "the yes was to another round"
    assert not site.posted


def test_a_round_whose_deadline_passes_without_a_yes_is_passed_and_that_is_said(site: Site) -> None:
    site.open()
    site.steps()
    site.world.chain.pass_time(PLAN.window + 1)
    site.steps()
    assert not site.posted
    assert site.said.count("this round takes no update of ours  round 1  why round 1 closed") == 1
    assert "this site's policy or people had not agreed to it in time" in site.said
    site.agreed.add(site.round.opened.plan)
    site.steps()
    assert site.trainer.trained == 0


def test_accept_plans_agrees_to_every_plan_and_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path, accept_plans=True)
    for plan in (PLAN, SLOWER):
        site.open(plan)
        site.steps()
        assert site.posted
        assert f"agreed to the plan, as --accept-plans says  round {site.round.number}" in site.said
        assert site.round.opened.plan in site.agreed.plans()
        site.end()


def test_nobody_is_asked_about_a_plan_that_is_none_or_that_the_charter_does_not_allow(site: Site) -> None:
    site.person.there = True
    contract, aggregator = site.world.contract, site.world.aggregator
    contract.open(aggregator.account, site.world.store.put(b"garbage"), 0, terms(PLAN))
    site.steps()
    assert "no update can be made for this round  round 1  why malformed: not a plan" in site.said
    assert site.person.asked == []


def test_what_cannot_be_read_of_earlier_answers_is_no_yes(site: Site) -> None:
    site.open()
    site.agreed.add(site.round.opened.plan)
    (site.memory.folder / AGREED).write_text("{")
    with pytest.raises(UnavailableError, match=rf"{AGREED} is damaged: delete it, and agree to the plan again"):
        site.loop.step()
    assert site.trainer.trained == 0


# --------------------------------------------------------------------------------------------- policy


def test_without_a_policy_what_the_charter_allows_and_people_agree_to_is_trained_for(tmp_path: Path) -> None:
    site = Site(tmp_path, policy=None, accept_plans=True)
    site.open()
    site.steps()
    assert site.posted


def test_a_round_that_the_policy_does_not_allow_is_not_trained_for_whoever_agreed(tmp_path: Path) -> None:
    site = Site(tmp_path, policy="min_sites = 3", accept_plans=True)
    site.open()
    site.agreed.add(site.round.opened.plan)
    site.steps(4)
    assert (site.trainer.trained, site.posted) == (0, False)
    assert site.said.count("this site's policy does not allow the round  round 1") == 1
    assert "quorum 2, the policy's min_sites is 3; seal none, the policy's allow_unsealed is false" in site.said


def test_nobody_is_asked_for_a_yes_that_the_policy_would_not_heed(tmp_path: Path) -> None:
    site = Site(tmp_path, policy="min_sites = 3")
    site.person.there = True
    site.open()
    site.steps()
    assert site.person.asked == []


def test_a_task_that_is_taken_off_the_policy_meanwhile_trains_no_more(tmp_path: Path) -> None:
    site = Site(tmp_path, policy=UNSEALED + f'tasks = ["{TASK}"]', accept_plans=True)
    site.open()
    site.steps()
    assert site.posted
    site.end()
    site.policy.write_text(UNSEALED + "tasks = []")
    site.open()
    site.steps()
    assert not site.posted
    assert f"task {TASK}, which the policy's tasks do not have" in site.said


def test_a_round_with_a_reader_that_the_policy_does_not_list_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path, accept_plans=True)
    listed = [public_key(identity_of(site.world.aggregator.account))]
    site.policy.write_text(f"recipients = {listed}")
    site.open(SEALED)
    site.steps()
    assert not site.posted
    auditor = public_key(identity_of(site.world.auditor))
    assert f"recipient {auditor}, which the policy's recipients do not have" in site.said
    site.policy.write_text(f"recipients = {[*listed, auditor]}")
    site.steps(1)
    assert site.posted


@pytest.mark.parametrize("broken", ["min_sites", "colour = 1", None])
def test_a_broken_policy_refuses_rounds_aloud_ends_no_loop_and_once_corrected_the_round_is_answered(
    tmp_path: Path, broken: str | None
) -> None:
    site = Site(tmp_path, accept_plans=True)
    site.open()
    site.loop.consent.policy.read()  # type: ignore[union-attr]  # as when the command starts
    if broken is None:
        site.policy.unlink()
    else:
        site.policy.write_text(broken)
    site.steps(4)
    assert site.trainer.trained == 0
    assert site.said.count("! no round is trained for without a policy that can be read  round 1") == 1
    site.policy.write_text(UNSEALED)
    site.steps(1)
    assert site.posted


def test_a_policy_that_is_loosened_while_the_round_is_open_lets_it_be_answered(tmp_path: Path) -> None:
    site = Site(tmp_path, policy=UNSEALED + "min_sites = 3", accept_plans=True)
    site.open()
    site.steps()
    assert not site.posted
    site.policy.write_text(UNSEALED)
    site.steps(1)
    assert site.posted


def test_an_update_that_is_ready_is_not_posted_when_the_policy_was_tightened_meanwhile(site: Site) -> None:
    site.open()
    site.agreed.add(site.round.opened.plan)
    site.loop.outbox.keep(site.world.place(), 1, 10, b"as if trained before a crash", None)
    site.policy.write_text("")
    site.steps()
    assert not site.posted
    site.policy.write_text(UNSEALED)
    site.steps(1)
    assert site.posted


# -------------------------------------------------------------------------------------------- charter


def test_a_charter_that_was_changed_is_said_and_once_it_is_accepted_the_next_round_is_answered(tmp_path: Path) -> None:
    site = Site(tmp_path, accept_plans=True)
    world, contract = site.world, site.world.contract
    charter = world.store.put(b"# Charter, version 2\n")
    contract.change_charter(world.governor, charter)
    site.steps()
    told = "! this member has not accepted the charter in force: no round that opens before it does is answered"
    assert site.said.count(told) == 1
    assert f"version 2  charter {charter}  do `fedledger join` shows it, and asks" in site.said
    for member in (world.participants[1], world.aggregator.account, world.auditor):
        contract.accept(member, charter, keccak(member.address.encode()))
    site.open(PLAN.model_copy(update={"quorum": 1}))
    site.steps()
    assert not site.posted
    assert "this round takes no update of ours  round 1  why Site 1 did not accept version 2" in site.said
    contract.accept(world.participants[0], charter, keccak(b"site 1"))
    site.end()
    site.open()
    site.steps()
    assert site.posted


def test_a_round_that_opened_under_the_charter_before_is_answered_all_the_same(tmp_path: Path) -> None:
    site = Site(tmp_path, accept_plans=True)
    site.open()
    site.world.contract.change_charter(site.world.governor, site.world.store.put(b"# Charter, version 2\n"))
    site.steps()
    assert site.posted


def test_a_member_without_the_role_is_not_told_to_accept_a_charter_for_it(site: Site) -> None:
    site.world.contract.change_roles(site.world.governor, 1, Role(0))
    site.open(PLAN.model_copy(update={"quorum": 1}))
    site.steps()
    assert "this round takes no update of ours  round 1  why member 1 (Site 1) is no participant" in site.said
    assert "charter" not in site.said


# ------------------------------------------------------------------------------------------------ metrics


@pytest.mark.parametrize("tells", [True, False])
def test_an_update_tells_metrics_unless_the_policy_says_that_it_does_not(tmp_path: Path, tells: bool) -> None:
    site = Site(tmp_path, policy=UNSEALED + f"metrics = {str(tells).lower()}\n", accept_plans=True)
    site.open()
    site.steps(1)
    update = site.loop.outbox.blobs.get(site.round.updates[1].update)
    assert decode(update).header["metrics"] == ({"loss": 0.5} if tells else {})
    assert site.trainer.metrics_asked == tells
