"""Who has a chain of its own writes what it likes, but not in the name of a member whose key it does not have."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ledger.facts as facts
from ledger.audit.checks import audit
from ledger.audit.evidence import read_folder
from ledger.audit.observe import observe
from ledger.audit.origin import Claims
from ledger.audit.report import Report, Verdict
from ledger.chain.transactions import SignedTransaction
from ledger.cid import RAW, Cid
from ledger.entries import Entry, words
from ledger.facts import Address
from ledger.settlement import settle
from ledger.updates import Place
from tests.adversary.forging import ABORT, call, element, forge, relay, send, signed_row, signed_updates, word
from tests.adversary.frauds import Scene, account
from tests.anvil import Anvil
from tests.ledger.test_observe import Contract
from tests.world import PLAN, World, tensors

OPERATOR = account("operator")
OPERATORS = Address(OPERATOR.address.lower())


@pytest.fixture
def scene(recorded: World, tmp_path: Path) -> Scene:
    return Scene(Path(shutil.copytree(recorded.folder, tmp_path / "history")))


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.aggregator.open(PLAN)
    return made


def audited(world: World) -> Report:
    return audit(read_folder(world.write()), Claims(head=world.contract.head()))


def sentences(report: Report, verdict: Verdict, check: int = 3) -> list[str]:
    return [one.sentence for one in report.checks[check - 1].findings if one.verdict is verdict]


# ----------------------------------------------------------------------- a transaction, used a second time


def again(kind: type[Any], **changes: int) -> Callable[[list[Entry]], list[Entry]]:
    def play(entries: list[Entry]) -> list[Entry]:
        old, last = next(one for one in reversed(entries) if isinstance(one.fact, kind)), entries[-1]
        fact: Any = old.fact
        return [Entry(0, replace(fact, **changes), last.block + 1, last.time + 1, old.transaction)]

    return play


@pytest.mark.parametrize(
    "play",
    [again(facts.CharterChanged, version=3), again(facts.RolesChanged), again(facts.CharterAccepted)],
    ids=["the charter is rolled back", "roles are given again", "a charter is accepted again"],
)
def test_what_a_key_signed_once_is_recorded_once(scene: Scene, play: Callable[[list[Entry]], list[Entry]]) -> None:
    entries = [entry for entry, _ in scene.true]
    forge(scene, [*entries, *play(entries)])
    report = scene.audit()
    assert report.verdict is Verdict.VIOLATED
    assert any("its transaction has recorded another entry before" in one for one in sentences(report, report.verdict))


def test_a_round_is_not_opened_by_the_transaction_that_opened_an_earlier_one(scene: Scene) -> None:
    """A stranger may end round 5, which expired; but nobody asked for a round 6."""
    entries, last = [entry for entry, _ in scene.true], scene.true[-1][0]
    opened, five = (scene.true[scene.row("RoundOpened", round=number)][0] for number in (4, 5))
    assert isinstance(opened.fact, facts.RoundOpened)
    assert isinstance(five.fact, facts.RoundOpened)
    time = five.fact.deadline + five.fact.grace + 1
    row = signed_row(scene, OPERATOR, call(ABORT, word(5), bytes(32), word(3), bytes(64)))
    expired = facts.RoundAborted(5, 0, facts.AbortReason.EXPIRED, None, OPERATORS)
    six = replace(opened.fact, round=6, deadline=time + 601)
    ended = Entry(0, expired, last.block + 1, time, row["transaction"])
    forge(scene, [*entries, ended, Entry(0, six, last.block + 2, time + 1, opened.transaction)], [row])
    (said,) = sentences(scene.audit(), Verdict.VIOLATED)
    assert f"round 6, entry {len(entries) + 1}" in said
    assert "its transaction has recorded another entry before" in said


def test_a_transaction_is_read_once_however_many_entries_name_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    at, parse, read = scene.row("UpdateRecorded", round=1, member=3), SignedTransaction.parse, list[bytes]()

    def counted(raw: bytes) -> SignedTransaction:
        read.append(raw)
        return parse(raw)

    monkeypatch.setattr(SignedTransaction, "parse", counted)
    named = [Cid(word(number + 1), RAW) for number in range(100)]
    row = signed_row(scene, OPERATOR, relay(1, *(element(cid, 1, b"\1" * 32, b"\1" * 32) for cid in named)))
    first = scene.true[at][0]
    assert isinstance(first.fact, facts.UpdateRecorded)
    forged = [replace(first, fact=replace(first.fact, update=cid), transaction=row["transaction"]) for cid in named]
    forge(scene, [*(entry for entry, _ in scene.true[:at]), *forged], [row])
    assert scene.audit().verdict is Verdict.VIOLATED
    assert len(read) == len(set(read)) == len(scene.transactions())


# ----------------------------------------------------------------------- through a contract of one's own


def test_a_member_is_not_taken_over_through_a_contract_of_the_operators(scene: Scene) -> None:
    """Member 3 'offers its account' through some contract; the operators' key takes it, and accepts the charter."""
    through = signed_row(scene, OPERATOR, b"\1\2\3\4", to="0x" + "56" * 20)
    take = signed_row(scene, OPERATOR, call("takeAccount(uint16)", word(3)), nonce=1)
    entries = []
    for entry, _ in scene.true[: scene.row("RoundOpened")]:
        if isinstance(entry.fact, facts.CharterAccepted) and entry.fact.member == 3:
            entries.append(replace(entry, fact=facts.AccountOffered(3, OPERATORS), transaction=through["transaction"]))
            entries.append(replace(entry, fact=facts.AccountTaken(3, OPERATORS), transaction=take["transaction"]))
            break
        entries.append(entry)
    forge(scene, entries, [through, take])
    report = scene.audit()
    assert report.verdict is Verdict.INCOMPLETE
    (said,) = sentences(report, Verdict.INCOMPLETE)
    victim = account("participant 3").address.lower()
    assert f"that {victim} asked for it is not provable by a signature" in said


