"""Whoever changes anything of a recorded history is found out: every blob and every field of every entry is tried."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ledger.audit.evidence import read_folder, write_folder
from ledger.cid import cid_of
from ledger.cli import main
from ledger.entries import Entry, from_line
from tests.world import World


def audit(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    result: Result = CliRunner().invoke(main, ["audit", str(folder), "--json", *options])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.output)


def findings(document: dict[str, Any]) -> str:
    return "\n".join(check["detail"] for check in document["checks"] if check["status"] != "verified")


def lines(folder: Path) -> list[str]:
    return (folder / "entries.jsonl").read_text(encoding="utf-8").splitlines()


def write_lines(folder: Path, changed: list[str]) -> None:
    (folder / "entries.jsonl").write_text("".join(line + "\n" for line in changed), encoding="utf-8")


def roles_of_blobs(folder: Path) -> dict[str, set[str]]:
    """By CID, every role in which the entries name a blob."""
    roles: dict[str, set[str]] = {}
    names = {1: "Site 1", 2: "Site 2", 3: "Site 3", 5: "Auditor"}
    for line in lines(folder):
        row = json.loads(line)
        number = row.get("round")
        if row["kind"] == "UpdateRecorded":
            key = f"update of round {number} by member {row['member']} ({names[row['member']]})"
            roles.setdefault(row["update"], set()).add(key)
        elif row["kind"] == "AttestationRecorded":
            roles.setdefault(row["report"], set()).add(f"report on round {number} by member 5 (Auditor)")
        elif row["kind"] == "GenesisRecorded":
            roles.setdefault(row["model"], set()).add("genesis model")
        for field in ("plan", "base", "model", "manifest"):
            if row["kind"] != "GenesisRecorded" and row.get(field):
                roles.setdefault(row[field], set()).add(f"{field} of round {number}")
    charter = json.loads((folder / "ledger.json").read_text())["charter"]
    roles.setdefault(charter, set()).add("charter")
    return roles


def test_the_untouched_history_is_verified(recorded: World) -> None:
    status, document = audit(recorded.folder)
    assert (status, document["verdict"]) == (0, "verified")
    assert (document["rounds"], document["updates"]) == (5, 8)
    assert document["head"] == "0x" + recorded.contract.head().hex()
    assert audit(recorded.folder, "--head", document["head"])[0] == 0


def test_every_stored_blob_has_a_role(recorded: World) -> None:
    assert {path.name for path in (recorded.folder / "blobs").iterdir()} == set(roles_of_blobs(recorded.folder))


def test_a_flipped_byte_in_any_blob_is_a_violation_that_names_the_blob_and_all_its_roles(history_folder: Path) -> None:
    for cid, roles in roles_of_blobs(history_folder).items():
        path = history_folder / "blobs" / cid
        blob = path.read_bytes()
        for at in {0, len(blob) // 2, len(blob) - 1}:
            path.write_bytes(blob[:at] + bytes((blob[at] ^ 0x20,)) + blob[at + 1 :])
            status, document = audit(history_folder)
            assert (status, document["verdict"]) == (1, "violated"), (cid, at)
            named = next(line for line in findings(document).splitlines() if line.startswith(f"blob {cid} ("))
            assert all(role in named for role in roles), named
        path.write_bytes(blob)
    assert audit(history_folder)[0] == 0


def test_a_deleted_blob_is_incomplete_and_named_with_all_its_roles(history_folder: Path) -> None:
    for cid, roles in roles_of_blobs(history_folder).items():
        path = history_folder / "blobs" / cid
        blob = path.read_bytes()
        path.unlink()
        status, document = audit(history_folder)
        assert (status, document["verdict"]) == (3, "incomplete"), cid
        named = next(line for line in findings(document).splitlines() if line.startswith(f"blob {cid} ("))
        assert all(role in named for role in roles), named
        path.write_bytes(blob)


def test_a_missing_and_an_altered_blob_together_are_a_violation(history_folder: Path) -> None:
    first, second = sorted(roles_of_blobs(history_folder))[:2]
    (history_folder / "blobs" / first).unlink()
    (history_folder / "blobs" / second).write_bytes(b"altered")
    status, document = audit(history_folder)
    assert status == 1
    assert first in findings(document)
    assert second in findings(document)


def shifted(lines_: list[str], name: str) -> Iterator[list[str]]:
    """Every way in which one entry can be deleted, duplicated, or swapped with the next."""
    for at, line in enumerate(lines_):
        if name == "deleted":
            yield [*lines_[:at], *lines_[at + 1 :]]
        elif name == "duplicated":
            yield [*lines_[:at], line, *lines_[at:]]
        elif name == "duplicated at the end":
            yield [*lines_, line]
        elif at:
            yield [*lines_[: at - 1], line, lines_[at - 1], *lines_[at + 1 :]]


@pytest.mark.parametrize("change", ["deleted", "duplicated", "duplicated at the end", "swapped"])
def test_entries_that_are_deleted_duplicated_or_reordered_are_a_violation(
    history_folder: Path, recorded: World, change: str
) -> None:
    head = "0x" + recorded.contract.head().hex()
    for changed in shifted(lines(recorded.folder), change):
        write_lines(history_folder, changed)
        assert audit(history_folder)[0] == 1
        assert audit(history_folder, "--head", head)[0] == 1


def edits(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every committed field of an entry, edited into another value that could stand there."""
    for field, value in row.items():
        if field == "transaction":
            continue  # it says where the entry can be found; the head does not commit to it
        other: Any
        if field == "kind":
            other = "GenesisRecorded" if value != "GenesisRecorded" else "RoundAborted"
        elif isinstance(value, bool):
            other = not value
        elif isinstance(value, int):
            other = value + 1
        elif isinstance(value, list):
            other = ["participant", "aggregator", "auditor"]
        elif value is None:
            other = str(cid_of(b"another"))
        elif field == "reason":
            other = "quorum" if value == "cancelled" else "cancelled"
        elif value.startswith("0x"):
            other = value[:-1] + ("0" if value[-1] != "0" else "1")
        elif value.startswith("baf"):
            other = str(cid_of(b"another"))
        else:
            other = value + "!"
        yield {**row, field: other}


