"""The measurements behind scripts/bench."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.anvil import Anvil
from tests.gas import measure  # the tests compare the same measurement with its snapshot


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("what", choices=["gas"])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    with Anvil() as chain:
        costs = measure(chain)
    if arguments.json:
        print(json.dumps(costs, indent=1))
    else:
        for call, gas in costs.items():
            print(f"{call:40}{gas:>12,}")


if __name__ == "__main__":
    main()
