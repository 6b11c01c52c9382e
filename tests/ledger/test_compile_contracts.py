"""The committed artifact is what the sources compile to, byte for byte."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from ledger.chain.artifact import artifact
from ledger.chain.compiler import compile_runtime, native_compiler
from ledger.errors import UnavailableError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compile_contracts", ROOT / "scripts" / "compile_contracts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def native() -> Path | None:
    try:
        return native_compiler()
    except UnavailableError:
        return None


def test_every_compiler_that_can_be_had_gives_the_committed_artifact(script: ModuleType) -> None:
    compilers = [compiler for compiler in (native(), script.npm_compiler()) if compiler]
    if not compilers:
        pytest.skip("no solc: its download host cannot be reached, and Node or its npm package is missing")
    for compiler in compilers:
        assert script.artifact_text(compiler) == script.ARTIFACT.read_text(encoding="utf-8")


def test_the_artifact_pins_compiler_and_target() -> None:
    assert json.loads(artifact().raw)["compiler"]["solc"] == "0.8.30"
    assert artifact().source["settings"]["evmVersion"] == "cancun"


def test_the_code_is_compiled_again_from_the_shipped_source_with_a_compiler_of_the_users_own(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = script.npm_compiler()
    if compiler is None:
        pytest.skip("no solc: Node or its npm package is missing")
    (tmp_path / "solc-v0.8.30").symlink_to(compiler)
    monkeypatch.setenv("SOLCX_BINARY_PATH", str(tmp_path))
    assert "0x" + compile_runtime().hex() == artifact().runtime_bytecode


def test_the_contract_fits_the_limit_of_a_chain() -> None:
    assert len(bytes.fromhex(artifact().runtime_bytecode[2:])) < 24_576  # EIP-170