def test_the_governor_is_not_replaced_through_a_contract_of_the_operators(scene: Scene) -> None:
    first = scene.true[0][0]
    admitted = scene.true[scene.row("MemberAdmitted")][0].fact
    assert isinstance(admitted, facts.MemberAdmitted)
    fact = replace(admitted, account=OPERATORS)
    admission = call("admit(address,uint8,bytes32)", words(fact, "account", "roles", "name"))
    rows = [
        signed_row(scene, OPERATOR, b"\1\2\3\4", to="0x" + "56" * 20),
        signed_row(scene, OPERATOR, call("takeGovernance()"), nonce=1),
        signed_row(scene, OPERATOR, admission, nonce=2),
    ]
    recorded: list[facts.Fact] = [facts.GovernanceOffered(OPERATORS), facts.GovernanceTaken(OPERATORS), fact]
    forge(
        scene,
        [Entry(0, one, first.block, first.time, row["transaction"]) for one, row in zip(recorded, rows, strict=True)],
        rows,
    )
    report = scene.audit()
    assert report.verdict is Verdict.INCOMPLETE
    (said,) = sentences(report, Verdict.INCOMPLETE)
    assert f"that {account('governor').address.lower()} asked for it is not provable" in said
    scene.claims = Claims(contracts=frozenset({OPERATORS}))
    assert scene.audit().verdict is Verdict.INCOMPLETE, "the word on another account says nothing of the governor's"


def carried_by(contract: Contract, world: World, member: int) -> None:
    (one,) = signed_updates(world, member)
    contract.send(relay(1, element(one.update, one.weight, one.r, one.vs)))


def test_what_a_member_signed_is_its_own_whatever_contract_carries_it(world: World) -> None:
    carried_by(Contract(world, world.account("relayer")), world, 3)
    for member in (1, 2):
        world.post(member, world.update(member, tensors(member)))
    world.settle()
    world.attest()
    report = audited(world)
    assert report.verdict is Verdict.VERIFIED
    assert report.checks[2].summary == f"{report.entries} of {report.entries} entries by a signature"


def test_an_aggregator_has_what_it_carried_by_a_contract_too(world: World) -> None:
    carried_by(Contract(world, world.aggregator.account), world, 3)
    for member in (1, 2):
        world.post(member, world.update(member, tensors(member)))
    contract, history = world.contract, world.contract.history()
    known = history.rounds[1]
    settled = settle(Place.of(history.genesis, known.opened), PLAN, known.updates.values(), world.store, {3})
    model, manifest = world.store.put(settled.model or b""), world.store.put(settled.manifest.encode())
    contract.settle(world.aggregator.account, 1, contract.head(), model, manifest, 2)
    report = audited(world)
    assert report.verdict is Verdict.VIOLATED
    assert "it carried this very update to the chain" in "\n".join(sentences(report, Verdict.VIOLATED, 7))


# ----------------------------------------------------------------------- batches


