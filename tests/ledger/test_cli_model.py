"""model pull: a verified model in a file, and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ledger.chain.contract import LedgerContract
from ledger.cid import Cid, cid_of
from ledger.plan import Plan, TensorSpec
from ledger.updates import MODEL_HEADER, Place, decode, encode, update_header
from tests.anvil import Anvil
from tests.cli import Cli
from tests.world import SCHEMA, SEALED, tensors


def pull(cli: Cli, file: Path, *arguments: str, status: int = 0) -> str:
    """What `model pull` says when it writes a file; where it refuses, nothing may be written."""
    result = cli.run("nobody", "model", "pull", "-o", str(file), *arguments)
    assert result.exit_code == status, result.output
    assert file.exists() == (status == 0)
    return result.stdout if status == 0 else result.stderr.strip()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_the_newest_released_model_is_written_as_it_is(cli: Cli, file: Path) -> None:
    cli.settled()
    cli.ok("auditor", "attest", "1")
    cli.open()
    model = cli.look("round", "show", "1")["model"]
    said = pull(cli, file)
    blob = file.read_bytes()
    assert str(cid_of(blob)) == model
    assert said.splitlines()[:4] == [
        "round      1",
        f"model      {model}",
        "status     released",
        "approvals  1 of 1, 0 rejections",
    ]
    again = file.with_name("again")
    told = cli.look("model", "pull", "--round", "1", "-o", str(again))
    assert told == {
        "round": 1,
        "model": model,
        "status": "released",
        "approvals": 1,
        "needed": 1,
        "rejections": 0,
        "bytes": len(blob),
        "file": str(again),
    }
    assert again.read_bytes() == blob


def test_a_model_is_handed_over_that_is_larger_than_any_update_of_its_plan(anvil: Anvil, tmp_path: Path) -> None:
    cli, large = Cli(anvil, tmp_path), {"weight": TensorSpec(dtype="F32", shape=[2000])}
    genesis = encode(MODEL_HEADER, large, {"weight": np.zeros(2000, np.float32)})
    cli.found(genesis)
    plan = Plan.model_validate({**SEALED.model_dump(), "tensors": large, "wire": "F16", "max_update_bytes": 6000})
    assert len(genesis) > plan.max_update_bytes
    cli.open(**dict(plan))
    history = LedgerContract.attach(anvil.web3, cli.ledger).history()
    place = Place.of(history.genesis, history.rounds[1].opened)
    for member in (1, 2):
        update = encode(update_header(place, member, 10), plan.update_tensors, {"weight": np.ones(2000, np.float16)})
        cli.ok(f"site {member}", "round", "post", "1", cli.file(f"update {member}", update), "--weight", "10")
    cli.ok("aggregator", "round", "settle")
    cli.ok("auditor", "attest", "1")
    pull(cli, tmp_path / "pulled")
    assert (decode((tmp_path / "pulled").read_bytes()).tensors["weight"] == 1).all()


def test_a_model_without_its_approvals_is_handed_over_only_where_that_is_said(cli: Cli, file: Path) -> None:
    cli.settled()
    said = pull(cli, file, "--round", "1", status=1)
    has = "it has 0 of 1 approvals and 0 rejections; wait for auditors, or say --unreleased"
    assert said == f"Error: the model of round 1 is not released: {has}"
    assert "no model is released yet: wait for approvals of round 1, or say --unreleased" in pull(cli, file, status=2)
    assert "status     settled" in pull(cli, file, "--unreleased")
    assert cid_of(file.read_bytes()) == Cid.parse(cli.look("round", "show", "1")["model"])


def test_round_0_is_the_genesis_model(cli: Cli, file: Path) -> None:
    assert "no round has made a model yet: --round 0 is the genesis model" in pull(cli, file, status=2)
    assert "no round has made a model yet" in pull(cli, file, "--unreleased", status=2)
    assert "status   genesis" in pull(cli, file, "--round", "0")
    assert file.read_bytes() == encode(MODEL_HEADER, SCHEMA, tensors(0))


def test_a_round_without_a_model_is_named(cli: Cli, file: Path) -> None:
    cli.open()
    assert "round 1 is open and has no model" in pull(cli, file, "--round", "1", status=2)
    cli.ok("aggregator", "round", "abort", "1", "--reason", "cancelled")
    assert "round 1 is aborted and has no model" in pull(cli, file, "--round", "1", "--unreleased", status=2)
    assert "there is no round 2: the newest is 1" in pull(cli, file, "--round", "2", status=2)


@pytest.mark.parametrize(("number", "which"), [("1", "the model of round 1"), ("0", "the genesis model")])
def test_bytes_that_are_not_what_the_cid_names_are_not_handed_over(
    cli: Cli, file: Path, number: str, which: str
) -> None:
    cli.settled()
    cli.ok("auditor", "attest", "1")
    model = cli.look("round", "show", "1")["model"]
    cid = model if number == "1" else str(cid_of(encode(MODEL_HEADER, SCHEMA, tensors(0))))
    path = Path(cli.store) / cid
    good = path.read_bytes()
    try:
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        said = pull(cli, file, "--round", number, status=1)
        assert said.startswith(f"Error: {which}: the bytes stored as {cid} are not what that CID names")
        path.unlink()
        assert f"{which}: blob {cid} is not to be had" in pull(cli, file, "--round", number, status=3)
    finally:
        path.write_bytes(good)


def test_a_file_that_is_there_is_never_replaced(cli: Cli, file: Path) -> None:
    cli.settled()
    cli.ok("auditor", "attest", "1")
    file.write_text("precious")
    assert f"{file} is there already: nothing is written over it: name another file" in cli.refused(
        2, "nobody", "model", "pull", "-o", str(file)
    )
    assert file.read_text() == "precious"
