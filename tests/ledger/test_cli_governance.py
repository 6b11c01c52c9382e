"""deploy, charter, member, governor: each used well, and badly."""

import json

import pytest

from ledger.chain.contract import LedgerContract
from ledger.storage.folder import FolderStore
from tests.cli import AGE_KEY, Cli, kinds
from tests.world import CHARTER_2, PLAN

NEW = "0x" + "12" * 20


# ---------------------------------------------------------------------------------------------- deploy


def test_deploy_stores_the_charter_and_names_governor_and_address(cli: Cli) -> None:
    told = cli.ok("heir", "deploy", "--charter", cli.file("new.md", "# New\n"))
    assert told["governor"] == cli.address("heir")
    assert cli.path("blobs").joinpath(told["charter"]).read_text() == "# New\n"
    cli.ledger, old = told["ledger"], cli.ledger
    try:
        assert cli.look("governor", "show")["governor"] == cli.address("heir").lower()
    finally:
        cli.ledger = old


def test_an_empty_charter_is_refused(cli: Cli) -> None:
    assert "is empty" in cli.refused(2, "heir", "deploy", "--charter", cli.file("empty.md", "\n"))


NO_LIMITS = [
    ('{"min_quorum": "3"}\n```', "min_quorum: Input should be a valid integer"),
    ('{"min_quorums": 3}\n```', "min_quorums: Extra inputs are not permitted"),
    ("min_quorum 3\n```", "the block: Invalid JSON"),
    ('{"min_quorum": 3}', "their block is between a line ```fedledger-limits and a line ```"),
    ("{}\n```\n```fedledger-limits\n{}\n```", "the charter has 2 blocks of limits: it may have one"),
]


@pytest.mark.parametrize(("block", "said"), NO_LIMITS)
def test_a_charter_whose_limits_cannot_be_read_does_not_come_into_force(cli: Cli, block: str, said: str) -> None:
    before, file = cli.anvil.web3.eth.block_number, cli.file("limits.md", f"# New\n```fedledger-limits\n{block}\n")
    for command in (("deploy", "--charter", file), ("charter", "change", file)):
        sentence = cli.refused(2, "governor", *command)
        assert sentence.startswith(f"{file}: ")
        assert said in sentence
        assert sentence.endswith("; correct the block, or leave it out")
    assert cli.anvil.web3.eth.block_number == before


def test_nothing_is_recorded_where_nobody_confirms(cli: Cli) -> None:
    before = cli.anvil.web3.eth.block_number
    result = cli.run("governor", "deploy", "--charter", cli.file("new.md", "# New\n"), yes=False)
    assert result.exit_code == 2
    assert "nobody is there to confirm" in result.stderr
    assert cli.anvil.web3.eth.block_number == before


# --------------------------------------------------------------------------------------------- charter


def test_charter_show_tells_the_text_and_who_accepted(cli: Cli) -> None:
    told = cli.look("charter", "show")
    assert (told["version"], told["accepted"], told["text"]) == (1, [1, 2, 3, 4], "# Charter\nWe agree.\n")
    assert "We agree." in cli.run("nobody", "charter", "show").stdout


def test_charter_show_tells_the_limits_to_plans(cli: Cli) -> None:
    assert cli.look("charter", "show")["limits"] == {}
    assert "limits to plans  none that machines read\n" in cli.run("nobody", "charter", "show").stdout
    cli.ok("governor", "charter", "change", cli.file("two.md", CHARTER_2))
    told = cli.look("charter", "show")
    assert told["limits"] == {"min_quorum": 2, "min_approvals": 1, "max_update_bytes": 4096}
    said = "limits to plans  min_quorum 2, min_approvals 1, max_update_bytes 4096\n"
    assert said in cli.run("nobody", "charter", "show").stdout


def test_charter_show_tells_that_limits_in_force_cannot_be_read(cli: Cli) -> None:
    damaged = FolderStore(cli.path("blobs")).put(b"```fedledger-limits\n[]\n```\n")  # put in force past our commands
    LedgerContract.attach(cli.anvil.web3, cli.ledger).change_charter(cli.party("governor"), damaged)
    assert cli.look("charter", "show")["limits"] is None
    assert (
        "limits to plans  the charter's limits cannot be read: the block: "
        in cli.run("nobody", "charter", "show").stdout
    )
    plan = cli.file("plan.json", PLAN.encode())
    assert "the charter's limits cannot be read" in cli.refused(3, "aggregator", "round", "open", plan)


