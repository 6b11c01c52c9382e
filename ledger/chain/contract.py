"""A ledger's contract on a chain: deploy it, call it with a member's key, read what it recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from web3 import Web3
from web3.contract.contract import Contract
from web3.types import TxReceipt

from ledger.chain.artifact import artifact, earlier_version
from ledger.chain.reader import EntryReader
from ledger.chain.sending import PLAIN, Sending, send
from ledger.chain.signing import SignedAcceptance, SignedUpdate
from ledger.cid import Bytes, Cid
from ledger.entries import MAX_CHAIN_ID, Entry, Genesis, name_bytes
from ledger.errors import UsageError, ViolationError
from ledger.facts import AbortReason, Address, ErasureReason, Role
from ledger.history import History
from ledger.receipts import Remembered
from ledger.rules import replay
from ledger.storage import Store

NO_BLOB = (bytes(32), 0)


@dataclass(frozen=True)
class Terms:
    """What a round needs, as the contract takes it; see `ledger.plan.Plan`."""

    window: int
    grace: int
    quorum: int
    approvals: int
    rejections: int
    participants_attest: bool


@dataclass
class LedgerContract:
    """One ledger on one chain.

    Attributes:
        web3: The connection.
        address: The contract's address.
        genesis: What its first head binds.
        deployed: The block that deployed it; its entries come later.
        sending: How its calls are sent.
        known: Its first entries with heads, as far as they are final and need not be read.
    """

    web3: Web3
    address: ChecksumAddress
    genesis: Genesis
    deployed: int
    sending: Sending = PLAIN
    known: Sequence[Remembered] = field(default=(), repr=False)

    @classmethod
    def deploy(cls, web3: Web3, governor: LocalAccount, charter: Cid, sending: Sending = PLAIN) -> LedgerContract:
        """Deploy a new ledger; the account that pays is its governor."""
        chain_id = web3.eth.chain_id
        if chain_id >= MAX_CHAIN_ID:
            raise UsageError(f"chain id {chain_id} is too large to be written in JSON: deploy on another chain")
        contract = web3.eth.contract(abi=artifact().abi, bytecode=artifact().bytecode)
        receipt = send(web3, governor, contract.constructor(_words(charter)), sending)
        address = receipt["contractAddress"]
        if address is None:
            raise RuntimeError("the node's receipt of a deployment names no contract")
        genesis = Genesis(chain_id, _lower(address), _lower(governor.address), charter)
        return cls(web3, address, genesis, receipt["blockNumber"], sending)

    @classmethod
    def attach(
        cls, web3: Web3, address: str, sending: Sending = PLAIN, known: Sequence[Remembered] = ()
    ) -> LedgerContract:
        """The ledger at an address; see the attributes.

        Raises:
            UsageError: If no contract is there.
            ViolationError: If the contract that is there is not fedledger's.
        """
        at = Web3.to_checksum_address(address)
        code = web3.eth.get_code(at)
        if not code:
            raise UsageError(f"no contract is at {at} on chain {web3.eth.chain_id}: compare address and chain")
        if Web3.to_hex(code) != artifact().runtime_bytecode and earlier_version(bytes(code)) is None:
            raise ViolationError(f"the contract at {at} is not the ledger of this version of fedledger: do not use it")
        contract = web3.eth.contract(address=at, abi=artifact().abi, decode_tuples=True)
        governor, charter, deployed = contract.functions.genesis().call()
        genesis = Genesis(web3.eth.chain_id, _lower(at), _lower(governor), Cid(charter.digest, charter.codec))
        return cls(web3, at, genesis, deployed, sending, known)

    # ------------------------------------------------------------------ calls

    def storing(self, store: Store, *blobs: Bytes) -> LedgerContract:
        """The same ledger, whose calls store the blobs that they name: before they are sent, unless it refuses them."""
        return replace(self, sending=replace(self.sending, before=lambda: [store.put(blob) for blob in blobs]))

    def admit(self, governor: LocalAccount, account: str, roles: Role, name: str) -> TxReceipt:
        """Admit a member."""
        return self._call(governor, "admit", Web3.to_checksum_address(account), int(roles), name_bytes(name))

    def change_roles(self, governor: LocalAccount, member: int, roles: Role) -> TxReceipt:
        """Change a member's roles, for rounds opened later; no role suspends it."""
        return self._call(governor, "changeRoles", member, int(roles))

    def replace_account(self, governor: LocalAccount, member: int, account: str) -> TxReceipt:
        """Give a member another account, for rounds opened later, where the old one was lost."""
        return self._call(governor, "replaceAccount", member, Web3.to_checksum_address(account))

    def change_charter(self, governor: LocalAccount, charter: Cid) -> TxReceipt:
        """Put a new charter in force, for rounds opened later."""
        return self._call(governor, "changeCharter", _words(charter))

    def offer_governance(self, governor: LocalAccount, account: str) -> TxReceipt:
        """Offer governance to another account."""
        return self._call(governor, "offerGovernance", Web3.to_checksum_address(account))

    def take_governance(self, account: LocalAccount) -> TxReceipt:
        """Take the governance that was offered."""
        return self._call(account, "takeGovernance")

    def accept(self, member: LocalAccount, charter: Cid, age_key: bytes) -> TxReceipt:
        """Accept the charter in force and publish an age public key (32 bytes)."""
        return self._call(member, "accept", _words(charter), age_key)

    def accept_signed(self, sender: LocalAccount, signed: SignedAcceptance) -> TxReceipt:
        """Carry a member's signed acceptance to the chain."""
        arguments = (_words(signed.charter), signed.age_key, signed.nonce, signed.r, signed.vs)
        return self._call(sender, "acceptSigned", *arguments)

    def offer_account(self, member: LocalAccount, account: str) -> TxReceipt:
        """Offer the member's place to another account of its own."""
        return self._call(member, "offerAccount", Web3.to_checksum_address(account))

    def take_account(self, account: LocalAccount, member: int) -> TxReceipt:
        """Take the place of a member that offered it."""
        return self._call(account, "takeAccount", member)

    def record_genesis(self, governor: LocalAccount, model: Cid) -> TxReceipt:
        """Record the genesis model."""
        return self._call(governor, "recordGenesis", _words(model))

    def open(self, aggregator: LocalAccount, plan: Cid, base_round: int, terms: Terms) -> TxReceipt:
        """Open the next round."""
        return self._call(aggregator, "open", _words(plan), base_round, astuple(terms))

    def post_update(
        self, participant: LocalAccount, round_: int, update: Cid, weight: int, key_blob: bytes | None = None
    ) -> TxReceipt:
        """Record an update's hash; `weight` in examples, `key_blob` the digest of its key blob if it is sealed."""
        return self._call(participant, "postUpdate", round_, _words(update), key_blob or bytes(32), weight)

    def relay_updates(self, sender: LocalAccount, round_: int, updates: Sequence[SignedUpdate]) -> TxReceipt:
        """Carry signed updates to the chain; one of a member that has posted already is skipped."""
        arguments = [(_words(one.update), one.key_blob or bytes(32), one.weight, one.r, one.vs) for one in updates]
        return self._call(sender, "relayUpdates", round_, arguments)

    def settle(
        self, aggregator: LocalAccount, round_: int, expected_head: bytes, model: Cid, manifest: Cid, counted: int
    ) -> TxReceipt:
        """End a round with a model."""
        return self._call(aggregator, "settle", round_, expected_head, _words(model), _words(manifest), counted)

    def abort(
        self,
        aggregator: LocalAccount,
        round_: int,
        expected_head: bytes,
        reason: AbortReason,
        manifest: Cid | None = None,
    ) -> TxReceipt:
        """End a round without a model."""
        return self._call(aggregator, "abort", round_, expected_head, int(reason), _words(manifest))

    def attest(self, member: LocalAccount, round_: int, approve: bool, report: Cid) -> TxReceipt:
        """Record a verdict on a settled model."""
        return self._call(member, "attest", round_, approve, _words(report))

    def erase(self, sender: LocalAccount, round_: int, member: int, digest: bytes, reason: ErasureReason) -> TxReceipt:
        """Record that a blob of a member's update is to be erased."""
        return self._call(sender, "erase", round_, member, digest, int(reason))

    def grant(self, account: LocalAccount, to: int, first: int, last: int, keys: Cid) -> TxReceipt:
        """Record that sealed updates of rounds `first` to `last` were opened for a member; `keys` has their keys.

        Raises:
            UsageError: If the ledger's contract is one of an earlier version, which records no grants.
        """
        if version := earlier_version(bytes(self.web3.eth.get_code(self.address))):
            raise UsageError(
                f"this ledger's contract is that of fedledger {version}, which records no grants, and no contract is "
                "ever replaced: hand the keys over without a record, or deploy another ledger"
            )
        return self._call(account, "grant", to, first, last, _words(keys))

    def _call(self, account: LocalAccount, function: str, *arguments: Any) -> TxReceipt:
        return send(self.web3, account, getattr(self._contract.functions, function)(*arguments), self.sending)

    # ---------------------------------------------------------------- reading

    def head(self) -> bytes:
        """The head that the node shows (32 bytes)."""
        head: bytes = self._contract.functions.head().call()
        return bytes(head)

    def entries(self) -> list[Entry]:
        """Every entry that the node shows, in order; only refolding the head tells whether these are all."""
        return self._reader.entries()

    def shown(self) -> tuple[list[Remembered], bytes]:
        """What the node shows: every entry with the refolded head after it, and the head that it shows itself.

        What was read once is not read again, unless the node has taken it back.
        """
        return self._reader.shown()

    def refolded(self) -> list[Remembered]:
        """Every entry with the head after it.

        Raises:
            ViolationError: If the entries that the node shows are not those of the contract's head.
        """
        shown, head = self.shown()
        refolded = shown[-1][1] if shown else self.genesis.head()
        if refolded != head:
            raise ViolationError(
                f"the node's entries up to block {self._reader.block} refold to head 0x{refolded.hex()}, and it shows "
                f"0x{head.hex()}: the node withholds or alters entries; use another node"
            )
        return shown

    def history(self) -> History:
        """The replayed history.

        Raises:
            Refused: If the node shows entries that the rules do not allow.
            ViolationError: If the entries that it shows are not those of the contract's head.
        """
        return replay(self.genesis, [entry for entry, _ in self.refolded()])

    @cached_property
    def _reader(self) -> EntryReader:
        return EntryReader(self._contract, self.genesis, self.deployed, self.known)

    @cached_property
    def _contract(self) -> Contract:
        return self.web3.eth.contract(address=self.address, abi=artifact().abi, decode_tuples=True)


def _words(cid: Cid | None) -> tuple[bytes, int]:
    return (cid.digest, cid.codec) if cid else NO_BLOB


def _lower(address: str) -> Address:
    return Address(address.lower())
