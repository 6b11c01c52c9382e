"""The embedded store: a folder with one file per blob, named by its CID."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from ledger.cid import CHUNK, RAW, Cid, cid_of, cid_of_chunks
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
            with open_regular(self.path(cid)) as file:
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
            with open_regular(self.path(cid)) as file:
                _verify(file, cid)
        except OSError as error:
            raise BlobMissingError(cid, str(error.strerror)) from None

    def has(self, cid: Cid) -> bool:
        """See `Store.has`."""
        return self.path(cid).is_file()

    def path(self, cid: Cid) -> Path:
        """The blob's file."""
        return self.folder / str(cid)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read its bytes; a pipe or a device, which may never end, is refused like a file that is missing.

    Raises:
        OSError: If it is not there, cannot be read, or is no regular file.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def _verify(file: BinaryIO, cid: Cid) -> None:
    oversized = cid.codec == RAW and os.fstat(file.fileno()).st_size > CHUNK
    if oversized or cid_of_chunks(iter(lambda: file.read(CHUNK), b"")) != cid:
        raise BlobMismatchedError(cid)
