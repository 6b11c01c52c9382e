"""round and attest: each command used well, and badly."""

import json
from pathlib import Path

import pytest

from ledger.aggregator import propose
from ledger.chain.contract import LedgerContract
from ledger.choices import FedAdam
from ledger.cid import Cid, cid_of
from ledger.plan import Plan
from ledger.plan_file import update_bytes
from ledger.storage.folder import FolderStore
from tests.cli import Cli, kinds
from tests.world import CHARTER_2, PLAN, SCHEMA, identity_of


def post(cli: Cli, member: int, number: int = 1) -> None:
    cli.ok(f"site {member}", "round", "post", str(number), cli.update(member), "--weight", "10")


def test_a_round_from_opening_to_release(cli: Cli) -> None:
    number = cli.open()
    told = cli.ok("site 1", "round", "post", "1", cli.update(1), "--weight", "10")
    assert kinds(told) == ["UpdateRecorded"]
    assert told["update"] == cli.look("round", "show", "1")["updates"][0]["update"]
    assert told["stored"] is True
    post(cli, 2)
    settled = cli.ok("aggregator", "round", "settle")
    assert (kinds(settled), settled["counted"]) == (["RoundSettled"], 2)
    assert cli.path("blobs").joinpath(settled["model"]).is_file()
    told = cli.ok("auditor", "attest", str(number))
    assert (kinds(told), told["verdict"]) == (["AttestationRecorded"], "approve")
    shown = cli.look("round", "show", "1")
    assert (shown["status"], shown["model"]) == ("released", settled["model"])
    assert [one["member"] for one in shown["updates"]] == [1, 2]


# ------------------------------------------------------------------------------------------- list, show


def test_round_list_and_show_tell_people_where_a_round_stands(cli: Cli) -> None:
    assert "none was opened yet" in cli.refused(2, "nobody", "round", "show")
    cli.settled()
    assert cli.look("round", "list")["rounds"][0]["status"] == "settled"
    line = cli.run("nobody", "round", "list").stdout.splitlines()[1]
    assert line.startswith("1      settled  genesis  2 of 2   0 of 1     0           in ")
    cli.ok("auditor", "attest", "1")
    text = cli.run("nobody", "round", "show").stdout
    assert "1 site 1" in text
    assert "4 auditor       approves" in text
    assert "there is no round 7: the newest is 1" in cli.refused(2, "nobody", "round", "show", "7")


def test_round_show_tells_what_settlement_did_with_each_update_and_its_scores_to_who_can_read_them(cli: Cli) -> None:
    cli.settled({1: {"auc": 0.75}, 2: {"auc": 0.5}}, clipping=1.0)
    said = [line.split() for line in cli.run("auditor", "round", "show", yes=False).stdout.splitlines()]
    assert ["update", "of", "settled", "as", "norm", "distance", "auc"] in said
    rows = {row[0]: row[3:] for row in said if row[1:2] == ["site"] and "weight" in row}
    assert {member: (weight, auc) for member, (_, weight, _, _, auc) in rows.items()} == {
        "1": ("10", "0.75"),
        "2": ("10", "0.5"),
    }
    assert "auc: of the genesis model, as the sites say" in " ".join(map(" ".join, said))
    shown = cli.run("site 1", "round", "show", yes=False).stdout
    assert "0.75" not in shown
    assert "not shown: scores: those of round 1 are sealed to its aggregators and auditors" in shown
    assert [one["score"] for one in cli.look("round", "show")["outcomes"]] == [None, None]


def test_round_show_names_the_blob_of_what_the_server_remembers(cli: Cli) -> None:
    cli.settled(strategy=FedAdam())
    state = cli.look("round", "show")["state"]
    assert FolderStore(Path(cli.store)).get(Cid.parse(state))


# --------------------------------------------------------------------------------------- genesis, open