def batch(world: World) -> Scene:
    world.contract.relay_updates(world.account("relayer"), 1, signed_updates(world, 1, 2, 3))
    return Scene(world.write())


def test_no_update_of_a_batch_is_dropped(world: World) -> None:
    scene = batch(world)
    forge(scene, [entry for entry, _ in scene.true[:-2]] + [scene.true[-1][0]])
    report = scene.audit()
    assert report.verdict is Verdict.VIOLATED
    said = "\n".join(sentences(report, Verdict.VIOLATED))
    assert "the signed transaction does not ask for this" in said, "the second is another one than signed"
    assert "carries its update, and no entry shows it: it was dropped" in said, "and there should be a third"


def test_the_last_update_of_a_batch_is_not_dropped(world: World) -> None:
    scene = batch(world)
    forge(scene, [entry for entry, _ in scene.true[:-1]])
    (said,) = sentences(scene.audit(), Verdict.VIOLATED)
    assert "member 3 (Site 3" in said
    assert "carries its update, and no entry shows it: it was dropped" in said


def test_a_batch_stays_in_its_order(world: World) -> None:
    scene = batch(world)
    entries = [entry for entry, _ in scene.true]
    forge(scene, [*entries[:-3], *reversed(entries[-3:])])
    assert scene.audit().verdict is Verdict.VIOLATED


@pytest.mark.parametrize(
    ("offset", "gap"), [(64, b""), (96, bytes(32)), (160, b"\7" * 96)], ids=["usual", "a word later", "after garbage"]
)
def test_whoever_carries_an_update_cannot_make_it_look_forged(world: World, offset: int, gap: bytes) -> None:
    """The contract takes the list at any offset; no relayer may turn an honest history into a violation by it."""
    stranger, (one,) = world.account("stranger"), signed_updates(world, 3)
    data = relay(1, element(one.update, one.weight, one.r, one.vs), offset=offset, gap=gap)
    send(world, stranger, world.contract.address, data)
    assert audited(world).verdict is Verdict.VERIFIED


def test_whoever_carries_an_update_may_sign_for_no_chain(world: World) -> None:
    """The member's signature names the chain: it is the author."""
    stranger, (one,) = world.account("stranger"), signed_updates(world, 3)
    data = relay(1, element(one.update, one.weight, one.r, one.vs))
    send(world, stranger, world.contract.address, data, gasPrice=10**11)
    assert audited(world).verdict is Verdict.VERIFIED


# ----------------------------------------------------------------------- transactions of other kinds


def test_no_call_with_ether_has_recorded_an_entry(scene: Scene) -> None:
    at = scene.row("UpdateRecorded", round=5, member=1)
    scene.resign(at, account("participant 1"), value=1)
    (said,) = sentences(scene.audit(), Verdict.VIOLATED)
    assert f"entry {at}" in said
    assert "carries ether, which the contract does not take" in said


def test_a_transaction_of_type_4_is_audited_like_any_other(tmp_path: Path) -> None:
    with Anvil() as anvil:
        world = World(tmp_path, chain=anvil)
        world.aggregator.open(PLAN)
        stranger = world.account("stranger")
        world.chain.pass_time(PLAN.window + PLAN.grace + 10)
        permission = stranger.sign_authorization({"chainId": 0, "address": "0x" + "00" * 19 + "01", "nonce": 77})
        fees = {"maxPriorityFeePerGas": 1, "maxFeePerGas": 10**11, "chainId": world.contract.genesis.chain_id}
        data = call(ABORT, word(1), bytes(32), word(3), bytes(64))
        fields = {"type": 4, "authorizationList": [permission], **fees}
        receipt = send(world, stranger, world.contract.address, data, **fields)
        assert receipt["type"] == 4
        report = audit(observe(world.contract, world.store), Claims(head=world.contract.head()))
        assert report.verdict is Verdict.VERIFIED
        assert report.checks[2].summary == f"{report.entries} of {report.entries} entries by a signature"


def test_a_signed_transaction_whose_entry_was_dropped_is_noticed(scene: Scene) -> None:
    rows, kept = scene.transactions(), scene.row("ErasureRecorded")
    scene.rewrite([entry for entry, _ in scene.true[:kept]])
    scene.write_transactions(rows)
    report = scene.audit()
    assert report.verdict is Verdict.INCOMPLETE
    (said,) = sentences(report, Verdict.INCOMPLETE)
    assert f"{len(scene.true) - kept} signed transactions that recorded no entry" in said
