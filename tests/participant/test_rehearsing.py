"""Rehearsing: a site trains for a past round again, through the command line, and tells whether the same bytes come."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.choices import CONTROL
from ledger.cid import RAW, Cid
from ledger.cli.identities import open_identities
from ledger.facts import UpdateRecorded
from ledger.storage.folder import FolderStore
from participant.posted import Posted
from tests.anvil import Anvil
from tests.cli import PASSWORD, Cli
from tests.e2e.consortium import Consortium

pytestmark = pytest.mark.xdist_group("rehearsing")  # one worker plays the rounds for all

HEART = Path(__file__).resolve().parents[2] / "examples" / "heart"
TASK = HEART / "task.py"
DATA = {"site 1": HEART / "cleveland.csv", "site 2": HEART / "hungary.csv"}
PLAN = """
window = 600
quorum = 1
approvals = 0
{first}

[training]
epochs = 2
batch_size = 32
learning_rate = 0.01

{last}
"""
PRIVACY = """
[privacy]
clip = 1.0
noise_multiplier = 2.0
sampling_rate = 0.25
local_steps = 3
delta = 1e-5
"""
THIRD = "SCAFFOLD's third round, by half the bytes"
ROUNDS: dict[str, tuple[str, str]] = {
    "sealed, with the key before the newest": ("", ""),
    "unsealed": ('seal = "none"', ""),
    "FedProx": ('wire = "F16"', '[strategy]\nname = "fedprox"\nmu = 0.1'),
    "SCAFFOLD": ("", '[strategy]\nname = "scaffold"'),
    "SCAFFOLD's second round": ("", '[strategy]\nname = "scaffold"'),
    THIRD: ('wire = "BF16"', '[strategy]\nname = "scaffold"'),
    "private": ("", PRIVACY),
}
NUMBERS = {name: number for number, name in enumerate(ROUNDS, 1)}
OPEN = len(ROUNDS) + 1


@pytest.fixture(scope="module")
def trained(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Two hospitals that trained for a round of each kind; site 1 renewed its age key after the first."""
    cli = Cli(anvil, tmp_path_factory.mktemp("trained"))
    cli.ledger = cli.ok("governor", "deploy", "--charter", cli.file("charter.md", "# Charter\n"))["ledger"]
    for name, role in {"site 1": "participant", "site 2": "participant", "aggregator": "aggregator"}.items():
        cli.ok("governor", "member", "admit", cli.address(name), "--name", name, "--role", role)
        cli.ok(name, "join")
    model = str(cli.path("genesis.safetensors"))
    assert cli.run("nobody", "task", "genesis", str(TASK), "--out", model).exit_code == 0
    cli.ok("governor", "round", "genesis", model)
    for number, (first, last) in enumerate([*ROUNDS.values(), ("", "")], 1):
        cli.ok("aggregator", "round", "open", cli.file("plan.toml", PLAN.format(first=first, last=last)))
        if number < OPEN:
            train(cli)
            cli.ok("aggregator", "round", "settle")
        if number == 1:
            cli.ok("site 1", "key", "rotate")
    return cli


def train(cli: Cli) -> None:
    """Both sites answer; at once, since an unsealed update is published only when all are there."""
    consortium = Consortium(cli)
    with consortium.stopping():
        sites = [consortium.start(site, *participate(site), "--once", "--poll", "0.1") for site in DATA]
        assert [site.wait() for site in sites] == [0, 0], [site.said for site in sites]


def participate(site: str, task: Path = TASK, data: Path | None = None) -> list[str]:
    files = ["--task", str(task), "--data", str(data or DATA[site])]
    return ["participate", *files, "--yes", "--accept-plans"]


@pytest.fixture
def again(trained: Cli, tmp_path: Path) -> Iterator[Cli]:
    """The same, with copies of what the parties remember and of the store, to be changed at will."""
    before, state, store = trained.anvil.snapshot(), trained.state, trained.store
    trained.state = Path(shutil.copytree(state, tmp_path / "state"))
    trained.store = str(shutil.copytree(store, tmp_path / "blobs"))
    yield trained
    trained.state, trained.store = state, store
    trained.anvil.revert(before)


