"""`join`, `status`, `watch` and `mirror` on a real chain, and the goal of `aggregate`."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pyrage
import pytest

from ledger.aggregating import GOAL, finished, goal
from ledger.cid import Cid
from tests.cli import Cli, kinds

# ------------------------------------------------------------------------------------------------ join


def admit(cli: Cli, name: str) -> None:
    cli.ok("governor", "member", "admit", cli.address(name), "--name", name, "--role", "participant")


def test_who_joins_accepts_the_charter_and_publishes_an_age_key_whose_secret_part_is_kept(cli: Cli) -> None:
    admit(cli, "newcomer")
    assert kinds(cli.ok("newcomer", "join")) == ["CharterAccepted"]
    file = cli.state / "newcomer" / "age.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    comment, secret = file.read_text().splitlines()
    published = cli.look("member", "show", "5")
    assert published["accepted"] == 1
    assert published["age_key"] == str(pyrage.x25519.Identity.from_str(secret).to_public())
    assert comment == f"# public key: {published['age_key']}"


def test_who_has_joined_has_nothing_left_to_do_until_the_charter_changes(cli: Cli) -> None:
    admit(cli, "newcomer")
    cli.ok("newcomer", "join")
    before = cli.anvil.web3.eth.block_number
    again = cli.run("newcomer", "join")
    assert (again.exit_code, again.output) == (0, "Member 5 (newcomer) has joined already; nothing to do.\n")
    assert cli.anvil.web3.eth.block_number == before
    cli.ok("governor", "charter", "change", cli.file("two.md", "Two"))
    key = cli.look("member", "show", "5")["age_key"]
    cli.ok("newcomer", "join")
    assert cli.look("member", "show", "5") == {**cli.look("member", "show", "5"), "accepted": 2, "age_key": key}


def test_who_is_not_admitted_is_told_what_to_send_to_whom(cli: Cli) -> None:
    said = cli.refused(2, "stranger", "join")
    assert said == (
        f"{cli.address('stranger')} is not admitted yet: send the address to the governor, who admits it with "
        "`fedledger member admit`, and join then"
    )


def test_who_has_no_ether_signs_and_is_carried(cli: Cli) -> None:
    admit(cli, "poor")
    signed = cli.ok("poor", "join", "--sign-only")
    cli.ok("governor", "charter", "relay", cli.file("acceptance.json", json.dumps(signed)))
    assert cli.look("member", "show", "5")["accepted"] == 1


def test_a_damaged_age_key_is_named_and_not_replaced(cli: Cli) -> None:
    admit(cli, "newcomer")
    file = cli.state / "newcomer" / "age.key"
    file.parent.mkdir(parents=True)
    file.write_text("AGE-SECRET-KEY-1GARBAGE\n")
    said = cli.refused(2, "newcomer", "join")
    assert said.startswith(f"{file} holds no age key")
    assert "GARBAGE" not in said
    assert file.read_text() == "AGE-SECRET-KEY-1GARBAGE\n"


# ------------------------------------------------------------------------------------- status and watch


def test_status_says_where_the_ledger_stands_and_whose_update_is_missing(cli: Cli) -> None:
    def lines() -> dict[str, str]:
        said = cli.run("site 1", "status", yes=False).output
        return dict(line.split("  ", 1) for line in re.sub("   +", "  ", said).splitlines())

    assert lines()["rounds"] == "none yet"
    cli.open()
    cli.ok("site 1", "round", "post", "1", cli.update(1), "--weight", "10")
    open_ = lines()
    assert open_["round 1"] == "takes updates: 1 of 2 updates"
    assert open_["no update of"] == "2 site 2"
    assert open_["charter"] == "version 1, accepted by 4 of 4 members"
    assert open_["entries"] == "11, all final"
    cli.ok("site 2", "round", "post", "1", cli.update(2), "--weight", "10")
    assert lines()["round 1"] == "waits for an aggregator to settle it: 2 of 2 updates"
    cli.ok("aggregator", "round", "settle")
    assert lines()["round 1"] == "settled with 2 of 2 updates, waits for approvals: 0 of 1"
    cli.ok("auditor", "attest", "1")
    assert lines()["round 1"] == "released with 2 of 2 updates"


def test_status_counts_what_is_not_final_yet(cli: Cli) -> None:
    cli.open()
    said = cli.run("site 1", "status", yes=False, environment={"FEDLEDGER_FINALITY": "1"})
    assert "10, the last 1 not final yet" in said.output
    document = json.loads(
        cli.run("site 1", "status", "--json", yes=False, environment={"FEDLEDGER_FINALITY": "1"}).stdout
    )
    assert (document["entries"], document["final"]) == (10, 9)
    assert document["newest"] == {**document["newest"], "round": 1, "status": "open", "updates": 0, "eligible": 2}


def test_watch_prints_what_changes_and_ends_well_when_it_is_stopped(cli: Cli) -> None:
    variables = {name: value for name, value in cli.variables("nobody").items() if value}
    command = [str(Path(sys.executable).with_name("fedledger")), "watch", "--json", "--poll", "0.1"]
    with subprocess.Popen(
        command, env=os.environ | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["newest"] is None
        cli.open()
        assert json.loads(process.stdout.readline())["newest"]["round"] == 1
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, b"Traceback" in told) == (0, False)


# ----------------------------------------------------------------------------------------------- mirror


def test_mirror_verifies_every_blob_and_names_what_is_missing_or_altered(cli: Cli) -> None:
    cli.settled()
    whole = cli.look("mirror")
    assert (whole["missing"], whole["altered"]) == ([], [])
    named = cli.look("round", "show", "1")
    update, model = Cid.parse(named["updates"][0]["update"]), Cid.parse(named["model"])
    (Path(cli.store) / str(update)).unlink()
    missing = cli.run("nobody", "mirror", "--json")
    assert (missing.exit_code, json.loads(missing.stdout)["missing"]) == (3, [str(update)])
    (Path(cli.store) / str(model)).write_bytes(b"something else")
    altered = cli.run("nobody", "mirror", "--json")
    assert (altered.exit_code, json.loads(altered.stdout)["altered"]) == (1, [str(model)])


def test_mirror_does_not_ask_for_what_is_recorded_as_erased(cli: Cli) -> None:
    cli.settled()
    update = cli.look("round", "show", "1")["updates"][0]["update"]
    cli.ok("site 1", "round", "erase", "1", update, "--member", "1", "--reason", "request")
    (Path(cli.store) / update).unlink()
    assert cli.look("mirror")["missing"] == []


# ----------------------------------------------------------------------------------------- aggregate's goal


def test_a_job_that_was_not_finished_goes_on_and_one_that_was_is_followed_by_a_new_one(tmp_path: Path) -> None:
    assert goal(tmp_path, done=0, rounds=10) == 10
    assert goal(tmp_path, done=7, rounds=10) == 10, "killed after round 7"
    assert goal(tmp_path, done=10, rounds=10) == 10, "killed before it could say that it is done"
    finished(tmp_path)
    assert goal(tmp_path, done=10, rounds=10) == 20


@pytest.mark.parametrize(
    "kept", ["", "{", '{"rounds": 5}', '{"rounds": "5", "last": "x"}', "[]", '{"rounds": 5, "last": 3}']
)
def test_a_goal_that_is_another_ones_or_cannot_be_read_is_no_goal(tmp_path: Path, kept: str) -> None:
    (tmp_path / GOAL).write_text(kept)
    assert goal(tmp_path, done=4, rounds=5) == 9
