"""A node that lies, seen through its own RPC: a real one, whose answers are changed on their way."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_hash.auto import keccak
from web3 import HTTPProvider, Web3
from web3.types import RPCEndpoint, RPCResponse

from ledger.audit.checks import audit, unreadable
from ledger.audit.observe import observe
from ledger.audit.origin import Claims, Provider
from ledger.audit.report import Report, Verdict
from ledger.chain.contract import LedgerContract
from ledger.errors import FedledgerError, ViolationError
from ledger.facts import AttestationRecorded
from ledger.receipts import Remembered
from tests.anvil import Anvil
from tests.world import World, every_kind_of_entry

Lie = Callable[[str, Any], Any]
"""Given a method and the true result, the result that the node tells."""


class Liar(HTTPProvider):
    """A provider between the auditor and a real node."""

    def __init__(self, url: str, lie: Lie) -> None:
        super().__init__(url)
        self._lie = lie

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        answer = super().make_request(method, params)
        if "result" in answer:
            answer["result"] = self._lie(method, answer["result"])
        return answer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The history with every kind of entry, on a real node of its own."""
    with Anvil() as anvil:
        yield every_kind_of_entry(tmp_path_factory.mktemp("live"), anvil)


def seen_through(world: World, lie: Lie) -> LedgerContract:
    provider = world.chain.web3.provider
    assert isinstance(provider, HTTPProvider)
    return LedgerContract.attach(Web3(Liar(str(provider.endpoint_uri), lie)), world.contract.address)


def truth(world: World) -> list[Remembered]:
    return world.contract.refolded()


def block_hash(world: World) -> bytes:
    return bytes(world.chain.web3.eth.get_block("latest")["hash"])


def audited(world: World, lie: Lie, claims: Claims | None = None) -> Report:
    """What the audit of a live ledger says, when its node lies."""
    try:
        contract = seen_through(world, lie)
        trusted = claims.block_hash if claims else None
        return audit(observe(contract, world.store, trusted), claims)
    except FedledgerError as error:
        return unreadable(error)


def honest(_: str, result: Any) -> Any:
    return result


def without(at: int) -> Lie:
    """A node that keeps one event to itself."""

    def lie(method: str, result: Any) -> Any:
        return [log for number, log in enumerate(result) if number != at] if method == "eth_getLogs" else result

    return lie


def editing(at: int) -> Lie:
    """A node that edits a digest in an event."""

    def lie(method: str, result: Any) -> Any:
        if method == "eth_getLogs":
            data = result[at]["data"]
            result[at]["data"] = data[:-65] + ("0" if data[-65] != "0" else "1") + data[-64:]
        return result

    return lie


def stale(world: World, left_out: int) -> Lie:
    """A node that shows an older state, consistent with itself."""
    head = "0x" + truth(world)[-1 - left_out][1].hex()

    def lie(method: str, result: Any) -> Any:
        if method == "eth_getLogs":
            return result[:-left_out]
        return head if method == "eth_call" and len(result) == 66 else result

    return lie


def other_code(method: str, result: Any) -> Any:
    return result[:-2] + "00" if method == "eth_getCode" else result


def forging(part: str) -> Lie:
    """A node that forges a part of its storage proof."""

    def lie(method: str, result: Any) -> Any:
        if method == "eth_getProof":
            nodes = result["accountProof"] if part == "account" else result["storageProof"][0]["proof"]
            if part in ("account", "storage"):
                nodes[-1] = nodes[-1][:-2] + ("00" if nodes[-1][-2:] != "00" else "01")
            if part == "nothing":
                result["accountProof"], result["storageProof"][0]["proof"] = [], []
        if method == "eth_getBlockByHash" and part == "state root":
            result["stateRoot"] = "0x" + "12" * 32
        return result

    return lie


def nothing(_: World) -> Claims:
    return Claims()


def a_head(world: World) -> Claims:
    return Claims(head=truth(world)[-1][1])


def receipts(world: World) -> Claims:
    return Claims(receipts=(("an auditor's receipts", tuple(truth(world)[-2:])),))


def a_block(world: World) -> Claims:
    return Claims(block_hash=block_hash(world))


def another_block(_: World) -> Claims:
    return Claims(block_hash=keccak(b"another block"))


def a_second_node(world: World) -> Claims:
    return Claims(providers=(Provider("http://second", tuple(truth(world))),))


def attestation(world: World) -> int:
    return next(at for at, (one, _) in enumerate(truth(world)) if isinstance(one.fact, AttestationRecorded))