def rehearsed(cli: Cli, name: str, status: int = 0, site: str = "site 1", **files: Path) -> Any:
    """What a rehearsal of a round says, in JSON."""
    arguments = participate(site, **files)
    result = cli.run(site, *arguments, "--rehearse", str(NUMBERS[name]), "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def told(cli: Cli, name: str, status: int = 0, site: str = "site 1", **files: Path) -> dict[str, str]:
    """What it says to people, by its first word."""
    result = cli.run(site, *participate(site, **files), "--rehearse", str(NUMBERS[name]))
    assert result.exit_code == status, result.output
    lines = [line.partition(" ") for line in result.stdout.splitlines()]
    return {first: rest.strip() for first, _, rest in lines}


def cannot(cli: Cli, name: str | int, status: int, site: str = "site 1", **files: Path) -> str:
    """The one sentence with which it ends where there is nothing to compare."""
    number = name if isinstance(name, int) else NUMBERS[name]
    return cli.refused(status, site, *participate(site, **files), "--rehearse", str(number))


def recorded(cli: Cli, name: str, member: int = 1) -> UpdateRecorded:
    return Consortium(cli).history.rounds[NUMBERS[name]].updates[member]


def lose(cli: Cli, cid: Cid) -> None:
    FolderStore(Path(cli.store)).path(cid).unlink()


def altered(folder: Path) -> Path:
    """Site 1's records, with one cell of one record changed."""
    lines = DATA["site 1"].read_text().splitlines()
    age, _, rest = lines[150].partition(",")
    lines[150] = f"{float(age) + 1},{rest}"
    path = folder / "altered.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def changed(folder: Path, old: str, new: str) -> Path:
    """The task with a change."""
    text = TASK.read_text()
    assert old in text
    path = folder / "my_task.py"
    path.write_text(text.replace(old, new))
    return path


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(f"{path} {path.is_file()}".encode() + (path.read_bytes() if path.is_file() else b""))
    return found.hexdigest()


# --------------------------------------------------------------------------------------------- it agrees


@pytest.mark.parametrize(("name", "site"), [*((name, "site 1") for name in ROUNDS), (THIRD, "site 2")])
def test_the_same_data_and_secret_give_the_update_that_was_posted_byte_for_byte(
    trained: Cli, name: str, site: str
) -> None:
    found = rehearsed(trained, name, site=site)
    assert found["agrees"] is found["witness"] is True
    assert found["round"] == NUMBERS[name]
    assert found["update"] == str(recorded(trained, name, int(site[-1])).update)
    then, now = found["examples"]
    assert then == now == recorded(trained, name, int(site[-1])).weight
    if name == "private":
        assert found["metrics"] is None
    else:
        then, now = found["metrics"]
        assert then == now
        assert then.keys() == {"loss", "accuracy", "auc"}
    elements = 21 * 16 + 16 + 16 + 1
    both = 2 if "SCAFFOLD" in name else 1
    assert found["tensors"] == {"elements": both * elements, "differing": 0, "largest": 0.0}


def test_it_tells_people_so(trained: Cli) -> None:
    found = told(trained, "sealed, with the key before the newest")
    assert (found["witness"], found["tensors"]) == ("agrees", "agree: 369 elements")
    assert found["examples"] == f"agree: {recorded(trained, 'unsealed').weight}"
    assert found["metrics"].startswith("agree: loss ")
    assert told(trained, "private")["metrics"] == "none were posted"
    assert found["It"] == "is the update that was posted, byte for byte."


def test_it_writes_nothing_and_what_the_task_prints_is_kept_apart(again: Cli, tmp_path: Path) -> None:
    talking = changed(tmp_path, "        table = np", "        print('loading')\n        table = np")
    rehearsed(again, "SCAFFOLD")
    folders, head = (again.state / "site 1", Path(again.store)), again.look("status")["head"]
    before = [digest(folder) for folder in folders]
    assert rehearsed(again, "SCAFFOLD", task=talking)["agrees"]
    assert [digest(folder) for folder in folders] == before
    assert again.look("status")["head"] == head


def test_policy_and_people_are_not_asked(again: Cli) -> None:
    policy = again.file("policy.toml", f'tasks = ["{"0" * 64}"]\n')
    assert "does not have" in again.refused(2, "site 1", *participate("site 1"), "--policy", policy)
    files = ["--task", str(TASK), "--data", str(DATA["site 1"]), "--policy", policy]
    result = again.run("site 1", "participate", *files, "--rehearse", "1", yes=False)
    assert result.exit_code == 0, result.output


# ------------------------------------------------------------------------------------------- it does not


@pytest.mark.parametrize("name", ["unsealed", THIRD, "private"])
def test_altered_data_have_another_witness(trained: Cli, tmp_path: Path, name: str) -> None:
    found = rehearsed(trained, name, 1, data=altered(tmp_path))
    assert (found["agrees"], found["witness"], found["tensors"]) == (False, False, None)


def test_it_tells_people_how_the_data_differ(trained: Cli) -> None:
    found = told(trained, "FedProx", 1, data=DATA["site 2"])
    assert found["metrics"].startswith("differ: ")
    assert found["witness"] == "differs: other data, or another secret, than was trained with"
    assert found["examples"].startswith("differ: ")
    assert found["tensors"].startswith("not trained")
    assert found["IT"] == "IS ANOTHER UPDATE."


def test_another_secret_has_another_witness(again: Cli) -> None:
    """Of an unsealed update: of a sealed one it opens nothing."""
    shutil.copy(again.state / "site 2" / "age.key", again.state / "site 1" / "age.key")
    assert not rehearsed(again, "unsealed", 1)["witness"]
    said = cannot(again, "FedProx", 3)
    assert "none of the age keys here opens this member's update of round 3: restore the one that it had then" in said


def test_another_training_is_told_by_how_much_it_differs(trained: Cli, tmp_path: Path) -> None:
    task = changed(
        tmp_path,
        "    def load",
        "    def loss(self, model, batch):\n        return super().loss(model, batch) * 1.0001\n\n    def load",
    )
    found = rehearsed(trained, "unsealed", 1, task=task)
    assert (found["agrees"], found["witness"]) == (False, True)
    assert 0 < found["tensors"]["differing"] <= found["tensors"]["elements"] == 369
    assert 0 < found["tensors"]["largest"] < 0.01
    said = told(trained, "unsealed", 1, task=task)
    assert said["witness"] == "agrees"
    assert said["tensors"].startswith("differ: ")
    assert "another machine, task or version of a library, or a training that is not reproducible" in said["tensors"]


def test_another_measure_is_told(trained: Cli, tmp_path: Path) -> None:
    """What is measured is not in the witness; the tensors agree, and the bytes do not."""
    task = changed(
        tmp_path,
        "    def load",
        "    def evaluate(self, model, dataset):\n        return {'loss': 0.25}\n\n    def load",
    )
    found = rehearsed(trained, "unsealed", 1, task=task)
    assert (found["agrees"], found["witness"], found["tensors"]["differing"]) == (False, True, 0)
    assert found["metrics"][1] == {"loss": 0.25}


def test_a_lost_update_that_scaffold_rests_on_is_said(again: Cli) -> None:
    lost = recorded(again, "SCAFFOLD").update
    lose(again, lost)
    result = again.run("site 1", *participate("site 1"), "--rehearse", str(NUMBERS[THIRD]))
    assert result.exit_code == 1
    assert "an earlier update of ours counts as zero in our control variate  round 4" in result.stderr
    assert str(lost) in result.stderr


# ---------------------------------------------------------------------------------------------- it cannot


def test_a_round_in_which_there_is_nothing_to_rehearse_is_refused(trained: Cli) -> None:
    assert cannot(trained, 99, 2) == f"there is no round 99, the newest is {OPEN}: name another"
    assert cannot(trained, OPEN, 2).startswith(f"member 1 posted no update in round {OPEN}: name a round")
    said = trained.refused(2, "site 1", *participate("site 1"), "--rehearse", "1", "--once")
    assert said == "--rehearse posts nothing: leave out --once and --handover"


def test_a_round_that_is_open_is_refused(again: Cli) -> None:
    result = again.run("site 1", *participate("site 1"), "--once", "--poll", "0.1")
    assert result.exit_code == 0, result.output
    assert cannot(again, OPEN, 2) == f"round {OPEN} is open: rehearse it once it has ended"


def test_a_task_of_another_model_is_refused(trained: Cli, tmp_path: Path) -> None:
    task = changed(tmp_path, "nn.ReLU(), nn.Linear(16, 1)", "nn.ReLU(), nn.Linear(16, 2)")
    assert "has another size in the base model" in cannot(trained, "unsealed", 2, task=task)


@pytest.mark.parametrize("what", ["update", "key blob", "base", "state"])
def test_what_is_not_to_be_had_any_more_is_named(again: Cli, what: str) -> None:
    name = "SCAFFOLD's second round"
    mine, opened = recorded(again, name), Consortium(again).history.rounds[NUMBERS[name]].opened
    ended = Consortium(again).history.rounds[NUMBERS["SCAFFOLD"]].ended
    assert ended is not None
    assert ended.manifest is not None
    state = json.loads(FolderStore(Path(again.store)).get(ended.manifest))["state"]
    lost = {
        "update": mine.update,
        "key blob": Cid(mine.key_blob or b"", RAW),
        "base": opened.base,
        "state": Cid.parse(state),
    }[what]
    lose(again, lost)
    assert cannot(again, name, 3).startswith(f"blob {lost} is not to be had")


def test_an_erased_update_is_said_to_be_erased(again: Cli) -> None:
    again.ok("site 1", "erase", str(recorded(again, "FedProx").update), "--reason", "request")
    said = cannot(again, "FedProx", 3)
    assert said == "the update of round 3 is erased, as the ledger records: there is nothing to compare with"


def test_the_updates_of_scaffold_carry_control_variates_that_are_not_zero(trained: Cli) -> None:
    """Else the rounds above would prove less than they say."""
    history = Consortium(trained).history
    identities = open_identities(trained.state / "site 1" / "age.key", lambda: PASSWORD.strip())
    assert len(identities) == 2
    posted = Posted(history, 1, FolderStore(Path(trained.store)), identities)
    for name, number in NUMBERS.items():
        update = posted.update(history.rounds[number])
        assert update is not None
        controls = [array for tensor, array in update.tensors.items() if tensor.startswith(CONTROL)]
        assert bool(controls) == ("SCAFFOLD" in name)
        assert all(array.any() for array in controls)
