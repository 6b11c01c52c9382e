"""What each call of the contract costs, measured on the embedded chain."""

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak

from ledger.chain.contract import LedgerContract, Terms
from ledger.chain.embedded import EmbeddedChain
from ledger.chain.signing import sign_update
from ledger.cid import cid_of
from ledger.entries import AbortReason, ErasureReason, Role

TERMS = Terms(600, 60, 1, 1, 0, False)
A, B = cid_of(b"one blob"), cid_of(b"another blob")


class Ledger:
    """A ledger with an aggregator, an auditor, and as many participants as there are to be members in all."""

    def __init__(self, members: int) -> None:
        self.chain = EmbeddedChain()
        self.governor, self.aggregator, self.auditor = (self.account(name) for name in ("g", "aggregator", "auditor"))
        self.contract = LedgerContract.deploy(self.chain.web3, self.governor, A)
        self.contract.admit(self.governor, self.aggregator.address, Role.AGGREGATOR, "aggregator")
        self.contract.admit(self.governor, self.auditor.address, Role.AUDITOR, "auditor")
        self.sites: list[LocalAccount] = []
        for number in range(members - 2):
            self.sites.append(Account.from_key(keccak(f"site {number}".encode())))
            self.contract.admit(self.governor, self.sites[-1].address, Role.PARTICIPANT, f"site {number}")
        for site in [*self.sites[:2], self.sites[-1]]:
            self.chain.fund(site.address)
        for account in {one.address: one for one in [*self.sites[:2], self.sites[-1]]}.values():
            self.contract.accept(account, A, keccak(b"key"))
        for account in (self.aggregator, self.auditor):
            self.contract.accept(account, A, keccak(b"key"))
        self.contract.record_genesis(self.governor, A)

    def account(self, name: str) -> LocalAccount:
        account: LocalAccount = Account.from_key(keccak(name.encode()))
        self.chain.fund(account.address)
        return account

    def open(self) -> int:
        self.contract.open(self.aggregator, A, 0, TERMS)
        round_: int = self.contract._contract.functions.latestRound().call()
        return round_

    def cancel(self, round_: int) -> None:
        self.contract.abort(self.aggregator, round_, self.contract.head(), AbortReason.CANCELLED)

    def update_in_round(self, site: LocalAccount) -> tuple[int, int]:
        """Open a round, let another site post first, and give the round's number and what this site's update costs."""
        round_ = self.open()
        first = self.sites[0] if site.address != self.sites[0].address else self.sites[1]
        self.contract.submit(first, round_, B, 100)
        gas = self.contract.submit(site, round_, A, 100)["gasUsed"]
        self.cancel(round_)
        return round_, gas


def measure() -> dict[str, int]:
    """Gas by call, in steady state: no slot is written for the first time in the ledger's life."""
    ledger = Ledger(4)
    web3, contract = ledger.chain.web3, ledger.contract
    ledger.cancel(ledger.open())
    _, update = ledger.update_in_round(ledger.sites[1])
    costs = {"update": update, "relayed update, 100 at once, each": relayed(100)}
    contract.open(ledger.aggregator, A, 0, TERMS)
    opened = web3.eth.get_block("latest")["gasUsed"]
    contract.submit(ledger.sites[0], 3, B, 100)
    contract.submit(ledger.sites[1], 3, A, 100)
    costs["open"] = opened
    costs["settle"] = contract.settle(ledger.aggregator, 3, contract.head(), A, B, 2)["gasUsed"]
    costs["attest"] = contract.attest(ledger.auditor, 3, True, B)["gasUsed"]
    costs["erase"] = contract.erase(ledger.sites[0], 3, 3, A.digest, ErasureReason.REQUEST)["gasUsed"]
    round_ = ledger.open()
    head = contract.head()
    costs["abort"] = contract.abort(ledger.aggregator, round_, head, AbortReason.CANCELLED)["gasUsed"]
    costs["admit"] = contract.admit(ledger.governor, "0x" + "77" * 20, Role.PARTICIPANT, "one more")["gasUsed"]
    costs["accept"] = contract.accept(ledger.sites[0], A, keccak(b"another key"))["gasUsed"]
    costs["change roles"] = contract.change_roles(ledger.governor, 4, Role.AUDITOR)["gasUsed"]
    receipt = web3.eth.get_block(contract.deployed)
    costs["deploy"] = receipt["gasUsed"]
    return costs


def relayed(count: int) -> int:
    """Gas of one signed update among `count` carried in one transaction."""
    ledger = Ledger(count + 2)
    for site in ledger.sites[2:-1]:
        ledger.chain.fund(site.address)
        ledger.contract.accept(site, A, keccak(b"key"))
    round_ = ledger.open()
    opening = ledger.contract.head()
    signed = [
        sign_update(site, ledger.contract.genesis, round_, opening, cid_of(site.address.encode()), 100, A.digest)
        for site in ledger.sites
    ]
    return -(-ledger.contract.submit_signed(ledger.governor, round_, signed)["gasUsed"] // count)
