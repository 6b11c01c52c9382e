"""A chain's node behind JSON-RPC."""

from __future__ import annotations

import logging
import random
import re
from time import sleep
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import requests
from requests import RequestException, Response
from web3 import HTTPProvider, Web3
from web3.exceptions import Web3Exception, Web3RPCError
from web3.middleware.formatting import FormattingMiddlewareBuilder
from web3.types import RPCEndpoint, RPCResponse

from ledger.documents import read_json
from ledger.errors import UnavailableError, UsageError

CONFIRMATIONS = 12
"""Blocks after which one counts as final, where the node does not say."""

TRIES = 4
"""How often a question is asked that the node is too busy or too slow to answer."""

_TIMEOUT = (5.0, 30.0)  # seconds: to connect, and to the next byte of the answer
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0  # seconds
_BUSY_STATUS = {429, 502, 503, 504}
_BUSY = re.compile("rate.?limit|too many requests|request rate|requests? per second|compute units|throttl", re.I)
_LIMIT_EXCEEDED = -32005
_TOO_LARGE = re.compile("gas|range|results|logs|size|response", re.I)
_NO_SUCH_BLOCK = (-39001, -32602)  # as clients for proof of stake say it; and those that do not know the word
_NO_FINALIZED = re.compile("finali[sz]ed|block.* not found|unknown block|hex string|not supported", re.I)

# Asked to debug, urllib3 tells every request's path, where a key may stand.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


class Node(HTTPProvider):
    """web3's provider, which asks a busy node again, and says in one sentence that a node does not answer.

    An address may hold a key: messages and logs tell of it what `shown` does.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, exception_retry_configuration=None)
        self._url = url
        self._session = requests.Session()

    def __str__(self) -> str:
        return f"the node at {shown(self._url)}"

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask the node, and again after a pause if it is too busy or too slow.

        Raises:
            UnavailableError: If it does not answer, or not as a chain's node does.
        """
        asked = {"headers": self.get_request_headers(), "timeout": _TIMEOUT, "allow_redirects": False}
        tries, question = 0, self.encode_rpc_request(method, params)
        while True:
            tries, wait = tries + 1, None
            try:
                response = self._session.post(self._url, question, **asked)
            except RequestException as error:
                failure, passes = self._unreachable(error), _passes(error)
            else:
                answer = self._answer(response)
                if answer is not None and not _is_busy(method, answer):
                    return answer
                failure, wait = self._no_answer(response, answer), _retry_after(response)
                passes = answer is not None or response.status_code in _BUSY_STATUS
            if not passes or tries == TRIES:
                raise failure from None
            # Full jitter: the sites of a consortium, refused together, do not all come back together.
            longest = min(_FIRST_PAUSE * 2**tries, _LONGEST_PAUSE)
            sleep(random.uniform(0, longest) if wait is None else wait)  # noqa: S311 - no secret

    def _answer(self, response: Response) -> RPCResponse | None:
        """The node's answer, without what is secret of its address; None if it is none of JSON-RPC.

        Some nodes give it together with a status of HTTP that tells of an error.
        """
        try:
            answer = read_json(response.content)
        except ValueError:
            return None
        if response.status_code in (401, 403) or not isinstance(answer, dict) or not {"result", "error"} & {*answer}:
            return None
        if isinstance(error := answer.get("error"), dict):
            told: dict[str, Any] = dict(error)
            for secret in _secrets(self._url):
                told |= {key: text.replace(secret, "…") for key, text in told.items() if isinstance(text, str)}
            answer["error"] = told
        return cast(RPCResponse, answer)

    def _unreachable(self, error: RequestException) -> UnavailableError:
        cause = _innermost(error)
        if isinstance(error, requests.exceptions.SSLError):
            why = getattr(cause, "verify_message", None) or getattr(cause, "reason", None) or "TLS fails"
            return UnavailableError(f"{self} does not prove who it is ({why}): compare its address and its certificate")
        late = "no answer in time" if isinstance(error, requests.Timeout) else None
        why = late or getattr(cause, "strerror", None) or type(error).__name__
        return UnavailableError(f"{self} does not answer ({why}): start it, or name another")

    def _no_answer(self, response: Response, answer: RPCResponse | None) -> UnavailableError:
        status = f"{response.status_code} {response.reason}"
        if answer is not None or response.status_code == 429:
            return UnavailableError(f"{self} has too many requests to answer: try again later, or use another node")
        if response.status_code in (401, 403):
            return UnavailableError(f"{self} wants a key ({status}): put it in the URL, as the node's owner says")
        if response.status_code >= 300:
            return UnavailableError(f"{self} does not answer ({status}): start it, or name another")
        return UnavailableError(f"what answers at {shown(self._url)} is no chain's node: name another")


