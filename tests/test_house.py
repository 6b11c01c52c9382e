"""How the house is built: who imports whom, how light help is, how small the trusted core is, what is never used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEDGER = sorted((ROOT / "ledger").rglob("*.py"))
PARTICIPANT = sorted((ROOT / "participant").rglob("*.py"))
CORE = ["ledger/history.py", "ledger/updates.py", "ledger/settlement.py"]
BESIDE = ["ledger/rules.py", "ledger/averaging.py", "ledger/robust.py", "ledger/strategies.py", "ledger/choices.py"]
"""What is read beside it: which entry may come next, the sums, and what a plan can choose but a plain average."""


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def packages(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", LEDGER, ids=lambda path: str(path.relative_to(ROOT)))
def test_ledger_imports_neither_torch_nor_participant(path: Path) -> None:
    assert not packages(path) & {"torch", "participant", "pandas"}


@pytest.mark.parametrize("path", [*LEDGER, *PARTICIPANT], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unpickles(path: Path) -> None:
    assert not packages(path) & {"pickle", "marshal", "shelve", "dill", "joblib"}


@pytest.mark.parametrize(
    "name",
    [
        *CORE,
        *BESIDE,
        "ledger/arithmetic.py",
        "ledger/facts.py",
        "ledger/entries.py",
        "ledger/documents.py",
        "ledger/plan.py",
        "ledger/manifest.py",
        "ledger/figures.py",
        "ledger/privacy.py",
    ],
)
def test_what_is_pure_does_no_io(name: str) -> None:
    source = (ROOT / name).read_text(encoding="utf-8")
    assert not packages(ROOT / name) & {
        "os",
        "pathlib",
        "web3",
        "requests",
        "socket",
        "random",
        "time",
        "datetime",
        "io",
    }
    called = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    assert not any(isinstance(function, ast.Name) and function.id == "open" for function in called)


@pytest.mark.parametrize("name", [*CORE, *BESIDE])
def test_the_trusted_core_imports_only_itself_and_the_words(name: str) -> None:
    inside = {
        "history",
        "rules",
        "updates",
        "settlement",
        "averaging",
        "robust",
        "strategies",
        "sealing",
        "threads",
        "facts",
        "entries",
        "cid",
        "documents",
        "choices",
        "plan",
        "manifest",
        "errors",
    }
    own = {imported.split(".")[1] for imported in imports(ROOT / name) if imported.startswith("ledger.")}
    assert own <= inside


def test_the_trusted_core_can_be_read_in_one_sitting() -> None:
    lines = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in [*CORE, *BESIDE]}
    assert all(lines.pop(name) < 300 for name in BESIDE)
    assert sum(lines.values()) < 900


@pytest.mark.parametrize(
    "layer",
    [
        "agreement",
        "audit",
        "aggregator",
        "aggregating",
        "chain",
        "curves",
        "erasing",
        "fetching",
        "figures",
        "following",
        "logs",
        "loop",
        "manifests",
        "mirroring",
        "passphrase",
        "plan_file",
        "privacy",
        "receipts",
        "scores",
        "sealing",
        "storage",
    ],
)
def test_no_layer_imports_the_command_line(layer: str) -> None:
    for path in LEDGER:
        if path.relative_to(ROOT / "ledger").parts[0].removesuffix(".py") == layer:
            assert not {name for name in imports(path) if name.startswith("ledger.cli")}, path


def modules_after(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return {line.split(".")[0] for line in output.splitlines()}


def test_help_imports_neither_web3_nor_torch() -> None:
    code = "from click.testing import CliRunner; from ledger.cli import main; CliRunner().invoke(main, ['--help'])"
    loaded = modules_after(code)
    assert {"click", "participant"} <= loaded, "help lists the participant's commands too"
    assert not loaded & {"web3", "torch", "numpy", "eth_tester", "pydantic"}


def test_an_audit_of_a_folder_imports_neither_web3_nor_torch() -> None:
    loaded = modules_after("import ledger.audit.checks, ledger.audit.evidence")
    assert not loaded & {"web3", "torch", "eth_tester", "participant"}