def test_an_edit_of_any_field_of_any_entry_is_a_violation(history_folder: Path, recorded: World) -> None:
    original = lines(recorded.folder)
    head = "0x" + recorded.contract.head().hex()
    tried = 0
    for at, line in enumerate(original):
        for row in edits(json.loads(line)):
            write_lines(history_folder, [*original[:at], json.dumps(row, ensure_ascii=False), *original[at + 1 :]])
            assert audit(history_folder)[0] == 1, row
            assert audit(history_folder, "--head", head)[0] == 1, row
            tried += 1
    assert tried > 200


def test_an_edit_with_all_later_heads_made_to_fit_is_a_violation_of_a_head_known_from_elsewhere(
    history_folder: Path, recorded: World
) -> None:
    """What a rewritten private chain looks like: consistent with itself, and another history."""
    original = lines(recorded.folder)
    genesis, real_head = recorded.contract.genesis, "0x" + recorded.contract.head().hex()
    for at, line in enumerate(original):
        for row in edits(json.loads(line)):
            forged: list[Entry] = []
            try:
                for other in [*original[:at], json.dumps(row, ensure_ascii=False), *original[at + 1 :]]:
                    forged.append(from_line(other)[0])
            except ValueError:
                continue  # not an entry at all: the test above
            if forged[at] == from_line(line)[0]:
                continue  # only the head beside it was edited
            write_folder(history_folder, genesis, forged, bytes(32))
            refolded = read_folder(history_folder).entries[-1][1]
            write_folder(history_folder, genesis, forged, refolded)
            assert audit(history_folder, "--head", real_head)[0] == 1, row


@pytest.mark.parametrize("field", ["chain_id", "ledger", "governor", "charter", "head"])
def test_an_edit_of_what_the_ledger_is_is_a_violation(history_folder: Path, field: str) -> None:
    path = history_folder / "ledger.json"
    document = json.loads(path.read_text())
    value = document[field]
    others = [
        None,
        "nonsense",
        -1,
        value + 1 if isinstance(value, int) else value[:-1] + ("0" if value[-1] != "0" else "1"),
    ]
    if field == "charter":
        others.append(str(cid_of(b"another charter")))
    for other in others:
        path.write_text(json.dumps({**document, field: other}))
        assert audit(history_folder)[0] == 1, other


@pytest.mark.parametrize("garbage", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, b"null\n"])
def test_garbage_in_place_of_the_entries_or_the_ledger_is_a_violation_and_no_crash(
    history_folder: Path, garbage: bytes
) -> None:
    for name in ("entries.jsonl", "ledger.json"):
        original = (history_folder / name).read_bytes()
        (history_folder / name).write_bytes(garbage)
        assert audit(history_folder)[0] == 1
        (history_folder / name).write_bytes(original)


@pytest.mark.parametrize("name", ["entries.jsonl", "ledger.json"])
def test_a_folder_without_its_entries_or_its_ledger_is_incomplete(history_folder: Path, name: str) -> None:
    (history_folder / name).unlink()
    status, document = audit(history_folder)
    assert (status, document["verdict"]) == (3, "incomplete")
    assert name in findings(document)


def test_an_entry_that_is_missing_is_named_with_its_neighbour(history_folder: Path) -> None:
    original = lines(history_folder)
    write_lines(history_folder, [*original[:7], *original[8:]])
    assert "entry 7 is missing before entry 8" in findings(audit(history_folder)[1])