def test_a_genesis_model_is_a_model_and_there_is_one(cli: Cli) -> None:
    assert "holds no model" in cli.refused(2, "governor", "round", "genesis", cli.file("garbage", "garbage"))
    assert "is recorded already" in cli.refused(1, "governor", "round", "genesis", str(cli.path("model")))
    cli.open()
    assert "its header says something else" in cli.refused(2, "governor", "round", "genesis", cli.update(1))


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("garbage", "is no plan: the file: Invalid JSON"),
        ('{"window": 0}', "is no plan: training: Field required"),
        ('{"windw": 0}', "is no plan: 'windw' is no key of it: did you mean window?"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(cli: Cli, plan: str, said: str) -> None:
    assert said in cli.refused(2, "aggregator", "round", "open", cli.file("plan.json", plan))


def test_a_plan_in_toml_takes_its_tensors_from_the_base_model(cli: Cli) -> None:
    cli.settled()
    cli.ok("auditor", "attest", "1")
    training = "[training]\nepochs = 1\nbatch_size = 8\nlearning_rate = 1\n"
    plan = cli.file("plan.toml", "window = 600\nquorum = 2\napprovals = 1\n" + training)
    assert "round 7 has no released model whose tensors" in cli.refused(
        2, "aggregator", "round", "open", plan, "--base", "7"
    )
    elsewhere = {"FEDLEDGER_STORE": str(cli.path("none"))}
    assert "is not to be had" in cli.refused(3, "aggregator", "round", "open", plan, environment=elsewhere)
    assert cli.ok("aggregator", "round", "open", plan)["round"] == 2
    shown = cli.look("round", "show", "2")
    opened = Plan.decode(cli.path("blobs").joinpath(shown["plan"]).read_bytes())
    assert (shown["base_round"], opened.tensors, opened.max_update_bytes) == (1, SCHEMA, update_bytes(SCHEMA))


def test_a_round_is_not_opened(cli: Cli) -> None:
    plan = cli.file("plan.json", PLAN.encode())
    assert "member 1 is no aggregator here" in cli.refused(1, "site 1", "round", "open", plan)
    assert "round 5 has no released model" in cli.refused(1, "aggregator", "round", "open", plan, "--base", "5")
    cli.ok("governor", "member", "suspend", "1")
    assert "a quorum of 2 is not within 1" in cli.refused(1, "aggregator", "round", "open", plan)
    cli.ok("governor", "member", "roles", "1", "--role", "participant")
    assert kinds(cli.ok("aggregator", "round", "open", plan, "--base", "0")) == ["RoundOpened"]
    assert "round 1 is still open" in cli.refused(1, "aggregator", "round", "open", plan)


def test_a_plan_outside_of_the_charters_limits_is_refused_and_nothing_is_recorded(cli: Cli) -> None:
    cli.ok("governor", "charter", "change", cli.file("two.md", CHARTER_2))
    for name in ("site 1", "site 2", "aggregator", "auditor"):
        cli.ok(name, "charter", "accept")
    before = cli.anvil.web3.eth.block_number
    plan = cli.file("plan.json", PLAN.model_copy(update={"quorum": 1, "approvals": 0}).encode())
    said = "quorum 1, the charter's min_quorum is 2; approvals 0, the charter's min_approvals is 1"
    sentence = cli.refused(2, "aggregator", "round", "open", plan)
    assert sentence == f"{plan} is outside of the charter's limits ({said}): change the plan"
    elsewhere = {"FEDLEDGER_STORE": str(cli.path("none"))}
    assert "is not to be had" in cli.refused(3, "aggregator", "round", "open", plan, environment=elsewhere)
    assert cli.anvil.web3.eth.block_number == before
    assert cli.open() == 1


# -------------------------------------------------------------------------------------- post, relay


def test_an_update_that_would_not_count_is_refused_before_it_is_there_for_ever(cli: Cli) -> None:
    cli.open()
    post = ("round", "post", "1")
    assert "binding: member is 2, expected 1" in cli.refused(2, "site 1", *post, cli.update(2), "--weight", "10")
    assert "binding: examples is 10" in cli.refused(2, "site 1", *post, cli.update(1), "--weight", "11")
    assert "malformed" in cli.refused(2, "site 1", *post, cli.file("garbage", "garbage"), "--weight", "10")
    assert cli.look("round", "show")["updates"] == []


def test_an_update_is_posted_by_a_participant_once_and_in_time(cli: Cli) -> None:
    cli.open()
    by_site_1 = ("round", "post", "1", cli.update(1), "--weight", "10")
    assert "is no member's account" in cli.refused(2, "stranger", *by_site_1)
    post(cli, 1)
    assert "has an update in round 1, and none is ever replaced" in cli.refused(1, "site 1", *by_site_1)
    assert "there is no round 9" in cli.refused(2, "site 1", "round", "post", "9", cli.update(1), "--weight", "10")
    cli.anvil.pass_time(PLAN.window + 121)
    late = cli.refused(1, "site 2", "round", "post", "1", cli.update(2), "--weight", "10")
    assert late.startswith("round 1 closed 2 minutes ago (20")
    assert late.endswith(" UTC): post to the next round")


def test_many_signed_updates_go_in_one_transaction_and_again_they_are_skipped(cli: Cli) -> None:
    cli.open()
    files = [cli.signed(1), cli.signed(2)]
    told = cli.ok("stranger", "round", "relay", *files, files[0])
    assert (kinds(told), told["skipped"]) == (["UpdateRecorded"] * 2, [])
    assert len({row["transaction"] for row in told["recorded"]}) == 1
    assert cli.ok("stranger", "round", "relay", *files) == {"recorded": [], "skipped": files}
    assert f"Skipped {files[0]}: its member has an update" in cli.run("stranger", "round", "relay", files[0]).stderr


def test_an_update_that_its_site_posted_itself_is_skipped_and_the_other_carried(cli: Cli) -> None:
    cli.open()
    files = [cli.signed(1), cli.signed(2)]
    post(cli, 1)
    told = cli.ok("stranger", "round", "relay", *files)
    assert ([row["member"] for row in told["recorded"]], told["skipped"]) == ([2], files[:1])


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"weight": 11}, 1, "did not sign what it says: it was altered"),
        ({"round": 2}, 1, "did not sign what it says: it was altered"),
        ({"account": "0x" + "12" * 20}, 1, "did not sign what it says: it was altered"),
        ({"vs": "0x" + "ff" * 32}, 1, "did not sign what it says: it was altered"),
        ({"r": "0x" + "00" * 32}, 1, "did not sign what it says: it was altered"),
        ({"ledger": "0x" + "12" * 20}, 2, "carry it there"),
        ({"chain_id": 1}, 2, "carry it there"),
        ({"weight": 0}, 2, "is no signed update (weight:"),
        ({"extra": 0}, 2, "is no signed update (extra:"),
    ],
)
def test_a_bad_file_is_named_and_nothing_is_sent(cli: Cli, changes: dict[str, object], status: int, said: str) -> None:
    cli.open()
    good, two = cli.signed(1), Path(cli.signed(2))
    bad = cli.file("bad.json", json.dumps(json.loads(two.read_text()) | changes))
    files = [bad] if "round" in changes else [good, bad]
    sentence = cli.refused(status, "stranger", "round", "relay", *files)
    assert sentence.startswith(bad)
    assert said in sentence
    assert cli.look("round", "show")["updates"] == []


