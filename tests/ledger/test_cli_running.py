"""`join`, `status`, `watch` and `mirror` on a real chain, and the goal of `aggregate`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pyrage
import pytest

from ledger.aggregating import GOAL, finished, goal
from ledger.cid import Cid
from ledger.cli.identities import open_identities
from tests.cli import PASSWORD, Cli, kinds
from tests.e2e.running import Kill, Process
from tests.terminal import on_a_terminal

GOLDEN = Path(__file__).parent / "golden" / "age.key"
NEWEST = "age1t9tecqxzlcf2vxdv0xa83dwvl2kac2kw89ctzktmzr3xa82pk99s6zgm53"
"""The public key of the newest identity in it."""

# ------------------------------------------------------------------------------------------------ join


def admit(cli: Cli, name: str) -> None:
    cli.ok("governor", "member", "admit", cli.address(name), "--name", name, "--role", "participant")


def bring(cli: Cli, name: str) -> list[pyrage.x25519.Identity]:
    """Give a party two age identities in a file that is not encrypted, which is read at once."""
    identities = [pyrage.x25519.Identity.generate() for _ in range(2)]
    (cli.state / name).mkdir(parents=True, exist_ok=True)
    (cli.state / name / "age.key").write_text("\n".join(map(str, identities)))
    return identities


def test_who_joins_accepts_the_charter_and_publishes_an_age_key_whose_identity_is_kept_encrypted(cli: Cli) -> None:
    admit(cli, "newcomer")
    assert kinds(cli.ok("newcomer", "join")) == ["CharterAccepted"]
    file = cli.state / "newcomer" / "age.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes().startswith(b"age-encryption.org/v1\n")
    _, comment, secret = pyrage.passphrase.decrypt(file.read_bytes(), PASSWORD.strip()).decode().splitlines()
    published = cli.look("member", "show", "5")
    assert published["accepted"] == 1
    assert published["age_key"] == str(pyrage.x25519.Identity.from_str(secret).to_public())
    assert comment == f"# public key: {published['age_key']}"


def test_who_has_joined_has_nothing_left_to_do_until_the_charter_changes(cli: Cli) -> None:
    admit(cli, "newcomer")
    bring(cli, "newcomer")
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
    bring(cli, "poor")
    signed = cli.ok("poor", "join", "--sign-only")
    cli.ok("governor", "charter", "relay", cli.file("acceptance.json", json.dumps(signed)))
    assert cli.look("member", "show", "5")["accepted"] == 1


def test_a_damaged_age_key_is_named_and_not_replaced(cli: Cli) -> None:
    admit(cli, "newcomer")
    file = cli.state / "newcomer" / "age.key"
    file.parent.mkdir(parents=True)
    file.write_text("AGE-SECRET-KEY-1GARBAGE\n")
    said = cli.refused(2, "newcomer", "join")
    assert said.startswith(f"{file} holds no age identity")
    assert "GARBAGE" not in said
    assert file.read_text() == "AGE-SECRET-KEY-1GARBAGE\n"


def test_who_joins_publishes_the_newest_identity_in_the_file(cli: Cli) -> None:
    admit(cli, "newcomer")
    newest = bring(cli, "newcomer")[-1]
    cli.ok("newcomer", "join")
    assert cli.look("member", "show", "5")["age_key"] == str(newest.to_public())


def test_keystore_and_identities_have_one_password_that_is_asked_for_once(cli: Cli, tmp_path: Path) -> None:
    admit(cli, "newcomer")
    shutil.copy(GOLDEN, Path(tmp_path, "age.key"))
    given = {name: value for name, value in cli.variables("newcomer").items() if value}
    del given["FEDLEDGER_PASSWORD_FILE"]
    environment = given | {"FEDLEDGER_STATE": str(tmp_path)}
    status, said = on_a_terminal(["join", "--yes"], [PASSWORD.strip()], environment)
    assert status == 0, said
    assert said.count("Password of ") == 1
    assert cli.look("member", "show", "5")["age_key"] == NEWEST


# --------------------------------------------------------------------------------------------- key rotate


def identities(cli: Cli, name: str) -> list[str]:
    """The public keys of a party's identities, the newest last."""
    found = open_identities(cli.state / name / "age.key", PASSWORD.strip)
    return [str(identity.to_public()) for identity in found]


def published(cli: Cli, member: int = 1) -> str:
    return str(cli.look("member", "show", str(member))["age_key"])


def test_a_rotated_key_is_published_and_the_older_identities_stay(cli: Cli) -> None:
    before = [str(one.to_public()) for one in bring(cli, "site 1")]
    cli.ok("site 1", "join")
    assert kinds(cli.ok("site 1", "key", "rotate")) == ["CharterAccepted"]
    after = identities(cli, "site 1")
    assert after == [*before, published(cli)]
    assert (cli.state / "site 1" / "age.key").read_bytes().startswith(b"age-encryption.org/v1\n")


