"""Large histories without a chain: the rules decide, every call is really signed, and the blocks are made up.

That the rules are the contract's is shown by tests/ledger/test_contract.py, which plays both side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address
from web3 import Web3

import ledger.facts as facts
from ledger.aggregator import propose, terms
from ledger.audit.evidence import Evidence, Sent, write_folder
from ledger.chain.artifact import artifact
from ledger.cid import Bytes, Cid, cid_of
from ledger.entries import Entry, Genesis, name_bytes
from ledger.facts import Address, Bytes32, Name, Role
from ledger.history import History
from ledger.plan import Plan, TensorSpec, Training
from ledger.rules import Call, apply
from ledger.storage.folder import FolderStore
from ledger.updates import MODEL_HEADER, Array, Place, encode, update_header

LEDGER = Address("0x" + "5a" * 20)
CHAIN = 1337


class PaperLedger:
    """A ledger on paper: members 1.. are sites, then the aggregator, then the auditor.

    Attributes:
        folder: Where `write` leaves the history; its blobs are there at once.
        plan: The plan of all rounds.
    """

    def __init__(
        self,
        folder: Path,
        sites: int,
        schema: Mapping[str, TensorSpec],
        max_update_bytes: int,
        model: bytes | None = None,
    ) -> None:
        self.folder = folder
        self.store = FolderStore(folder / "blobs")
        self.store.folder.mkdir(parents=True)
        self.plan = Plan(
            seal="none",
            tensors=dict(schema),
            training=Training(epochs=1, batch_size=1, learning_rate=0.1),
            max_update_bytes=max_update_bytes,
            window=600,
            quorum=1,
            approvals=1,
        )
        self._contract = Web3().eth.contract(abi=artifact().abi)
        self._governor, self._aggregator, self._auditor = map(_account, ("governor", "aggregator", "auditor"))
        self.sites = [_account(f"site {number}") for number in range(1, sites + 1)]
        self._nonces: dict[str, int] = {}
        self._pairs: list[tuple[Entry, bytes]] = []
        self._sent: dict[str, Sent] = {}
        charter = self.put(b"# Charter\n")
        self.genesis = Genesis(CHAIN, LEDGER, Address(self._governor.address.lower()), charter)
        self.history = History(self.genesis)
        members = [*((site, Role.PARTICIPANT, f"Site {n}") for n, site in enumerate(self.sites, 1))]
        members += [(self._aggregator, Role.AGGREGATOR, "Aggregator"), (self._auditor, Role.AUDITOR, "Auditor")]
        for number, (account, role, name) in enumerate(members, 1):
            lower = Address(account.address.lower())
            admitted = facts.MemberAdmitted(number, lower, role, Name(name))
            self.record(self._governor, admitted, "admit", account.address, int(role), name_bytes(name))
            key = Bytes32(keccak(account.address.encode()))
            self.record(
                account,
                facts.CharterAccepted(number, charter, key, lower),
                "accept",
                (charter.digest, charter.codec),
                key,
            )
        genesis = self.put(model or encode(MODEL_HEADER, schema, _values(schema, 0)))
        self.record(self._governor, facts.GenesisRecorded(genesis), "recordGenesis", _words(genesis))

    def put(self, blob: Bytes) -> Cid:
        """Keep a blob, without waiting for the disk."""
        cid = cid_of(blob)
        self.store.path(cid).write_bytes(blob)
        return cid

    def record(self, account: LocalAccount, fact: facts.Fact, function: str, *arguments: Any) -> None:
        """Sign the call, and record what the contract would."""
        nonce = self._nonces.get(account.address, 0)
        self._nonces[account.address] = nonce + 1
        fields = {
            "type": 2,
            "chainId": CHAIN,
            "nonce": nonce,
            "gas": 10**6,
            "maxFeePerGas": 1,
            "maxPriorityFeePerGas": 1,
        }
        data = self._contract.encode_abi(function, arguments)
        signed = account.sign_transaction({**fields, "to": to_checksum_address(LEDGER), "value": 0, "data": data})
        block = self.history.entries + 1
        entry = Entry(self.history.entries, fact, block, 1_700_000_000 + block, "0x" + bytes(signed.hash).hex())
        self._sent[entry.transaction] = Sent(bytes(signed.raw_transaction), None)
        apply(self.history, entry, Call(account.address))
        self._pairs.append((entry, self.history.head))

    def play_round(self, update: Callable[[int, Place], bytes] | None = None, weight: int | Sequence[int] = 10) -> None:
        """Open a round, let every site post (`update` gives its blob), settle and approve it."""
        weights = [weight] * len(self.sites) if isinstance(weight, int) else weight
        plan = self.put(self.plan.encode())
        base_round = self.history.latest_released
        base = self.history.model_of(base_round)
        assert base is not None
        asked = terms(self.plan)
        time = 1_700_000_000 + self.history.entries + 1
        number, aggregator, auditor = self.history.latest_round + 1, len(self.sites) + 1, len(self.sites) + 2
        opened = facts.RoundOpened(
            number, aggregator, plan, base_round, base, time + asked.window, asked.grace, asked.quorum, asked.approvals,
            asked.rejections, asked.participants_attest,
        )  # fmt: skip
        words = (asked.window, asked.grace, asked.quorum, asked.approvals, asked.rejections, asked.participants_attest)
        self.record(self._aggregator, opened, "open", _words(plan), base_round, words)
        place = Place.of(self.genesis, opened)
        for member, site in enumerate(self.sites, 1):
            own = weights[member - 1]
            blob = update(member, place) if update else self.update(member, place, own)
            cid, sender = self.put(blob), Address(site.address.lower())
            posted = facts.UpdateRecorded(number, member, cid, None, own, sender)
            self.record(site, posted, "postUpdate", number, _words(cid), bytes(32), own)
        proposal = propose(self.history, self.store)
        settlement = proposal.settlement
        assert settlement.model is not None
        model, manifest = self.put(settlement.model), self.put(settlement.manifest.encode())
        if settlement.state is not None:
            self.put(settlement.state)
        counted = settlement.manifest.counted
        settled = facts.RoundSettled(number, aggregator, model, manifest, counted)
        arguments = (number, proposal.head, _words(model), _words(manifest), counted)
        self.record(self._aggregator, settled, "settle", *arguments)
        report = self.put(b'{"kind":"report"}')
        attested = facts.AttestationRecorded(number, auditor, True, report)
        self.record(self._auditor, attested, "attest", number, True, _words(report))

    def update(self, member: int, place: Place, weight: int) -> bytes:
        """An update of a member's own values."""
        schema = self.plan.tensors
        return encode(update_header(place, member, weight), schema, _values(schema, member * 1000 + place.round))

    def write(self) -> Path:
        """The folder, ready to be audited."""
        code = bytes.fromhex(artifact().runtime_bytecode[2:])
        head = self._pairs[-1][1]
        write_folder(
            self.folder, Evidence(self.genesis, head, tuple(self._pairs), (), self.store, code, self._sent, None)
        )
        return self.folder


def _account(name: str) -> LocalAccount:
    account: LocalAccount = Account.from_key(keccak(f"on paper: {name}".encode()))
    return account


def _words(cid: Cid) -> tuple[bytes, int]:
    return cid.digest, cid.codec


def _values(schema: Mapping[str, TensorSpec], seed: int) -> dict[str, Array]:
    """Values that differ by seed, as fast as memory: one random block, repeated."""
    block = np.random.default_rng(seed).standard_normal(1 << 16, dtype=np.float32)
    return {name: np.resize(block, int(np.prod(spec.shape))) for name, spec in schema.items()}
