"""audit and export as commands: of a live ledger, a folder and a bundle; each option used well, and badly."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ledger import __version__
from ledger.audit.meanings import MEANINGS
from ledger.cid import cid_of
from ledger.cli import main
from ledger.entries import extend, to_line
from ledger.facts import AbortReason, ErasureReason
from ledger.receipts import Remembered
from tests.anvil import Anvil
from tests.ledger.test_compile_contracts import script
from tests.world import PLAN, World, every_kind_of_entry, tensors

__all__ = ["script"]  # a fixture

UNKNOWN = "0x" + "12" * 32
LEFT_OUT = (
    "{} of 5 rounds were left out: neither were their blobs hashed, their plans compared with the charter, or they "
    "settled again"
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The history with every kind of entry, on a real node of its own; not to be changed."""
    with Anvil() as anvil:
        world = every_kind_of_entry(tmp_path_factory.mktemp("live"), anvil)
        world.write()
        yield world


@pytest.fixture
def folder(live: World, tmp_path: Path) -> Path:
    """A copy of its folder, to be changed at will."""
    return Path(shutil.copytree(live.folder, tmp_path / "history"))


@pytest.fixture(scope="module")
def bundle(live: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "history.car"
    result = run("export", str(live.folder), "-o", str(path))
    assert result.exit_code == 0, result.output
    return path


def run(*arguments: str, state: Path = Path("/nonexistent")) -> Result:
    result = CliRunner().invoke(main, list(arguments), env={"FEDLEDGER_STATE": str(state)})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    assert "a defect in fedledger" not in result.output
    return result


def url(live: World) -> str:
    assert isinstance(live.chain, Anvil)
    return live.chain.url


def on_chain(live: World) -> tuple[str, ...]:
    """The live ledger as a source, with what says where it is."""
    return url(live), "--ledger", live.contract.address, "--store", str(live.store.folder)


def told(status: int, *arguments: str, state: Path = Path("/nonexistent")) -> dict[str, Any]:
    """The JSON document of an audit that ends with this status."""
    result = run("audit", *arguments, "--json", state=state)
    assert result.exit_code == status, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    assert document["verdict"] == {0: "verified", 1: "violated", 3: "incomplete"}[status]
    return document


def refused(status: int, *arguments: str) -> str:
    """The one sentence of a command that does not even start to audit."""
    result = run(*arguments)
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0].removeprefix("Error: ")


def findings(document: dict[str, Any], check: int, verdict: str) -> list[str]:
    return [one["text"] for one in document["checks"][check - 1]["findings"] if one["verdict"] == verdict]


def grounds(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(ground["kind"], ground["text"]) for ground in document["rests_on"]]


def truth(live: World) -> list[Remembered]:
    return live.contract.refolded()


def hexed(raw: bytes) -> str:
    return "0x" + raw.hex()


# ------------------------------------------------------------------------------------------------ SOURCE


def test_a_live_ledger_a_folder_and_a_bundle_are_audited_alike(live: World, folder: Path, bundle: Path) -> None:
    documents = [told(0, *source) for source in (on_chain(live), (str(folder),), (str(bundle),))]
    assert documents[0] == documents[1] == documents[2]
    assert grounds(documents[0]) == [("source", "the source's own word: the history is consistent with itself")]
    assert documents[0]["entries"] == len(truth(live))


