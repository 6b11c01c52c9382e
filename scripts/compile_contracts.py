#!/usr/bin/env python3
"""Compile the contract and write the artifact that the wheel ships.

    scripts/compile_contracts.py            compile and write ledger/chain/FederatedLedger.json
    scripts/compile_contracts.py --check    compile and compare with the committed artifact

The compiler is solc, pinned below. py-solc-x fetches the native one; where its download host cannot be
reached, the same compiler from npm (WebAssembly, `npm ci` in scripts/tools) stands in: same version, same bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ledger.chain.compiler import SOLC_VERSION, compile_contract, native_compiler
from ledger.errors import UnavailableError

ROOT = Path(__file__).resolve().parent.parent
ARTIFACT = ROOT / "ledger" / "chain" / "FederatedLedger.json"
NPM_COMPILER = ROOT / "scripts" / "tools" / "solc.js"

SETTINGS: dict[str, Any] = {
    # Every chain that a consortium may run today knows Cancun; solc's own default is newer.
    "evmVersion": "cancun",
    "viaIR": True,
    "optimizer": {"enabled": True, "runs": 200},
    # No metadata in the code: the bytes on chain are exactly the bytes compiled.
    "metadata": {"appendCBOR": False, "bytecodeHash": "none"},
    "outputSelection": {
        "FederatedLedger.sol": {"FederatedLedger": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}
    },
}


def npm_compiler() -> Path | None:
    """The compiler from npm; None where Node or the npm package is missing."""
    installed = (NPM_COMPILER.parent / "node_modules" / "solc").is_dir()
    return NPM_COMPILER if installed and shutil.which("node") else None


def artifact_text(compiler: Path) -> str:
    """Compile with `compiler` and return the artifact's text."""
    sources = {
        path.name: {"content": path.read_text(encoding="utf-8")} for path in sorted((ROOT / "contracts").glob("*.sol"))
    }
    source = {"language": "Solidity", "sources": sources, "settings": SETTINGS}
    compiled = compile_contract(source, compiler)
    artifact = {
        "contract": "FederatedLedger",
        "compiler": {"solc": SOLC_VERSION},
        "input": source,
        "abi": compiled["abi"],
        "bytecode": "0x" + compiled["evm"]["bytecode"]["object"],
        "runtimeBytecode": "0x" + compiled["evm"]["deployedBytecode"]["object"],
    }
    return json.dumps(artifact, indent=1) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    arguments = parser.parse_args()

    try:
        compiler: Path | None = native_compiler()
    except UnavailableError:
        compiler = npm_compiler()
    if compiler is None:
        print(
            f"No solc {SOLC_VERSION}: its download host cannot be reached, and the npm one is not installed.\n"
            "Install Node, run `npm ci` in scripts/tools, and try again.",
            file=sys.stderr,
        )
        return 3
    artifact = artifact_text(compiler)
    if not arguments.check:
        ARTIFACT.write_text(artifact, encoding="utf-8")
        print(f"{ARTIFACT.relative_to(ROOT)} written, compiled by {compiler}")
    elif artifact != ARTIFACT.read_text(encoding="utf-8"):
        print(
            f"{ARTIFACT.relative_to(ROOT)} is not what the sources compile to.\n"
            "Run scripts/compile_contracts.py and commit the result.",
            file=sys.stderr,
        )
        return 1
    else:
        print(f"{ARTIFACT.relative_to(ROOT)} is what the sources compile to, byte for byte")
    return 0


if __name__ == "__main__":
    sys.exit(main())
