"""What a member signed, as the JSON file in which it reaches whoever carries it to the chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from eth_account.signers.local import LocalAccount
from pydantic import AfterValidator, Field, ValidationError

from ledger.chain.signing import (
    SignedAcceptance,
    SignedUpdate,
    acceptance_signer,
    sign_acceptance,
    sign_update,
    update_signer,
)
from ledger.cid import Cid
from ledger.documents import Document
from ledger.errors import UnavailableError, UsageError, ViolationError
from ledger.facts import Address, Bytes32, CharterAccepted, UpdateRecorded
from ledger.history import History, Round
from ledger.rules import Call, check
from ledger.storage.folder import open_regular

MAX_BYTES = 4096

Number = Annotated[int, Field(ge=0, lt=1 << 53)]
Hex32 = Annotated[str, Field(pattern="^0x[0-9a-f]{64}$")]
HexAddress = Annotated[str, Field(pattern="^0x[0-9a-f]{40}$")]
CidText = Annotated[str, AfterValidator(lambda text: str(Cid.parse(text)))]


class SignedFile(Document):
    """What both kinds of file say.

    Attributes:
        kind: Which of the two it is.
        account: The account of the member that signed.
        r: The signature, in the compact form of EIP-2098.
        vs: Its second half.
    """

    kind: str
    chain_id: Number
    ledger: HexAddress
    account: HexAddress
    r: Hex32
    vs: Hex32

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            UnavailableError: If it cannot be read.
            UsageError: If it is no such file.
        """
        try:
            with open_regular(path) as file:
                raw = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise UnavailableError(f"{path} cannot be read ({error.strerror}): give a {cls.TITLE}'s file") from None
        try:
            if len(raw) <= MAX_BYTES:
                return cls.model_validate_json(raw)
            why = f"more than {MAX_BYTES:,} bytes"
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
        raise UsageError(f"{path} is no {cls.TITLE} ({why}): ask its member for it again")

    def _require(self, history: History, signer: Address | None) -> None:
        """It is for this ledger, and its signature is what the account gave over what it says."""
        genesis = history.genesis
        if (self.chain_id, self.ledger) != (genesis.chain_id, genesis.ledger):
            here = f"this is {genesis.ledger} on chain {genesis.chain_id}"
            raise UsageError(f"it is for ledger {self.ledger} on chain {self.chain_id}, {here}: carry it there")
        if signer != self.account:
            raise ViolationError(f"{self.account} did not sign what it says: it was altered, have it signed anew")


class UpdateFile(SignedFile):
    """A signed update; see `ledger.chain.signing.SignedUpdate`."""

    TITLE: ClassVar[str] = "signed update"

    kind: Literal["signed update"] = "signed update"
    round: Annotated[int, Field(ge=1, lt=1 << 32)]
    opening_head: Hex32
    update: CidText
    key_blob: Hex32 | None
    weight: Annotated[int, Field(ge=1, lt=1 << 53)]

    @classmethod
    def sign(
        cls, member: LocalAccount, history: History, known: Round, update: Cid, weight: int, key_blob: bytes | None
    ) -> Self:
        """Sign an update for a round; see `ledger.chain.signing.sign_update`."""
        signed = sign_update(member, history.genesis, known.number, known.opening_head, update, weight, key_blob)
        return cls(
            chain_id=history.genesis.chain_id,
            ledger=history.genesis.ledger,
            account=member.address.lower(),
            round=known.number,
            opening_head=_hex(known.opening_head),
            update=str(update),
            key_blob=None if key_blob is None else _hex(key_blob),
            weight=weight,
            r=_hex(signed.r),
            vs=_hex(signed.vs),
        )

    def checked(self, history: History, time: int, sender: str) -> SignedUpdate:
        """The signed update, as the contract would take it next.

        Args:
            history: The ledger's.
            time: The chain's.
            sender: The account that carries it.

        Raises:
            UsageError: If it is for another ledger.
            ViolationError: If it was altered, or is for another history of this ledger.
            Refused: If the rules do not allow it.
        """
        key_blob = _bytes(self.key_blob) if self.key_blob else None
        signed = SignedUpdate(Cid.parse(self.update), key_blob, self.weight, _bytes(self.r), _bytes(self.vs))
        opening = _bytes(self.opening_head)
        self._require(history, update_signer(history.genesis, self.round, opening, signed))
        known, member = history.rounds.get(self.round), history.member_by_account(self.account)
        if known and known.opening_head != opening:
            raise ViolationError(
                f"round {self.round} opened with another head than its member saw, 0x{opening.hex()}: the chain or the "
                "node that one of you reads was rewritten; compare heads before anything else"
            )
        fact = UpdateRecorded(
            self.round,
            member.id if member else 0,
            signed.update,
            Bytes32(key_blob) if key_blob else None,
            self.weight,
            Address(sender.lower()),
        )
        check(history, fact, time, Call(sender, signer=self.account))
        return signed


class AcceptanceFile(SignedFile):
    """A signed acceptance; see `ledger.chain.signing.SignedAcceptance`."""

    TITLE: ClassVar[str] = "signed acceptance"

    kind: Literal["signed acceptance"] = "signed acceptance"
    charter: CidText
    age_key: Hex32
    nonce: Annotated[int, Field(ge=0, lt=1 << 16)]

    @classmethod
    def sign(cls, member: LocalAccount, history: History, charter: Cid, age_key: bytes) -> Self:
        """Sign an acceptance of a charter."""
        known = history.accounts.get(member.address.lower())
        nonce = known.acceptances if known else 0
        signed = sign_acceptance(member, history.genesis, charter, age_key, nonce)
        return cls(
            chain_id=history.genesis.chain_id,
            ledger=history.genesis.ledger,
            account=member.address.lower(),
            charter=str(charter),
            age_key=_hex(age_key),
            nonce=nonce,
            r=_hex(signed.r),
            vs=_hex(signed.vs),
        )

    def checked(self, history: History, time: int, sender: str) -> SignedAcceptance:
        """The signed acceptance, as the contract would take it next; see `UpdateFile.checked`."""
        age_key = Bytes32(_bytes(self.age_key))
        signed = SignedAcceptance(Cid.parse(self.charter), age_key, self.nonce, _bytes(self.r), _bytes(self.vs))
        self._require(history, acceptance_signer(history.genesis, signed))
        member, account = history.member_by_account(self.account), history.accounts.get(self.account)
        if account and account.acceptances != self.nonce:
            raise UsageError(f"{self.account} has accepted again since it signed this: have it signed anew")
        fact = CharterAccepted(member.id if member else 0, signed.charter, age_key, Address(sender.lower()))
        check(history, fact, time, Call(sender, signer=self.account))
        return signed


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])
