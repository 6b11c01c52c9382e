"""Privacy on the command line: an audit with a key, grants, erasures, and updates that are not sealed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger.chain.contract import LedgerContract
from ledger.cid import RAW, Cid
from ledger.errors import BlobMissingError
from ledger.facts import ErasureReason
from ledger.storage.folder import FolderStore
from tests.cli import Cli, kinds


def key_blob(cli: Cli, member: int, number: int = 1) -> Cid:
    [update] = [one for one in cli.look("round", "show", str(number))["updates"] if one["member"] == member]
    return Cid(bytes.fromhex(update["key_blob"][2:]), RAW)


def audit(cli: Cli, *arguments: str) -> tuple[int, str]:
    """What an audit of the ledger on its node says, without any memory."""
    source = ("audit", cli.anvil.url, "--ledger", cli.ledger, "--store", cli.store, "--head", head(cli))
    result = cli.run("nobody", *source, *arguments)
    return result.exit_code, result.output


def head(cli: Cli) -> str:
    return str(cli.look("status")["head"])


def identity(cli: Cli, party: str) -> str:
    return str(cli.state / party / "age.key")


# ------------------------------------------------------------------------------------------------- audit


def test_an_auditor_opens_the_updates_with_its_key_and_who_has_none_is_told_what_that_leaves(cli: Cli) -> None:
    cli.settled()
    status, said = audit(cli, "--identity", identity(cli, "auditor"))
    assert (status, "Verified: " in said) == (0, True)
    status, said = audit(cli)
    assert status == 3
    assert "sealed: without a key that opens its updates it is not settled again (give --identity)" in said
    status, said = audit(cli, "--public")
    assert status == 0
    assert "the updates of 1 of 1 rounds stayed sealed" in said
    status, said = audit(cli, "--identity", identity(cli, "site 1"))
    assert (status, "ask an auditor or the aggregator for a grant" in said) == (3, True)


def test_an_audit_says_how_many_rounds_are_not_sealed(cli: Cli) -> None:
    cli.open(seal="none")
    for member in (1, 2):
        cli.ok(f"site {member}", "round", "post", "1", cli.update(member), "--weight", "10")
    cli.ok("site 1", "round", "post", "1", cli.update(1), "--weight", "10")
    cli.ok("aggregator", "round", "settle")
    status, said = audit(cli)
    assert (status, "the updates of 1 of them NOT SEALED" in said) == (0, True)


# ------------------------------------------------------------------------------------------------- grant


def later(cli: Cli) -> None:
    """A new auditor, after the rounds."""
    cli.ok("governor", "member", "admit", cli.address("later"), "--name", "later", "--role", "auditor")
    cli.ok("later", "charter", "accept", "--age-key", cli.age_key("later"))


@pytest.mark.parametrize("grantor", ["aggregator", "auditor"])
def test_a_later_auditor_opens_what_was_granted(cli: Cli, grantor: str) -> None:
    cli.settled()
    later(cli)
    assert audit(cli, "--identity", identity(cli, "later"))[0] == 3
    told = cli.ok(grantor, "grant", "--to", cli.address("later"))
    assert (kinds(told), told["rounds"], told["updates"]) == (["GrantRecorded"], [1], 2)
    assert audit(cli, "--identity", identity(cli, "later"))[0] == 0
    shown = cli.look("round", "show", "1")
    assert shown["readers"] == [3, 4]
    assert [(one["member"], one["to"]) for one in shown["grants"]] == [(4 if grantor == "auditor" else 3, 5)]


def test_a_grant_can_be_granted_on(cli: Cli) -> None:
    cli.settled()
    later(cli)
    cli.ok("auditor", "grant", "--to", cli.address("later"), "--rounds", "1")
    cli.ok("governor", "member", "admit", cli.address("last"), "--name", "last", "--role", "auditor")
    cli.ok("last", "charter", "accept", "--age-key", cli.age_key("last"))
    cli.ok("later", "grant", "--to", cli.address("last"))
    assert audit(cli, "--identity", identity(cli, "last"))[0] == 0


def test_only_aggregators_and_auditors_grant_and_only_to_who_has_a_key(cli: Cli) -> None:
    cli.settled()
    cli.ok("governor", "member", "admit", cli.address("later"), "--name", "later", "--role", "auditor")
    to = ("grant", "--to", cli.address("later"))
    assert "has no age key to seal to: it publishes one by joining" in cli.refused(2, "auditor", *to)
    cli.ok("later", "charter", "accept", "--age-key", cli.age_key("later"))
    assert "member 1 is no aggregator or auditor" in cli.refused(1, "site 1", *to)
    assert "you can open no sealed update" in cli.refused(2, "later", *to)
    assert "round 2 has not ended" in cli.refused(2, "auditor", *to, "--rounds", "1-2")


# ------------------------------------------------------------------------------------------------- erase


def test_an_erased_update_opens_to_nobody_any_more_and_its_erasure_is_on_record(cli: Cli) -> None:
    cli.settled()
    update = cli.look("round", "show", "1")["updates"][0]["update"]
    gone = key_blob(cli, 1)
    told = cli.ok("site 1", "erase", update, "--reason", "request")
    assert (len(told["recorded"]), told["blob"], told["removed"]) == (1, str(gone), True)
    assert not (Path(cli.store) / str(gone)).exists()
    assert (Path(cli.store) / update).exists(), "what nobody opens is no harm, and shows that the hash is a true one"
    status, said = audit(cli, "--identity", identity(cli, "auditor"))
    assert status == 3
    assert "erased by record" in said
    assert "not recomputable, since this update was erased by record" in said
    assert "violated" not in said
    later(cli)
    assert cli.ok("auditor", "grant", "--to", cli.address("later"))["updates"] == 1, "erased is erased, also for grants"
    again = cli.ok("site 1", "erase", update, "--reason", "request")
    assert (again["recorded"], again["removed"]) == ([], True)


def test_with_an_auditors_approval_before_the_erasure_the_audit_rests_on_it(cli: Cli) -> None:
    cli.settled()
    cli.ok("auditor", "attest", "1")
    cli.ok("governor", "erase", str(key_blob(cli, 1)), "--reason", "withdrawal")
    status, said = audit(cli, "--identity", identity(cli, "auditor"))
    assert (status, "it rests on an auditor's earlier approval" in said) == (0, True)


def test_who_may_not_erase_is_told_so_and_nothing_is_lost(cli: Cli) -> None:
    cli.settled()
    blob = str(key_blob(cli, 1))
    assert "is neither the present account" in cli.refused(1, "site 2", "erase", blob, "--reason", "request")
    assert (Path(cli.store) / blob).exists()
    cli.open()
    cli.ok("site 1", "round", "post", "2", cli.update(1), "--weight", "10")
    open_ = str(key_blob(cli, 1, 2))
    assert "round 2 is still open" in cli.refused(1, "site 1", "erase", open_, "--reason", "request")
    assert (Path(cli.store) / open_).exists()


def test_what_several_posted_is_erased_for_whom_it_is_said(cli: Cli) -> None:
    cli.open(quorum=1)
    cli.ok("site 1", "round", "post", "1", cli.update(1), "--weight", "10")
    own = cli.look("round", "show", "1")["updates"][0]
    contract = LedgerContract.attach(cli.anvil.web3, cli.ledger)
    digest = bytes.fromhex(own["key_blob"][2:])
    contract.post_update(cli.party("site 2"), 1, Cid.parse(own["update"]), 10, digest)
    cli.ok("aggregator", "round", "settle")
    erase = ("erase", own["update"], "--reason", "mistake")
    assert "was posted 2 times (round 1 by member 1, round 1 by member 2)" in cli.refused(2, "site 1", *erase)
    assert cli.ok("site 2", *erase, "--member", "2")["removed"] is False, "it is site 1's, too"
    assert (Path(cli.store) / str(key_blob(cli, 1))).exists()
    assert cli.ok("site 1", *erase, "--member", "1", "--round", "1")["removed"] is True


def test_a_mirror_follows_an_erasure(cli: Cli, tmp_path: Path) -> None:
    cli.settled()
    mirror = {"FEDLEDGER_STORE": str(tmp_path / "mirror")}
    copies = FolderStore(tmp_path / "mirror")
    for path in Path(cli.store).iterdir():
        copies.copy(Cid.parse(path.name), FolderStore(Path(cli.store)))
    gone = key_blob(cli, 2)
    assert copies.get(gone)
    cli.ok("site 2", "erase", str(gone), "--reason", "request")
    result = cli.run("nobody", "mirror", "--json", environment=mirror)
    assert (result.exit_code, json.loads(result.stdout)["missing"]) == (0, [])
    with pytest.raises(BlobMissingError):
        copies.get(gone)


# ----------------------------------------------------------------------------------------------- unsealed


def test_a_plan_that_leaves_updates_unsealed_is_said_loudly_wherever_somebody_meets_it(cli: Cli) -> None:
    cli.open(seal="none")
    loud = cli.run("site 1", "round", "post", "1", cli.update(1), "--weight", "10")
    assert loud.exit_code == 0
    assert "WHOEVER FINDS THIS UPDATE CAN READ IT" in loud.stderr
    assert "Not stored yet: say the same again once the round takes no more updates." in loud.stdout
    assert "NO      b" in cli.run("nobody", "round", "show", "1").stdout
    cli.ok("aggregator", "round", "abort", "1", "--reason", "cancelled")
    opened = cli.run("aggregator", "round", "open", str(cli.path("plan.json")))
    assert "WHOEVER FINDS THE UPDATES OF THIS ROUND CAN READ THEM" in opened.stderr


def test_an_unsealed_update_is_stored_once_no_other_can_be_posted(cli: Cli) -> None:
    cli.open(seal="none")
    post = ("round", "post", "1", cli.update(1, 11), "--weight", "11")  # as no other test has it in this store
    stored = {path.name for path in Path(cli.store).iterdir()}
    told = cli.ok("site 1", *post)
    assert told["stored"] is False
    assert {path.name for path in Path(cli.store).iterdir()} == stored
    assert not (Path(cli.store) / told["update"]).exists()
    assert "still takes updates, which could be copies of" in cli.refused(2, "site 1", *post)
    assert cli.ok("site 2", "round", "post", "1", cli.update(2), "--weight", "10")["stored"] is True, "it is the last"
    assert cli.ok("site 1", *post) == {"recorded": [], "update": told["update"], "stored": True}
    assert cli.ok("aggregator", "round", "settle")["counted"] == 2


def test_whoever_names_a_key_blob_later_as_a_report_keeps_nobody_from_erasing_it(cli: Cli) -> None:
    cli.settled()
    gone = key_blob(cli, 1)
    contract = LedgerContract.attach(cli.anvil.web3, cli.ledger)
    contract.attest(cli.party("auditor"), 1, False, gone)
    contract.grant(cli.party("aggregator"), 4, 1, 1, gone)
    assert cli.ok("site 1", "erase", str(gone), "--reason", "request")["removed"] is True
    status, said = audit(cli, "--identity", identity(cli, "auditor"))
    assert (status, "erased by record" in said, "violated" in said) == (3, True, False)


def test_a_mirror_keeps_what_is_no_update_of_this_ledger_whoever_erases_it(cli: Cli) -> None:
    """A store can hold another ledger's blobs, too."""
    cli.open()
    store = FolderStore(Path(cli.store))
    foreign = store.put(b"the model of another ledger")
    contract = LedgerContract.attach(cli.anvil.web3, cli.ledger)
    contract.post_update(cli.party("site 1"), 1, foreign, 10)
    cli.ok("aggregator", "round", "abort", "1", "--reason", "cancelled")
    contract.erase(cli.party("site 1"), 1, 1, foreign.digest, ErasureReason.REQUEST)
    cli.look("mirror")
    assert store.get(foreign) == b"the model of another ledger"
