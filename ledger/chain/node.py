"""A chain's node behind JSON-RPC."""

from __future__ import annotations

from typing import Any

from requests import RequestException
from web3 import HTTPProvider, Web3
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint, RPCResponse

from ledger.errors import UnavailableError, UsageError

CONFIRMATIONS = 12
"""Blocks after which one counts as final, where the node does not say."""


class Node(HTTPProvider):
    """web3's provider, which says in one sentence that a node does not answer."""

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask the node.

        Raises:
            UnavailableError: If it does not answer, or not as a chain's node does.
        """
        try:
            answer = super().make_request(method, params)
            if isinstance(answer, dict):
                return answer
        except RequestException as error:
            why = f"{error.response.status_code} {error.response.reason}" if error.response is not None else _why(error)
            said = f"the node at {self.endpoint_uri} does not answer ({why}): start it, or name another"
            raise UnavailableError(said) from None
        except ValueError:
            pass
        raise UnavailableError(f"what answers at {self.endpoint_uri} is no chain's node: name another")


def connect(url: str) -> Web3:
    """Connect to the node at `url`; whether it answers shows with the first question.

    Raises:
        UsageError: If `url` is none of HTTP.
    """
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"a node's address is http://… or https://…, not {url!r}")
    return Web3(Node(url, exception_retry_configuration=None))


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
    """
    if finality == "latest":
        return latest
    if finality != "finalized":
        return latest - int(finality)
    try:
        return min(int(web3.eth.get_block("finalized")["number"]), latest)
    except (Web3Exception, KeyError):
        return latest - CONFIRMATIONS


def _why(error: Exception) -> str:
    """The innermost cause, which the layers above it only wrap."""
    cause: Any = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return str(getattr(cause, "strerror", None) or type(error).__name__)
