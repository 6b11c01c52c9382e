"""What the commands remember: receipts of what they record, and a rewritten chain is refused before anything else."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests

from ledger.chain.contract import LedgerContract
from ledger.entries import from_line
from ledger.facts import Role
from ledger.receipts import read_receipts
from tests.anvil import Anvil
from tests.cli import AGE_KEY, PASSWORD, Cli
from tests.ledger.test_cli import COMMANDS, ON_CHAIN

NEW = "0x" + "12" * 20
SUSPEND = ("member", "suspend", "2")


def options(path: tuple[str, ...]) -> set[str]:
    return {one for parameter in COMMANDS[path].params for one in parameter.opts}


READING = [path for path in ON_CHAIN if {"--rpc", "--ledger"} <= options(path)]
WRITING = [path for path in READING if "--keystore" in options(path)]


def folder(cli: Cli, party: str) -> Path:
    """What a party remembers of the ledger."""
    return cli.state / party / f"31337-{cli.ledger.lower()}"


def receipts(cli: Cli, party: str) -> list[dict[str, Any]]:
    """A party's receipts, as it lists them without a node."""
    listed = cli.run(party, "receipt", "list", "--json", yes=False, environment={"FEDLEDGER_RPC": None})
    assert listed.exit_code == 0, listed.output
    return list(json.loads(listed.stdout)["receipts"])


def statuses(cli: Cli, party: str) -> list[tuple[str, str]]:
    return [(one["kind"], one["status"]) for one in receipts(cli, party)]


def look(cli: Cli, party: str, **environment: str) -> None:
    """Read the ledger as a party, which remembers what is final."""
    said = cli.run(party, "member", "list", yes=False, environment=environment)
    assert (said.exit_code, said.stderr) == (0, "")


def seen(cli: Cli, party: str) -> int:
    file = folder(cli, party) / "seen.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


# ----------------------------------------------------------------------------------- receipts are kept


def test_every_command_that_writes_leaves_a_receipt_of_what_it_says_it_recorded(cli: Cli) -> None:
    # One is that of the founding; the loops record in tests/e2e.
    run: set[tuple[str, ...]] = {("round", "genesis"), ("aggregate",), ("participate",)}

    def record(party: str, *arguments: str) -> dict[str, Any]:
        before = receipts(cli, party) if folder(cli, party).exists() else []
        told: dict[str, Any] = cli.ok(party, *arguments)
        assert told["recorded"]
        assert receipts(cli, party) == [*before, *({"status": "final", **row} for row in told["recorded"])]
        run.add(next(path for path in WRITING if arguments[: len(path)] == path))
        return told

    assert statuses(cli, "governor")[-1] == ("GenesisRecorded", "final")
    record("governor", "charter", "change", cli.file("two.md", "Two"))
    record("site 1", "join")
    record("site 1", "key", "rotate")
    record("site 1", "charter", "accept")
    for name in ("site 2", "aggregator", "auditor"):
        record(name, "charter", "accept")
    record("governor", "member", "admit", cli.address("poor"), "--name", "poor", "--role", "participant")
    signed = cli.ok("poor", "charter", "accept", "--age-key", AGE_KEY, "--sign-only")
    record("stranger", "charter", "relay", cli.file("acceptance.json", json.dumps(signed)))
    record("governor", "member", "roles", "5", "--role", "auditor")
    record("governor", "member", "suspend", "5")
    record("governor", "member", "replace", "5", NEW)
    record("auditor", "member", "offer", cli.address("auditor 2"))
    record("auditor 2", "member", "take", "4")
    record("governor", "governor", "offer", cli.address("heir"))
    record("governor", "governor", "withdraw")
    record("governor", "governor", "offer", cli.address("heir"))
    record("heir", "governor", "take")
    plan = cli.path("plan.json")
    cli.open()
    record("aggregator", "round", "abort", "1", "--reason", "cancelled")
    record("aggregator", "round", "open", str(plan))
    record("site 1", "round", "post", "2", cli.update(1), "--weight", "10")
    record("stranger", "round", "relay", cli.signed(2, 2))
    settled = record("aggregator", "round", "settle")
    assert settled["counted"] == 2
    update = cli.look("round", "show")["updates"][0]["update"]
    shutil.copytree(cli.state / "auditor", cli.state / "auditor 2", dirs_exist_ok=True)  # its age.key
    record("auditor 2", "attest", "2")
    record("aggregator", "grant", "--to", cli.address("auditor 2"))
    record("site 1", "erase", update, "--reason", "request")
    assert run == set(WRITING)