VIOLATED, INCOMPLETE = Verdict.VIOLATED, Verdict.INCOMPLETE
FRAUDS: dict[str, tuple[Callable[[World], Lie], Callable[[World], Claims], int, Verdict, list[str]]] = {
    "withholds the first event": (
        lambda _: without(0), nothing, 2, VIOLATED, ["do not refold to the head that the source"]),
    "withholds an event": (lambda _: without(20), nothing, 2, VIOLATED, ["do not refold to the head that the source"]),
    "withholds the last event": (lambda world: without(len(truth(world)) - 1), nothing, 2, VIOLATED, ["do not refold"]),
    "edits an event": (lambda world: editing(attestation(world)), nothing, 2, VIOLATED, ["do not refold"]),
    "edits an event that is signed": (
        lambda world: editing(attestation(world)), nothing, 3, VIOLATED,
        ["member 5 (Auditor, 0x", "does not ask for this"]),
    "shows a stale state, to who knows a head": (
        lambda world: stale(world, 3), a_head, 2, VIOLATED, ["no entry leads to the head given"]),
    "shows a stale state, to who has receipts": (
        lambda world: stale(world, 3), receipts, 4, INCOMPLETE,
        ["an auditor's receipts remembers entries after the last one here", "nothing: it ends before"]),
    "shows a stale state, to who asks another node": (
        lambda world: stale(world, 3), a_second_node, 2, INCOMPLETE,
        ["provider http://second shows 3 entries after the last one here"]),
    "shows a stale state, to who trusts a block": (
        lambda world: stale(world, 3), a_block, 2, VIOLATED, ["no entry leads to the storage proof from block"]),
    "shows other code": (
        lambda _: other_code, nothing, 1, VIOLATED, ["is not the ledger of this version of fedledger"]),
    "forges the proof of the account": (
        lambda _: forging("account"), a_block, 2, VIOLATED, ["does not lead to the ledger"]),
    "forges the proof of the head": (
        lambda _: forging("storage"), a_block, 2, VIOLATED, ["does not lead to the ledger's head"]),
    "gives an empty proof": (
        lambda _: forging("nothing"), a_block, 2, VIOLATED, ["does not lead to the ledger's head"]),
    "forges the block's header": (lambda _: forging("state root"), a_block, 2, VIOLATED, ["the storage proof"]),
}  # fmt: skip
"""Name to the lie, what is known from elsewhere, the check that catches it, what that says, and which words."""


@pytest.mark.parametrize("name", FRAUDS)
def test_a_lie_is_caught_by_its_check(name: str, world: World) -> None:
    lie, claims, check, verdict, expected = FRAUDS[name]
    report = audited(world, lie(world), claims(world))
    sentences = [one.sentence for one in report.checks[check - 1].findings if one.verdict is verdict]
    assert any(all(word in sentence for word in expected) for sentence in sentences), sentences
    assert report.verdict is verdict


def test_an_honest_node_is_believed_on_the_hash_of_a_block(world: World) -> None:
    report = audited(world, honest, a_block(world))
    assert report.verdict is Verdict.VERIFIED
    assert [ground.kind for ground in report.rests_on] == ["block"]
    assert "0x" + truth(world)[-1][1].hex() in report.rests_on[0].text


def test_the_proof_of_another_block_proves_nothing_and_is_no_evidence_either(world: World) -> None:
    report = audit(observe(world.contract, world.store, block_hash(world)), another_block(world))
    assert report.verdict is Verdict.INCOMPLETE
    assert [ground.kind for ground in report.rests_on] == ["source"]
    sentences = "\n".join(finding.sentence for finding in report.checks[1].findings)
    assert "from another block than the one whose hash was given" in sentences
    assert "found 0x" + block_hash(world).hex() in sentences


def test_two_nodes_that_tell_two_histories_are_both_named_with_the_fork(world: World, tmp_path: Path) -> None:
    with Anvil() as other:
        rewritten = World(tmp_path, chain=other)
        assert rewritten.contract.address == world.contract.address, "the same accounts make the same ledger"
        second = Provider("http://second", tuple(rewritten.contract.refolded()))
        report = audited(world, honest, Claims(providers=(second,)))
    assert report.verdict is Verdict.VIOLATED
    sentences = "\n".join(finding.sentence for finding in report.checks[1].findings)
    assert "what provider http://second shows is another history: the last entry in common is" in sentences


def test_a_node_whose_entries_do_not_lead_to_its_head_is_no_second_opinion(world: World) -> None:
    with pytest.raises(ViolationError, match="refold to head"):
        seen_through(world, without(5)).refolded()


def test_a_chain_whose_headers_hash_otherwise_is_refused_in_one_sentence(world: World) -> None:
    def besu(method: str, result: Any) -> Any:
        if method == "eth_getBlockByHash":
            result["mixHash"] = "0x63746963616c2062797a616e74696e65206661756c7420746f6c6572616e6365"
        return result

    report = audited(world, besu, a_block(world))
    assert report.verdict is Verdict.INCOMPLETE
    sentences = [one.sentence for one in report.checks[1].findings if one.verdict is Verdict.INCOMPLETE]
    assert "Besu's QBFT or IBFT" in sentences[0]
