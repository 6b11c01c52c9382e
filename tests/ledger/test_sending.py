"""A call is recorded once, whatever dies, is lost, stuck, too dear or overtaken on the way; on a real node."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.types import TxReceipt

from ledger.chain.contract import LedgerContract
from ledger.chain.embedded import EmbeddedChain
from ledger.chain.journal import Journal, Pending
from ledger.chain.node import connect
from ledger.chain.sending import PLAIN, Sending, send
from ledger.cid import Cid, cid_of
from ledger.errors import Refused, UnavailableError, UsageError
from ledger.facts import CharterChanged
from tests.anvil import Anvil, Bend, Bent

FIRST, SECOND, THIRD = (cid_of(text) for text in (b"first", b"second", b"third"))
GWEI = 10**9
LOCKS = Path("/proc/locks")


class Death(BaseException):
    """The process is killed."""


@pytest.fixture(scope="module")
def node() -> Iterator[Anvil]:
    """A real node that makes a block for each transaction, unless a test says otherwise."""
    with Anvil() as running:
        yield running


@dataclass
class Scene:
    """A ledger whose governor changes the charter: every call is an entry, and may be repeated."""

    node: Anvil
    governor: LocalAccount
    contract: LedgerContract
    journal: Path

    def sends(self, charter: Cid, bend: Bend | None = None, sending: Sending | None = None) -> TxReceipt:
        """Call, on a way to the node that may be bent."""
        web3 = Web3(Bent(self.node.url, bend)) if bend else connect(self.node.url)
        sending = sending or Sending(self.journal)
        return replace(self.contract, web3=web3, sending=sending).change_charter(self.governor, charter)

    def dies(self, charter: Cid, bend: Bend, sending: Sending | None = None) -> None:
        with pytest.raises(Death):
            self.sends(charter, bend, sending)

    def stranger(self, nonce: int, fee: int = 10 * GWEI) -> None:
        """The same key sends something else, from elsewhere."""
        fields: dict[str, Any] = {
            "to": self.governor.address,
            "value": 0,
            "gas": 21_000,
            "nonce": nonce,
            "chainId": 31337,
        }
        fees = {"maxFeePerGas": fee, "maxPriorityFeePerGas": fee}
        self.node.web3.eth.send_raw_transaction(self.governor.sign_transaction({**fields, **fees}).raw_transaction)

    def recorded(self) -> list[Cid]:
        """The charters that entries put in force."""
        facts = [entry.fact for entry in LedgerContract.attach(self.node.web3, self.contract.address).entries()]
        return [fact.charter for fact in facts if isinstance(fact, CharterChanged)]

    def sent(self) -> int:
        """How many transactions of the governor are in blocks, after the one that deployed."""
        return self.node.web3.eth.get_transaction_count(self.governor.address) - 1

    def journalled(self) -> list[Pending]:
        return lines(self.journal)


def lines(journal: Path) -> list[Pending]:
    """What a journal holds, read without its lock."""
    held = journal.read_text().splitlines() if journal.exists() else []
    return [Pending.parse(bytes.fromhex(line.split(" 0x")[1])) for line in held]


@pytest.fixture
def scene(node: Anvil, tmp_path: Path) -> Iterator[Scene]:
    before = node.snapshot()
    governor = node.account("governor")
    contract = LedgerContract.deploy(connect(node.url), governor, FIRST)
    yield Scene(node, governor, contract, tmp_path / "state" / "transactions")
    node.rpc("anvil_dropAllTransactions")
    node.mining(True)
    node.revert(before)


def dying(method: str, *, before: bool = False, after: bool = False) -> Bend:
    """The process is killed at the first question of that method."""

    def bend(asked: str, params: Any, ask: Callable[[], Any]) -> Any:
        if asked == method and before:
            raise Death
        answer = ask()
        if asked == method and after:
            raise Death
        return answer

    return bend


# ------------------------------------------------------------------------------------- the journal


def test_a_transaction_is_on_the_disk_before_it_is_sent_and_forgotten_when_it_is_recorded(scene: Scene) -> None:
    kept: list[Pending] = []

    def bend(method: str, params: Any, ask: Callable[[], Any]) -> Any:
        if method == "eth_sendRawTransaction":
            kept.extend(scene.journalled())
            assert params == ["0x" + kept[0].raw.hex()]
        return ask()

    receipt = scene.sends(SECOND, bend)
    assert [one.signed.hash for one in kept] == [Web3.to_hex(receipt["transactionHash"])]
    assert scene.journalled() == []


POINTS = {
    "before it is sent": dying("eth_sendRawTransaction", before=True),
    "after it is sent": dying("eth_sendRawTransaction", after=True),
    "before its receipt is read": dying("eth_getTransactionReceipt", before=True),
    "after its receipt was read": dying("eth_getTransactionReceipt", after=True),
}


@pytest.mark.parametrize("mined", [True, False], ids=["in a block", "in no block"])
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_the_same_call_after_a_death_goes_on_with_the_very_same_transaction(
    scene: Scene, point: Bend, mined: bool
) -> None:
    scene.node.mining(mined)
    scene.dies(SECOND, point)
    (signed,) = scene.journalled()
    scene.node.mining(True)
    if not mined:
        scene.node.rpc("anvil_dropAllTransactions")
    receipt = scene.sends(SECOND)
    assert Web3.to_hex(receipt["transactionHash"]) == signed.signed.hash
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([SECOND], 1, [])


def test_a_transaction_that_still_waits_in_the_pool_is_waited_for(scene: Scene) -> None:
    scene.node.mining(False)
    scene.dies(SECOND, POINTS["after it is sent"])

    def bend(method: str, params: Any, ask: Callable[[], Any]) -> Any:
        answer = ask()
        if method == "eth_sendRawTransaction":
            assert "error" in answer, "the node has it already"
            scene.node.mine()
        return answer

    scene.sends(SECOND, bend)
    assert (scene.recorded(), scene.sent()) == ([SECOND], 1)


def test_a_deployment_that_died_is_found_again(node: Anvil, scene: Scene) -> None:
    sending = Sending(scene.journal)
    for point in POINTS.values():
        with pytest.raises(Death):
            LedgerContract.deploy(Web3(Bent(node.url, point)), scene.governor, SECOND, sending)
    contract = LedgerContract.deploy(connect(node.url), scene.governor, SECOND, sending)
    assert contract.genesis.charter == SECOND
    assert scene.sent() == 1


def test_the_same_call_after_it_was_recorded_is_another_transaction(scene: Scene) -> None:
    hashes = {bytes(scene.sends(SECOND)["transactionHash"]) for _ in range(2)}
    assert len(hashes) == 2
    assert (scene.recorded(), scene.sent()) == ([SECOND, SECOND], 2)


def test_another_call_that_died_is_sent_first_so_that_its_nonce_is_no_gap(scene: Scene) -> None:
    scene.dies(SECOND, POINTS["before it is sent"])
    scene.sends(THIRD)
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([SECOND, THIRD], 2, [])


def test_a_call_that_died_after_it_was_recorded_and_was_followed_by_another_is_a_new_one(scene: Scene) -> None:
    scene.dies(SECOND, POINTS["after it is sent"])
    scene.sends(THIRD)
    scene.sends(SECOND)
    assert (scene.recorded(), scene.journalled()) == ([SECOND, THIRD, SECOND], [])


def refusing(scene: Scene) -> Bend:
    """The node does not take what is in the journal now."""
    refused = ["0x" + one.raw.hex() for one in scene.journalled()]

    def bend(method: str, params: Any, ask: Callable[[], Any]) -> Any:
        if method == "eth_sendRawTransaction" and params[0] in refused:
            return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "exceeds block gas limit"}}
        return ask()

    return bend


def test_another_call_that_died_and_that_the_node_refuses_gives_its_place_to_this_one(scene: Scene) -> None:
    scene.dies(SECOND, POINTS["before it is sent"])
    scene.sends(THIRD, refusing(scene))
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([THIRD], 1, [])


def test_a_call_that_died_and_that_the_node_refuses_stays_journalled_as_it_may_be_on_its_way_elsewhere(
    scene: Scene,
) -> None:
    scene.dies(SECOND, POINTS["before it is sent"])
    with pytest.raises(UnavailableError, match="more gas than the chain's blocks have"):
        scene.sends(SECOND, refusing(scene))
    scene.sends(SECOND)
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([SECOND], 1, [])


def test_a_call_that_died_and_has_become_too_cheap_is_sent_with_a_higher_fee(scene: Scene) -> None:
    scene.dies(SECOND, POINTS["before it is sent"])
    (cheap,) = scene.journalled()
    before = scene.node.web3.eth.get_block("latest")["baseFeePerGas"]
    scene.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(10 * cheap.fee))
    scene.node.mine()
    try:
        sent = transaction(scene, scene.sends(SECOND))
    finally:  # which a snapshot does not bring back
        scene.node.rpc("anvil_setNextBlockBaseFeePerGas", hex(before))
    assert sent["maxFeePerGas"] > 10 * cheap.fee
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([SECOND], 1, [])


@pytest.mark.parametrize("charter", [SECOND, THIRD], ids=["the same call", "another call"])
def test_a_transaction_whose_nonce_another_one_took_is_dropped(scene: Scene, charter: Cid) -> None:
    scene.dies(SECOND, POINTS["before it is sent"])
    scene.stranger(nonce=1)
    scene.sends(charter)
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([charter], 2, [])


def test_what_the_contract_refuses_is_never_journalled(scene: Scene) -> None:
    scene.governor = scene.node.account("stranger")
    with pytest.raises(Refused, match="is not the governor"):
        scene.sends(SECOND)
    assert not scene.journal.exists()


def test_what_the_node_refuses_is_not_sent_later(scene: Scene) -> None:
    scene.node.rpc("anvil_setBalance", scene.governor.address, hex(10**13))
    with pytest.raises(UsageError, match="too little ether"):
        scene.sends(SECOND)
    assert scene.journalled() == []
    scene.node.fund(scene.governor.address)
    scene.sends(THIRD)
    assert scene.recorded() == [THIRD]


def test_the_journal_of_another_account_is_left_alone(scene: Scene) -> None:
    scene.dies(SECOND, POINTS["before it is sent"])
    other = scene.node.account("other")
    LedgerContract.deploy(connect(scene.node.url), other, THIRD, Sending(scene.journal))
    assert len(scene.journalled()) == 1
    scene.sends(SECOND)
    assert (scene.recorded(), scene.journalled()) == ([SECOND], [])


def test_half_a_line_at_the_end_of_the_journal_was_never_finished(scene: Scene) -> None:
    scene.dies(SECOND, POINTS["before it is sent"])
    line = scene.journal.read_bytes()
    scene.journal.write_bytes(line + line[:100])
    scene.sends(SECOND)
    assert (scene.recorded(), scene.sent()) == ([SECOND], 1)


@pytest.mark.parametrize("damage", [b"garbage\n", b"\n", b"0x00 0x00\n", b"\xff \xff\n"])
def test_a_damaged_journal_is_said_and_nothing_is_sent(scene: Scene, damage: bytes) -> None:
    scene.dies(SECOND, POINTS["before it is sent"])
    scene.journal.write_bytes(scene.journal.read_bytes() + damage)
    with pytest.raises(UnavailableError, match=r"line 2 of .*transactions is damaged .*: restore it from a copy"):
        scene.sends(SECOND)
    assert scene.sent() == 0


def test_one_changed_digit_in_the_journal_is_noticed(scene: Scene) -> None:
    scene.dies(SECOND, POINTS["before it is sent"])
    line = bytearray(scene.journal.read_bytes())
    line[200] = ord("0") if line[200] != ord("0") else ord("1")
    scene.journal.write_bytes(line)
    with pytest.raises(UnavailableError, match=r"line 1 of .*transactions is damaged"):
        scene.sends(SECOND)


def test_a_journal_that_cannot_be_kept_is_said_and_nothing_is_sent(scene: Scene) -> None:
    scene.journal.parent.write_text("a file, where the folder should be")
    with pytest.raises(
        UnavailableError, match=r"transactions, where signed transactions are kept, cannot be read and "
    ):
        scene.sends(SECOND)
    assert scene.sent() == 0


PROGRAM = """
import sys
from pathlib import Path
from ledger.chain.contract import LedgerContract
from ledger.chain.node import connect
from ledger.chain.sending import Sending
from ledger.cid import cid_of
from eth_account import Account
url, ledger, key, journal = sys.argv[1:]
contract = LedgerContract.attach(connect(url), ledger, Sending(Path(journal)))
for number in range(5):
    contract.change_charter(Account.from_key(key), cid_of(b"%d" % number))
