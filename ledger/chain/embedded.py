"""The embedded chain: a whole EVM in this process, gone when it ends (extra ``devnet``)."""

from __future__ import annotations

from eth.estimators.gas import binary_gas_search
from eth_tester import EthereumTester, PyEVMBackend
from web3 import EthereumTesterProvider, Web3


class EmbeddedChain:
    """eth-tester with py-evm behind the same `Web3` as a real node."""

    def __init__(self) -> None:
        self._tester = EthereumTester(PyEVMBackend())
        # Gas is of no worth here: a block's limit will do, where py-evm would run a call nine times to find less.
        self._tester.backend.chain.gas_estimator = binary_gas_search(tolerance=1 << 62)
        self.web3 = Web3(EthereumTesterProvider(self._tester))

    def fund(self, account: str) -> None:
        """Give an account the ether that its calls cost: 100, of no worth."""
        bank = self.web3.eth.accounts[0]
        self.web3.eth.send_transaction(
            {"from": bank, "to": Web3.to_checksum_address(account), "value": Web3.to_wei(100, "ether")}
        )

    def pass_time(self, seconds: int) -> None:
        """Let time pass: the next block is this many seconds later."""
        now = self.web3.eth.get_block("latest")["timestamp"]
        self._tester.time_travel(now + seconds)
