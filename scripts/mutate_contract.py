"""Change the contract in one place at a time, and see whether its tests notice: `scripts/check_contracts --nightly`.

The changes (mutants) are those that slither-mutate makes. Its own loop tries them one after the other in the user's
files and compiles everything twice for each; here each worker has a copy, in which forge compiles the contract alone.
A mutant is killed if a test fails or does not end, and is none if it does not compile or compiles to the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from slither import Slither
from slither.tools.mutator.__main__ import _get_mutators

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = Path("contracts") / "FederatedLedger.sol"
ARTIFACT = Path("build") / "foundry" / "out" / "FederatedLedger.sol" / "FederatedLedger.json"
LEFT_OUT = {
    "RR",  # a revert instead of a line: that every line is run by a test that passes is what the coverage shows
    "FHR",  # another visibility or mutability: the interface fixes them, it does not compile
}
ENDS_WITHIN = 600.0
"""Seconds: far above what compiling and testing take on a busy machine. A mutant that has not failed by then loops."""


@dataclass(frozen=True, order=True)
class Mutant:
    """One change of the contract: `old` at the bytes from `start` to `end` becomes `new`."""

    start: int
    end: int
    new: str
    old: str
    line: int
    kind: str

    def __str__(self) -> str:
        shown = [" ".join(text.split())[:90] for text in (self.old, self.new)]
        return f"line {self.line} {self.kind}: {shown[0]} -> {shown[1]}"


class Copy:
    """A copy of what forge reads, for one worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "contracts", folder / "contracts")
        shutil.copy(ROOT / "foundry.toml", folder)
        (folder / "scripts").mkdir()
        (folder / "scripts" / "tools").symlink_to(ROOT / "scripts" / "tools")
        self.original = (folder / CONTRACT).read_bytes()
        failure = self._forge("build", "default", None) or self._forge("test", "mutation", None)
        if failure:
            raise RuntimeError(f"{failure}\nThe contract as it is fails: run scripts/check_contracts first.")
        self._code = self._compiled()

    def verdict(self, mutant: Mutant) -> str:
        """What became of the mutant: "killed", "survived" or "none"."""
        source = self.original[: mutant.start] + mutant.new.encode() + self.original[mutant.end :]
        (self.folder / CONTRACT).write_bytes(source)
        try:
            failure = self._forge("test", "mutation")
            if failure:
                return "none" if "Compiler run failed" in failure else "killed"
            if failure := self._forge("build", "default", None):
                raise RuntimeError(f"{failure}\nA mutant compiles without the optimizer but not with it: {mutant}")
            return "none" if self._compiled() == self._code else "survived"
        finally:
            (self.folder / CONTRACT).write_bytes(self.original)

    def _compiled(self) -> str:
        """The code alone: the artifact's source map changes with a comment."""
        code: str = json.loads((self.folder / ARTIFACT).read_text(encoding="utf-8"))["bytecode"]["object"]
        return code

    def _forge(self, command: str, profile: str, ends_within: float | None = ENDS_WITHIN) -> str:
        """What forge said of a failure; empty if there was none."""
        options = ["--fail-fast"] if command == "test" else ["--skip", "test"]
        process = subprocess.Popen(
            ["forge", command, "--threads", "1", *options],
            cwd=self.folder,
            env={**os.environ, "FOUNDRY_PROFILE": profile},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            output, _ = process.communicate(timeout=ends_within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return "does not end"
        return output if process.returncode else ""


def mutants(folder: Path) -> list[Mutant]:
    """All changes that slither-mutate would make, in the order of the source, each once."""
    unit = Slither(str(folder)).compilation_units[0]
    contract = next(one for one in unit.contracts if one.name == CONTRACT.stem)
    found: dict[tuple[int, int, str], Mutant] = {}
    for mutator in _get_mutators(None):
        if mutator.NAME in LEFT_OUT:
            continue
        try:
            made = mutator(unit, 0, "", "", contract, None, False, folder, [])._mutate()
        except IndexError:  # slither's ASOR does not find the operator in some assignments
            print(f"slither cannot make mutants of the kind {mutator.NAME} from this contract", flush=True)
            continue
        for patch in (one for patches in made.get("patches", {}).values() for one in patches):
            key = (patch["start"], patch["end"], patch["new_string"])
            old, line = patch["old_string"], patch["line_number"]
            if " immutable " not in patch["new_string"]:  # a constant under another name
                found.setdefault(key, Mutant(*key, old, line, mutator.NAME))
    return sorted(found.values())


def verdicts(tried: list[Mutant], copies: list[Copy]) -> Iterator[tuple[Mutant, str]]:
    """Try the mutants in the copies, one at a time in each."""
    free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)
    lock = threading.Lock()
    done = 0

    def verdict(mutant: Mutant) -> tuple[Mutant, str]:
        nonlocal done
        copy = free.get()
        try:
            result = copy.verdict(mutant)
        finally:
            free.put(copy)
        with lock:
            done += 1
            if result == "survived" or done % 50 == 0:
                print(f"[{done}/{len(tried)}] {result}: {mutant}", flush=True)
        return mutant, result

    with ThreadPoolExecutor(len(copies)) as pool:
        yield from pool.map(verdict, tried)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--at-most", type=int, help="try that many mutants, evenly spread; default: all")
    parser.add_argument("--score", type=float, default=90, help="percent that must be killed (default: 90)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="how many at a time (default: processors)")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="fedledger-mutants-") as folder:
        copies = []
        for number in range(arguments.workers):
            (Path(folder) / str(number)).mkdir()
            copies.append(Copy(Path(folder) / str(number)))
        tried = mutants(copies[0].folder)
        if arguments.at_most and arguments.at_most < len(tried):
            tried = [tried[at * len(tried) // arguments.at_most] for at in range(arguments.at_most)]
        results = list(verdicts(tried, copies))
    report = ROOT / "build" / "foundry" / "mutants.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps([[verdict, str(mutant)] for mutant, verdict in results], indent=1))
    counts = {wanted: sum(verdict == wanted for _, verdict in results) for wanted in ("killed", "survived")}
    score = 100 * counts["killed"] / max(sum(counts.values()), 1)
    print(f"{counts['killed']} killed, {counts['survived']} survived: {score:.1f} %; listed in {report}")
    return 0 if score >= arguments.score else 1


if __name__ == "__main__":
    sys.exit(main())
