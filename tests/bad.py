"""What bad input is tried against: a federation in the middle of its work, strange files, and servers that are none."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import click
from click.testing import CliRunner, Result

from ledger.audit.bundle import write_bundle
from ledger.audit.evidence import files
from ledger.audit.observe import observe
from ledger.chain.contract import LedgerContract
from ledger.cli import main
from ledger.storage.folder import FolderStore
from ledger.updates import Place, encode, update_header
from tests.anvil import Anvil
from tests.cli import Cli
from tests.ledger.test_cli import COMMANDS, SINGLE
from tests.world import SCHEMA, tensors

LOCKS = {"lock", "transactions.lock", "participate.lock", "aggregate.lock"}
"""Files that stay where a lock was held, empty or with a process's number: they say nothing of the ledger."""
JOURNAL = "transactions"
"""Stays where a transaction was refused, empty: that says nothing, either."""


class Put:
    """Puts something else than a file at a path."""

    def __init__(self, put: Callable[[Path], object]) -> None:
        self.put = put


FOLDER, PIPE = Put(Path.mkdir), Put(os.mkfifo)
ENDLESS = Put(lambda path: path.symlink_to("/dev/zero"))
LOOP = Put(lambda path: path.symlink_to(path.name))


def _huge(path: Path) -> None:
    """A terabyte that takes no room."""
    path.touch()
    os.truncate(path, 1 << 40)


HUGE = Put(_huge)


class Scene:
    """Members as `Cli.found` makes them, the model of round 1 released, and round 2 open with the update of site 2.

    Attributes:
        cli: Its parties; there are a ``stranger`` and one who is ``poor``, too.
        words: What the braces in commands, environments and file names stand for.
        evidence: The files of its history's folder, and ``bundle``, the same in one file.
    """

    def __init__(self, anvil: Anvil, folder: Path) -> None:
        self.cli = cli = Cli(anvil, folder)
        cli.found()
        cli.settled()
        cli.ok("auditor", "attest", "1")
        cli.open()
        cli.ok("site 2", "round", "post", "2", cli.update(2), "--weight", "10")
        self.contract = LedgerContract.attach(anvil.web3, cli.ledger)
        for party in ("stranger", "poor"):
            cli.party(party)
        for party in ("nobody", *cli.accounts):
            cli.run(party, "status", yes=False)  # from here on, reading has nothing new to remember
        evidence = observe(self.contract, FolderStore(Path(cli.store)))
        write_bundle(folder / "bundle.car", evidence)
        self.evidence = files(evidence) | {"bundle": (folder / "bundle.car").read_bytes()}
        other = "0x" + "ab" * 20
        anvil.rpc("anvil_setCode", other, "0x6001600155")
        self.words = {
            "url": anvil.url,
            "ledger": cli.ledger,
            "other": other,
            "blobs": cli.store,
            "keys": str(folder),
            **{name.replace(" ", ""): cli.address(name) for name in cli.accounts},
        }

    def fill(self, text: str) -> str:
        """The text with its words filled in."""
        for word, meant in self.words.items():
            text = text.replace("{" + word + "}", meant)
        return text

    def update(self, member: int = 1, value: float = 1.0) -> bytes:
        """An update of a member for round 2."""
        history = self.contract.history()
        place = Place.of(history.genesis, history.rounds[2].opened)
        return encode(update_header(place, member, 10), SCHEMA, tensors(value))


Content = str | bytes | Put | Callable[[Scene], str | bytes]


@dataclass(frozen=True)
class Bad:
    """One wrong input.

    Attributes:
        id: What is wrong.
        command: The command with its arguments; words in braces are the scene's.
        status: What it ends with.
        said: What its sentence has in it.
        files: What lies in the folder where it runs, by name; with braces, elsewhere.
        party: Whose environment it has.
        environment: What is different in that.
    """

    id: str
    command: str
    status: int
    said: str
    files: Mapping[str, Content] = field(default_factory=dict)
    party: str = "governor"
    environment: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def path(self) -> tuple[str, ...]:
        """The words that call the command."""
        words = tuple(word for word in self.command.split() if word != "--config")
        return next(path for path in SINGLE if path in (words[: len(path)], words[1 : len(path) + 1]))

    def prepare(self, scene: Scene) -> None:
        """Put the files where they are to be."""
        for name, content in self.files.items():
            path = Path(scene.fill(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Put):
                if path.exists():
                    path.unlink()
                content.put(path)
            else:
                made = content(scene) if callable(content) else content
                path.write_bytes(made if isinstance(made, bytes) else made.encode())

    def run(self, scene: Scene) -> Result:
        """Run the command, which is never asked whether it is sure."""
        words = [scene.fill(word) for word in shlex.split(self.command)]
        command = COMMANDS[self.path]
        sure = ["--yes"] * any("--yes" in one.opts for one in command.params if isinstance(one, click.Option))
        changes = {name: value and scene.fill(value) for name, value in self.environment.items()}
        return CliRunner().invoke(main, [*words, *sure], env=scene.cli.variables(self.party) | changes)


def tree(*folders: Path) -> dict[str, object]:
    """All that lies in folders: files with their modes and bytes, and of anything else what it is."""
    found: dict[str, object] = {}
    for path in (one for folder in folders for one in sorted(folder.rglob("*")) if one.name not in LOCKS):
        told = path.lstat()
        if path.name == JOURNAL and told.st_size == 0:
            continue
        small = path.is_file() and not path.is_symlink() and told.st_size < 1 << 30
        found[str(path)] = told.st_mode, path.read_bytes() if small else told.st_size * (not path.is_dir())
    return found


@contextmanager
def answering(status: int, body: bytes, kind: str) -> Iterator[str]:
    """The address of a server that says the same to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        log_message: Callable[..., None] = lambda *_: None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def taken_port() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
