"""JSON documents that are hashed: one canonical byte form (RFC 8785), read back strictly. Pure."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from ledger.errors import InvalidBlobError

MemberId = Annotated[str, Field(pattern="^[1-9][0-9]{0,4}$")]
"""A member's id, where it is the key of an object."""


def read_json(raw: bytes | str) -> Any:
    """Read JSON that strangers wrote; unlike the standard library's, this reader has its own limit of nesting.

    Raises:
        ValueError: If it is no JSON, or nested deeper than 200 levels.
    """
    return from_json(raw)


def canonical(document: Any) -> bytes:
    """The RFC 8785 bytes of a JSON document.

    Raises:
        ValueError: If it has no such form (NaN, an integer beyond 2^53, a key that is not text).
    """
    try:
        return rfc8785.dumps(document)
    except rfc8785.CanonicalizationError as error:
        raise ValueError(f"not a document with a canonical form: {error}") from None


def parse(raw: bytes) -> Any:
    """Read JSON from its canonical bytes; ``canonical(parse(raw)) == raw``.

    Raises:
        ValueError: If `raw` is anything else: duplicate keys, other spacing, order or number forms, trailing bytes.
    """
    document = read_json(raw)
    if canonical(document) != raw:
        raise ValueError("not canonical JSON (RFC 8785): its bytes would not be written again like that")
    return document


class Document(BaseModel):
    """A document with a fixed set of fields; ``D.decode(d.encode()) == d``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    TITLE: ClassVar[str] = "document"

    def encode(self) -> bytes:
        """The document's blob."""
        return canonical(self.model_dump(mode="json"))

    @classmethod
    def decode(cls, blob: bytes) -> Self:
        """Read a document's blob.

        Raises:
            InvalidBlobError: ``malformed``, if it is not the canonical form of a valid document of this kind.
        """
        try:
            document = cls.model_validate_json(blob)
            written_again = document.encode()
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the document"
            raise InvalidBlobError("malformed", f"not a {cls.TITLE}: {place}: {first['msg']}") from None
        except ValueError as error:
            raise InvalidBlobError("malformed", f"not a {cls.TITLE}: {error}") from None
        if written_again != blob:
            raise InvalidBlobError(
                "malformed", f"not a {cls.TITLE}: it states everything, in canonical JSON (RFC 8785), this one does not"
            )
        return document
