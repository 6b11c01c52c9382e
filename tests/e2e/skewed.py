"""Run a fedledger command on a machine whose clock is wrong by so many seconds: python -m tests.e2e.skewed SECONDS …"""

import sys
import time


def main() -> None:
    wrong = float(sys.argv[1])
    true = time.time
    time.time = lambda: true() + wrong
    from ledger.cli import main as fedledger

    sys.argv = ["fedledger", *sys.argv[2:]]
    fedledger()


if __name__ == "__main__":
    main()
