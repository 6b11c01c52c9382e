"""New files, which never take the place of what is there already."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ledger.errors import UsageError


def require_writable(path: Path, what: str) -> None:
    """Find out before long work whether its result can be written: to a new file, or in the place of one.

    Args:
        path: The file.
        what: What is to be written there.

    Raises:
        UsageError: If not; a device or a pipe is not replaced, either.
    """
    folder = path.parent
    if (path.exists() and not path.is_file()) or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"no {what} can be written to {path}: name a file in a folder that is there and yours")


def make_folder(folder: Path) -> None:
    """Make a folder, if it is not there, and those above it, for their owner alone.

    Raises:
        UsageError: If it cannot be made.
    """
    try:
        for one in reversed([folder, *folder.parents]):
            one.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made ({error.strerror}): name a file in a folder of yours") from None


def require_absent(path: Path, instead: str) -> None:
    """Find out before long work whether nothing is where a file is to be written.

    Raises:
        UsageError: If something is there; `instead` is what to do.
    """
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already: {instead}")


def create(path: Path, content: bytes, mode: int, instead: str) -> None:
    """Write a file that appears under its name only when all its bytes are on disk, and only where nothing was.

    Args:
        path: The file.
        content: Its bytes.
        mode: Who may read it, from its first byte on.
        instead: What to do where something is there already.

    Raises:
        UsageError: If something is there already, or it cannot be written.
    """
    require_absent(path, instead)
    part = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)  # unlike a rename, it fails where somebody else was faster
        finally:
            part.unlink(missing_ok=True)
    except FileExistsError:
        raise UsageError(f"{path} is there already: {instead}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}): name a file in a folder of yours") from None
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
