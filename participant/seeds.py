"""What a site's training draws its random numbers from: its own secret, so that nobody else can foresee the noise."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

from ledger.age import read_age_secret
from ledger.history import Round


@dataclass(frozen=True)
class Seed:
    """The randomness of one site's training for one round: 32 secret bytes."""

    secret: bytes

    @classmethod
    def of(cls, identity: str, known: Round) -> Seed:
        """The seed that a site's age identity (``AGE-SECRET-KEY-1…``) gives for a round: HKDF (RFC 5869) over SHA-256.

        Its salt is the head at the round's opening, which nobody knew before; its context names the plan.
        """
        context = b"fedledger: a seed of training" + known.opened.plan.digest
        secret = HKDF(read_age_secret(identity), 32, known.opening_head, SHA256, context=context)
        return cls(secret if isinstance(secret, bytes) else b"".join(secret))

    @property
    def number(self) -> int:
        """What seeds a generator: below 2**63."""
        return int.from_bytes(self.secret[:8], "big") >> 1

    def witness(self, data: bytes) -> str:
        """What the update's header says of this and of the data, so that the site can show later what it trained with.

        Whoever guesses the data cannot find out by it whether the guess is right: that takes the secret, too.

        Args:
            data: The fingerprint of the site's examples.

        Returns:
            64 hex digits.
        """
        return hashlib.sha256(b"fedledger: a witness of training" + self.secret + data).hexdigest()