def test_files_of_two_rounds_and_of_none_are_refused(cli: Cli) -> None:
    cli.open()
    first = cli.signed(1)
    cli.ok("aggregator", "round", "abort", "1", "--reason", "cancelled")
    cli.open()
    second = cli.signed(2, 2)
    assert "relay them one by one" in cli.refused(2, "stranger", "round", "relay", first, second)
    assert f"{first}: round 1 is not open" in cli.refused(1, "stranger", "round", "relay", first)
    long = cli.file("long.json", " " * 5000)
    assert "more than 4,096 bytes" in cli.refused(2, "stranger", "round", "relay", long)


def test_a_signed_update_of_a_rewritten_history_is_told_from_one_that_was_altered(cli: Cli) -> None:
    before = cli.anvil.snapshot()
    cli.open()
    signed = cli.signed(1)
    cli.anvil.revert(before)
    cli.anvil.pass_time(5)
    cli.state /= "of members who have seen nothing yet"
    cli.open()
    assert "compare heads before anything else" in cli.refused(1, "stranger", "round", "relay", signed)


# -------------------------------------------------------------------------------- settle, abort, erase


def test_a_round_is_settled_by_an_aggregator_and_not_before_its_end(cli: Cli) -> None:
    assert "no round is open" in cli.refused(2, "aggregator", "round", "settle")
    cli.open()
    post(cli, 1)
    assert "round 1 still takes updates (its deadline: in " in cli.refused(1, "aggregator", "round", "settle")
    post(cli, 2)
    assert "sealed to keys of which none is here" in cli.refused(2, "site 1", "round", "settle")
    assert "member 4 is no aggregator here" in cli.refused(1, "auditor", "round", "settle")


def test_a_settlement_without_a_quorum_aborts_the_round_and_says_why(cli: Cli) -> None:
    cli.open()
    for member in (1, 2):
        post(cli, member)
    cli.path("blobs").joinpath(cli.look("round", "show", "1")["updates"][1]["update"]).unlink()
    result = cli.run("aggregator", "round", "settle")
    assert result.exit_code == 0
    assert "the update of member 2 is excluded: claimed by the aggregator" in result.stdout
    assert "Recorded RoundAborted" in result.stdout
    assert cli.look("round", "show")["reason"] == "quorum"


