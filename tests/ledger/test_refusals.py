"""Whatever a node says, the person reads one sentence: what is wrong, and what to do next."""

import re
import threading
from collections.abc import Iterator

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from web3 import Web3
from web3.exceptions import Web3RPCError

from ledger.chain.artifact import artifact
from ledger.chain.contract import LedgerContract, Terms
from ledger.chain.embedded import EmbeddedChain
from ledger.chain.node import connect
from ledger.chain.refusals import CHEAP, HELD, USED, explained, refusal
from ledger.chain.sentences import SENTENCES, moment
from ledger.cid import cid_of
from ledger.errors import Refused, UnavailableError, UsageError
from ledger.facts import Role
from tests.anvil import Anvil

BLOB = cid_of(b"a blob")
AGE_KEY = b"\x09" * 32
ERRORS = {item["name"]: item for item in artifact().abi if item["type"] == "error"}
VALUES = {"uint8": 5, "uint16": 7, "uint32": 3, "uint40": 1_795_622_580, "uint256": 9}
VALUES |= {"address": "0x" + "ab" * 20, "bytes32": b"\xcd" * 32}  # type: ignore[dict-item]


def reverted(name: str) -> bytes:
    types = [parameter["type"] for parameter in ERRORS[name]["inputs"]]
    signature = f"{name}({','.join(types)})"
    return keccak(signature.encode())[:4] + encode(types, [VALUES[type_] for type_ in types])


def test_every_error_of_the_contract_has_a_sentence_and_there_is_none_besides() -> None:
    assert set(SENTENCES) == set(ERRORS)


@pytest.mark.parametrize("name", ERRORS)
def test_a_sentence_says_what_is_wrong_and_what_to_do_next_in_words_for_people(name: str) -> None:
    refused = refusal(reverted(name), VALUES["uint40"] + 60)
    assert refused is not None
    assert refused.name == name
    said = str(refused)
    assert ":" in said, "after the colon: what to do next"
    assert name not in said
    assert not re.search(r"0x[0-9a-fA-F]{8}\b", said), "a selector"
    assert not re.search(r"\b[A-Z][a-z]+[A-Z]", re.sub("0x[0-9a-fA-F]{40}", "", said)), "a name of the code"
    assert not re.search(r"[{}]|\bNone\b", said)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("RoundClosed", "round 3 closed 12 minutes ago (2026-11-25 16:03:00 UTC): post to the next round"),
        ("MemberRoleMissing", "member 7 is no participant or auditor here"),
        ("GovernorOnly", "0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB is not the governor"),
    ],
)
def test_numbers_become_words(name: str, said: str) -> None:
    assert str(refusal(reverted(name), VALUES["uint40"] + 12 * 60)).startswith(said)


@pytest.mark.parametrize(
    ("time", "now", "said"),
    [
        (1000, 1001, "1 second ago (1970-01-01 00:16:40 UTC)"),
        (1000, 880, "in 2 minutes (1970-01-01 00:16:40 UTC)"),
        (1000, 1119, "119 seconds ago (1970-01-01 00:16:40 UTC)"),
        (1000, 1000 + 50 * 3600, "2 days ago (1970-01-01 00:16:40 UTC)"),
        (1000, None, "at 1970-01-01 00:16:40 UTC"),
    ],
)
def test_a_moment_is_told_as_people_tell_it(time: int, now: int | None, said: str) -> None:
    assert moment(time, now) == said


def test_what_is_no_error_of_the_contract_is_no_refusal() -> None:
    assert refusal(b"\x01\x02\x03\x04", None) is None
    assert refusal(b"", None) is None


# What nodes answer to a transaction that they do not take, in their own words.
WORDS = {
    "the node has it": (
        HELD,
        [
            "already known",  # geth
            "ALREADY_EXISTS: already known",  # Erigon
            "INTERNAL_ERROR: existing tx with same hash",
            "could not replace existing tx",
            "Known transaction",  # Besu
            "Replacement transaction underpriced",
            "AlreadyKnown",  # Nethermind
            "ReplacementNotAllowed",
            "transaction already imported",  # anvil
            "replacement transaction underpriced",
            "insufficient gas price to replace existing transaction",  # Reth
        ],
    ),
    "its nonce is used": (
        USED,
        [
            "nonce too low: next nonce 5, tx nonce 4",
            "NONCE_TOO_LOW: nonce too low",
            "Nonce too low",
            "OldNonce, Current nonce: 5, nonce of rejected tx: 4",
            "OwnNonceAlreadyUsed",
            "Transaction nonce is too low. Try incrementing the nonce.",
            "Invalid transaction nonce: Expected 1, but got 0",  # eth-tester
        ],
    ),
    "it pays too little": (
        CHEAP,
        [
            "transaction underpriced: gas tip cap 0, minimum needed 1",
            "max fee per gas less than block base fee: address 0x…, maxFeePerGas: 1, baseFee: 7",
            "FEE_TOO_LOW: fee too low",
            "Gas price below configured minimum gas price",
            "Gas price below current base fee",
            "FeeTooLow, MaxFeePerGas too low",
            "FeeTooLowToCompete",
            "Sender's max fee per gas (1) is lower than block's base fee per gas (670189612)",
        ],
    ),
}


