"""The update that is ready for the open round, kept before anything of it leaves the site.

Training need not give the same bytes twice, and a hash that was posted is never replaced: so the blob is on disk before
it is stored elsewhere or its hash is posted, and stays until the round has ended.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ledger.cid import Cid
from ledger.errors import UnavailableError
from ledger.storage.folder import FolderStore, replacing
from ledger.updates import Place

ANSWER = "answer.json"


@dataclass(frozen=True)
class Answer:
    """What is ready: the update's CID, its weight in examples, and its key blob's CID if it is sealed."""

    update: Cid
    weight: int
    key_blob: Cid | None

    @property
    def blobs(self) -> list[Cid]:
        """All that others need of it."""
        return [self.update] if self.key_blob is None else [self.update, self.key_blob]


class Outbox:
    """A folder with at most one answer, and its blobs.

    Attributes:
        blobs: The blobs.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / ANSWER
        self.blobs = FolderStore(folder)

    def get(self, place: Place, member: int) -> Answer | None:
        """What is ready for a place; None where nothing is, or for another one.

        Raises:
            UnavailableError: If the folder is damaged.
        """
        try:
            document = json.loads(self._file.read_bytes())
            if document["place"] != place.document() or document["member"] != member:
                return None
            key_blob = document["key_blob"]
            return Answer(
                Cid.parse(document["update"]), int(document["weight"]), Cid.parse(key_blob) if key_blob else None
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnavailableError(
                f"{self._file} is damaged ({error}): delete it, and the update is made anew"
            ) from None

    def keep(self, place: Place, member: int, weight: int, update: bytes, key_blob: bytes | None) -> Answer:
        """Keep an update, and its key blob if it is sealed; the one before it goes.

        Raises:
            UnavailableError: If it cannot be written.
        """
        self.clear()
        answer = Answer(self.blobs.put(update), weight, None if key_blob is None else self.blobs.put(key_blob))
        document = {
            "place": place.document(),
            "member": member,
            "update": str(answer.update),
            "weight": weight,
            "key_blob": str(answer.key_blob) if answer.key_blob else None,
        }
        try:
            with replacing(self._file) as file:
                file.write(json.dumps(document).encode())
        except OSError as error:
            raise UnavailableError(f"{self._file} cannot be written ({error.strerror}): make room for it") from None
        return answer

    def clear(self) -> None:
        """Forget what is ready: the answer first, then blobs, and what a process that died left half written."""
        self._file.unlink(missing_ok=True)
        for path in [*self.blobs.folder.glob("b*"), *self.blobs.folder.glob(".*.part")]:
            path.unlink()