"""


def test_two_processes_with_one_journal_record_every_call_once(scene: Scene) -> None:
    arguments = [scene.node.url, scene.contract.address, scene.governor.key.hex(), str(scene.journal)]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    running = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert sorted(scene.recorded(), key=str) == sorted([cid_of(b"%d" % n) for n in range(5)] * 2, key=str)
    assert scene.sent() == 10


@pytest.mark.skipif(not LOCKS.exists(), reason="this system does not show who waits for a lock")
def test_who_sends_with_a_journal_waits_for_who_does_so_already(scene: Scene) -> None:
    asked: list[str] = []

    def bend(method: str, params: Any, ask: Callable[[], Any]) -> Any:
        asked.append(method)
        return ask()

    scene.node.mining(False)
    first, _ = in_the_background(lambda: scene.sends(SECOND))
    wait_until(lambda: bool(scene.node.waiting()), first)
    second, _ = in_the_background(lambda: scene.sends(THIRD, bend))
    lock = f":{scene.journal.with_name('transactions.lock').stat().st_ino} "
    wait_until(lambda: asked or any("->" in line and lock in line for line in LOCKS.read_text().splitlines()), second)
    assert asked == []
    scene.node.mining(True)
    scene.node.mine()
    first.join()
    second.join()
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([SECOND, THIRD], 2, [])


def test_on_the_embedded_chain_a_call_that_died_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, governor = EmbeddedChain(), Anvil.key("governor")
    chain.fund(governor.address)
    contract = LedgerContract.deploy(chain.web3, governor, FIRST, Sending(tmp_path / "journal"))
    with monkeypatch.context() as death:
        death.setattr(Journal, "drop", lambda *_: None)  # as if it had died before
        receipt = contract.change_charter(governor, SECOND)
    assert contract.change_charter(governor, SECOND)["transactionHash"] == receipt["transactionHash"]
    assert len(contract.entries()) == 1


# ------------------------------------------------------------------------------------- stuck, lost, overtaken


def in_the_background(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Start it; its result or error is in the list when the thread has ended."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, results


def wait_until(condition: Callable[[], object], thread: threading.Thread) -> None:
    while not condition():
        assert thread.is_alive()
        thread.join(0.02)


def test_a_stuck_transaction_is_sent_again_with_the_same_nonce_and_fees_that_nodes_take_for_a_raise(
    scene: Scene,
) -> None:
    scene.node.mining(False)
    sending = Sending(scene.journal, patience=0.1)
    thread, results = in_the_background(lambda: scene.sends(SECOND, sending=sending))
    wait_until(lambda: len(scene.journalled()) >= 3, thread)
    variants = scene.journalled()
    scene.node.mine()
    thread.join()
    assert len({one.signed.nonce for one in variants}) == 1
    assert len({(one.signed.to, one.signed.data) for one in variants}) == 1
    for lower, higher in pairwise(variants):
        assert higher.fee * 8 >= lower.fee * 9
        assert (higher.priority or 0) * 8 >= (lower.priority or 0) * 9
    assert not isinstance(results[0], Exception), results
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([SECOND], 1, [])


def test_a_transaction_that_the_node_has_lost_is_sent_again(scene: Scene) -> None:
    scene.node.mining(False)
    thread, _ = in_the_background(lambda: scene.sends(SECOND, sending=Sending(scene.journal, patience=0.1)))
    wait_until(lambda: bool(scene.node.waiting()), thread)
    scene.node.rpc("anvil_dropAllTransactions")
    scene.node.mining(True)
    thread.join()
    assert (scene.recorded(), scene.sent()) == ([SECOND], 1)


def test_fees_are_raised_up_to_the_cap_then_the_transaction_waits_and_goes_on_later(scene: Scene) -> None:
    scene.node.mining(False)
    lowest = 2 * scene.node.web3.eth.get_block("latest")["baseFeePerGas"] + GWEI
    cap = lowest * 13 // 10  # between one raise by a quarter and two
    sending = Sending(scene.journal, max_fee=cap, patience=0.05, give_up=1.5)
    with pytest.raises(
        UnavailableError, match=r"^transaction 0x\w{64} is in no block after 1.5 seconds: it is kept in "
    ):
        scene.sends(SECOND, sending=sending)
    variants = scene.journalled()
    assert [one.fee for one in variants] == [lowest, -(-lowest * 5 // 4)], "a raise to the cap would be too small"
    scene.node.mining(True)
    scene.sends(SECOND)
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([SECOND], 1, [])


def test_the_receipt_of_any_variant_ends_the_waiting(scene: Scene) -> None:
    scene.node.mining(False)
    with pytest.raises(UnavailableError, match="is in no block"):
        scene.sends(SECOND, sending=Sending(scene.journal, patience=0.05, give_up=1))
    first, *higher = scene.journalled()
    assert higher
    scene.node.rpc("anvil_dropAllTransactions")
    scene.node.web3.eth.send_raw_transaction(first.raw)
    scene.node.mine()
    assert Web3.to_hex(scene.sends(SECOND)["transactionHash"]) == first.signed.hash
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([SECOND], 1, [])


def test_without_a_journal_a_transaction_in_no_block_is_to_be_looked_for(scene: Scene) -> None:
    scene.node.mining(False)
    with pytest.raises(UnavailableError, match=r"is in no block after 0.3 seconds: look for it before repeating it"):
        scene.sends(SECOND, sending=Sending(give_up=0.3))


def test_a_transaction_that_another_one_of_the_account_replaces_is_said_to_be_so(scene: Scene) -> None:
    scene.node.mining(False)
    thread, results = in_the_background(lambda: scene.sends(SECOND))
    wait_until(lambda: bool(scene.node.waiting()), thread)
    scene.stranger(nonce=1)
    scene.node.mine()
    thread.join()
    assert isinstance(results[0], UnavailableError)
    assert f"another transaction of {scene.governor.address} took its place: look what it was" in str(results[0])
    assert (scene.recorded(), scene.journalled()) == ([], [])


def test_after_a_block_was_taken_back_a_new_call_fills_the_gap_before_what_is_journalled(scene: Scene) -> None:
    scene.sends(SECOND)
    scene.dies(THIRD, POINTS["before it is sent"])
    scene.node.reorganize(1)
    scene.sends(SECOND)
    scene.sends(THIRD)
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([SECOND, THIRD], 2, [])


def test_what_waits_for_a_transaction_that_is_gone_says_so(scene: Scene) -> None:
    scene.sends(SECOND)
    scene.dies(THIRD, POINTS["before it is sent"])
    scene.node.reorganize(1)
    with pytest.raises(
        UnavailableError, match=r"it waits for transaction 1 of the account, which the node does not have"
    ):
        scene.sends(THIRD, sending=Sending(scene.journal, give_up=0.3))


def counting(count: Callable[[str, int], int]) -> Bend:
    """The node counts an account's transactions wrongly."""

    def bend(method: str, params: Any, ask: Callable[[], Any]) -> Any:
        answer = ask()
        if method == "eth_getTransactionCount":
            answer["result"] = hex(count(params[1], int(answer["result"], 16)))
        return answer

    return bend


