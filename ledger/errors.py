"""The one error tree. Every message says what is wrong, where, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.cid import Cid
    from ledger.receipts import Fork


class FedledgerError(Exception):
    """Anything fedledger refuses or cannot do.

    Attributes:
        exit_status: What the command line ends with: 1 evidence that something is wrong,
            2 wrong use, 3 something could not be checked or reached.
    """

    exit_status = 2


class UsageError(FedledgerError):
    """The caller gave something that cannot be used."""


# ------------------------------------------------------------- something is wrong


class ViolationError(FedledgerError):
    """Evidence that something is not as the ledger says."""

    exit_status = 1


class Refused(ViolationError):
    """The ledger's rules do not allow this entry; contract and `ledger.rules` refuse under the same name.

    Attributes:
        name: The name of the contract's error, such as ``RoundClosed``. It is not part of the message.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class Forked(ViolationError):
    """A history is not the one that was seen before.

    Attributes:
        fork: Where the two part.
    """

    def __init__(self, fork: Fork, remembered: Path) -> None:
        lags = ", unless it only lags behind" if fork.shown is None else ""
        said = (
            f"the node shows another history than the one remembered in {remembered}{lags}: go no further, and compare "
            "heads with the other members"
        )
        super().__init__("\n  ".join([said, *fork.sentences()]))
        self.fork = fork


class BlobMismatchedError(ViolationError):
    """Bytes that are stored under a CID are not the bytes that it names."""

    def __init__(self, cid: Cid) -> None:
        super().__init__(f"the bytes stored as {cid} are not what that CID names: they were altered or cut short")
        self.cid = cid


class InvalidBlobError(ViolationError):
    """A blob is not what its place asks for.

    Attributes:
        reason: A code of the closed list in ``ledger.manifest.Reason``.
        detail: What is wrong, with a blob's own words in it, which can be megabytes: its beginning.
    """

    LONGEST = 500

    def __init__(self, reason: str, detail: str) -> None:
        detail = detail if len(detail) <= self.LONGEST else detail[: self.LONGEST] + " …"
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class BlobTooLargeError(ViolationError):
    """A blob is what its CID says, and larger than the reader accepts."""

    def __init__(self, cid: Cid, size: int, limit: int) -> None:
        super().__init__(f"{cid} has {size:,} bytes, the limit is {limit:,}")
        self.cid = cid


# ------------------------------------------------- something could not be had


class UnavailableError(FedledgerError):
    """Something that is needed is not there or cannot be reached."""

    exit_status = 3


class BlobMissingError(UnavailableError):
    """Nothing that can be read is stored under a CID."""

    def __init__(self, cid: Cid, why: str) -> None:
        super().__init__(f"blob {cid} is not to be had ({why}): fetch it from its owner or a mirror")
        self.cid = cid