@pytest.mark.parametrize(
    ("meaning", "words"), [(meaning, words) for meaning, (_, table) in WORDS.items() for words in table]
)
def test_what_nodes_say_of_a_transaction_means_one_thing(meaning: str, words: str) -> None:
    means = [other for other, (pattern, _) in WORDS.items() if pattern.search(words)]
    assert means[0] == meaning, "that the node has it comes first: its words tell of a low fee, too"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        *((words, "took its place: look what it was") for key in list(WORDS)[:2] for words in WORDS[key][1]),
        *((words, "the node finds the fee too low") for words in WORDS["it pays too little"][1]),
        ("NonceGap, Future nonce. Expected nonce: 5", "took its place"),
        ("Transaction nonce is too distant from current sender nonce", "took its place"),
        ("insufficient funds for gas * price + value: balance 0", "has too little ether"),
        ("InsufficientFunds, Balance is zero, cannot pay gas", "has too little ether"),
        ("Upfront cost exceeds account balance", "has too little ether"),
        ("exceeds block gas limit", "more gas than the chain's blocks have"),
        ("Transaction gas limit exceeds block gas limit", "more gas than the chain's blocks have"),
        ("GasLimitExceeded, Gas limit: 1", "more gas than the chain's blocks have"),
        ("nobody has ever said this", "the node did not take the call (nobody has ever said this)"),
    ],
)
def test_what_nodes_say_becomes_a_sentence(words: str, said: str) -> None:
    error = Web3RPCError(words, rpc_response={"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": words}})
    explanation = explained(error, Web3(), "0x" + "ab" * 20)
    assert explanation is not None
    assert said in str(explanation)


# ------------------------------------------------------------------------------------- a real node


@pytest.fixture
def contract(anvil: Anvil) -> Iterator[LedgerContract]:
    before = anvil.snapshot()
    yield LedgerContract.deploy(anvil.web3, anvil.account("governor"), BLOB)
    anvil.revert(before)


def test_a_real_node_refuses_in_a_sentence(anvil: Anvil, contract: LedgerContract) -> None:
    with pytest.raises(Refused, match=r"^0x[0-9a-fA-F]{40} is not the governor: ") as refused:
        contract.change_charter(anvil.account("stranger"), BLOB)
    assert refused.value.name == "GovernorOnly"


@pytest.mark.parametrize("wei", [0, 1000, 10**13])
def test_an_account_without_enough_ether_is_told_so(anvil: Anvil, contract: LedgerContract, wei: int) -> None:
    poor: LocalAccount = Account.from_key(keccak(b"poor"))
    contract.admit(anvil.account("governor"), poor.address, Role.PARTICIPANT, "poor")
    anvil.rpc("anvil_setBalance", poor.address, hex(wei))
    with pytest.raises(UsageError, match=f"^{poor.address} has too little ether for this transaction: "):
        contract.accept(poor, BLOB, AGE_KEY)


def test_an_account_without_ether_is_told_so_on_the_embedded_chain_too() -> None:
    chain = EmbeddedChain()
    poor: LocalAccount = Account.from_key(keccak(b"poor"))
    with pytest.raises(UsageError, match="has too little ether for this transaction: "):
        LedgerContract.deploy(chain.web3, poor, BLOB)


def test_a_call_that_was_overtaken_between_estimate_and_block_says_by_what(
    anvil: Anvil, contract: LedgerContract
) -> None:
    governor, rivals = anvil.account("governor"), [anvil.account(f"aggregator {number}") for number in (1, 2)]
    site = anvil.account("site")
    for account, role in [(site, Role.PARTICIPANT), *((rival, Role.AGGREGATOR) for rival in rivals)]:
        contract.admit(governor, account.address, role, "member")
        contract.accept(account, BLOB, AGE_KEY)
    contract.record_genesis(governor, BLOB)
    said: list[str | None] = [None, None]

    def open_round(number: int) -> None:
        try:
            contract.open(rivals[number], BLOB, 0, Terms(600, 60, 1, 0, 0, False))
        except Refused as refused:
            said[number] = str(refused)

    anvil.rpc("evm_setAutomine", False)
    threads = [threading.Thread(target=open_round, args=[number]) for number in (0, 1)]
    for thread in threads:
        thread.start()
    while int(anvil.rpc("txpool_status")["pending"], 16) < 2:
        assert all(thread.is_alive() for thread in threads)
    anvil.rpc("evm_mine")
    anvil.rpc("evm_setAutomine", True)
    for thread in threads:
        thread.join()
    assert sorted(map(str, said)) == ["None", "round 1 is still open: settle or abort it first"]


def test_a_node_that_does_not_answer_is_unavailable() -> None:
    with Anvil() as node:
        web3 = connect(node.url)
        assert web3.eth.chain_id == 31337
        node.stop()
        with pytest.raises(UnavailableError, match=r"^the node at http://.* does not answer \(Connection refused\): "):
            assert web3.eth.chain_id