def test_a_node_that_lags_behind_and_gives_a_used_nonce_is_asked_again(scene: Scene) -> None:
    scene.sends(SECOND)
    left = iter([1, 1])
    lagging = counting(lambda block, truth: truth - (next(left, 0) if block == "pending" else 0))
    scene.sends(THIRD, lagging)
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([SECOND, THIRD], 2, [])


def test_a_node_that_does_not_count_what_waits_is_asked_for_what_is_in_blocks(scene: Scene) -> None:
    def bend(method: str, params: Any, ask: Callable[[], Any]) -> Any:
        if method == "eth_getTransactionCount" and params[1] == "pending":
            return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "pending is not supported"}}
        return ask()

    scene.dies(SECOND, POINTS["before it is sent"])
    scene.sends(THIRD, bend)
    assert (scene.recorded(), scene.sent()) == ([SECOND, THIRD], 2)


def test_an_answer_that_is_lost_after_the_node_took_the_transaction_is_no_reason_to_sign_again(scene: Scene) -> None:
    def bend(method: str, params: Any, ask: Callable[[], Any]) -> Any:
        if method == "eth_sendRawTransaction":
            ask()  # taken, and in a block; the answer is lost, so it is asked again
        return ask()

    scene.sends(SECOND, bend)
    assert (scene.recorded(), scene.sent(), scene.journalled()) == ([SECOND], 1, [])


