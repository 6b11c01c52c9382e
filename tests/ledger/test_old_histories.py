"""Histories of earlier versions still audit: each was exported from a real node (anvil) by the version in its name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from ledger.audit.bundle import read_bundle
from ledger.audit.checks import audit
from ledger.audit.evidence import Evidence
from ledger.audit.observe import observe
from ledger.audit.origin import Claims
from ledger.audit.report import Report, Verdict
from ledger.chain.artifact import artifact
from ledger.chain.contract import LedgerContract
from ledger.chain.sending import PLAIN, send
from ledger.cid import cid_of
from ledger.entries import Entry, extend
from ledger.errors import UsageError
from ledger.facts import GrantRecorded, Role
from ledger.storage.folder import FolderStore
from tests.chains import Embedded

GOLDEN = Path(__file__).parent / "golden"
HISTORIES = {
    "ledger-0.1.0.car": (
        "0b1ada415031baa55bfc156fbbb1855c51ac4e6d11114f60e786af9ec383e7fd",
        "ec2e25a791cbaf73577754e0e734747be555c17cb31890bf23909e709b4a86a6",
    ),
}
"""By bundle: its head, and the hash of the block of its last entry."""


def test_every_history_that_is_kept_is_audited() -> None:
    assert {path.name for path in GOLDEN.glob("ledger-*.car")} == HISTORIES.keys()


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_of_an_earlier_version_is_verified_on_its_head_and_on_its_block(name: str) -> None:
    head, block = map(bytes.fromhex, HISTORIES[name])
    report = audit(read_bundle(GOLDEN / name), Claims(head=head, block_hash=block))
    assert report.verdict is Verdict.VERIFIED
    assert [ground.kind for ground in report.rests_on] == ["head", "block"]
    assert report.checks[2].summary == f"{report.entries} of {report.entries} entries by a signature"
    assert (report.entries, report.rounds, report.updates) == (44, 5, 8)
    assert (GOLDEN / name).stat().st_size < 1 << 20


# ---------------------------------------------------- the contract of 0.1.0, which records no grants

HEAD = bytes.fromhex(HISTORIES["ledger-0.1.0.car"][0])


@pytest.fixture
def evidence() -> Evidence:
    return read_bundle(GOLDEN / "ledger-0.1.0.car")


def said(report: Report, check: int = 1) -> list[tuple[Verdict, str]]:
    return [(one.verdict, one.sentence) for one in report.checks[check - 1].findings]


def test_the_audit_of_an_earlier_contract_says_which_one_it_is(evidence: Evidence) -> None:
    report = audit(evidence, Claims(head=HEAD))
    [(_, contract), (_, source)] = said(report)
    assert "the ledger's contract is that of fedledger 0.1.0, which records no grants" in contract
    assert "do not read it there" in source
    assert report.verdict is Verdict.VERIFIED


def test_a_code_that_is_none_of_any_version_is_no_ledgers(evidence: Evidence) -> None:
    assert evidence.code is not None
    report = audit(replace(evidence, code=evidence.code + b"\0"), Claims(head=HEAD))
    assert "is not the contract that this fedledger ships" in said(report)[0][1]
    assert report.verdict is Verdict.VIOLATED


def test_the_compiled_contract_beside_an_earlier_code_is_that_of_this_code(evidence: Evidence) -> None:
    wrong = "the compiled contract beside it is not the ledger's"
    shipped = audit(replace(evidence, artifact=artifact().raw), Claims(head=HEAD))
    assert (Verdict.VIOLATED, True) in [(verdict, wrong in text) for verdict, text in said(shipped)]
    newer = replace(evidence, code=bytes.fromhex(artifact().runtime_bytecode[2:]))
    assert [wrong in text for _, text in said(audit(newer, Claims(head=HEAD)))] == [True]
    unseen = audit(replace(evidence, code=None), Claims(head=HEAD))
    assert unseen.verdict is Verdict.INCOMPLETE
    assert audit(replace(evidence, artifact=None), Claims(head=HEAD)).verdict is Verdict.VERIFIED


def test_compiling_the_shipped_source_says_nothing_of_an_earlier_contract(evidence: Evidence) -> None:
    recompiled = bytes.fromhex(artifact().runtime_bytecode[2:])
    report = audit(evidence, Claims(head=HEAD, recompiled=recompiled))
    assert report.verdict is Verdict.INCOMPLETE
    assert any("compile it with fedledger 0.1.0" in text for _, text in said(report))


def test_a_grant_on_an_earlier_contract_is_invented_whatever_its_head(evidence: Evidence) -> None:
    last, head = evidence.entries[-1]
    fact = GrantRecorded(4, 5, 1, 3, cid_of(b"keys"))
    grant = Entry(last.index + 1, fact, last.block + 1, last.time + 1, "0x" + "12" * 32)
    head = extend(head, grant)
    report = audit(replace(evidence, entries=(*evidence.entries, (grant, head)), head=head))
    [invented] = [one for one in report.checks[0].findings if one.verdict is Verdict.VIOLATED]
    assert "records no grants: this one was invented" in invented.sentence
    assert (invented.entry, invented.block) == (grant.index, grant.block)


def test_a_ledger_with_an_earlier_contract_goes_on_and_takes_no_grants(evidence: Evidence, tmp_path: Path) -> None:
    chain, store = Embedded(), FolderStore(tmp_path / "blobs")
    governor: LocalAccount = Account.from_key(keccak(b"governor"))
    chain.fund(governor.address)
    compiled, charter = json.loads(evidence.artifact or b""), store.put(b"# Charter\n")
    earlier = chain.web3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
    receipt = send(chain.web3, governor, earlier.constructor((charter.digest, charter.codec)), PLAIN)
    contract = LedgerContract.attach(chain.web3, str(receipt["contractAddress"]))
    contract.admit(governor, governor.address, Role.AGGREGATOR, "Aggregator")
    contract.accept(governor, charter, keccak(b"age key"))
    head = contract.head()
    with pytest.raises(UsageError, match=r"is that of fedledger 0\.1\.0, which records no grants") as refused:
        contract.grant(governor, 1, 1, 1, charter)
    assert "\n" not in str(refused.value)
    assert contract.head() == head
    shown = observe(contract, store)
    assert shown.artifact is None, "the source of this contract is not the one that is shipped"
    report = audit(shown, Claims(head=head))
    assert report.verdict is Verdict.VERIFIED
    assert [("fedledger 0.1.0" in text) for _, text in said(report)] == [True]