def test_a_command_that_records_nothing_leaves_no_receipt(cli: Cli) -> None:
    cli.open()
    before = receipts(cli, "site 1")
    cli.signed(1)
    cli.refused(1, "site 1", "member", "suspend", "2")
    assert receipts(cli, "site 1") == before


def test_a_receipt_that_cannot_be_kept_is_told_all_the_same(cli: Cli) -> None:
    (folder(cli, "governor") / ".receipts.jsonl.part").mkdir()
    result = cli.run("governor", *SUSPEND)
    assert result.exit_code == 3
    assert "Recorded RolesChanged" in result.stdout
    assert "cannot be read and written (Is a directory)" in result.stderr


def test_without_a_state_folder_it_is_one_in_the_home_folder(cli: Cli, tmp_path: Path) -> None:
    home = {"FEDLEDGER_STATE": None, "HOME": str(tmp_path)}
    assert cli.run("nobody", "member", "list", environment=home).exit_code == 0
    assert [path.name for path in (tmp_path / ".fedledger").iterdir()] == [f"31337-{cli.ledger.lower()}"]


# ------------------------------------------------------------------------------ a rewritten chain


@pytest.fixture
def rewritten(cli: Cli) -> Cli:
    """All remember that entry 9 is an acceptance of site 1; on the chain it is now a suspension of site 2."""
    before = cli.anvil.snapshot()
    cli.ok("site 1", "charter", "accept")
    look(cli, "nobody")
    cli.anvil.revert(before)
    contract = LedgerContract.attach(cli.anvil.web3, cli.ledger)
    contract.change_roles(cli.party("governor"), 2, Role(0))
    return cli


def arguments(cli: Cli, path: tuple[str, ...]) -> list[str]:
    """Arguments that are no wrong use; what is in the files is never looked at."""
    file = cli.file("some file", "something")
    given = {
        ("aggregate",): ["--plan", file],
        ("attest",): ["1"],
        ("charter", "change"): [file],
        ("charter", "relay"): [file],
        ("erase",): ["0x" + "00" * 32, "--reason", "request"],
        ("governor", "offer"): [NEW],
        ("grant",): ["--to", NEW],
        ("member", "admit"): [NEW, "--name", "x", "--role", "auditor"],
        ("member", "offer"): [NEW],
        ("member", "replace"): ["1", NEW],
        ("member", "roles"): ["1", "--role", "auditor"],
        ("member", "show"): ["1"],
        ("member", "suspend"): ["1"],
        ("member", "take"): ["1"],
        ("model", "pull"): ["-o", str(cli.path("pulled"))],
        ("participate",): ["--task", file, "--data", file],
        ("round", "agree"): ["1"],
        ("round", "abort"): ["1", "--reason", "expired"],
        ("round", "genesis"): [str(cli.path("model"))],
        ("round", "open"): [file],
        ("round", "post"): ["1", file, "--weight", "1"],
        ("round", "relay"): [file],
    }
    return [*path, *given.get(path, [])]


@pytest.mark.parametrize("path", READING, ids=" ".join)
def test_every_command_refuses_a_rewritten_chain_before_it_prints_signs_or_sends(
    rewritten: Cli, path: tuple[str, ...]
) -> None:
    block = rewritten.anvil.web3.eth.block_number
    no_key = {"FEDLEDGER_KEYSTORE": "none.json", "FEDLEDGER_PASSWORD_FILE": "none"}  # to look for it is to go too far
    result = rewritten.run("site 1", *arguments(rewritten, path), yes=path in WRITING, environment=no_key)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    first, *rows = result.stderr.splitlines()
    remembered = from_line((folder(rewritten, "site 1") / "seen.jsonl").read_text().splitlines()[9])
    common = from_line((folder(rewritten, "site 1") / "seen.jsonl").read_text().splitlines()[8])
    shown = LedgerContract.attach(rewritten.anvil.web3, rewritten.ledger).refolded()[9]
    assert first.startswith("Error: the node shows another history than the one remembered in ")
    assert rows == [
        f"  last in common: entry 8, GenesisRecorded, block {common[0].block}, head 0x{common[1].hex()}",
        f"  remembered:     entry 9, CharterAccepted, block {remembered[0].block}, head 0x{remembered[1].hex()}",
        f"  shown instead:  entry 9, RolesChanged, block {shown[0].block}, head 0x{shown[1].hex()}",
    ]
    assert rewritten.anvil.web3.eth.block_number == block