def test_a_charter_that_nobody_has_is_unavailable(cli: Cli) -> None:
    elsewhere = {"FEDLEDGER_STORE": str(cli.path("none"))}
    assert "is not to be had" in cli.refused(3, "nobody", "charter", "show", environment=elsewhere)


def test_a_new_charter_is_accepted_again_with_the_same_age_key(cli: Cli) -> None:
    assert kinds(cli.ok("governor", "charter", "change", cli.file("two.md", "Two"))) == ["CharterChanged"]
    assert cli.look("charter", "show")["accepted"] == []
    assert kinds(cli.ok("site 1", "charter", "accept")) == ["CharterAccepted"]
    assert cli.look("charter", "show")["accepted"] == [1]
    assert cli.look("member", "show", "1")["age_key"] == cli.age_key("site 1")


def test_only_the_governor_changes_the_charter_and_only_to_another(cli: Cli) -> None:
    two = cli.file("two.md", "Two")
    assert cli.refused(1, "site 1", "charter", "change", two).startswith(
        f"{cli.address('site 1')} is not the governor:"
    )
    assert "in force already" in cli.refused(2, "governor", "charter", "change", str(cli.path("charter.md")))


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (AGE_KEY[:-1] + ("q" if AGE_KEY[-1] != "q" else "p"), "checksum"),
        ("AGE-SECRET-KEY-1QQ", "that is a secret key: show it to nobody"),
        ("age1short", "58 letters and digits"),
    ],
)
def test_a_mistyped_age_key_is_refused(cli: Cli, key: str, said: str) -> None:
    assert said in cli.refused(2, "site 1", "charter", "accept", "--age-key", key)


def test_a_stranger_cannot_accept_and_a_new_member_needs_an_age_key(cli: Cli) -> None:
    assert "is no member's account" in cli.refused(2, "stranger", "charter", "accept")
    cli.ok("governor", "member", "admit", cli.address("stranger"), "--name", "new", "--role", "auditor")
    assert "--age-key age1" in cli.refused(2, "stranger", "charter", "accept")


def test_a_member_without_ether_signs_and_another_carries_it_once(cli: Cli) -> None:
    cli.ok("governor", "member", "admit", cli.address("poor"), "--name", "poor", "--role", "participant")
    assert "has too little ether" in cli.refused(2, "poor", "charter", "accept", "--age-key", AGE_KEY)
    signed = cli.ok("poor", "charter", "accept", "--age-key", AGE_KEY, "--sign-only")
    file = cli.file("acceptance.json", json.dumps(signed))
    assert kinds(cli.ok("stranger", "charter", "relay", file)) == ["CharterAccepted"]
    assert cli.look("member", "show", "5")["accepted"] == 1
    assert "has accepted again since" in cli.refused(2, "stranger", "charter", "relay", file)


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"nonce": 7}, 1, "did not sign what it says: it was altered"),
        ({"age_key": "0x" + "07" * 32}, 1, "did not sign what it says: it was altered"),
        ({"chain_id": 1}, 2, "it is for ledger"),
        ({"charter": "bafk"}, 2, "is no signed acceptance (charter:"),
        ({"kind": "signed update"}, 2, "is no signed acceptance (kind:"),
    ],
)
def test_an_altered_acceptance_is_named_and_not_sent(
    cli: Cli, changes: dict[str, object], status: int, said: str
) -> None:
    signed = cli.ok("site 1", "charter", "accept", "--sign-only")
    file = cli.file("acceptance.json", json.dumps(signed | changes))
    sentence = cli.refused(status, "stranger", "charter", "relay", file)
    assert sentence.startswith(file)
    assert said in sentence


# ---------------------------------------------------------------------------------------------- member


def test_member_list_and_show_tell_who_takes_part(cli: Cli) -> None:
    assert [one["name"] for one in cli.look("member", "list")["members"]] == [
        "site 1",
        "site 2",
        "aggregator",
        "auditor",
    ]
    table = cli.run("nobody", "member", "list").stdout
    assert f"3   aggregator  aggregator   accepted (version 1)  {cli.address('aggregator')}" in table
    assert cli.look("member", "show", "4")["roles"] == ["auditor"]
    assert "there is no member 9" in cli.refused(2, "nobody", "member", "show", "9")


