"""Nodes that no real part plays: busy, limited, lagging or hostile ones, behind real HTTP on this machine."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class RpcFault(Exception):
    """An error of JSON-RPC, to be answered."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.answer = {"code": code, "message": message}


class HttpFault(Exception):
    """An answer that is none of JSON-RPC."""

    def __init__(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        super().__init__(str(status))
        self.status, self.body, self.headers = status, body, headers or {}


class NodeServer:
    """Answers every method with what `answer` gives or raises, on a free port, until the ``with`` block ends.

    Attributes:
        url: Its endpoint.
        asked: The methods it was asked, with their parameters, in order.
    """

    def __init__(self, answer: Callable[[str, list[Any]], Any]) -> None:
        self.asked: list[tuple[str, list[Any]]] = []
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # headers and body in one piece: else each answer waits for an acknowledgement

            def do_POST(self) -> None:
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                node.asked.append((question["method"], question["params"]))
                status, headers, told = 200, dict[str, str](), {"jsonrpc": "2.0", "id": question["id"]}
                try:
                    body = json.dumps(told | {"result": answer(question["method"], question["params"])}).encode()
                except RpcFault as fault:
                    body = json.dumps(told | {"error": fault.answer}).encode()
                except HttpFault as fault:
                    status, headers, body = fault.status, fault.headers, fault.body
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            log_message: Callable[..., None] = lambda *_: None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Speak TLS."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def count(self, method: str) -> int:
        """How often it was asked that."""
        return sum(asked == method for asked, _ in self.asked)
