"""The committed artifact is what the sources compile to, byte for byte."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from ledger.chain.artifact import artifact

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compile_contracts", ROOT / "scripts" / "compile_contracts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_compiler_that_can_be_had_gives_the_committed_artifact(script: ModuleType) -> None:
    compilers = [compiler for compiler in (script.native_compiler(), script.npm_compiler()) if compiler]
    if not compilers:
        pytest.skip("no solc: its download host cannot be reached, and Node or its npm package is missing")
    for compiler in compilers:
        assert script.compile_contract(compiler) == script.ARTIFACT.read_text(encoding="utf-8")


def test_the_artifact_pins_compiler_and_target() -> None:
    compiler = json.loads((ROOT / "ledger/chain/FederatedLedger.json").read_text())["compiler"]
    assert compiler["solc"] == "0.8.30"
    assert compiler["settings"]["evmVersion"] == "cancun"


def test_the_contract_fits_the_limit_of_a_chain() -> None:
    assert len(bytes.fromhex(artifact().runtime_bytecode[2:])) < 24_576  # EIP-170
