"""What each call of the contract costs, in gas: for `scripts/bench gas`, and for the test that holds its limits."""

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from web3.types import TxReceipt

from ledger.chain.contract import LedgerContract, Terms
from ledger.chain.signing import sign_update
from ledger.cid import Cid, cid_of
from ledger.facts import AbortReason, ErasureReason, Role
from tests.chains import Chain

TERMS = Terms(window=600, grace=60, quorum=1, approvals=1, rejections=0, participants_attest=False)
A, B = cid_of(b"one blob"), cid_of(b"another blob")
AGE_KEY = keccak(b"age key")
AGGREGATOR_ID, AUDITOR_ID = 1, 2


class Ledger:
    """A ledger with an aggregator, an auditor, and as many participants as there are to be members in all."""

    def __init__(self, chain: Chain, members: int) -> None:
        self.chain = chain
        self.governor, self.aggregator, self.auditor = (self.account(name) for name in ("g", "aggregator", "auditor"))
        self.contract = LedgerContract.deploy(chain.web3, self.governor, A)
        self.contract.admit(self.governor, self.aggregator.address, Role.AGGREGATOR, "aggregator")
        self.contract.admit(self.governor, self.auditor.address, Role.AUDITOR, "auditor")
        self.sites: list[LocalAccount] = []
        for number in range(members - 2):
            self.sites.append(Account.from_key(keccak(f"site {number}".encode())))
            self.contract.admit(self.governor, self.sites[-1].address, Role.PARTICIPANT, f"site {number}")
        self.accepted: set[str] = set()
        self.accept(self.aggregator, self.auditor, *self.sites[:2])
        self.contract.record_genesis(self.governor, A)

    def account(self, name: str) -> LocalAccount:
        account: LocalAccount = Account.from_key(keccak(name.encode()))
        self.chain.fund(account.address)
        return account

    def accept(self, *accounts: LocalAccount) -> None:
        for account in accounts:
            if account.address not in self.accepted:
                self.chain.fund(account.address)
                self.contract.accept(account, A, AGE_KEY)
                self.accepted.add(account.address)

    def open(self) -> int:
        gas: int = self.contract.open(self.aggregator, A, 0, TERMS)["gasUsed"]
        return gas

    @property
    def round(self) -> int:
        number: int = self.contract._contract.functions.latestRound().call()
        return number

    def cancel(self) -> int:
        head = self.contract.head()
        return _without_luck(self.contract.abort(self.aggregator, self.round, head, AbortReason.CANCELLED), head)

    def play_round(self, site: LocalAccount) -> dict[str, int]:
        """One whole round, and what its calls cost; another site posts before `site` does."""
        costs = {"open": self.open()}
        first = next(one for one in self.sites if one != site)
        self.contract.post_update(first, self.round, B, 100, B.digest)
        costs["update"] = self.contract.post_update(site, self.round, A, 100, A.digest)["gasUsed"]
        self.chain.pass_time(TERMS.window + 1)
        head = self.contract.head()
        settled = self.contract.settle(self.aggregator, self.round, head, A, B, 2)
        costs["settle"] = _without_luck(settled, head)
        costs["attest"] = self.contract.attest(self.auditor, self.round, True, B)["gasUsed"]
        return costs

    def relayed(self, sites: list[LocalAccount]) -> int:
        """What one of many signed updates costs that go in one transaction, in a round of their own."""
        self.accept(*sites)
        self.open()
        opening, number = self.contract.head(), self.round
        signed = [
            sign_update(site, self.contract.genesis, number, opening, _update_of(site), 100, A.digest) for site in sites
        ]
        receipt = self.contract.relay_updates(self.governor, number, signed)
        self.cancel()
        return -(-_without_luck(receipt, *(one.r + one.vs for one in signed)) // len(sites))


def _without_luck(receipt: TxReceipt, *random: bytes) -> int:
    """The gas used, as if no byte of these were zero: a zero byte of a call's data is 12 cheaper than another."""
    return receipt["gasUsed"] + 12 * sum(part.count(0) for part in random)


def _update_of(site: LocalAccount) -> Cid:
    return cid_of(site.address.encode())


def measure(chain: Chain) -> dict[str, int]:
    """Gas by call, in steady state: no slot is written for the first time in the ledger's life."""
    ledger = Ledger(chain, 120)
    contract, last = ledger.contract, ledger.sites[-1]
    ledger.accept(last)
    ledger.play_round(last)
    costs = ledger.play_round(ledger.sites[1])
    costs["update, member id above 112"] = ledger.play_round(last)["update"]
    costs["relayed update, 100 at once, each"] = ledger.relayed(ledger.sites[:100])
    erasure = contract.erase(ledger.sites[0], 2, AUDITOR_ID + 1, B.digest, ErasureReason.REQUEST)
    costs["erase"] = erasure["gasUsed"]
    costs["grant"] = contract.grant(ledger.aggregator, AUDITOR_ID, 1, 2, B)["gasUsed"]
    ledger.open()
    costs["abort"] = ledger.cancel()
    costs["admit"] = contract.admit(ledger.governor, "0x" + "77" * 20, Role.PARTICIPANT, "one more")["gasUsed"]
    costs["accept"] = contract.accept(ledger.sites[0], A, keccak(b"another key"))["gasUsed"]
    costs["change roles"] = contract.change_roles(ledger.governor, AUDITOR_ID, Role.AUDITOR)["gasUsed"]
    costs["deploy"] = chain.web3.eth.get_block(contract.deployed)["gasUsed"]
    return costs