def test_a_round_is_aborted_by_an_aggregator_or_by_anyone_once_it_has_expired(cli: Cli) -> None:
    cli.open(grace=60)
    abort = ("round", "abort", "1", "--reason")
    assert "is no member's account" in cli.refused(1, "stranger", *abort, "cancelled")
    assert "round 1 expires in 1" in cli.refused(1, "stranger", *abort, "expired")
    assert "there is no round 2" in cli.refused(2, "stranger", "round", "abort", "2", "--reason", "expired")
    cli.anvil.pass_time(PLAN.window + 61)
    assert kinds(cli.ok("stranger", *abort, "expired")) == ["RoundAborted"]
    assert cli.look("round", "show")["reason"] == "expired"


# ---------------------------------------------------------------------------------------------- attest


def test_an_audit_that_finds_something_wrong_is_recorded_as_a_rejection_and_ends_with_1(cli: Cli) -> None:
    cli.open()
    for member in (1, 2):
        post(cli, member)
    contract, store = LedgerContract.attach(cli.anvil.web3, cli.ledger), FolderStore(cli.path("blobs"))
    own = [identity_of(cli.party("aggregator"))]
    manifest = store.put(propose(contract.history(), store, (), own).settlement.manifest.encode())
    genesis = cid_of(cli.path("model").read_bytes())
    contract.settle(cli.party("aggregator"), 1, contract.head(), genesis, manifest, 2)
    result = cli.run("auditor", "attest", "1")
    assert result.exit_code == 1
    assert "round 1, blob " in result.stdout
    assert "settling again gives something else than was published; expected the model " in result.stdout
    assert f"found the model {genesis}; by member 3 (aggregator, 0x" in result.stdout
    assert cli.look("round", "show", "1")["attestations"][0]["approve"] is False


def test_an_audit_that_cannot_be_completed_records_nothing_and_ends_with_3(cli: Cli) -> None:
    cli.settled()
    cli.path("blobs").joinpath(cli.look("round", "show", "1")["updates"][0]["update"]).unlink()
    result = cli.run("auditor", "attest", "1")
    assert result.exit_code == 3
    assert "nothing is recorded" in result.stderr
    assert cli.look("round", "show", "1")["attestations"] == []


def test_a_verdict_of_ones_own_is_recorded_with_its_report_once(cli: Cli) -> None:
    cli.settled()
    report = cli.file("report.txt", "The model is biased.")
    assert "has a report" in cli.refused(2, "auditor", "attest", "1", "--reject")
    assert "has a report" in cli.refused(2, "auditor", "attest", "1", "--report", report)
    assert cli.ok("auditor", "attest", "1", "--reject", "--report", report)["verdict"] == "reject"
    recorded = cli.look("round", "show", "1")["attestations"][0]
    assert cli.path("blobs").joinpath(recorded["report"]).read_text() == "The model is biased."
    again = cli.refused(1, "auditor", "attest", "1", "--approve", "--report", report)
    assert again == "member 4 has attested to round 1, once and for all: leave it at that"


def test_who_may_not_attest_or_attests_to_nothing_is_told_so(cli: Cli) -> None:
    cli.open()
    assert "it has no settled model" in cli.refused(2, "auditor", "attest", "1")
    assert "there is no round 2" in cli.refused(2, "auditor", "attest", "2")
    for member in (1, 2):
        post(cli, member)
    cli.ok("aggregator", "round", "settle")
    assert "member 3 is no auditor here" in cli.refused(1, "aggregator", "attest", "1")
    told = cli.run("site 1", "attest", "1")
    assert (told.exit_code, "sealed: without a key that opens its updates" in told.stdout) == (3, True)


def test_a_mirror_names_what_is_too_large_for_it_and_takes_the_rest(cli: Cli) -> None:
    number = cli.open()
    contract = LedgerContract.attach(cli.anvil.web3, cli.ledger)
    contract.post_update(cli.party("site 1"), number, FolderStore(Path(cli.store)).put(bytes(3000)), 10)
    result = cli.run("nobody", "mirror", "--max-gb", "0.000002", "--json")
    assert result.exit_code == 3, result.output
    told = json.loads(result.stdout)
    assert told["missing"] == [str(cid_of(bytes(3000)))]
    assert told["pinned"] == 3, "charter, genesis model, plan"
    assert "has 3,000 bytes, the limit is 2,000" in result.stderr
