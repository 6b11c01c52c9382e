"""Run the tools that prove the contract and print what each came to: `scripts/check_contracts`."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = Path("contracts") / "FederatedLedger.sol"
SHIPPED = ROOT / "ledger" / "chain" / "FederatedLedger.json"
BUILT = ROOT / "build" / "foundry"
FORGE_PACKAGES = ROOT / "scripts" / "tools" / "node_modules" / "@foundry-rs"
MOST_BYTES = 24_576
"""What EIP-170 allows a contract."""


class Failed(Exception):
    """A check failed, or could not be run; the message says why."""


@dataclass(frozen=True)
class Check:
    """One row of the table: `run` does it and returns what there is to say, or raises `Failed`."""

    name: str
    run: Callable[[], str]


def forge() -> str:
    """The program that npm fetched for this platform."""
    found = sorted(FORGE_PACKAGES.glob("forge-*/bin/forge*"))
    if not found:
        raise Failed("no forge: install Node, run `npm ci` in scripts/tools, and try again")
    return str(found[0])


def run(*command: str, **environment: str) -> str:
    """Run a tool in the project and return what it printed.

    Raises:
        Failed: With its last lines, if it failed or is not there.
    """
    program = command[0]
    if shutil.which(program) is None:
        raise Failed(f"no {program}: remove .venv-proofs/fedledger-installed and run scripts/check_contracts again")
    path = f"{Path(forge()).parent}{os.pathsep}{os.environ['PATH']}"  # slither and halmos call forge
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PATH": path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout)
        raise Failed(f"`{' '.join([Path(program).name, *command[1:]])}` failed: see above")
    return done.stdout


def own_folder(name: str) -> dict[str, str]:
    """Environment that lets a tool build without touching what the others built (slither cleans first)."""
    return {"FOUNDRY_OUT": f"build/foundry/{name}-out", "FOUNDRY_CACHE_PATH": f"build/foundry/{name}-cache"}


# --------------------------------------------------------------------------------------------------- checks


def check_format() -> str:
    """The contract's and the tests' format."""
    run(forge(), "fmt", "--check")
    return "as configured"


def check_build() -> str:
    """Size, no warnings, and that the tests run the very bytes that ship."""
    run(forge(), "build", "--deny", "warnings")
    built = json.loads((BUILT / "out" / CONTRACT.name / f"{CONTRACT.stem}.json").read_text(encoding="utf-8"))
    code = built["deployedBytecode"]["object"]
    size = len(code) // 2 - 1
    if size > MOST_BYTES:
        raise Failed(f"{size} bytes of code; a chain takes at most {MOST_BYTES} (EIP-170)")
    if code != json.loads(SHIPPED.read_text(encoding="utf-8"))["runtimeBytecode"]:
        raise Failed(f"{SHIPPED.name} has other bytes: run scripts/compile_contracts.py, compare foundry.toml with it")
    return f"{size:,} of {MOST_BYTES:,} bytes, those that ship"


def check_tests(profile: str) -> Callable[[], str]:
    """All tests, fuzz tests and invariants."""

    def test() -> str:
        output = run(forge(), "test", FOUNDRY_PROFILE=profile)
        passed = re.search(r"(\d+) tests passed, 0 failed, 0 skipped", output)
        if passed is None:
            raise Failed("forge did not say how many tests passed")
        calls = re.search(r"runs: (\d+), calls: (\d+)", output)
        return f"{passed[1]} passed" + (f"; {int(calls[2]):,} random calls in {calls[1]} sequences" if calls else "")

    return test


def check_coverage() -> str:
    """Every line and branch of the contract is run by some test."""
    report = BUILT / "coverage.info"
    run(
        forge(),
        *("coverage", "--ir-minimum", "--report", "lcov", "--report-file", str(report)),
        FOUNDRY_PROFILE="coverage",
    )
    lines, branches = hits(report.read_text(encoding="utf-8"))
    unseen = invisible((ROOT / CONTRACT).read_text(encoding="utf-8"))
    missed = [f"line {line}" for line, count in lines.items() if not count and line not in unseen]
    missed += [f"branch {branch} of line {line}" for (line, branch), count in branches.items() if not count]
    if missed or not branches:
        raise Failed(f"no test runs {', '.join(missed) or 'the contract'} of {CONTRACT}")
    return f"{len(lines)} lines, {len(branches)} branches: 100 %"


def hits(lcov: str) -> tuple[dict[int, int], dict[tuple[int, str], int]]:
    """How often each line and each branch of the contract was run."""
    lines: dict[int, int] = {}
    branches: dict[tuple[int, str], int] = {}
    [record] = [one for one in lcov.split("end_of_record") if f"SF:{CONTRACT}\n" in one] or [""]
    for entry in record.splitlines():
        kind, _, values = entry.partition(":")
        if kind == "DA":
            line, count = values.split(",")[:2]
            lines[int(line)] = int(count)
        elif kind == "BRDA":
            line, block, branch, count = values.split(",")
            branches[int(line), f"{block}.{branch}"] = 0 if count == "-" else int(count)
    return lines, branches


def invisible(source: str) -> set[int]:
    """The lines for which `--ir-minimum` leaves no instruction to count: assembly, and calls with no value at all.

    None of them branches, so they run when the function around them does, whose other lines and branches count. That
    the tests notice their absence is what the mutants show.
    """
    unseen: set[int] = set()
    closing: str | None = None
    for number, line in enumerate(source.splitlines(), 1):
        if closing is None and line.strip().startswith("assembly"):
            closing = line[: len(line) - len(line.lstrip())] + "}"
        elif line == closing:
            closing = None
        elif closing is not None or re.fullmatch(r"\s*_\w+\(\);", line):
            unseen.add(number)
    return unseen


def check_slither() -> str:
    """No finding of any severity beyond those that slither.config.json and the comments in the contract explain."""
    output = run("slither", ".", **own_folder("slither"))
    return output.strip().splitlines()[-1].removeprefix("INFO:Slither:. ")


def check_halmos(*options: str) -> Callable[[], str]:
    """The laws, for all states and all calls."""

    def prove() -> str:
        folders = own_folder("halmos")
        build = ["--forge-build-out", folders["FOUNDRY_OUT"]]
        output = run("halmos", "--contract", "Laws", "--no-status", *build, *options, **folders)
        proven = re.search(r"(\d+) passed; 0 failed", output)
        if proven is None:
            raise Failed("halmos did not say how many laws hold")
        return f"{proven[1]} laws hold"

    return prove


def check_mutants() -> str:
    """The tests notice changes of the contract."""
    output = run(sys.executable, "scripts/mutate_contract.py")
    return output.strip().splitlines()[-1]


FORGE = [
    Check("forge fmt", check_format),
    Check("forge build", check_build),
    Check("forge test", check_tests("default")),
    Check("forge coverage", check_coverage),
    Check("slither", check_slither),
]
LAWS = [Check("halmos", check_halmos("--default-array-lengths", "1"))]
NIGHTLY = [
    Check("forge test, long", check_tests("nightly")),
    Check("halmos, batches of two", check_halmos("--default-array-lengths", "0,1,2")),
    Check("mutants", check_mutants),
]


def rows(checks: list[Check]) -> list[tuple[str, str, str, str]]:
    """Run the checks one after the other: name, result, time, and what there is to say of each."""
    table = []
    for check in checks:
        began = time.monotonic()
        try:
            result, said = "ok", check.run()
        except Failed as failed:
            result, said = "FAILED", str(failed)
        table.append((check.name, result, f"{time.monotonic() - began:.0f} s", said))
        print(f"== {check.name}: {result}", flush=True)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nightly", action="store_true", help="also what takes hours: long runs, and mutants")
    nightly = parser.parse_args().nightly

    with ThreadPoolExecutor() as pool:  # the laws take as long as all the rest
        table = [row for part in pool.map(rows, [FORGE, LAWS]) for row in part]
    if nightly:
        table += rows(NIGHTLY)
    print()
    for name, result, took, said in table:
        print(f"{name:<24}{result:<8}{took:>8}  {said}")
    return 0 if all(result == "ok" for _, result, *_ in table) else 1


if __name__ == "__main__":
    sys.exit(main())