def test_who_only_read_notices_too_and_nobody_forgets(rewritten: Cli) -> None:
    for _ in range(2):
        assert "another history" in rewritten.run("nobody", "member", "list").stderr


def test_a_history_that_ends_before_what_was_seen_is_refused(cli: Cli) -> None:
    before = cli.anvil.snapshot()
    cli.ok("site 1", "charter", "accept")
    cli.anvil.revert(before)
    said = cli.run("site 1", "member", "list", yes=False)
    assert said.exit_code == 1
    assert "unless it only lags behind: go no further" in said.stderr
    assert "shown instead:  nothing, that history ends before" in said.stderr


def test_a_ledger_that_is_gone_from_its_chain_is_refused_by_who_has_seen_it(cli: Cli) -> None:
    with Anvil() as empty:
        elsewhere = {"FEDLEDGER_RPC": empty.url}
        said = cli.run("site 1", "member", "list", yes=False, environment=elsewhere)
        assert said.exit_code == 1
        assert "last in common: no entry" in said.stderr
        assert "no contract is at" in cli.refused(2, "newcomer", "governor", "take", environment=elsewhere)


def founded(anvil: Anvil, folder: Path, charter: str) -> Cli:
    """A ledger with one member; its address depends on the governor's account and nonce alone."""
    folder.mkdir(exist_ok=True)
    cli = Cli(anvil, folder)
    cli.ledger = cli.ok("governor", "deploy", "--charter", cli.file("charter.md", charter))["ledger"]
    return cli


def test_a_chain_that_was_begun_anew_with_the_same_ledger_address_is_refused(tmp_path: Path) -> None:
    with Anvil() as one, Anvil() as two:
        cli, other = founded(one, tmp_path, "We agree."), founded(two, tmp_path / "other", "We agree to less.")
        assert cli.ledger == other.ledger
        admit = ("member", "admit", NEW, "--name", "x", "--role", "auditor")
        cli.ok("governor", *admit)
        other.ok("governor", *admit)
        said = cli.run("governor", *SUSPEND, environment={"FEDLEDGER_RPC": two.url})
        assert said.exit_code == 1
        assert "last in common: no entry" in said.stderr
        assert said.stderr.count("entry 0, MemberAdmitted, block 2, head 0x") == 2


def test_another_chain_where_only_one_is_known_is_a_warning(cli: Cli) -> None:
    folder(cli, "site 1").rename(cli.state / "site 1" / f"1-{cli.ledger.lower()}")
    said = cli.run("site 1", "member", "list", yes=False)
    assert said.exit_code == 0
    assert f"Warning: nothing is remembered of {cli.ledger} on the node's chain 31337, only on chain 1" in said.stderr


# --------------------------------------------------------------------------------------------- finality


@pytest.mark.parametrize(("finality", "behind"), [("latest", 0), ("0", 0), ("3", 3), ("finalized", 64)])
def test_an_entry_is_final_when_its_block_is_and_not_one_block_before(cli: Cli, finality: str, behind: int) -> None:
    when = {"FEDLEDGER_FINALITY": finality}
    assert cli.run("governor", *SUSPEND, environment=when).exit_code == 0
    if behind:
        cli.anvil.rpc("anvil_mine", hex(behind - 1))
        look(cli, "governor", **when)
        assert statuses(cli, "governor")[-1] == ("RolesChanged", "pending")
        assert seen(cli, "governor") == 9
        cli.anvil.rpc("anvil_mine", "0x1")
        look(cli, "governor", **when)
    assert statuses(cli, "governor")[-1] == ("RolesChanged", "final")
    assert seen(cli, "governor") == 10


