"""A stand-in for an IPFS node's RPC that tells the truth of a few blocks, or lies as a test says."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ledger.cid import CHUNK, Cid, leaf, tree

PATIENCE = 30.0
"""Seconds after which a lie that takes long gives way to the truth, so that a test of it ends."""

Lie = Callable[["Call"], bool]
"""Answers a call, or leaves it (False) to the truth."""


def blocks_of(blob: bytes) -> dict[Cid, bytes]:
    """The blocks of a blob's tree."""
    chunks = [blob[at : at + CHUNK] for at in range(0, max(1, len(blob)), CHUNK)]
    leaves = [leaf(chunk) for chunk in chunks]
    inner = {node.cid: node.block for node in tree(leaves) if node.block}
    return {node.cid: chunk for node, chunk in zip(leaves, chunks, strict=True)} | inner


class Node(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """The stand-in.

    Attributes:
        calls: How often each command was called.
        tokens: The ``Authorization`` of each call.
        sent: Bytes of answers that were taken from it.
        over: Set when nobody asks any more.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, address: Any, blocks: dict[Cid, bytes], lie: Lie | None) -> None:
        self.blocks = {str(cid): block for cid, block in blocks.items()}
        self.lie = lie
        self.calls: Counter[str] = Counter()
        self.tokens: list[str | None] = []
        self.sent = 0
        self.over = threading.Event()
        super().__init__(address, Call)

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever hangs up while a lie goes on is right to do so."""


class UnixNode(Node):
    """The same on a unix socket."""

    address_family = socket.AF_UNIX
    allow_reuse_address = False

    def get_request(self) -> tuple[Any, Any]:
        return self.socket.accept()[0], ("here", 0)


class Call(BaseHTTPRequestHandler):
    """One call that is answered.

    Attributes:
        name: The RPC's command.
        cid: What it is about.
    """

    protocol_version = "HTTP/1.1"
    server: Node

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        self.name, self.cid = parts.path.removeprefix("/api/v0/"), parse_qs(parts.query).get("arg", [""])[0]
        self.server.calls[self.name] += 1
        self.server.tokens.append(self.headers["Authorization"])
        if self.server.lie is None or not self.server.lie(self):
            self.tell_the_truth()

    def tell_the_truth(self) -> None:
        block = self.server.blocks.get(self.cid)
        if self.name == "version":
            self.say({"Version": "0"})
        elif self.name == "pin/ls":
            self.refuse(f"path '{self.cid}' is not pinned")
        elif block is None:
            self.refuse("block was not found locally (offline): ipld: could not find " + self.cid)
        elif self.name == "block/stat":
            self.say({"Key": self.cid, "Size": len(block)})
        else:
            self.answer(block)

    @property
    def block(self) -> bytes:
        """What a true answer holds."""
        return self.server.blocks[self.cid]

    def say(self, document: Any, status: int = 200) -> None:
        self.answer(json.dumps(document).encode(), status, {"Content-Type": "application/json"})

    def refuse(self, message: str, status: int = 500) -> None:
        self.say({"Message": message, "Code": 0, "Type": "error"}, status)

    def answer(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.head({"Content-Length": str(len(body))} | (headers or {}), status)
        self.write(body)

    def head(self, headers: dict[str, str], status: int = 200) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def write(self, part: bytes) -> None:
        self.wfile.write(part)
        self.server.sent += len(part)

    def drip(self, parts: bytes) -> None:
        """Byte by byte, for as long as patience lasts; then the rest."""
        ends = time.monotonic() + PATIENCE
        for at in range(len(parts)):
            if time.monotonic() > ends:
                self.write(parts[at:])
                return
            self.write(parts[at : at + 1])
            self.server.over.wait(0.05)

    def hang_up(self) -> None:
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def lying(
    blocks: dict[Cid, bytes], lie: Lie | None = None, path: Path | None = None, certificate: Path | None = None
) -> Iterator[tuple[Node, str]]:
    """A stand-in, on a unix socket at `path` or with TLS if it is to have them, and the URL where it answers."""
    node = UnixNode(str(path), blocks, lie) if path else Node(("127.0.0.1", 0), blocks, lie)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        node.socket = context.wrap_socket(node.socket, server_side=True)
    thread = threading.Thread(target=node.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        scheme = "https" if certificate else "http"
        yield node, f"unix://{path}" if path else f"{scheme}://localhost:{node.server_address[1]}"
    finally:
        node.over.set()
        node.shutdown()
        node.server_close()
        thread.join()
