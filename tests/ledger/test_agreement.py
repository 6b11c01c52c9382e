"""A person's yes to plans: it is kept, a plan is told as what changed, and a stranger's words write no line of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.agreement import AGREED, Agreed, changes, described, values
from ledger.choices import Krum
from ledger.cid import RAW, Cid, cid_of
from ledger.errors import UnavailableError
from ledger.plan import DpSgd, TensorSpec, Training
from ledger.storage.folder import FolderStore
from tests.cli import Cli
from tests.ledger.test_cli_connection import ask
from tests.world import PLAN, World

PLANS = [Cid(bytes([number]) * 32, RAW) for number in range(3)]


def test_who_agrees_is_remembered_in_the_order_of_the_last_yes(tmp_path: Path) -> None:
    agreed = Agreed(tmp_path / "new")
    assert agreed.plans() == []
    for plan in (PLANS[0], PLANS[1], PLANS[0]):
        agreed.add(plan)
    assert Agreed(tmp_path / "new").plans() == [PLANS[1], PLANS[0]]


def test_the_plan_agreed_to_last_is_had_from_the_store_as_long_as_it_is_there(tmp_path: Path) -> None:
    store, agreed = FolderStore(tmp_path / "blobs"), Agreed(tmp_path)
    assert agreed.last(store) is None
    agreed.add(cid_of(PLAN.encode()))
    assert agreed.last(store) is None
    store.put(PLAN.encode())
    assert agreed.last(store) == PLAN


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"5", b"{}", b'{"plans": 5}', b'{"plans": ["x"]}', b'{"plans": [5]}', b"\xff", b"[" * 9**5],
)
def test_a_damaged_file_is_no_yes_and_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / AGREED).write_bytes(damage)
    for try_ in (Agreed(tmp_path).plans, lambda: Agreed(tmp_path).add(PLANS[0])):
        with pytest.raises(UnavailableError, match=f"{AGREED} is damaged: delete it, and agree to the plan again"):
            try_()
    assert (tmp_path / AGREED).read_bytes() == damage


def test_a_folder_in_its_place_is_no_yes(tmp_path: Path) -> None:
    (tmp_path / AGREED).mkdir()
    with pytest.raises(UnavailableError, match="cannot be read and written"):
        Agreed(tmp_path).plans()


def test_every_value_of_a_plan_is_told_in_full() -> None:
    told = values(PLAN)
    assert told["training.batch_size"] == 1
    assert told["strategy.name"] == "fedavg"
    assert told["participants_attest"] == "false"
    none = {"filter", "clipping", "wire", "privacy"}
    assert {key.split(".")[0] for key in told} == set(type(PLAN).model_fields) - none - {"tensors"}
    chosen = {"filter": Krum(attackers=1), "clipping": 2.5, "wire": "BF16"}
    told = values(PLAN.model_copy(update=chosen))
    assert (told["filter.attackers"], told["clipping"], told["wire"]) == (1, 2.5, "BF16")


def test_what_changed_is_told_key_by_key_old_and_new() -> None:
    private = DpSgd(clip=1.0, noise_multiplier=1.5, sampling_rate=0.1, local_steps=10, delta=1e-5)
    after = PLAN.model_copy(
        update={"seal": "age", "quorum": 3, "training": Training(epochs=2, batch_size=1, learning_rate=0.1)}
    )
    assert changes(PLAN, PLAN) == {}
    assert changes(PLAN, after) == {"training.epochs": "1 -> 2", "seal": "none -> age", "quorum": "2 -> 3"}
    assert changes(PLAN, PLAN.model_copy(update={"privacy": private}))["privacy.clip"] == "none -> 1.0"
    assert changes(PLAN.model_copy(update={"privacy": private}), PLAN)["privacy.clip"] == "1.0 -> none"


def test_tensors_that_changed_are_told_in_few_words() -> None:
    other = {"bias": TensorSpec(dtype="F32", shape=[3]), "new": TensorSpec(dtype="F32", shape=[1])}
    found = changes(PLAN, PLAN.model_copy(update={"tensors": other}))
    assert found == {"tensors": "bias F16 [3] -> F32 [3]; new none -> F32 [1]; weight F32 [2, 2] -> none"}
    many = {f"layer {number}": TensorSpec(dtype="F32", shape=[1]) for number in range(1000)}
    assert changes(PLAN, PLAN.model_copy(update={"tensors": many}))["tensors"].endswith("; and 997 more")


def test_a_strangers_words_write_no_line_of_their_own(tmp_path: Path) -> None:
    world = World(tmp_path, 2)
    world.aggregator.open(PLAN)
    history = world.contract.history()
    evil = {"x\nupdates  sealed to nobody\x1b[2J": TensorSpec(dtype="F32", shape=[1])}
    lines = list(described(history, history.rounds[1], PLAN.model_copy(update={"tensors": evil}), PLAN, 0))
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith("updates  sealed to nobody")]


# ---------------------------------------------------------------------------------------- round agree


def agreed(cli: Cli, party: str = "site 1") -> Agreed:
    return Agreed(cli.state / party / f"31337-{cli.ledger.lower()}")


def test_round_agree_keeps_the_yes_and_records_nothing(cli: Cli) -> None:
    cli.open()
    block, plan = cli.anvil.web3.eth.block_number, cli.look("round", "show")["plan"]
    assert cli.ok("site 1", "round", "agree", "1") == {"round": 1, "plan": plan, "agreed_before": False}
    assert cli.ok("site 1", "round", "agree", "1") == {"round": 1, "plan": plan, "agreed_before": True}
    assert [str(one) for one in agreed(cli).plans()] == [plan]
    assert cli.anvil.web3.eth.block_number == block


def test_round_agree_shows_all_of_the_first_plan_and_what_is_different_in_the_next(cli: Cli) -> None:
    cli.open()
    first = cli.run("site 1", "round", "agree", "1").output
    assert "training.learning_rate  0.1" in first
    assert "sealed to 3 aggregator, 4 auditor" in first
    assert "Agreed to the plan of round 1: `fedledger participate` goes on with it." in first
    cli.ok("aggregator", "round", "abort", "1", "--reason", "cancelled")
    cli.open(grace=5, seal="none")
    second = cli.run("site 1", "round", "agree", "2").output
    assert "seal   age -> none\n" in second
    assert "grace  86400 -> 5\n" in second
    assert "learning_rate" not in second
    assert "NOT SEALED: whoever reaches the store can read them" in second


def test_at_a_terminal_round_agree_asks_and_a_no_is_none(cli: Cli) -> None:
    cli.open()
    status, shown = ask(cli, "site 1", ["round", "agree", "1"], ["n"])
    assert status == 1, shown
    assert "Train by this plan? [y/N]:" in shown
    assert agreed(cli).plans() == []
    status, shown = ask(cli, "site 1", ["round", "agree", "1"], ["y"])
    assert status == 0, shown
    assert len(agreed(cli).plans()) == 1


def test_round_agree_takes_no_yes_to_a_round_that_is_over_or_from_nobody(cli: Cli) -> None:
    cli.open()
    nobody = cli.run("site 1", "round", "agree", "1", yes=False)
    assert nobody.exit_code == 2
    assert "Error: nobody is there to agree to the plan of round 1: read it, and say --yes" in nobody.stderr
    cli.anvil.pass_time(601)
    over = "round 1 takes no updates any more: agree to the plan of one that is open"
    assert over in cli.refused(2, "site 1", "round", "agree", "1")
    cli.ok("aggregator", "round", "abort", "1", "--reason", "cancelled")
    assert over in cli.refused(2, "site 1", "round", "agree", "1")
    assert agreed(cli).plans() == []
