"""The embedded store: a folder with one file per blob, named by its CID."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ledger.cid import CHUNK, Cid, cid_of
from ledger.errors import BlobMissingError
from ledger.storage import Blob, read, verify


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

    @contextmanager
    def open(self, cid: Cid) -> Iterator[Blob]:
        """See `Store.open`."""
        try:
            with open_regular(self.path(cid)) as file:
                yield _File(file.fileno(), os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise BlobMissingError(cid, str(error.strerror)) from None

    def get(self, cid: Cid, limit: int | None = None) -> bytes:
        """See `Store.get`."""
        with self.open(cid) as blob:
            return read(blob, cid, limit)

    def verify(self, cid: Cid) -> None:
        """See `Store.verify`."""
        with self.open(cid) as blob:
            verify(blob, cid)

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


@dataclass(frozen=True)
class _File:
    descriptor: int
    size: int

    def leaf(self, number: int) -> bytes:
        return os.pread(self.descriptor, max(0, min(CHUNK, self.size - number * CHUNK)), number * CHUNK)
