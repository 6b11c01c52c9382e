"""JSON-RPC 2.0 over HTTP on this machine: one request after another, strangers' bytes bounded and never trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit

from ledger.documents import read_json

MAX_BODY = 5 << 20
"""Bytes of a request."""
MAX_BATCH = 1000
"""Calls in a request."""
PATIENCE = 60
"""Seconds after which a client that says nothing is left."""

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
Call = Callable[[str, list[Any]], Any]
"""Answers a method with its parameters, or raises `RpcError`."""


class RpcError(Exception):
    """An answer that is an error.

    Attributes:
        code: JSON-RPC's, or one that chains' nodes have agreed on.
        data: More about it, as JSON.
    """

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


def answer(body: bytes, call: Call) -> bytes | None:
    """The answer to a request's body, None where nothing was asked for one."""
    try:
        asked = read_json(body)
    except ValueError:
        return _bytes(_failed(None, RpcError(PARSE_ERROR, "this is no JSON")))
    if not isinstance(asked, list):
        single = _answer_one(asked, call)
        return None if single is None else _bytes(single)
    if not 0 < len(asked) <= MAX_BATCH:
        return _bytes(_failed(None, RpcError(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} calls")))
    answers = [one for one in (_answer_one(each, call) for each in asked) if one is not None]
    return _bytes(answers) if answers else None


def _answer_one(asked: Any, call: Call) -> dict[str, Any] | None:
    """The answer to one call, None where it has no id: a notification."""
    number = asked.get("id") if isinstance(asked, dict) else None
    if not isinstance(number, str | int | None):
        number, asked = None, None
    if not isinstance(asked, dict) or asked.get("jsonrpc") != "2.0" or not isinstance(asked.get("method"), str):
        return _failed(number, RpcError(INVALID_REQUEST, "this is no call of JSON-RPC 2.0"))
    parameters = asked.get("params", [])
    try:
        if not isinstance(parameters, list):
            raise RpcError(INVALID_PARAMS, "parameters are a list")
        said = {"jsonrpc": "2.0", "id": number, "result": call(asked["method"], parameters)}
    except RpcError as error:
        said = _failed(number, error)
    except Exception as error:  # a defect of ours; what it was is nothing for strangers to study
        said = _failed(number, RpcError(INTERNAL_ERROR, f"this call cannot be answered ({type(error).__name__})"))
    return said if "id" in asked else None


def _failed(number: str | int | None, error: RpcError) -> dict[str, Any]:
    said: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.data is not None:
        said["data"] = error.data
    return {"jsonrpc": "2.0", "id": number, "error": said}


def _bytes(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server at `host`, a name or an address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class RpcServer(ThreadingMixIn, TCPServer):
    """Serves `call` at an address.

    Args:
        host: The address, of IPv4 or IPv6.
        port: 0 for any that is free.
        call: What answers. It is called from several threads.

    Raises:
        OSError: If it cannot listen there.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host: str, port: int, call: Call) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        self.call = call
        self.any_host = not is_loopback(host)
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    server: RpcServer
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    wbufsize = -1  # an answer goes out in one piece: in two, each would wait 40 ms for the other side's acknowledgement

    def do_POST(self) -> None:  # the standard library's name
        """Answer a request, unless a web page has sent it, by its own name or by another host's."""
        length = self.headers.get("Content-Length", "")
        if "Origin" in self.headers or not (self.server.any_host or is_loopback(self._asked_host())):
            self._refuse(403, "only programs on this machine are answered, and no web pages")
        elif not (length.isascii() and length.isdigit()):
            self._refuse(411, "say the body's length")
        elif len(length) > 12 or int(length) > MAX_BODY:
            self._refuse(413, f"a request has at most {MAX_BODY} bytes")
        else:
            said = answer(self.rfile.read(int(length)), self.server.call)
            self._reply(204 if said is None else 200, said or b"", "application/json")

    def _asked_host(self) -> str:
        try:
            return urlsplit("//" + self.headers.get("Host", "")).hostname or ""
        except ValueError:
            return ""

    def _refuse(self, status: int, why: str) -> None:
        self.close_connection = True  # what follows is a body that nobody has read
        self._reply(status, f"{why}\n".encode(), "text/plain; charset=utf-8")

    def _reply(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """What answers."""
        return "fedledger-devnet"

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  # the standard library's name
        """Nothing: a request is no news."""
