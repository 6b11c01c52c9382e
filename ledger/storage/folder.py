"""The embedded store: a folder with one file per blob, named by its CID."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import BinaryIO

from ledger.cid import CHUNK, Cid, cid_of, cid_of_chunks
from ledger.errors import BlobMismatchedError, BlobMissingError, BlobTooLargeError


class FolderStore:
    """Blobs in one folder. A file appears under its name only when all its bytes are on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, blob: bytes) -> Cid:
        """Keep a blob; a damaged file of the same name is replaced."""
        cid = cid_of(blob)
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=self.folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, self.path(cid))
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return cid

    def get(self, cid: Cid, limit: int | None = None) -> bytes:
        """See `Store.get`."""
        try:
            with open(self.path(cid), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if limit is not None and size > limit:
                    _verify(file, cid)
                    raise BlobTooLargeError(cid, size, limit)
                blob = file.read(size + 1)
        except OSError as error:
            raise BlobMissingError(cid, str(error.strerror)) from None
        if cid_of(blob) != cid:
            raise BlobMismatchedError(cid)
        return blob

    def verify(self, cid: Cid) -> None:
        """See `Store.verify`."""
        try:
            with open(self.path(cid), "rb") as file:
                _verify(file, cid)
        except OSError as error:
            raise BlobMissingError(cid, str(error.strerror)) from None

    def has(self, cid: Cid) -> bool:
        """See `Store.has`."""
        return self.path(cid).is_file()

    def path(self, cid: Cid) -> Path:
        """The blob's file."""
        return self.folder / str(cid)


def _verify(file: BinaryIO, cid: Cid) -> None:
    if cid_of_chunks(iter(lambda: file.read(CHUNK), b"")) != cid:
        raise BlobMismatchedError(cid)