def test_a_node_that_dies_leaves_the_transaction_in_the_journal(scene: Scene) -> None:
    def bend(method: str, params: Any, ask: Callable[[], Any]) -> Any:
        if method == "eth_getTransactionReceipt":
            raise UnavailableError("the node at … does not answer")
        return ask()

    with pytest.raises(UnavailableError, match="does not answer"):
        scene.sends(SECOND, bend)
    assert len(scene.journalled()) == 1
    scene.sends(SECOND)
    assert (scene.recorded(), scene.sent()) == ([SECOND], 1)


# ------------------------------------------------------------------------------------- gas and fees


ONE_FUNCTION = [{"type": "function", "name": "f", "inputs": [], "outputs": [], "stateMutability": "nonpayable"}]


def transaction_type(node: Anvil, account: LocalAccount, sending: Sending) -> int:
    """Call an account without code; the type of the transaction."""
    nobody = connect(node.url).eth.contract(address=Anvil.key("nobody").address, abi=ONE_FUNCTION)
    receipt = send(connect(node.url), account, nobody.functions.f(), sending)
    return int(node.web3.eth.get_transaction(receipt["transactionHash"])["type"])


def transaction(scene: Scene, receipt: TxReceipt) -> dict[str, Any]:
    return cast(dict[str, Any], scene.node.web3.eth.get_transaction(receipt["transactionHash"]))