def shown(url: str) -> str:
    """What may be shown of a node's address, which may hold a key: scheme, host and port."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def connect(url: str, chain_id: int | None = None) -> Web3:
    """Connect to the node at `url`; whether it answers shows with the first question.

    Args:
        url: Its address.
        chain_id: The chain that it must be of, which is asked at once; None if any will do.

    Raises:
        UsageError: If `url` is none of HTTP, or the node is of another chain.
        UnavailableError: If it is asked and does not answer.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise UsageError("a node's address is http://… or https://…, with a host and, if need be, a port: correct it")
    web3 = Web3(Node(url))
    web3.middleware_onion.inject(_LongExtraData, layer=0)
    if chain_id is not None and (found := web3.eth.chain_id) != chain_id:
        raise UsageError(
            f"the node at {shown(url)} is of chain {found}, fedledger.toml (or --chain-id) says {chain_id}: name "
            "another node, or correct it"
        )
    return web3


def now(web3: Web3) -> int:
    """The time of the block that comes next: a chain without traffic has an old latest block."""
    try:
        return int(web3.eth.get_block("pending")["timestamp"])
    except (Web3Exception, KeyError):
        return int(web3.eth.get_block("latest")["timestamp"])


def final_block(web3: Web3, finality: str, latest: int) -> int:
    """The last block that counts as final, at most `latest`; below 0 where there is none yet.

    Args:
        web3: The node.
        finality: ``finalized``: what the node says, or `CONFIRMATIONS` blocks behind the latest if it knows no such
            block; ``latest``: the latest; a number: that many blocks behind the latest.
        latest: The latest block.

    Raises:
        Web3RPCError: If the node does not tell for another reason, which says nothing of what is final.
    """
    if finality == "latest":
        return latest
    if finality != "finalized":
        return latest - int(finality)
    try:
        return min(int(web3.eth.get_block("finalized")["number"]), latest)
    except Web3RPCError as error:
        told: Any = (error.rpc_response or {}).get("error")
        code = told.get("code") if isinstance(told, dict) else None
        if code not in _NO_SUCH_BLOCK and not _NO_FINALIZED.search(str(told)):
            raise
    except (Web3Exception, KeyError):
        pass
    return latest - CONFIRMATIONS


def _set_apart(block: Any) -> Any:
    """A block of a proof-of-authority chain (clique, QBFT): its seals make extraData longer than web3 takes it."""
    if isinstance(block, dict) and len(str(block.get("extraData", ""))) > 66:
        return {("proofOfAuthorityData" if key == "extraData" else key): value for key, value in block.items()}
    return block


_LongExtraData = FormattingMiddlewareBuilder.build(
    result_formatters={
        RPCEndpoint("eth_getBlockByNumber"): _set_apart,
        RPCEndpoint("eth_getBlockByHash"): _set_apart,
    }
)


def _secrets(url: str) -> list[str]:
    """The parts of an address that can be a key, as they are written and as they are meant, the longest first."""
    parts = urlsplit(url)
    words = [*parts.path.split("/"), *re.split("[&=]", parts.query), *re.split(":", parts.netloc.rpartition("@")[0])]
    return sorted({text for word in words for text in (word, unquote(word)) if len(text) >= 8}, key=len, reverse=True)


def _is_busy(method: RPCEndpoint, answer: RPCResponse) -> bool:
    error = answer.get("error")
    if not isinstance(error, dict):
        return False
    code, said = error.get("code"), str(error.get("message"))
    # The same code tells of a question that is too large, and asking that again does not help.
    limited = code == _LIMIT_EXCEEDED and method != "eth_getLogs" and not _TOO_LARGE.search(said)
    return limited or code == 429 or bool(_BUSY.search(said))


def _passes(error: RequestException) -> bool:
    """Whether asking again may help: a slow node, or a connection that was cut; one that is refused stays so."""
    return isinstance(error, requests.Timeout | requests.exceptions.ChunkedEncodingError) or isinstance(
        _innermost(error), ConnectionResetError | BrokenPipeError
    )


def _retry_after(response: Response) -> float | None:
    """The seconds after which the node wants to be asked again, as far as one waits for it; None if it does not say."""
    said = response.headers.get("Retry-After", "")
    return min(float(said), _LONGEST_PAUSE) if said.isdecimal() and len(said) < 10 else None


def _innermost(error: BaseException) -> BaseException:
    """The innermost cause, which the layers above it only wrap."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
