"""Whatever a process was doing when it died, the same command goes on: nothing is posted twice, nothing is lost.

Participant and aggregator are killed (SIGKILL) before and after each thing that lasts, on a real chain and with real
IPFS, and started again. The history audits clean, and the model has the bytes that it has when nobody dies.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.aggregator import Aggregator
from ledger.audit.places import references
from ledger.chain.contract import LedgerContract
from ledger.cid import Cid
from ledger.facts import RoundFact, RoundOpened, RoundSettled
from ledger.plan import MAX_PLAN_BYTES, Plan
from ledger.sealing import seal_for
from ledger.storage.ipfs import IpfsStore
from ledger.updates import Place, decode_model, encode, update_header
from tests.anvil import Anvil
from tests.cli import Cli
from tests.e2e.consortium import Consortium
from tests.e2e.running import WITHIN, Kill
from tests.ipfs import Daemon
from tests.world import age_key, identity_of

MOMENTS = ("before", "after")
PARTICIPANT = [
    ("history remembered", 1),
    ("update kept in the outbox", 1),
    ("blob stored", 1),
    ("transaction signed", 1),
    ("transaction journalled", 1),
    ("transaction sent", 1),
    ("transaction mined", 1),
    ("history remembered", 4),
    ("receipt kept", 2),
]
AGGREGATOR = [
    ("goal written", 1),
    ("blob put", 1),
    ("transaction signed", 1),
    ("transaction journalled", 1),
    ("transaction sent", 1),
    ("transaction mined", 1),
    ("receipt kept", 2),
    ("blob pinned", 1),
    ("blob pinned", 2),
    ("round settled", 1),
    ("blob put", 2),
    ("blob put", 3),
    ("transaction signed", 2),
    ("transaction journalled", 2),
    ("transaction sent", 2),
    ("transaction mined", 2),
    ("receipt kept", 3),
]


class Stage:
    """A consortium that goes back to where it began after each scene."""

    def __init__(self, folder: Path, anvil: Anvil, daemon: Daemon) -> None:
        self.consortium = Consortium(Cli(anvil, folder))
        self.store, self._daemon = IpfsStore(daemon.url), daemon
        self.consortium.cli.store = daemon.url
        self.consortium.found()
        self.consortium.plan()

    @property
    def contract(self) -> LedgerContract:
        return LedgerContract.attach(self.consortium.cli.anvil.web3, self.consortium.cli.ledger)

    def open(self) -> None:
        arguments = ("round", "open", str(self.consortium.cli.path("plan.toml")))
        self.consortium.cli.ok("aggregator", *arguments)

    def post(self, member: int) -> None:
        """Post an update of a member, whose tensors are the base model's, all larger by its id."""
        history, account = self.contract.history(), self.consortium.cli.party(f"site {member}")
        known = history.rounds[history.latest_round]
        plan = Plan.decode(self.store.get(known.opened.plan, limit=MAX_PLAN_BYTES))
        base = decode_model(self.store.get(known.opened.base), plan).tensors
        header = update_header(Place.of(history.genesis, known.opened), member, 8)
        update = encode(header, plan.tensors, {name: array + member for name, array in base.items()})
        sealed = seal_for(known, update, age_key(identity_of(account)))
        key_blob = self.store.put(sealed.key_blob or b"").digest
        self.contract.post_update(account, known.number, self.store.put(sealed.update), 8, key_blob)

    def settle(self) -> Cid:
        account = self.consortium.cli.party("aggregator")
        aggregator = Aggregator(self.contract, self.store, account, [identity_of(account)])
        aggregator.publish(aggregator.propose())
        return self.model

    @property
    def model(self) -> Cid:
        ended = self.contract.history().rounds[1].ended
        assert isinstance(ended, RoundSettled)
        return ended.model

    def forget_round(self) -> None:
        """Take what round 1 left behind off the IPFS node, so that nobody finds it there in the next scene."""
        facts = [entry.fact for entry in self.contract.entries()]
        named = {cid for fact in facts if isinstance(fact, RoundFact) for cid, _ in references(fact)}
        for cid in named | {fact.plan for fact in facts if isinstance(fact, RoundOpened)}:
            self._daemon.ask("pin/rm", str(cid))
            self._daemon.ask("block/rm", str(cid))

    def sent(self, party: str) -> int:
        """How many transactions an account has sent."""
        return self.consortium.cli.anvil.web3.eth.get_transaction_count(self.consortium.cli.party(party).address)

    def receipts(self, party: str) -> list[str]:
        """The kinds of the entries of which a party has receipts."""
        listed = self.consortium.cli.run(party, "receipt", "list", "--json", yes=False)
        return [one["kind"] for one in json.loads(listed.stdout)["receipts"]]


