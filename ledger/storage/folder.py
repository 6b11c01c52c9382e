"""The embedded store: a folder with one file per blob, named by its CID."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from ledger.cid import CHUNK, Bytes, Cid, cid_of
from ledger.errors import BlobMismatchedError, BlobMissingError, UnavailableError
from ledger.storage import Blob, Blobs, read, require_at_most, verified_chunks, verify


class FolderStore:
    """Blobs in one folder. A file appears under its name only when all its bytes are on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, blob: Bytes) -> Cid:
        """See `Store.put`; a damaged file of the same name is replaced."""
        cid = cid_of(blob)
        if not self._is_kept(cid):
            self._keep(cid, [blob])
        return cid

    def copy(self, cid: Cid, source: Blobs) -> None:
        """See `Store.copy`; a damaged file of the same name is replaced."""
        if not self._is_kept(cid):
            with source.open(cid) as blob:
                self._keep(cid, verified_chunks(blob, cid))

    def pin(self, cid: Cid, limit: int | None = None) -> None:
        """See `Store.pin`: a folder gets blobs from nowhere, so that it has this one, or not."""
        with self.open(cid) as blob:
            require_at_most(limit, blob.size, cid)
            verify(blob, cid)

    def open(self, cid: Cid) -> AbstractContextManager[Blob]:
        """See `Blobs.open`."""
        # Settlement opens thousands of small blobs: looking whether each is there before costs as much again.
        try:
            try:
                return OpenFile(cid, *_open(f"{self.folder}/{cid}"))
            except FileNotFoundError:
                return OpenFile(cid, *_open(f"{self.folder}/{shard(cid)}/{cid}"))
        except OSError as error:
            raise BlobMissingError(cid, str(error.strerror)) from None

    def get(self, cid: Cid, limit: int | None = None) -> bytes:
        """See `Blobs.get`."""
        with self.open(cid) as blob:
            return read(blob, cid, limit)

    def remove(self, cid: Cid, only: Callable[[Blob], bool] | None = None) -> bool:
        """See `Store.remove`."""
        if self.size(cid) is None:
            return False
        if only is not None:
            with self.open(cid) as blob:
                if not only(blob):
                    return False
        try:
            for path in (self.folder / str(cid), self.folder / shard(cid) / str(cid)):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UnavailableError(
                f"the folder {self.folder} cannot give up the blob {cid} ({error.strerror}): make it a folder of yours"
            ) from None
        return True

    def verify(self, cid: Cid) -> None:
        """See `Blobs.verify`."""
        with self.open(cid) as blob:
            verify(blob, cid)

    def size(self, cid: Cid) -> int | None:
        """See `Blobs.size`."""
        try:
            return self.path(cid).stat().st_size
        except OSError:
            return None

    def _is_kept(self, cid: Cid) -> bool:
        try:
            self.verify(cid)
        except (BlobMissingError, BlobMismatchedError):
            return False
        return True

    def _keep(self, cid: Cid, chunks: Iterable[Bytes]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / str(cid)) as file:
                file.writelines(chunks)
        except OSError as error:
            raise UnavailableError(
                f"the folder {self.folder} cannot keep the blob {cid} ({error.strerror}): "
                "make room there, make it a folder that can be written to, or name another"
            ) from None

    def path(self, cid: Cid) -> Path:
        """The blob's file, where it is or where `put` keeps it: a folder taken out of a bundle is sharded."""
        flat = self.folder / str(cid)
        if flat.exists():
            return flat
        sharded = self.folder / shard(cid) / str(cid)
        return sharded if sharded.is_file() else flat


def shard(cid: Cid) -> str:
    """The folder of a blob within a bundle's ``blobs``, so that none of them grows too large."""
    return str(cid)[-2:]


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Write a file that appears under its name, in the place of what was there, only when all its bytes are on disk.

    Args:
        path: The file.
        mode: Who may read it; before it has its name, its owner alone.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read its bytes; a pipe or a device, which may never end, is refused like a file that is missing.

    Raises:
        OSError: If it is not there, cannot be read, or is no regular file.
    """
    return os.fdopen(_open(path)[0], "rb")


def _open(path: str | Path) -> tuple[int, int]:
    """A regular file's descriptor and size; see `open_regular`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor, status.st_size


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a file that a person named, and that need not be what they meant.

    Args:
        path: The file.
        most: The bytes that it may have.

    Raises:
        OSError: What `open_regular` raises; and if it has more bytes.
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
    return content


@dataclass(frozen=True)
class OpenFile:
    """A blob that is a whole file, closed when the ``with`` block ends; see `Blob`."""

    cid: Cid
    descriptor: int
    size: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.descriptor)

    def leaf(self, number: int, into: bytearray | memoryview) -> memoryview:
        """See `Blob.leaf`."""
        start = number * CHUNK
        return read_into(self.descriptor, start, max(0, min(CHUNK, self.size - start)), into, self.cid)


def read_into(descriptor: int, start: int, size: int, into: bytearray | memoryview, cid: Cid) -> memoryview:
    """Bytes of an open file that belong to `cid`, read into `into`, and a view of them.

    Raises:
        BlobMissingError: If they cannot be read.
    """
    room = memoryview(into)[:size]
    try:
        return room[: os.preadv(descriptor, [room], start)]
    except OSError as error:
        raise BlobMissingError(cid, str(error.strerror)) from None
