"""Profiles: `default` for every day, `nightly` (--hypothesis-profile=nightly) for long runs."""

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.anvil import Anvil
from tests.cli import Cli
from tests.world import World, every_kind_of_entry

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", settings.get_profile("default"), max_examples=2000)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="A test that is skipped fails: all tools must be there.")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome, report.longrepr = "failed", f"skipped, and --no-skips is on: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A history with every kind of entry, written down; not to be changed."""
    world = every_kind_of_entry(tmp_path_factory.mktemp("recorded"))
    world.write()
    return world


@pytest.fixture
def history_folder(recorded: World, tmp_path: Path) -> Path:
    """A copy of that history's folder, to be changed at will."""
    return Path(shutil.copytree(recorded.folder, tmp_path / "history"))


@pytest.fixture(scope="session")
def anvil() -> Iterator[Anvil]:
    """A real node; tests share it, so each deploys a ledger of its own or goes back to a snapshot."""
    with Anvil() as running:
        yield running


@pytest.fixture(scope="module")
def founded(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A ledger with its members and genesis model, made through the command line; not to be changed."""
    cli = Cli(anvil, tmp_path_factory.mktemp("founded"))
    cli.found()
    return cli


@pytest.fixture
def cli(founded: Cli, tmp_path: Path) -> Iterator[Cli]:
    """That ledger, to be changed at will: afterwards the chain goes back, and so does what the parties remember."""
    before, remembered = founded.anvil.snapshot(), founded.state
    founded.state = Path(shutil.copytree(remembered, tmp_path / "state"))
    yield founded
    founded.state = remembered
    founded.anvil.revert(before)