class Proxy:
    """A node that is `anvil`, except that it knows no finalized block: as a chain with proof of authority answers."""

    def __init__(self, anvil: Anvil) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = self.rfile.read(int(self.headers["Content-Length"]))
                answer = requests.post(
                    anvil.url, data=asked, headers={"Content-Type": "application/json"}, timeout=10
                ).content
                if b'"finalized"' in asked:
                    error = {"code": -39001, "message": "finalized block not found"}
                    answer = json.dumps({"jsonrpc": "2.0", "id": json.loads(asked)["id"], "error": error}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def without_finalized(anvil: Anvil) -> Iterator[Mapping[str, str]]:
    proxy = Proxy(anvil)
    thread = Thread(target=proxy.server.serve_forever)
    thread.start()
    yield {"FEDLEDGER_RPC": proxy.url, "FEDLEDGER_FINALITY": "finalized"}
    proxy.server.shutdown()
    proxy.server.server_close()
    thread.join()


def test_where_the_node_knows_no_finalized_block_12_blocks_are_waited_for(
    cli: Cli, without_finalized: Mapping[str, str]
) -> None:
    assert cli.run("governor", *SUSPEND, environment=without_finalized).exit_code == 0
    cli.anvil.rpc("anvil_mine", hex(11))
    look(cli, "governor", **without_finalized)
    assert statuses(cli, "governor")[-1] == ("RolesChanged", "pending")
    cli.anvil.rpc("anvil_mine", "0x1")
    look(cli, "governor", **without_finalized)
    assert statuses(cli, "governor")[-1] == ("RolesChanged", "final")


def use_up_a_nonce(cli: Cli, party: str) -> None:
    account, web3 = cli.party(party), cli.anvil.web3
    nonce = web3.eth.get_transaction_count(account.address)
    fees = {"gas": 21_000, "gasPrice": 2 * web3.eth.gas_price, "nonce": nonce, "chainId": web3.eth.chain_id}
    signed = account.sign_transaction({"to": account.address, "value": 0, **fees})
    web3.eth.send_raw_transaction(signed.raw_transaction)


def test_a_pending_entry_that_the_chain_takes_back_is_displaced_and_no_alarm(cli: Cli) -> None:
    pending = {"FEDLEDGER_FINALITY": "5"}
    assert cli.run("governor", *SUSPEND, environment=pending).exit_code == 0
    block = receipts(cli, "governor")[-1]["block"]
    cli.anvil.rpc("anvil_reorg", 1, [])
    said = cli.run("governor", "member", "list", yes=False, environment=pending)
    assert said.exit_code == 0
    assert said.stderr == (
        f"Warning: entry 9 (RolesChanged), which this member recorded in block {block}, is not on the chain any more: "
        "record it again\n"
    )
    look(cli, "governor", **pending)
    assert statuses(cli, "governor")[-1] == ("RolesChanged", "displaced")
    shown = cli.run("governor", "receipt", "show", "9", yes=False)
    assert "this receipt is displaced, and proves nothing" in shown.stderr
    # With the same nonce it could be the same transaction, byte for byte, whose receipt follows it.
    use_up_a_nonce(cli, "governor")
    assert cli.run("governor", *SUSPEND, environment=pending).exit_code == 0
    assert statuses(cli, "governor")[-2:] == [("RolesChanged", "displaced"), ("RolesChanged", "pending")]
    assert cli.run("governor", "receipt", "show", "9", yes=False).stderr.startswith("Warning: this receipt is pending")


def test_a_pending_entry_whose_transaction_moves_to_a_later_block_keeps_its_receipt(cli: Cli) -> None:
    pending = {"FEDLEDGER_FINALITY": "5"}
    assert cli.run("governor", *SUSPEND, environment=pending).exit_code == 0
    before = receipts(cli, "governor")[-1]
    raw = cli.anvil.rpc("eth_getRawTransactionByHash", before["transaction"])
    cli.anvil.rpc("anvil_mine", "0x2")
    cli.anvil.rpc("anvil_reorg", 3, [[raw, 2]])
    look(cli, "governor", **pending)
    after = receipts(cli, "governor")[-1]
    assert (after["status"], after["transaction"]) == ("pending", before["transaction"])
    assert (after["block"], after["head"] != before["head"]) == (before["block"] + 2, True)
    cli.anvil.rpc("anvil_mine", "0x5")
    look(cli, "governor", **pending)
    assert receipts(cli, "governor")[-1] == after | {"status": "final"}


def test_what_is_no_finality_is_wrong_use(cli: Cli) -> None:
    for value in ("soon", "-1", "1.5", "safe", "99999999"):
        said = cli.refused(2, "stranger", "governor", "take", environment={"FEDLEDGER_FINALITY": value})
        assert "give finalized, latest, or a number of blocks" in said


# ------------------------------------------------------------------------------------- the state folder


def test_a_command_that_was_killed_while_it_remembered_does_no_harm(cli: Cli) -> None:
    file = folder(cli, "site 1") / "seen.jsonl"
    look(cli, "site 1")
    whole = file.read_bytes()
    file.write_bytes(whole[:-200])
    look(cli, "site 1")
    assert file.read_bytes() == whole


@pytest.mark.parametrize("name", ["seen.jsonl", "receipts.jsonl"])
def test_a_damaged_file_is_named_and_the_command_ends_with_3_before_it_signs(cli: Cli, name: str) -> None:
    file = folder(cli, "governor") / name
    file.write_text(file.read_text().replace("MemberAdmitted", "MemberOmitted", 1))
    block = cli.anvil.web3.eth.block_number
    said = cli.refused(3, "governor", *SUSPEND)
    assert said.startswith(f"line 1 of {file} is damaged (")
    assert "restore it from a copy, or move the folder away" in said
    assert cli.anvil.web3.eth.block_number == block


def test_a_state_folder_that_cannot_be_written_stops_even_who_only_reads(cli: Cli) -> None:
    said = cli.refused(3, "nobody", "member", "list", environment={"FEDLEDGER_STATE": "/dev/null/state"})
    assert "cannot be read and written (Not a directory): make it so, or name another folder with --state" in said


def test_a_home_folder_that_is_not_there_is_wrong_use(cli: Cli) -> None:
    environment = {"FEDLEDGER_STATE": "~nobody-of-that-name/state"}
    assert "name a state folder with --state" in cli.refused(2, "nobody", "member", "list", environment=environment)


def test_commands_of_one_member_at_the_same_time_remember_everything_once(cli: Cli) -> None:
    environment = os.environ | {
        "FEDLEDGER_RPC": cli.anvil.url,
        "FEDLEDGER_LEDGER": cli.ledger,
        "FEDLEDGER_STATE": str(cli.state / "newcomer"),
        "FEDLEDGER_FINALITY": "latest",
        "FEDLEDGER_KEYSTORE": str(cli.path("governor.json")),
        "FEDLEDGER_PASSWORD": PASSWORD.strip(),
    }
    program = [sys.executable, "-c", "from ledger.cli import main; main()"]
    calls = [["member", "list"], [*SUSPEND, "--yes"], ["round", "list"], ["governor", "show"], ["member", "list"]]
    running = [
        subprocess.Popen([*program, *call], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for call in calls
    ]
    for one in running:
        _, said = one.communicate(timeout=60)
        assert one.returncode == 0, said.decode()
    look(cli, "newcomer")
    assert read_receipts(folder(cli, "newcomer")) == LedgerContract.attach(cli.anvil.web3, cli.ledger).refolded()
    assert statuses(cli, "newcomer") == [("RolesChanged", "final")]


# --------------------------------------------------------------------------------- list, show, verify


def test_receipts_are_listed_and_shown_to_people_and_auditors_without_a_node(cli: Cli) -> None:
    offline = {"FEDLEDGER_RPC": None}
    listed = cli.run("site 1", "receipt", "list", yes=False, environment=offline).stdout.splitlines()
    assert listed[0].split() == ["entry", "kind", "block", "status", "head"]
    own = receipts(cli, "site 1")[0]
    assert listed[1].split() == ["1", "CharterAccepted", str(own["block"]), "final", own["head"]]
    line = cli.run("site 1", "receipt", "show", "1", yes=False, environment=offline).stdout
    assert from_line(line.removesuffix("\n")) == read_receipts(folder(cli, "site 1"))[1]
    shown = cli.run("site 1", "receipt", "show", "1", "--json", yes=False, environment=offline)
    assert json.loads(shown.stdout) == own
    assert "there is no receipt of entry 0: see" in refused(cli, 2, "site 1", "receipt", "show", "0")
    assert f"remembers nothing of {cli.ledger}: compare" in refused(cli, 2, "newcomer", "receipt", "list")


def refused(cli: Cli, status: int, party: str, *arguments: str) -> str:
    result = cli.run(party, *arguments, yes=False)
    assert (result.exit_code, result.stdout) == (status, "")
    return result.stderr


def test_a_ledger_address_on_several_chains_is_asked_about(cli: Cli) -> None:
    (cli.state / "site 1" / f"1-{cli.ledger.lower()}").mkdir()
    assert f"knows {cli.ledger} on chains 1, 31337: say which" in refused(cli, 2, "site 1", "receipt", "list")
    assert "on chain 5" in refused(cli, 2, "site 1", "receipt", "list", "--chain-id", "5")
    for chain, count in (("1", 0), ("31337", 1)):
        listed = cli.run("site 1", "receipt", "list", "--chain-id", chain, "--json", yes=False)
        assert len(json.loads(listed.stdout)["receipts"]) == count


def test_all_that_is_remembered_is_verified_against_the_node(cli: Cli) -> None:
    head = "0x" + LedgerContract.attach(cli.anvil.web3, cli.ledger).head().hex()
    before = seen(cli, "auditor")
    told = json.loads(cli.run("auditor", "receipt", "verify", "--json", yes=False).stdout)
    assert told == {
        "verified": before,
        "entries": 9,
        "head": head,
        "receipts": {"final": 1, "pending": 0, "displaced": 0},
    }
    said = cli.run("auditor", "receipt", "verify", yes=False).stdout
    assert said.splitlines() == [
        "verified            9 remembered entries",
        "entries             9 on the node",
        f"head                {head}",
        "receipts final      1",
        "receipts pending    0",
        "receipts displaced  0",
    ]


def test_who_remembers_nothing_verifies_nothing_and_is_told_the_head_to_compare(cli: Cli) -> None:
    head = LedgerContract.attach(cli.anvil.web3, cli.ledger).head().hex()
    assert f"compare its head, 0x{head}, with another" in refused(cli, 3, "newcomer", "receipt", "verify")
    assert cli.run("newcomer", "receipt", "verify", yes=False).exit_code == 0, "it is remembered from now on"


def test_another_members_receipts_are_verified_and_a_false_one_is_found(cli: Cli) -> None:
    line = cli.run("site 2", "receipt", "show", "3", yes=False).stdout
    good = cli.file("sent.jsonl", line)
    said = cli.run("nobody", "receipt", "verify", good)
    assert said.exit_code == 0
    assert f"verified  1 receipts in {good}\n" in said.stdout
    entry, head = from_line(line.removesuffix("\n"))
    false = cli.file("false.jsonl", line.replace(head.hex(), "00" * 32))
    told = refused(cli, 1, "nobody", "receipt", "verify", false)
    assert f"  remembered:     entry 3, CharterAccepted, block {entry.block}, head 0x{'00' * 32}\n" in told
    assert f"  shown instead:  entry 3, CharterAccepted, block {entry.block}, head 0x{head.hex()}\n" in told
    assert str(false) in told


def test_one_member_that_forgot_learns_of_the_fork_from_anothers_receipts(rewritten: Cli) -> None:
    sent = rewritten.file("sent.jsonl", rewritten.run("site 1", "receipt", "show", "9", yes=False).stdout)
    told = refused(rewritten, 1, "newcomer", "receipt", "verify", sent)
    assert "last in common: entry 8, GenesisRecorded" in told, "one receipt is enough to say where"
    assert "remembered:     entry 9, CharterAccepted" in told


@pytest.mark.parametrize("content", ["", "garbage", "{}"])
def test_a_file_without_receipts_is_wrong_use(cli: Cli, content: str) -> None:
    told = refused(cli, 2, "nobody", "receipt", "verify", cli.file("bad.jsonl", content))
    assert "bad.jsonl" in told


def test_verify_needs_a_node(cli: Cli) -> None:
    with Anvil() as gone:
        gone.stop()
    said = cli.run("site 1", "receipt", "verify", yes=False, environment={"FEDLEDGER_RPC": gone.url})
    assert (said.exit_code, said.stdout) == (3, "")
