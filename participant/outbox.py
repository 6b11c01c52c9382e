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
    """What is ready: the update's CID, and its weight in examples."""

    update: Cid
    weight: int


class Outbox:
    """A folder with at most one answer, and its blob.

    Attributes:
        blobs: The blob.
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
            return Answer(Cid.parse(document["update"]), int(document["weight"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnavailableError(
                f"{self._file} is damaged ({error}): delete it, and the update is made anew"
            ) from None

    def keep(self, place: Place, member: int, blob: bytes, weight: int) -> Answer:
        """Keep an update; the one before it goes.

        Raises:
            UnavailableError: If it cannot be written.
        """
        self.clear()
        answer = Answer(self.blobs.put(blob), weight)
        document = {"place": place.document(), "member": member, "update": str(answer.update), "weight": weight}
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
