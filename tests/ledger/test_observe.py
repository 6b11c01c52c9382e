"""What a node tells of a ledger's transactions is put back together to what was signed, byte for byte."""

from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from web3 import Web3

from ledger.audit.checks import audit
from ledger.audit.observe import observe
from ledger.audit.origin import Claims
from ledger.audit.report import Report, Verdict
from ledger.chain.artifact import artifact
from ledger.chain.transactions import SignedTransaction
from ledger.entries import name_bytes
from ledger.facts import Role
from tests.chains import Chain, Embedded
from tests.world import PLAN, World, tensors

ACCESS = [{"address": "0x" + "12" * 20, "storageKeys": ["0x" + "00" * 32, "0x" + "34" * 32]}]
FEES = {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9}
KINDS: dict[str, dict[str, Any]] = {
    "of type 0": {"gasPrice": 10**11},
    "of type 0 for no chain": {"gasPrice": 10**11, "chainId": None},
    "of type 1": {"type": 1, "gasPrice": 10**11, "accessList": []},
    "of type 1 with an access list": {"type": 1, "gasPrice": 10**11, "accessList": ACCESS},
    "of type 2": {"type": 2, **FEES},
    "of type 2 with an access list": {"type": 2, **FEES, "accessList": [*ACCESS, {**ACCESS[0], "storageKeys": []}]},
}

# PUSH1 32, CALLDATASIZE, SUB, …: call the account in the first word with the rest of the data; revert if that does.
FORWARDER = bytes.fromhex("602036038060206000376000600082600060006000355af160205760006000fd5b00")
DEPLOYED = bytes.fromhex("602280600b6000396000f3") + FORWARDER