def test_what_people_read_says_the_same_as_the_document(live: World, bundle: Path) -> None:
    lines = run("audit", str(bundle)).stdout.splitlines()
    document = told(0, str(bundle))
    for check in document["checks"]:
        assert f"✓ {check['number']} {check['name']}: {check['summary']}" in lines
    assert f"The head rests on {document['rests_on'][0]['text']}" in lines
    assert lines[-1].startswith("Verified: ")
    assert document["head"] in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-such-source",), "no-such-source is not there: give a bundle, a folder, or a node's address (http://…)"),
        (("http://127.0.0.1:9",), "http://127.0.0.1:9 is a node: give --ledger"),
        (("/dev/null",), "/dev/null is not there"),
    ],
)
def test_a_source_that_is_none_is_wrong_use(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert said in refused(2, "audit", *arguments)
    assert said in refused(2, "export", *arguments, "-o", str(tmp_path / "history.car"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_bundle_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(os.urandom(1000))
    assert "garbage is no bundle (" in refused(2, "audit", str(tmp_path / "garbage"))


def test_a_folder_that_holds_no_history_is_wrong_use(tmp_path: Path) -> None:
    assert f"{tmp_path} holds no history" in refused(2, "audit", str(tmp_path))


def test_a_folder_of_which_the_ledger_is_missing_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "entries.jsonl").write_bytes(b"")
    document = told(3, str(tmp_path))
    assert (document["ledger"], document["head"], document["timeline"]) == (None, None, [])
    assert findings(document, 1, "incomplete") == [
        f"{tmp_path / 'ledger.json'} is missing or cannot be read (No such file or directory): get the folder again"
    ]


def test_a_node_that_does_not_answer_is_incomplete_and_one_without_the_ledger_is_wrong_use(live: World) -> None:
    document = told(3, "http://127.0.0.1:9", "--ledger", live.contract.address)
    assert "the node at http://127.0.0.1:9 does not answer" in findings(document, 1, "incomplete")[0]
    assert "no contract is at 0x1212" in refused(2, "audit", url(live), "--ledger", "0x" + "12" * 20)


def test_a_bundle_that_is_cut_short_is_incomplete_or_none_at_all(bundle: Path, tmp_path: Path) -> None:
    whole, cut = bundle.read_bytes(), tmp_path / "cut.car"
    for length, status in ((0, 2), (58, 2), (59, 3), (len(whole) // 3, 3), (len(whole) // 2, 3), (len(whole) - 1, 3)):
        cut.write_bytes(whole[:length])
        result = run("audit", str(cut), "--json")
        assert result.exit_code == status, (length, result.output)
        if status == 3:
            document = json.loads(result.stdout)
            assert document["verdict"] == "incomplete"
            assert len(document["checks"]) in (1, 9)
    assert "missing" in findings(document, 6, "incomplete")[0], "the last block is a blob's"


def test_the_ledger_audited_is_the_one_asked_for(live: World, folder: Path) -> None:
    assert told(0, str(folder), "--ledger", live.contract.address)["verdict"] == "verified"
    assert told(0, str(folder), "--ledger", live.contract.address.lower())["verdict"] == "verified"
    document = told(1, str(folder), "--ledger", "0x" + "12" * 20)
    (finding,) = document["checks"][0]["findings"]
    assert finding["text"] == "the source is of another ledger"
    assert (finding["expected"], finding["found"]) == ("0x" + "12" * 20, live.contract.address.lower())
    assert "is no address" in refused(2, "audit", str(folder), "--ledger", "0x12")


# ------------------------------------------------------------------------------------- known from elsewhere


def test_a_head_from_elsewhere_covers_all_or_a_part_or_shows_another_history(live: World, folder: Path) -> None:
    entries = truth(live)
    whole, part = hexed(entries[-1][1]), hexed(entries[9][1])
    document = told(0, str(folder), "--head", whole)
    assert grounds(document) == [("head", f"the head given {whole}")]
    assert document["checks"][1]["findings"] == []
    document = told(0, str(folder), "--head", part)
    last = len(entries) - 1
    assert grounds(document) == [("head", f"the head given {part}, which covers 10 of {len(entries)} entries")]
    assert findings(document, 2, "verified") == [
        f"entries 10 to {last} are consistent with themselves: no head from elsewhere covers them"
    ]
    document = told(1, str(folder), "--head", UNKNOWN)
    (finding,) = document["checks"][1]["findings"]
    assert finding["text"].startswith("no entry leads to the head given: ")
    assert (finding["expected"], finding["found"]) == (UNKNOWN, whole)
    assert grounds(document) == [("source", "the source's own word: nothing from elsewhere vouches for it")]


@pytest.mark.parametrize("option", ["--head", "--since", "--block-hash"])
@pytest.mark.parametrize("text", ["0x12", "12" * 32, "0x" + "AB" * 32, "latest"])
def test_a_head_or_hash_that_is_none_is_wrong_use_before_anything_is_read(option: str, text: str) -> None:
    assert "a head is 0x and 64 hex digits" in refused(2, "audit", "http://127.0.0.1:9", option, text)


def test_the_head_is_proven_from_the_hash_of_a_block(live: World) -> None:
    entries, web3 = truth(live), live.chain.web3
    latest = web3.eth.get_block("latest")
    document = told(0, *on_chain(live), "--block-hash", hexed(latest["hash"]))
    assert grounds(document) == [
        (
            "block",
            f"the storage proof from block {latest['number']}, {hexed(latest['hash'])}, which holds the head "
            f"{hexed(entries[-1][1])}",
        )
    ]
    older = web3.eth.get_block(entries[9][0].block)
    document = told(0, *on_chain(live), "--block-hash", hexed(older["hash"]))
    assert grounds(document)[0][1].endswith(f"{hexed(entries[9][1])}, which covers 10 of {len(entries)} entries")
    document = told(3, *on_chain(live), "--block-hash", UNKNOWN)
    assert findings(document, 1, "incomplete") == [
        f"the node gives no storage proof from block {UNKNOWN}: use another node"
    ]


def test_a_bundle_brings_the_proof_from_the_block_of_its_last_entry_or_from_another(
    live: World, bundle: Path, tmp_path: Path
) -> None:
    web3, entries = live.chain.web3, truth(live)
    last = hexed(web3.eth.get_block(entries[-1][0].block)["hash"])
    assert grounds(told(0, str(bundle), "--block-hash", last))[0][0] == "block"
    older = hexed(web3.eth.get_block(entries[9][0].block)["hash"])
    path = str(tmp_path / "older.car")
    assert run("export", *on_chain(live), "--block-hash", older, "-o", path).exit_code == 0
    assert "which covers 10 of" in grounds(told(0, path, "--block-hash", older))[0][1]
    said = findings(told(3, path, "--block-hash", last), 2, "incomplete")
    assert said == [
        "the storage proof is from another block than the one whose hash was given: export with --block-hash"
    ]


def test_without_a_storage_proof_a_block_hash_is_of_no_use(folder: Path) -> None:
    (folder / "proof.json").unlink()
    document = told(3, str(folder), "--block-hash", UNKNOWN)
    assert findings(document, 2, "incomplete") == [
        "the source has no storage proof: the block hash given cannot be used"
    ]


def test_another_provider_confirms_or_is_named(live: World, folder: Path, tmp_path: Path) -> None:
    same = told(0, str(folder), "--provider", url(live))
    assert grounds(same) == [("provider", f"provider {url(live)} shows the same history")]
    with Anvil() as other:
        rewritten = World(tmp_path / "rewritten", chain=other)
        assert rewritten.contract.address == live.contract.address
        document = told(1, str(folder), "--provider", url(live), "--provider", other.url)
        said = findings(document, 2, "violated")[0]
        assert said.startswith(f"what provider {other.url} shows is another history: the last entry in common is ")
        assert grounds(document) == grounds(same)
    document = told(3, str(folder), "--provider", "http://127.0.0.1:9")
    assert findings(document, 2, "incomplete")[0].startswith(
        "provider http://127.0.0.1:9 does not show the ledger: the node at http://127.0.0.1:9 does not answer"
    )
    assert "a node's address is http://… or https://…" in refused(2, "audit", str(folder), "--provider", "ftp://x")


def test_a_provider_that_lags_behind_covers_a_part(live: World, folder: Path, tmp_path: Path) -> None:
    with Anvil() as other:
        World(tmp_path / "lagging", chain=other)  # the beginning of the same ledger, in other blocks
        document = told(1, str(folder), "--provider", other.url)
    assert findings(document, 2, "violated")[0].endswith("the last entry in common is no entry")


def write_receipts(path: Path, remembered: list[Remembered]) -> str:
    path.write_text("".join(to_line(*pair) + "\n" for pair in remembered), encoding="utf-8")
    return str(path)


def remember(live: World, state: Path) -> Path:
    """Let a command see the live ledger, and give the folder in which it remembers it."""
    arguments = ("--rpc", url(live), "--ledger", live.contract.address, "--finality", "latest")
    assert run("member", "list", *arguments, state=state).exit_code == 0
    return state / f"31337-{live.contract.address.lower()}"


def test_receipts_of_a_member_are_looked_for_in_the_history(live: World, folder: Path, tmp_path: Path) -> None:
    entries, last = truth(live), len(truth(live)) - 1
    mine = write_receipts(tmp_path / "receipts", entries[5:8])
    document = told(0, str(folder), "--receipts", mine)
    assert grounds(document) == [("receipts", f"3 receipts in {mine}, up to entry 7")]
    assert findings(document, 2, "verified") == [
        f"entries 8 to {last} are consistent with themselves: no head from elsewhere covers them"
    ]
    theirs = str(remember(live, tmp_path / "state"))
    document = told(0, str(folder), "--receipts", mine, "--receipts", theirs)
    assert grounds(document)[1] == ("receipts", f"{last + 1} receipts in {theirs}, up to entry {last}")
    assert document["checks"][3]["summary"] == f"{last + 4} remembered entries looked for in this history"


def test_receipts_of_another_history_are_a_fork_and_located(live: World, folder: Path, tmp_path: Path) -> None:
    entry, head = truth(live)[7]
    theirs = write_receipts(tmp_path / "receipts", [*truth(live)[:7], (entry, bytes(32))])
    document = told(1, str(folder), "--receipts", theirs)
    (finding,) = document["checks"][3]["findings"]
    assert finding["text"].startswith(
        f"what {theirs} remembers is another history: the last entry in common is entry 6"
    )
    assert (finding["entry"], finding["block"]) == (7, entry.block)
    assert "0x" + "00" * 32 in finding["expected"]
    assert hexed(head) in finding["found"]


def test_what_is_no_receipt_is_wrong_use(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "garbage").write_text("nonsense\n")
    said = refused(2, "audit", str(folder), "--receipts", str(tmp_path / "garbage"))
    assert said.startswith(f"line 1 of {tmp_path / 'garbage'} is no receipt")
    assert "cannot be read" in refused(2, "audit", str(folder), "--receipts", str(tmp_path / "nothing"))
    assert "remembers no final entry" in refused(2, "audit", str(folder), "--receipts", str(tmp_path))


def test_what_this_member_remembers_itself_is_used_without_being_asked(
    live: World, folder: Path, tmp_path: Path
) -> None:
    last, state = len(truth(live)) - 1, tmp_path / "state"
    memory = remember(live, state)
    own = [("receipts", f"{last + 1} receipts in this member's own memory, up to entry {last}")]
    assert grounds(told(0, str(folder), state=state)) == own
    assert grounds(told(0, str(folder), "--state", str(state))) == own
    home = {"FEDLEDGER_STATE": None, "HOME": str(tmp_path)}
    state.rename(tmp_path / ".fedledger")
    result = CliRunner().invoke(main, ["audit", str(folder), "--json"], env=home)
    assert grounds(json.loads(result.stdout)) == own, "without --state it is the one in the home folder"
    (tmp_path / ".fedledger").rename(state)
    rows = truth(live)[:-1]
    write_receipts(memory / "seen.jsonl", [*rows, (truth(live)[-1][0], bytes(32))])
    damaged = run("audit", str(folder), state=state)
    assert damaged.exit_code == 3
    assert f"line {last + 1} of {memory / 'seen.jsonl'} is damaged" in damaged.stderr


def test_a_history_that_ends_before_what_is_remembered_is_incomplete(live: World, folder: Path, tmp_path: Path) -> None:
    remember(live, tmp_path / "state")
    lines = (folder / "entries.jsonl").read_text().splitlines(keepends=True)
    (folder / "entries.jsonl").write_text("".join(lines[:-1]))
    head = json.loads(lines[-2])["head"]
    path = folder / "ledger.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"head": head}))
    document = told(3, str(folder), state=tmp_path / "state")
    assert findings(document, 4, "incomplete") == [
        "this member's own memory remembers entries after the last one here: the source is older, or withholds them"
    ]
    assert findings(document, 3, "incomplete")[0].startswith("the source has 1 signed transactions that recorded no")
    assert grounds(document) == [("source", "the source's own word: nothing from elsewhere vouches for it")]


def test_a_history_that_is_not_the_one_remembered_is_a_violation(live: World, folder: Path, tmp_path: Path) -> None:
    memory, entries = remember(live, tmp_path / "state"), truth(live)
    entry = replace(entries[-1][0], time=entries[-1][0].time + 1)
    write_receipts(memory / "seen.jsonl", [*entries[:-1], (entry, extend(entries[-2][1], entry))])
    document = told(1, str(folder), state=tmp_path / "state")
    assert findings(document, 4, "violated")[0].startswith("what this member's own memory remembers is another history")


def test_what_is_remembered_on_whatever_chain_is_used(live: World, folder: Path, tmp_path: Path) -> None:
    """A source says itself of which chain it is."""
    memory, entries = remember(live, tmp_path / "state"), truth(live)
    memory.rename(memory.with_name(memory.name.replace("31337-", "1-")))
    document = told(0, str(folder), state=tmp_path / "state")
    assert grounds(document)[0][1].startswith(f"{len(entries)} receipts in this member's own memory")


def test_a_provider_that_is_the_source_itself_is_wrong_use(live: World) -> None:
    said = refused(2, "audit", *on_chain(live), "--provider", url(live))
    assert said == f"--provider {url(live)} is the source itself: name another node"


def test_a_member_that_remembers_nothing_final_yet_audits_all_the_same(
    live: World, folder: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "state" / f"31337-{live.contract.address.lower()}"
    memory.mkdir(parents=True)
    (memory / "lock").touch()
    assert grounds(told(0, str(folder), state=tmp_path / "state"))[0][0] == "source"


# ----------------------------------------------------------------------------------------------- less


def altered_in_round(live: World, folder: Path, number: int, member: int) -> None:
    cid = live.contract.history().rounds[number].updates[member].update
    path = folder / "blobs" / str(cid)
    path.write_bytes(path.read_bytes() + b"!")


@pytest.mark.parametrize(
    ("text", "rounds"),
    [("3", [3]), ("1-2", [1, 2]), ("2-4", [2, 3, 4]), ("1,4-5", [1, 4, 5]), ("4-99", [4, 5]), ("1,1", [1])],
)
def test_only_the_rounds_asked_for_are_looked_at(live: World, folder: Path, text: str, rounds: list[int]) -> None:
    altered_in_round(live, folder, 3, 1)
    document = told(1 if 3 in rounds else 0, str(folder), "--rounds", text)
    assert document["scope"] == {
        "rounds": rounds,
        "since": None,
        "left_open": LEFT_OUT.format(5 - len(rounds)),
    }
    assert (
        document["checks"][6]["summary"]
        .partition(",")[2]
        .startswith(f" base models and manifests of {len(rounds)} rounds")
    )
    assert len(document["timeline"]) == 5, "the others are listed as their entries tell"
    if 3 not in rounds:
        sentence = run("audit", str(folder), "--rounds", text).stdout.splitlines()[-1]
        assert sentence.startswith(f"Verified as far as was asked: {LEFT_OUT.format(5 - len(rounds))} (")


@pytest.mark.parametrize("text", ["", "x", "7-3", "-", "3-", "-3", "1-2-3", "1,", "1;2", " 1", "٣", "1-99999999"])
def test_rounds_that_name_none_are_wrong_use(text: str) -> None:
    assert f"--rounds {text!r} names " in refused(2, "audit", "no-such-source", "--rounds", text)


@pytest.mark.parametrize("text", ["6", "0", "6-9,100"])
def test_rounds_that_are_not_in_the_history_are_wrong_use(folder: Path, text: str) -> None:
    said = refused(2, "audit", str(folder), "--rounds", text)
    assert said == "none of these rounds is in this history, which has rounds up to 5"


def test_a_sample_is_a_share_of_the_rounds_and_told(folder: Path) -> None:
    document = told(0, str(folder), "--sample", "40%")
    assert len(document["scope"]["rounds"]) == 2
    assert document["scope"]["left_open"] == (
        f"{LEFT_OUT.format(3)}; the rounds were chosen by chance (40%): ask for the same ones with --rounds"
    )
    assert len(told(0, str(folder), "--sample", "0.1%")["scope"]["rounds"]) == 1
    assert told(0, str(folder), "--sample", "100%")["scope"]["rounds"] == [1, 2, 3, 4, 5]
    assert len(told(0, str(folder), "--sample", "50%", "--rounds", "3-4")["scope"]["rounds"]) == 1


@pytest.mark.parametrize("text", ["5", "0%", "-5%", "101%", "x%", "nan%", "inf%", "%", ""])
def test_a_sample_that_is_no_share_is_wrong_use(text: str) -> None:
    assert f"--sample {text!r} is no share of the rounds: say 5%" in refused(2, "audit", ".", "--sample", text)


def test_an_audit_goes_on_where_an_earlier_one_ended(live: World, folder: Path) -> None:
    entries = truth(live)
    aborted = next(at for at, (entry, _) in enumerate(entries) if type(entry.fact).__name__ == "RoundAborted")
    head = hexed(entries[aborted][1])
    altered_in_round(live, folder, 1, 1)
    document = told(0, str(folder), "--since", head)
    assert document["scope"] == {
        "rounds": [3, 4, 5],
        "since": head,
        "left_open": f"{LEFT_OUT.format(2)}; the first {aborted + 1} entries were audited before, by whoever says so",
    }
    assert grounds(document) == [
        ("head", f"the head of the earlier audit {head}, which covers {aborted + 1} of {len(entries)} entries")
    ]
    newest = hexed(entries[-1][1])
    assert told(0, str(folder), "--since", newest)["scope"]["rounds"] == []
    beginning = hexed(live.contract.genesis.head())
    assert told(1, str(folder), "--since", beginning)["scope"]["rounds"] == [1, 2, 3, 4, 5]


def test_an_earlier_audit_of_another_history_is_a_violation(folder: Path) -> None:
    document = told(1, str(folder), "--since", UNKNOWN)
    (finding,) = document["checks"][1]["findings"]
    assert finding["text"].startswith("no entry leads to the head of the earlier audit: ")
    assert document["scope"]["rounds"] == [1, 2, 3, 4, 5], "then all is looked at"


# ---------------------------------------------------------------------------------------------- compiler


def test_the_contract_is_compiled_again_by_a_compiler_of_the_auditors_own(
    script: Any,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiler = script.npm_compiler()
    if compiler is None:
        pytest.skip("no solc: Node or its npm package is missing")
    monkeypatch.setenv("SOLCX_BINARY_PATH", str(tmp_path))
    (tmp_path / "solc-v0.8.30").symlink_to(compiler)
    assert told(0, str(folder), "--recompile")["verdict"] == "verified"
    (tmp_path / "solc-v0.8.30").unlink()
    (tmp_path / "solc-v0.8.30").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "solc-v0.8.30").chmod(0o755)
    assert "does not compile the contract" in refused(3, "audit", str(folder), "--recompile")


def test_without_a_compiler_and_network_the_contract_is_not_compiled(folder: Path, tmp_path: Path) -> None:
    # In a process of its own: py-solc-x leaves a file open. Its network refuses at once.
    command = [sys.executable, "-c", "from ledger.cli import main; main()", "audit", str(folder), "--recompile"]
    environment = {"SOLCX_BINARY_PATH": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == (
        "Error: solc 0.8.30 is not here and cannot be fetched: put it as solc-v0.8.30 into a folder, and name that "
        "folder in SOLCX_BINARY_PATH\n"
    )


# ------------------------------------------------------------------------------------------------ output

FIELDS: dict[str, set[str]] = {
    "document": {
        "fedledger", "verdict", "rests_on", "ledger", "head", "entries", "rounds", "updates", "scope", "checks",
        "members", "timeline",
    },
    "rests_on": {"kind", "text"},
    "ledger": {"chain_id", "address", "governor", "charter"},
    "scope": {"rounds", "since", "left_open"},
    "check": {"number", "name", "status", "proves", "rests_on", "leaves_open", "summary", "findings"},
    "finding": {"verdict", "text", "round", "member", "cid", "entry", "block", "expected", "found", "by"},
    "party": {"id", "name", "account"},
    "member": {"id", "name", "account", "roles"},
    "round": {
        "round", "status", "opened_at", "deadline", "ended_at", "released_at", "aggregator", "base_round",
        "model", "state", "counted", "eligible", "updates", "attestations", "quality", "scores", "privacy", "gas",
        "bytes",
    },
    "update": {"member", "outcome", "weight", "reason", "cid", "at", "relayed"},
    "attestation": {"member", "approve", "report"},
}  # fmt: skip


def fields_are(level: str, rows: list[dict[str, Any]]) -> None:
    assert rows, level
    for row in rows:
        assert row.keys() == FIELDS[level]


def test_the_document_has_these_fields_and_no_others(live: World, folder: Path) -> None:
    altered_in_round(live, folder, 1, 1)
    document = told(1, str(folder))
    assert document["fedledger"] == __version__
    checks, timeline = document["checks"], document["timeline"]
    found = [one for check in checks for one in check["findings"]]
    fields_are("document", [document])
    fields_are("rests_on", document["rests_on"])
    fields_are("ledger", [document["ledger"]])
    fields_are("scope", [document["scope"]])
    fields_are("check", checks)
    fields_are("finding", found)
    fields_are("party", [one["member"] for one in found if one["member"]])
    fields_are("member", document["members"])
    fields_are("round", timeline)
    fields_are("update", [update for one in timeline for update in one["updates"]])
    fields_are("attestation", [attested for one in timeline for attested in one["attestations"]])
    assert [(check["number"], check["name"]) for check in checks] == [(one.number, one.name) for one in MEANINGS]
    assert {one["verdict"] for one in found} == {"verified", "violated", "incomplete"}


def test_the_timeline_tells_what_became_of_every_round_and_update(live: World, folder: Path) -> None:
    document = told(0, str(folder))
    rounds = document["timeline"]
    assert [one["status"] for one in rounds] == ["released", "aborted", "released", "aborted", "open"]
    outcomes = [[(one["member"], one["outcome"], one["reason"]) for one in row["updates"]] for row in rounds]
    assert outcomes[0] == [(member, "counted", None) for member in (1, 2, 3)]
    assert outcomes[2] == [(1, "counted", None), (2, "counted", None), (3, "excluded", "malformed")]
    assert outcomes[4] == [(1, "recorded", None)]
    assert [one["relayed"] for one in rounds[0]["updates"]] == [False, False, True]
    assert all(one["gas"] > 100_000 for one in rounds)
    assert rounds[0]["opened_at"] <= rounds[0]["ended_at"] <= rounds[0]["released_at"]
    assert rounds[1]["opened_at"] < rounds[1]["deadline"] < rounds[1]["ended_at"], "it ended for lack of a quorum"
    assert rounds[1]["released_at"] is None
    assert (rounds[4]["ended_at"], rounds[4]["released_at"], rounds[4]["model"]) == (None, None, None)
    assert rounds[0]["eligible"] == [1, 2, 3]
    assert document["members"][5] == {
        "id": 6,
        "name": "Suspended",
        "account": live.account("suspended").address.lower(),
        "roles": [],
    }


def test_the_report_is_written_as_a_page_beside_what_is_printed(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = run("audit", str(folder), "--json", "--html", str(page))
    assert result.exit_code == 0
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert json.loads(result.stdout)["head"] in page.read_text(encoding="utf-8")
    (folder / "ledger.json").unlink()
    assert run("audit", str(folder), "--html", str(page)).exit_code == 3
    assert "ledger.json is missing" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["none/report.html", ".", "file/report.html"])
def test_a_page_that_cannot_be_written_is_told_before_the_audit_starts(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    page = str(tmp_path / name)
    assert "no report can be written to" in refused(2, "audit", str(folder), "--html", page)


# ------------------------------------------------------------------------------------------------ export


def test_an_export_gives_the_same_bytes_from_every_source_and_every_time(
    live: World, folder: Path, bundle: Path, tmp_path: Path
) -> None:
    expected = bundle.read_bytes()
    sources: list[tuple[str, ...]] = [on_chain(live), on_chain(live), (str(folder),), (str(folder),), (str(bundle),)]
    for number, source in enumerate(sources):
        path = tmp_path / f"{number}.car"
        result = run("export", *source, "-o", str(path), "--json")
        assert result.exit_code == 0, result.output
        assert path.read_bytes() == expected
        document = json.loads(result.stdout)
        assert document.keys() == {"root", "head", "entries", "bytes", "missing", "mismatched"}
        assert document["bytes"] == len(expected)
        assert document["head"] == hexed(truth(live)[-1][1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"{n}.car" for n in range(5)), "history"]


def test_an_export_tells_people_root_and_head(live: World, bundle: Path, tmp_path: Path) -> None:
    lines = run("export", str(bundle), "-o", str(tmp_path / "again.car")).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["root", "head", "entries", "bytes"]


def test_an_export_replaces_the_bundle_that_it_reads(bundle: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(bundle, tmp_path / "history.car"))
    assert run("export", str(path), "-o", str(path)).exit_code == 0
    assert path.read_bytes() == bundle.read_bytes()


def test_an_export_without_a_blob_says_so_and_the_audit_of_it_too(live: World, folder: Path, tmp_path: Path) -> None:
    plan, path = str(cid_of(PLAN.encode())), str(tmp_path / "history.car")
    (folder / "blobs" / plan).unlink()
    result = run("export", str(folder), "-o", path)
    assert result.exit_code == 3
    assert f"Not in the bundle: {plan} is missing\n" in result.stderr
    assert "missing: the plan of round 1, the plan of round 2" in findings(told(3, path), 6, "incomplete")[0]
    (folder / "blobs" / plan).write_bytes(b"another")
    result = run("export", str(folder), "-o", path)
    assert result.exit_code == 1
    assert f"Not in the bundle: what is stored as {plan} is something else" in result.stderr


def test_an_export_goes_without_what_was_recorded_as_erased(live: World, folder: Path, tmp_path: Path) -> None:
    cid, path = live.contract.history().rounds[3].updates[3].update, str(tmp_path / "history.car")
    (folder / "blobs" / str(cid)).unlink()
    result = run("export", str(folder), "-o", path)
    assert result.exit_code == 0
    assert f"Not in the bundle: {cid} is missing, and was recorded as erased" in result.stderr
    assert findings(told(0, path), 6, "verified")[0].startswith("erased by record: the update of round 3 by member 3")


def test_an_export_is_written_whole_or_not_at_all(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    for name in ("none/history.car", "taken"):
        assert "name a file in a folder that is there" in refused(2, "export", str(folder), "-o", str(tmp_path / name))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history", "taken"]


def test_a_record_of_erasure_excuses_no_blob_but_the_members_own(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.aggregator.open(PLAN)
    plan = world.contract.history().rounds[1].opened.plan
    world.post(1, world.update(1, tensors(1)))
    world.contract.abort(world.aggregator.account, 1, world.contract.head(), AbortReason.CANCELLED)
    world.contract.erase(world.governor, 1, 1, plan.digest, ErasureReason.MISTAKE)
    world.store.path(plan).unlink()
    result = run("export", str(world.write()), "-o", str(tmp_path / "history.car"))
    assert result.exit_code == 3
    assert f"Not in the bundle: {plan} is missing\n" in result.stderr