def test_gas_is_the_estimate_and_a_quarter(scene: Scene) -> None:
    estimates: list[int] = []

    def bend(method: str, params: Any, ask: Callable[[], Any]) -> Any:
        answer = ask()
        if method == "eth_estimateGas":
            estimates.append(int(answer["result"], 16))
        return answer

    assert transaction(scene, scene.sends(SECOND, bend))["gas"] == estimates[0] * 5 // 4


def test_no_more_gas_is_asked_for_than_a_block_has(scene: Scene) -> None:
    estimate = scene.sends(SECOND)["gasUsed"]
    before = scene.node.web3.eth.get_block("latest")["gasLimit"]
    limit = estimate + estimate // 8
    scene.node.rpc("evm_setBlockGasLimit", hex(limit))
    scene.node.mine()
    try:
        assert transaction(scene, scene.sends(THIRD))["gas"] <= limit
    finally:
        scene.node.rpc("evm_setBlockGasLimit", hex(before))


def test_the_fee_leaves_room_for_a_base_fee_that_doubles(scene: Scene) -> None:
    base = scene.node.web3.eth.get_block("latest")["baseFeePerGas"]
    sent = transaction(scene, scene.sends(SECOND))
    assert (sent["maxFeePerGas"], sent["maxPriorityFeePerGas"]) == (2 * base + GWEI, GWEI)


