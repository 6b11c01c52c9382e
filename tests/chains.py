"""The chains that tests of the contract run on, behind one face: the embedded one, and anvil, a real node."""

from typing import Protocol

from eth_tester import EthereumTester
from web3 import Web3

from ledger.chain.embedded import EmbeddedChain


class Chain(Protocol):
    """What such tests need of a chain."""

    @property
    def web3(self) -> Web3: ...

    def fund(self, account: str) -> None: ...

    def pass_time(self, seconds: int) -> None: ...

    def next_time(self) -> int:
        """A time that the next block can have."""

    def next_block_at(self, time: int) -> None:
        """Give the next block that time."""

    def snapshot(self) -> object: ...

    def revert(self, snapshot: object) -> None: ...


class Embedded(EmbeddedChain):
    """The embedded chain, which a test can also take back to where it was."""

    @property
    def tester(self) -> EthereumTester:
        return self._tester

    def next_time(self) -> int:
        time: int = self.web3.eth.get_block("pending")["timestamp"]
        return time

    def next_block_at(self, time: int) -> None:
        if time != self.next_time():
            self.tester.time_travel(time)

    def snapshot(self) -> object:
        return self.tester.take_snapshot()

    def revert(self, snapshot: object) -> None:
        self.tester.revert_to_snapshot(snapshot)
