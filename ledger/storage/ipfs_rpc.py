"""Calls of an IPFS node's RPC, Kubo's: repeated where that helps, and what goes wrong said in one sentence."""

from __future__ import annotations

import http.client
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
import urllib3
from ipfshttpclient import exceptions as client

from ledger.cid import Bytes
from ledger.documents import read_json
from ledger.errors import FedledgerError, UnavailableError, UsageError
from ledger.storage.ipfs_address import Address
from ledger.storage.ipfs_connection import Connection

ATTEMPTS = 5
FIRST_DELAY = 0.1  # seconds at most, doubled each time: 1.5 together
GRACE = 1.0  # seconds for a node to say itself that the time is over that it was told
MAX_ANSWER = 64 << 10  # bytes, of an answer that is JSON
_BUSY = (429, 502, 503, 504)


class RefusalError(UnavailableError):
    """The node answers that it cannot do what it is asked.

    Attributes:
        said: In its words.
    """

    def __init__(self, url: str, command: str, said: str) -> None:
        super().__init__(f"the IPFS node at {url} refuses {command} ({said}): look at its log")
        self.said = said


class NoAnswerError(UnavailableError):
    """No whole answer comes from where calls are taken.

    Attributes:
        why: What happened instead.
    """

    def __init__(self, url: str, command: str, why: str) -> None:
        super().__init__(f"the IPFS node at {url} gives no whole answer to {command} ({why}): look at its log")
        self.why = why


class Rpc:
    """A node's RPC. Safe to use from several threads; the calls are such that may be repeated."""

    def __init__(self, address: Address, token: str | None) -> None:
        """Nothing is sent yet.

        Args:
            address: Where it is.
            token: What it wants as ``Authorization: Bearer``, if anything.

        Raises:
            UsageError: If no header can carry the token.
        """
        if token is not None and not (token.isascii() and token.isprintable() and token == token.strip() != ""):
            raise UsageError("the IPFS node's token is empty, or has characters in it that no token has: give another")
        self.url, self._address, self._token = address.url, address, token
        self._idle: list[Connection] = []

    def call(
        self,
        command: str,
        *arguments: str,
        seconds: float,
        most: int = MAX_ANSWER,
        upload: Callable[[], Iterator[Bytes]] | None = None,
        **options: str,
    ) -> bytes:
        """Call a command, several times where the node cannot be reached, is busy, or breaks off.

        Args:
            command: Such as ``block/get``.
            arguments: What it is about.
            seconds: How long it may take, all attempts together; the node is told, too.
            most: The most bytes that the answer may have.
            upload: What to upload as a file, anew for each attempt.
            options: More of what the node is told.

        Returns:
            The answer, or its first ``most + 1`` bytes if it has more.

        Raises:
            RefusalError: If the node answers that it cannot.
            NoAnswerError: If no answer comes in time, or none that is whole.
            UsageError: If the node wants another token.
            UnavailableError: If nothing answers there, or no node's RPC.
        """
        ends = time.monotonic() + seconds
        for attempt in range(1, ATTEMPTS + 1):
            left = max(0.001, ends - time.monotonic())
            told = {name.replace("_", "-"): text for name, text in options.items()} | {"timeout": f"{left:.3f}s"}
            try:
                with self._connection() as connection:
                    return connection.call(command, arguments, told, left + GRACE, most, upload and upload())
            except _ERRORS as error:
                again, said = self._explain(command, error, connection.late)
            delay = random.uniform(0, FIRST_DELAY * 2 ** (attempt - 1))  # noqa: S311
            if not again or attempt == ATTEMPTS or time.monotonic() + delay >= ends:
                break
            time.sleep(delay)
        raise said

    def ask(self, command: str, *arguments: str, seconds: float, **options: str) -> dict[str, Any]:
        """Call a command that answers with one JSON object; see `call`."""
        with suppress(ValueError):
            raw = self.call(command, *arguments, seconds=seconds, most=MAX_ANSWER, upload=None, **options)
            answer = read_json(raw)
            if isinstance(answer, dict):
                return answer
        raise self.no_rpc()

    def no_rpc(self) -> UnavailableError:
        """What to say of an answer that no node gives."""
        return UnavailableError(
            f"what answers at {self.url} is no IPFS node's RPC: name another (Kubo's has port 5001)"
        )

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """One for one call; what is left after an error is not used again."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = Connection(self._address, self._token)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)

    def _explain(self, command: str, error: Exception, late: bool) -> tuple[bool, FedledgerError]:
        """Whether to try again after an error, and what to say otherwise."""
        if late or isinstance(error.__cause__, requests.ReadTimeout):
            return False, NoAnswerError(self.url, command, "the time for it is over")
        if isinstance(error, client.StatusError):
            status = error.original.response.status_code
            if status in (401, 403):
                said = "another token than the one given" if self._token else "a token"
                return False, UsageError(f"the IPFS node at {self.url} wants {said} (HTTP {status}): name its token")
            if isinstance(error, client.ErrorResponse) and status not in _BUSY:
                return False, RefusalError(self.url, command, _printable(str(error)))
            if status in _BUSY or status >= 500:
                return True, self._down(f"HTTP {status}")
            return False, self.no_rpc()
        if isinstance(error, client.Error):
            return True, self._down(_words(error))
        if isinstance(error, urllib3.exceptions.HTTPError):
            return True, NoAnswerError(self.url, command, "it breaks off")
        return False, self.no_rpc()  # a redirect, or what no HTTP is made of

    def _down(self, why: str) -> UnavailableError:
        return UnavailableError(f"the IPFS node at {self.url} does not answer ({why}): start it, or name another")


_ERRORS = (client.Error, requests.RequestException, urllib3.exceptions.HTTPError, RecursionError)


def _printable(said: str) -> str:
    """In one line that a terminal may show."""
    return "".join(letter if letter.isprintable() else " " for letter in said)[:300].strip()


def _words(error: BaseException | None) -> str:
    """What happened, from the bottom of what the libraries make of it."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        if isinstance(error, http.client.RemoteDisconnected):
            return "it hangs up"
        if isinstance(error, http.client.HTTPException):
            return "it does not speak HTTP"
        error = error.__cause__ or error.__context__
    return "no connection in time"