@pytest.fixture(params=["anvil", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """A new ledger on a real node, and on the embedded chain."""
    chain: Chain = request.getfixturevalue("anvil") if request.param == "anvil" else Embedded()
    return World(tmp_path, chain=chain)


def call(function: str, *arguments: Any) -> bytes:
    data = Web3().eth.contract(abi=artifact().abi).encode_abi(function, arguments)
    return bytes.fromhex(data[2:])


def send(world: World, account: LocalAccount, to: str | None, data: bytes, **fields: Any) -> tuple[str, bytes, Any]:
    """Send a transaction, and give its hash, its signed bytes and its receipt."""
    web3 = world.chain.web3
    asked: dict[str, Any] = {
        "chainId": web3.eth.chain_id,
        "nonce": web3.eth.get_transaction_count(web3.to_checksum_address(account.address)),
        "gas": 1_000_000,
        "value": 0,
        "data": data,
        **({} if to is None else {"to": to}),
        **(fields or {"type": 2, **FEES}),
    }
    signed = account.sign_transaction({name: value for name, value in asked.items() if value is not None})
    receipt = web3.eth.wait_for_transaction_receipt(web3.eth.send_raw_transaction(signed.raw_transaction))
    assert receipt["status"] == 1
    return "0x" + bytes(signed.hash).hex(), bytes(signed.raw_transaction), receipt


def audited(world: World, **claims: Any) -> Report:
    return audit(observe(world.contract, world.store), Claims(head=world.contract.head(), **claims))


def sentences(report: Report, verdict: Verdict) -> list[str]:
    return [one.sentence for one in report.checks[2].findings if one.verdict is verdict]


def admission(name: str) -> bytes:
    account = Web3.to_checksum_address(keccak(name.encode())[12:])
    return call("admit", account, int(Role.AUDITOR), name_bytes(name))


@pytest.mark.parametrize("kind", KINDS)
def test_a_transaction_of_every_kind_is_read_back_as_it_was_signed(world: World, kind: str) -> None:
    hashed, raw, receipt = send(world, world.governor, world.contract.address, admission(kind), **KINDS[kind])
    seen = observe(world.contract, world.store).sent[hashed]
    assert seen.raw == raw
    assert "0x" + keccak(seen.raw).hex() == hashed
    assert seen.gas == receipt["gasUsed"]
    assert SignedTransaction.parse(seen.raw).sender == world.governor.address.lower()
    report = audited(world)
    if kind == "of type 0 for no chain":
        assert report.verdict is Verdict.INCOMPLETE
        assert "was signed for no chain in particular" in sentences(report, Verdict.INCOMPLETE)[0]
    else:
        assert report.verdict is Verdict.VERIFIED
        assert report.checks[2].summary.startswith(f"{report.entries} of {report.entries} entries by a signature")


# -------------------------------------------------------------------------------------- contract accounts


class Contract:
    """A contract that acts for a party, and sends to the ledger what `owner` tells it to."""

    def __init__(self, world: World, owner: LocalAccount) -> None:
        self.world, self.owner = world, owner
        self.address: str = send(world, owner, None, DEPLOYED)[2]["contractAddress"]

    def send(self, data: bytes) -> None:
        target = bytes(12) + bytes.fromhex(self.world.contract.address[2:])
        send(self.world, self.owner, self.address, target + data)


def test_what_a_contract_account_did_is_not_provable_by_a_signature_and_said_so(world: World) -> None:
    owner = world.account("owner of a contract account")
    safe = Contract(world, owner)
    world.contract.offer_governance(world.governor, safe.address)
    safe.send(call("takeGovernance"))
    safe.send(admission("Regulator"))
    history = world.contract.history()
    assert history.governor == safe.address.lower()
    assert history.members[6].name == "Regulator"
    report = audited(world)
    assert report.verdict is Verdict.INCOMPLETE
    assert report.checks[2].summary.startswith(f"{report.entries - 2} of {report.entries} entries by a signature")
    said = sentences(report, Verdict.INCOMPLETE)
    assert len(said) == 2
    through = f"it came through the contract {safe.address.lower()}: that {safe.address.lower()} asked for it"
    for sentence in said:
        assert f"{through} is not provable by a signature; if that account is a contract" in sentence
        assert f"found sent by {owner.address.lower()}" in sentence
    known_as_contract(world, safe, 2)


def known_as_contract(world: World, safe: Contract, entries: int) -> None:
    """Who knows that the account is a contract says so, and the verdict rests on that."""
    report = audited(world, contracts=frozenset({safe.address.lower()}))
    assert report.verdict is Verdict.VERIFIED
    assert report.checks[2].summary.startswith(f"{report.entries - entries} of {report.entries} entries by a signature")
    assert [ground.kind for ground in report.rests_on] == ["head", "contract"]
    assert report.rests_on[1].text == f"your word on 1 contracts, in whose name are {entries} entries"
    another = audited(world, contracts=frozenset({"0x" + "12" * 20}))
    assert another.verdict is Verdict.INCOMPLETE
    assert [ground.kind for ground in another.rests_on] == ["head"]


def test_a_member_whose_account_is_a_contract_takes_part_and_the_audit_says_what_it_cannot_prove(world: World) -> None:
    owner = world.account("owner of a contract account")
    safe = Contract(world, owner)
    world.contract.admit(world.governor, safe.address, Role.PARTICIPANT, "Bank")
    charter = world.contract.genesis.charter
    safe.send(call("accept", (charter.digest, charter.codec), keccak(b"key")))
    world.aggregator.open(PLAN)
    for member in (1, 2, 3):
        world.post(member, world.update(member, tensors(member)))
    cid = world.store.put(world.update(6, tensors(6)))
    safe.send(call("postUpdate", 1, (cid.digest, cid.codec), bytes(32), 10))
    world.settle()
    report = audited(world)
    assert report.verdict is Verdict.INCOMPLETE
    said = sentences(report, Verdict.INCOMPLETE)
    assert len(said) == 2
    assert all(f"member 6 (Bank, {safe.address.lower()})" in sentence for sentence in said)
    assert f"blob {cid}" in said[1]
    known_as_contract(world, safe, 2)
