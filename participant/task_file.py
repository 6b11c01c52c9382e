"""The file with a site's task: how it is read and run, and how an error in it is told. Without torch."""

from __future__ import annotations

import ast
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import isclass
from pathlib import Path
from types import ModuleType

from ledger.errors import FedledgerError, UsageError
from ledger.storage.folder import read_regular
from participant.any_task import AnyTask

MAX_TASK_BYTES = 1 << 24
MESSAGE = 300  # characters of somebody else's error that are shown


class TaskFailedError(UsageError):
    """A task's file, or a hook of it, failed.

    Attributes:
        place: Where, and with what kind of error, but not in its words: these may quote somebody's records.
    """

    def __init__(self, where: str, kind: str, words: str) -> None:
        super().__init__(f"{where}: {words}")
        self.place = f"{where}: {kind}; what it says may quote records: see it with `fedledger task check`"


def read_task(path: Path) -> bytes:
    """A task's file, which is not run.

    Raises:
        UsageError: If it cannot be read.
    """
    try:
        return read_regular(path, MAX_TASK_BYTES)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror}): name your task's file, or write one with `fedledger task new`"
        ) from None


def load_task(path: Path, source: bytes | None = None) -> AnyTask:
    """The one task that a file defines; this runs the file.

    Args:
        path: The file.
        source: What was read of it; None to read it.

    Raises:
        UsageError: If there is none, or what the file does fails; with the file and, where there is one, the line.
    """
    source = read_task(path) if source is None else source
    try:
        tree = ast.parse(source, str(path))
        code = compile(tree, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise UsageError(f"{path}{line}: {error.msg}: correct the file, it is to be Python") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}: correct the file, it is to be Python") from None
    module = ModuleType(f"task at {path.resolve()}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their own module up
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.insert(0, folder)  # as `python FILE` does, so that it can import its neighbours
    with blamed(str(path), ""):
        try:
            # Not through import, which would leave a __pycache__ in the user's folder.
            exec(code, vars(module))  # noqa: S102  # the user's own code
        except ModuleNotFoundError as error:
            if error.name == "torch":
                raise UsageError("it needs torch, which is not installed: pip install 'fedledger[train]'") from error
            raise
    lines = {node.name: node.lineno for node in tree.body if isinstance(node, ast.ClassDef)}
    found = [one for one in vars(module).values() if isclass(one) and issubclass(one, AnyTask)]
    own = {one.__name__: one for one in found if one.__module__ == module.__name__}
    if not own:
        raise UsageError(f"{path} has no task: write a class in it that extends participant.Task")
    if len(own) > 1:
        named = ", ".join(f"{name} (line {lines.get(name, '?')})" for name in own)
        raise UsageError(f"{path} has {len(own)} tasks, {named}: leave one in the file")
    [(name, task)] = own.items()
    if missing := sorted(task.__abstractmethods__):
        where = f"{path}, line {lines.get(name, '?')}"
        raise UsageError(f"{where}: {name} has no {' and no '.join(missing)}: write it, see `fedledger task new`")
    with blamed(str(path), "__init__"):
        made: AnyTask = task()
    return made


@contextmanager
def hook(task: AnyTask, name: str) -> Iterator[None]:
    """Run a hook of a task; what it raises becomes a `UsageError` that says where in the user's file."""
    module = sys.modules.get(type(task).__module__)
    with blamed(getattr(module, "__file__", None) or type(task).__name__, name):
        yield


@contextmanager
def blamed(file: str, name: str) -> Iterator[None]:
    """What is raised inside becomes one sentence: the file, its line that was running, the hook, and what happened.

    Raises:
        UsageError: For whatever is raised, even an exit, except where memory does not suffice.
    """
    try:
        yield
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        line = f", line {frames[-1].lineno}" if frames else ""
        where = f"{file}{line}" + (f", in {name}" if name else "")
        if isinstance(error, FedledgerError):
            raise UsageError(f"{where}: {_short(str(error))}") from error
        kind = type(error).__name__
        raise TaskFailedError(where, kind, _short(f"{kind}: {error}")) from error


def _short(text: str) -> str:
    text = " ".join(text.split()).removesuffix(":")
    return text if len(text) <= MESSAGE else text[:MESSAGE] + "…"