@pytest.fixture(scope="module")
def set_up(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Daemon(tmp_path_factory.mktemp("daemon")) as daemon:
        yield Stage(tmp_path_factory.mktemp("crashes"), anvil, daemon)


@contextmanager
def scene(stage: Stage, folder: Path) -> Iterator[Stage]:
    """What happens inside leaves nothing behind: not on the chain, not in what members remember, not on IPFS."""
    cli = stage.consortium.cli
    before, remembered = cli.anvil.snapshot(), cli.state
    cli.state = Path(shutil.copytree(remembered, folder / "state"))
    with stage.consortium.stopping():
        yield stage
    stage.forget_round()
    cli.state = remembered
    cli.anvil.revert(before)


@pytest.fixture
def stage(set_up: Stage, tmp_path: Path) -> Iterator[Stage]:
    with scene(set_up, tmp_path):
        yield set_up


def participated(stage: Stage, kill: Kill | None) -> Cid:
    """Round 1, in which site 1 runs `participate`, and is killed, and started again; the settled model."""
    stage.open()
    stage.post(2)
    before = stage.sent("site 1")
    if kill:
        dying = stage.consortium.participate("site 1", "--once", kill=kill)
        assert dying.wait() == -9, dying.said
    again = stage.consortium.participate("site 1", "--once")
    assert again.wait() == 0, again.said
    assert stage.sent("site 1") == before + 1, "posted once"
    assert stage.receipts("site 1").count("UpdateRecorded") == 1
    return stage.settle()


def aggregated(stage: Stage, kill: Kill | None) -> Cid:
    """Round 1, which `aggregate` opens and settles, and is killed, and started again; the settled model."""
    before = stage.sent("aggregator")
    process = stage.consortium.aggregate(kill=kill)
    died = posted = False
    deadline = time.monotonic() + WITHIN
    while process.status != 0:
        assert time.monotonic() < deadline, process.said
        if process.status is not None:
            assert (process.wait(), died) == (-9 if kill else 0, False), process.said
            died = True
            process = stage.consortium.aggregate()
        history = stage.contract.history()
        if history.open_round and not posted:
            stage.post(1)
            stage.post(2)
            posted = True
    assert died == bool(kill), process.said
    assert stage.sent("aggregator") == before + 2, "opened once, and settled once"
    kinds = stage.receipts("aggregator")
    assert (kinds.count("RoundOpened"), kinds.count("RoundSettled")) == (1, 1)
    return stage.model


@pytest.fixture(scope="module")
def undisturbed_participant(set_up: Stage, tmp_path_factory: pytest.TempPathFactory) -> Cid:
    with scene(set_up, tmp_path_factory.mktemp("undisturbed")):
        return participated(set_up, None)


@pytest.fixture(scope="module")
def undisturbed_aggregator(set_up: Stage, tmp_path_factory: pytest.TempPathFactory) -> Cid:
    with scene(set_up, tmp_path_factory.mktemp("undisturbed")):
        return aggregated(set_up, None)


@pytest.mark.xdist_group("participant crashes")
@pytest.mark.parametrize("kill", [Kill(moment, *effect) for effect in PARTICIPANT for moment in MOMENTS], ids=str)
def test_a_participant_that_dies_and_comes_back_posts_its_update_once(
    undisturbed_participant: Cid, stage: Stage, kill: Kill
) -> None:
    assert participated(stage, kill) == undisturbed_participant
    stage.consortium.audited()


@pytest.mark.xdist_group("aggregator crashes")
@pytest.mark.parametrize("kill", [Kill(moment, *effect) for effect in AGGREGATOR for moment in MOMENTS], ids=str)
def test_an_aggregator_that_dies_and_comes_back_settles_the_round_once(
    undisturbed_aggregator: Cid, stage: Stage, kill: Kill
) -> None:
    assert aggregated(stage, kill) == undisturbed_aggregator
    stage.consortium.audited()