def test_a_member_is_admitted_with_several_roles(cli: Cli) -> None:
    roles = ("--role", "participant", "--role", "auditor")
    assert kinds(cli.ok("governor", "member", "admit", NEW, "--name", "Zürich", *roles)) == ["MemberAdmitted"]
    assert cli.look("member", "show", "5")["roles"] == ["participant", "auditor"]


@pytest.mark.parametrize(
    ("status", "party", "address", "name", "said"),
    [
        (1, "site 1", NEW, "x", "is not the governor: "),
        (1, "governor", "0x" + "00" * 20, "x", "the zero account cannot be a member's"),
        (2, "governor", NEW, "x" * 33, "--name: a member's name has 1 to 32 bytes"),
        (2, "governor", NEW, "a\x1b[31m", "--name: a member's name is written in letters that can be seen"),
        (2, "governor", "0x1234", "x", "'0x1234' is no address"),
        (2, "governor", "0x81BdA1dBd546CD567D28F03A3282894b7002268D", "x", "its checksum does not fit: copy it again"),
    ],
)
def test_a_member_is_not_admitted(cli: Cli, status: int, party: str, address: str, name: str, said: str) -> None:
    assert said in cli.refused(status, party, "member", "admit", address, "--name", name, "--role", "auditor")


def test_an_account_is_never_admitted_twice(cli: Cli) -> None:
    arguments = ("member", "admit", cli.address("site 1"), "--name", "again", "--role", "auditor")
    assert "is, or was, a member's account" in cli.refused(1, "governor", *arguments)


def test_roles_change_and_a_suspended_member_has_none(cli: Cli) -> None:
    assert kinds(cli.ok("governor", "member", "roles", "1", "--role", "auditor")) == ["RolesChanged"]
    assert cli.look("member", "show", "1")["roles"] == ["auditor"]
    assert kinds(cli.ok("governor", "member", "suspend", "1")) == ["RolesChanged"]
    assert "suspended" in cli.run("nobody", "member", "show", "1").stdout
    assert "there is no member 9" in cli.refused(2, "governor", "member", "roles", "9", "--role", "auditor")
    assert "is not the governor" in cli.refused(1, "site 1", "member", "suspend", "2")


def test_a_member_moves_to_another_account_of_its_own(cli: Cli) -> None:
    assert "did not offer its place" in cli.refused(1, "spare", "member", "take", "1")
    assert kinds(cli.ok("site 1", "member", "offer", cli.address("spare"))) == ["AccountOffered"]
    assert cli.look("member", "show", "1")["offered"] == cli.address("spare").lower()
    assert kinds(cli.ok("spare", "member", "take", "1")) == ["AccountTaken"]
    assert cli.look("member", "show", "1")["account"] == cli.address("spare").lower()
    assert "acted for member 1 up to round 0" in cli.refused(1, "site 1", "member", "offer", cli.address("spare 2"))


def test_the_governor_replaces_a_lost_account(cli: Cli) -> None:
    assert kinds(cli.ok("governor", "member", "replace", "2", NEW)) == ["AccountReplaced"]
    assert cli.look("member", "show", "2")["accounts"] == [cli.address("site 2").lower(), NEW]
    assert "is not the governor" in cli.refused(1, "site 1", "member", "replace", "2", "0x" + "34" * 20)


# -------------------------------------------------------------------------------------------- governor


def test_governance_is_handed_over_in_two_steps(cli: Cli) -> None:
    assert kinds(cli.ok("governor", "governor", "offer", cli.address("heir"))) == ["GovernanceOffered"]
    assert cli.look("governor", "show")["offered"] == cli.address("heir").lower()
    assert "was not offered to" in cli.refused(1, "stranger", "governor", "take")
    assert kinds(cli.ok("heir", "governor", "take")) == ["GovernanceTaken"]
    assert cli.address("heir") in cli.run("nobody", "governor", "show").stdout
    assert "is not the governor" in cli.refused(1, "governor", "member", "suspend", "1")


def test_an_offer_that_was_withdrawn_is_not_taken(cli: Cli) -> None:
    cli.ok("governor", "governor", "offer", cli.address("heir"))
    assert kinds(cli.ok("governor", "governor", "withdraw")) == ["GovernanceOffered"]
    assert cli.look("governor", "show")["offered"] is None
    assert "was not offered to" in cli.refused(1, "heir", "governor", "take")
    assert "is not the governor" in cli.refused(1, "heir", "governor", "withdraw")