def test_the_fee_is_at_most_the_cap(scene: Scene) -> None:
    base = scene.node.web3.eth.get_block("latest")["baseFeePerGas"]
    cap = base + GWEI + 1
    sent = transaction(scene, scene.sends(SECOND, sending=replace(PLAIN, max_fee=cap)))
    assert (sent["maxFeePerGas"], sent["maxPriorityFeePerGas"]) == (cap, GWEI)


def test_a_chain_that_is_dearer_than_the_cap_is_waited_out(scene: Scene) -> None:
    base = scene.node.web3.eth.get_block("latest")["baseFeePerGas"]
    asked = f"{(base + GWEI) / GWEI:g}"
    with pytest.raises(
        UnavailableError,
        match=f"^the chain asks {asked} gwei for a unit of gas, the cap is 0.5: wait, or raise --max-fee$",
    ):
        scene.sends(SECOND, sending=Sending(scene.journal, max_fee=GWEI // 2))
    assert not scene.journalled()


def test_a_node_that_does_not_say_which_priority_is_usual_gets_one_gwei(scene: Scene) -> None:
    def bend(method: str, params: Any, ask: Callable[[], Any]) -> Any:
        if method == "eth_maxPriorityFeePerGas":
            return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "the method does not exist"}}
        return ask()

    assert transaction(scene, scene.sends(SECOND, bend))["maxPriorityFeePerGas"] == GWEI


def test_on_a_chain_without_a_base_fee_a_transaction_is_legacy_and_raised_when_stuck(tmp_path: Path) -> None:
    with Anvil("--hardfork", "berlin") as node:
        governor, journal = node.account("governor"), tmp_path / "journal"
        assert transaction_type(node, governor, Sending(journal)) == 0
        node.mining(False)
        thread, results = in_the_background(lambda: transaction_type(node, governor, Sending(journal, patience=0.1)))
        wait_until(lambda: len(lines(journal)) >= 2, thread)
        first, second = lines(journal)[:2]
        node.mine()
        thread.join()
        assert results == [0]
        assert (first.priority, second.priority) == (None, None)
        assert second.fee * 8 >= first.fee * 9


def test_on_a_chain_whose_gas_is_free_an_account_needs_no_ether() -> None:
    with Anvil("--base-fee", "0", "--gas-price", "0", "--disable-min-priority-fee") as node:
        contract = LedgerContract.deploy(connect(node.url), Anvil.key("poor"), FIRST)
        contract.change_charter(Anvil.key("poor"), SECOND)
        assert len(contract.entries()) == 1