@pytest.mark.parametrize("again", ["key rotate", "join"])
def test_a_key_that_could_not_be_published_is_published_by_the_next_and_no_third_is_made(cli: Cli, again: str) -> None:
    first = bring(cli, "site 1")[-1]
    cli.ok("site 1", "join")
    gone = cli.run("site 1", "key", "rotate", environment={"FEDLEDGER_STORE": str(cli.path("no blobs"))})
    assert gone.exit_code == 3, gone.output
    made = identities(cli, "site 1")
    assert len(made) == 3
    assert published(cli) == str(first.to_public())
    assert kinds(cli.ok("site 1", *again.split())) == ["CharterAccepted"]
    assert identities(cli, "site 1") == made
    assert published(cli) == made[-1]


def test_who_has_no_ether_signs_the_rotated_key_and_is_carried(cli: Cli) -> None:
    bring(cli, "site 1")
    cli.ok("site 1", "join")
    signed = cli.ok("site 1", "key", "rotate", "--sign-only")
    again = cli.run("site 1", "key", "rotate", "--sign-only")
    assert json.loads(again.stdout)["age_key"] == signed["age_key"]
    assert "is not published yet: no other is made" in again.stderr
    cli.ok("governor", "charter", "relay", cli.file("acceptance.json", json.dumps(signed)))
    assert identities(cli, "site 1")[-1] == published(cli)


def test_who_has_no_age_key_yet_is_told_to_join(cli: Cli) -> None:
    (cli.state / "site 1" / "age.key").unlink()
    assert "age.key: join first" in cli.refused(2, "site 1", "key", "rotate")


def test_who_rotates_is_told_what_becomes_of_a_round_that_is_open(cli: Cli) -> None:
    bring(cli, "site 1")
    said = cli.run("site 1", "key", "rotate").stderr
    assert "No round is open: the next one that opens is the first with the new age key" in said
    cli.open()
    said = cli.run("site 1", "key", "rotate").stderr
    assert "Round 1 is open, and keeps to the age key that was published before it opened" in said


def test_who_never_joined_has_no_key_to_rotate(cli: Cli) -> None:
    admit(cli, "newcomer")
    assert "age.key: join first" in cli.refused(2, "newcomer", "key", "rotate")
    assert not (cli.state / "newcomer" / "age.key").exists()


@pytest.mark.parametrize(
    ("kill", "made"),
    [
        (Kill("before", "identity added"), 2),
        (Kill("after", "identity added"), 3),
        (Kill("before", "transaction sent"), 3),
        (Kill("after", "transaction sent"), 3),
    ],
    ids=str,
)
def test_who_is_killed_while_rotating_loses_no_identity_and_joins_with_the_newest(
    cli: Cli, tmp_path: Path, kill: Kill, made: int
) -> None:
    before = [str(one.to_public()) for one in bring(cli, "site 1")]
    cli.ok("site 1", "join")
    given = {name: value for name, value in cli.variables("site 1").items() if value}
    assert Process("site 1", ["key", "rotate", "--yes"], given, tmp_path / "log", kill).wait() == -signal.SIGKILL
    assert cli.run("site 1", "join").exit_code == 0
    after = identities(cli, "site 1")
    assert (after[:2], len(after)) == (before, made)
    assert published(cli) == after[-1]


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


def figures(cli: Cli, party: str, **environment: str | None) -> list[str]:
    """The last lines of a party's status, from the figures on."""
    said = cli.run(party, "status", yes=False, environment=environment).output
    return [re.sub("   +", "  ", line) for line in ("figures" + said.partition("figures")[2]).splitlines()]


SAID = {1: {"auc": 0.75, "loss": 0.5}, 2: {"auc": 0.5, "loss": 0.25}}
SHOWN = [
    "figures  of the genesis model, as the sites say in their updates of round 1",
    "  auc  mean 0.625 of 2 sites, worst 0.5 at 2 site 2, spread 0.25",
    "  loss  mean 0.375 of 2 sites, worst 0.5 at 1 site 1, spread 0.25",
]


def test_status_says_how_the_newest_model_fared_at_the_sites_to_who_can_read_it(cli: Cli) -> None:
    cli.settled(SAID)
    for party in ("aggregator", "auditor"):
        assert figures(cli, party) == SHOWN
    for party in ("site 1", "stranger"):
        assert "those of round 1 are sealed" in figures(cli, party)[0]
    assert cli.ok("auditor", "attest", "1")
    cli.settled({1: {"auc": 1.0}}, public_quality=True)
    newer = "figures  of the model of round 1, as the sites say in their updates of round 2"
    assert figures(cli, "stranger")[0] == newer
    told = cli.look("status")["figures"]
    assert (told["round"], told["base_round"], list(told["metrics"])) == (2, 1, ["auc"])


def test_status_says_in_one_line_why_there_are_no_figures_and_asks_for_nothing(cli: Cli) -> None:
    assert figures(cli, "auditor") == ["figures"], "there is none, and nothing to say"
    cli.settled(SAID)
    (cli.state / "auditor" / "age.key").write_bytes(GOLDEN.read_bytes())  # another's, and encrypted
    for environment, why in (
        ({"FEDLEDGER_PASSWORD_FILE": None}, "no password for "),
        ({"FEDLEDGER_PASSWORD_FILE": None, "FEDLEDGER_PASSWORD": "another"}, "the password does not open "),
        ({}, "age.key opens them"),
        ({"FEDLEDGER_STORE": str(cli.path("elsewhere"))}, "the manifest of round 1 cannot be read: "),
    ):
        [line] = figures(cli, "auditor", **environment)
        assert why in line


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
