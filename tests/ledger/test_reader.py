"""Entries through limited, lagging and reorganized nodes: all, in few questions, and nobody accused too soon."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.exceptions import Web3Exception

from ledger.chain import reader
from ledger.chain.contract import LedgerContract
from ledger.chain.node import connect
from ledger.chain.reader import RANGE
from ledger.chain.sending import PLAIN
from ledger.cid import Cid, cid_of
from ledger.entries import Entry, Genesis, extend, fact_data
from ledger.errors import ViolationError
from ledger.facts import KINDS, Address, CharterChanged
from ledger.receipts import Remembered, find_fork
from tests.anvil import Anvil
from tests.node_server import HttpFault, NodeServer, RpcFault

CHARTER = cid_of(b"a charter")
GENESIS = Genesis(7, Address("0x" + "5a" * 20), Address("0x" + "90" * 20), CHARTER)
DEPLOYED = 10


def word(number: int) -> str:
    return f"0x{number:064x}"


def history(entries: int, first: int = DEPLOYED + 1, charter: Cid = CHARTER) -> list[Remembered]:
    """Charters that change, two in each block."""
    pairs, head = [], GENESIS.head()
    for index in range(entries):
        block = first + index // 2
        entry = Entry(index, CharterChanged(index + 2, charter), block, 1_700_000_000 + block, word(index))
        head = extend(head, entry)
        pairs.append((entry, head))
    return pairs


class PaperNode:
    """What a node answers whose chain has these entries.

    Attributes:
        latest: Its latest block, that of the last entry.
        limit: The most blocks of which it gives the logs at once; above that it refuses with `refusal`.
        tells_times: Whether it tells the block's time with a log, and whether the true one.
    """

    def __init__(self, pairs: Sequence[Remembered], limit: int = RANGE, refusal: Exception | None = None) -> None:
        self.limit, self.refusal = limit, refusal or RpcFault(-32602, f"range exceeds limit of {limit}")
        self.tells_times: bool | None = True
        self.show(pairs)

    def show(self, pairs: Sequence[Remembered]) -> None:
        self.pairs = list(pairs)
        self._blocks = [entry.block for entry, _ in pairs]
        self.latest = self._blocks[-1] if pairs else DEPLOYED

    def __call__(self, method: str, params: list[Any]) -> Any:
        match method:
            case "eth_chainId":
                return hex(GENESIS.chain_id)
            case "eth_getBlockByNumber":
                number = self.latest if params[0] == "latest" else int(params[0], 16)
                head = "0x" + keccak(self.head(number) + number.to_bytes(8, "big")).hex()
                block = {"number": hex(number), "hash": head, "timestamp": hex(1_700_000_000 + number)}
                return block if number <= self.latest else None
            case "eth_getLogs":
                first, last = (int(params[0][key], 16) for key in ("fromBlock", "toBlock"))
                return self.logs(first, last)
            case "eth_call":
                number = int(params[1], 16)
                if number > self.latest:
                    raise RpcFault(-32000, "header not found")
                return "0x" + self.head(number).hex()
        raise RpcFault(-32601, f"the method {method} does not exist")

    def head(self, block: int) -> bytes:
        count = bisect_right(self._blocks, block)
        return self.pairs[count - 1][1] if count else GENESIS.head()

    def logs(self, first: int, last: int) -> list[dict[str, Any]]:
        if last - first + 1 > self.limit:
            raise self.refusal
        return [
            self.log(*pair)
            for pair in self.pairs[bisect_right(self._blocks, first - 1) : bisect_right(self._blocks, last)]
        ]

    def log(self, entry: Entry, _: bytes) -> dict[str, Any]:
        told = {"blockTimestamp": hex(entry.time + (0 if self.tells_times else 1))}
        return {
            "address": to_checksum_address(GENESIS.ledger),
            "topics": ["0x" + KINDS[type(entry.fact)].hex()],
            "data": "0x" + fact_data(entry.fact).hex(),
            "blockNumber": hex(entry.block),
            "blockHash": word(entry.block),
            "transactionHash": entry.transaction,
            "transactionIndex": hex(entry.index % 2),
            "logIndex": hex(entry.index % 2),
            "removed": False,
            **(told if self.tells_times is not None else {}),
        }


def seen_through(server: NodeServer, known: Sequence[Remembered] = ()) -> LedgerContract:
    address = Web3.to_checksum_address(GENESIS.ledger)
    return LedgerContract(connect(server.url), address, GENESIS, DEPLOYED, PLAIN, known)


def asked(server: NodeServer) -> list[str]:
    """The methods that were asked, without what web3 asks for itself."""
    return [method for method, _ in server.asked if method != "eth_chainId"]


def ranges(server: NodeServer) -> list[tuple[int, int]]:
    """The ranges of blocks whose logs were asked for."""
    filters = [params[0] for method, params in server.asked if method == "eth_getLogs"]
    return [(int(one["fromBlock"], 16), int(one["toBlock"], 16)) for one in filters]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited before another look, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(reader, "sleep", waited.append)
    return waited


@pytest.fixture(scope="module")
def large() -> list[Remembered]:
    """100,000 entries in 50,000 blocks."""
    return history(100_000)


# ------------------------------------------------------------------------------------- ranges


def test_a_long_history_is_read_in_bounded_ranges_each_once(pauses: list[float]) -> None:
    node = PaperNode(pairs := history(20_000))
    with NodeServer(node) as server:
        assert seen_through(server).refolded() == pairs
        read = ranges(server)
        assert len(asked(server)) == len(read) + 2, "the latest block, and the head"
    assert all(last - first < RANGE for first, last in read)
    assert [first for first, _ in read] == [DEPLOYED, *(last + 1 for _, last in read[:-1])]
    assert len(read) == -(-(node.latest - DEPLOYED + 1) // RANGE)
    assert not pauses


@pytest.mark.parametrize("limit", [1, 10, 500, 1000, 1999])
def test_the_questions_to_a_limited_node_grow_with_the_blocks_and_not_faster(limit: int) -> None:
    counts = []
    for blocks in (limit * 20, limit * 40):
        node = PaperNode(pairs := history(40), limit)
        node.latest = DEPLOYED + blocks
        with NodeServer(node) as server:
            assert seen_through(server).refolded() == pairs
            counts.append(server.count("eth_getLogs"))
    fixed = RANGE.bit_length()  # halvings until the first range is taken
    assert counts[0] <= 2 * 20 + fixed
    assert counts[1] <= 2 * 40 + fixed


def test_a_node_that_gives_more_again_is_asked_for_more_again() -> None:
    node = PaperNode(pairs := history(40), limit=10)
    node.latest = DEPLOYED + 20 * RANGE

    def answer(method: str, params: list[Any]) -> Any:
        if server.count("eth_getLogs") == 30:
            node.limit = RANGE
        return node(method, params)

    with NodeServer(answer) as server:
        assert seen_through(server).refolded() == pairs
        assert server.count("eth_getLogs") < 150


PHRASES = {
    "geth": RpcFault(-32000, "block range limit exceeded"),
    "geth, too": RpcFault(-32602, "exceed maximum block range: 50000"),
    "Erigon": RpcFault(-32000, "query block range exceeds server limit"),
    "Besu": RpcFault(-32005, "Requested range exceeds maximum RPC range limit"),
    "Nethermind": RpcFault(-32005, "Too many logs requested. Max logs per response is 20000."),
    "Infura": RpcFault(-32005, "query returned more than 10000 results. Try with this block range [0x0, 0x1]."),
    "Infura, too": RpcFault(-32602, "range 1000000 exceeds limit of 10000"),
    "Alchemy": RpcFault(
        -32602,
        "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the "
        "response size, or you can request any block range with a cap of 10K logs in the response.",
    ),
    "QuickNode": HttpFault(
        413, b'{"jsonrpc":"2.0","id":1,"error":{"code":-32614,"message":"eth_getLogs is limited to a 10,000 range"}}'
    ),
    "Ankr": RpcFault(-32062, "Block range is too large"),
    "Reth": RpcFault(-32602, "query exceeds max results 20000, retry with the range 24383075-24383096"),
    "Moonbeam": RpcFault(-32603, "block range is too wide (maximum 1024)"),
    "slow": RpcFault(-32000, "query timeout exceeded"),
    "slower": RpcFault(-32002, "request timed out"),
    "a code alone": RpcFault(-32005, ""),
}


@pytest.mark.parametrize("refusal", PHRASES.values(), ids=PHRASES)
def test_what_nodes_say_of_a_range_that_is_too_large_is_understood(refusal: Exception, pauses: list[float]) -> None:
    pairs = history(600)
    with NodeServer(PaperNode(pairs, limit=100, refusal=refusal)) as server:
        assert seen_through(server).refolded() == pairs
    assert not pauses


def test_a_node_that_refuses_a_single_block_is_not_asked_for_ever(pauses: list[float]) -> None:
    with NodeServer(PaperNode(history(10), limit=0)) as server:
        with pytest.raises(Web3Exception, match="exceeds limit of 0"):
            seen_through(server).refolded()
        assert server.count("eth_getLogs") < 30


def test_a_reading_that_was_interrupted_goes_on_where_it_stopped(pauses: list[float]) -> None:
    node = PaperNode(pairs := history(200))
    node.latest = DEPLOYED + 8 * RANGE

    def answer(method: str, params: list[Any]) -> Any:
        if method == "eth_getLogs" and server.count(method) == 4:
            raise RpcFault(-32000, "an inner error")
        return node(method, params)

    with NodeServer(answer) as server:
        assert seen_through(server).refolded() == pairs
        read = ranges(server)
    assert len(pauses) == 1
    assert read[3] == read[4]
    assert len(set(read)) == len(read) - 1


# ------------------------------------------------------------------------------------- what is known


def test_what_is_known_is_not_read_again_but_for_its_last_block(
    large: list[Remembered], monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = []

    def counting(head: bytes, entry: Entry) -> bytes:
        folded.append(entry.index)
        return extend(head, entry)

    monkeypatch.setattr(reader, "extend", counting)
    node = PaperNode(large)
    with NodeServer(node) as server:
        assert seen_through(server, known=large).refolded() == large
        assert ranges(server) == [(large[-1][0].block, node.latest)]
        assert len(asked(server)) == 3
        assert seen_through(server, known=large[:-7]).refolded() == large
    assert folded == [99_998, 99_999, *range(99_992, 100_000)]


def test_what_was_read_is_not_read_again_and_what_is_new_is_read_alone() -> None:
    pairs = history(100)
    node = PaperNode(pairs[:90])
    with NodeServer(node) as server:
        contract = seen_through(server)
        assert contract.refolded() == pairs[:90]
        first, before = node.latest, len(asked(server))
        assert contract.refolded() == pairs[:90]
        assert asked(server)[before:] == ["eth_getBlockByNumber", "eth_call"]
        node.show(pairs)
        assert contract.refolded() == pairs
        assert ranges(server)[1:] == [(first + 1, node.latest)]


@pytest.mark.parametrize("parted", [0, 50, 99])
def test_where_what_is_known_is_not_the_nodes_everything_is_read_so_that_the_fork_can_be_located(
    parted: int, pauses: list[float]
) -> None:
    mine, other = history(100), history(100, charter=cid_of(b"another"))
    head = other[parted - 1][1] if parted else GENESIS.head()
    known = other[:parted]
    for entry, _ in mine[parted:]:
        head = extend(head, entry)
        known.append((entry, head))
    with NodeServer(PaperNode(other)) as server:
        shown = seen_through(server, known=known).refolded()
    assert shown == other
    fork = find_fork(known, shown)
    assert fork is not None
    assert fork.remembered == known[parted]


def test_a_node_whose_chain_ends_before_what_is_known_shows_what_it_has(pauses: list[float]) -> None:
    pairs = history(100)
    with NodeServer(PaperNode(pairs[:40])) as server:
        assert seen_through(server, known=pairs).refolded() == pairs[:40]


def test_a_ledger_without_entries_is_read_as_one() -> None:
    with NodeServer(PaperNode([])) as server:
        assert seen_through(server).refolded() == []


# ------------------------------------------------------------------------------------- times


@pytest.mark.parametrize("tells", [True, False, None], ids=["true", "wrong", "none"])
def test_block_times_come_with_the_logs_and_are_asked_for_where_they_are_missing_or_wrong(
    tells: bool | None, pauses: list[float]
) -> None:
    node = PaperNode(pairs := history(20))
    node.tells_times = tells
    with NodeServer(node) as server:
        contract = seen_through(server)
        assert contract.refolded() == pairs
        first = server.count("eth_getBlockByNumber")
        node.show(history(22))
        assert contract.refolded() == history(22)
        later = server.count("eth_getBlockByNumber") - first
    latest, stands, blocks = 1, 1, 10
    assert first == {True: latest, False: 2 * latest + blocks, None: latest + blocks}[tells]
    assert later == latest + stands + (0 if tells else 1)


# ------------------------------------------------------------------------------------- nodes that lag


def lagging(node: PaperNode, method: str, lag: Callable[[list[Any]], Any]) -> Callable[[str, list[Any]], Any]:
    """A node whose first answer to `method` comes from another one, which is behind."""
    left = [lag]

    def answer(asked: str, params: list[Any]) -> Any:
        return left.pop()(params) if asked == method and left else node(asked, params)

    return answer


def unknown(params: list[Any]) -> Any:
    raise RpcFault(-32000, "One of the blocks specified in filter (fromBlock, toBlock or blockHash) cannot be found.")


PAIRS = history(30)
LAGS: dict[str, tuple[str, Callable[[list[Any]], Any]]] = {
    "logs that are not there yet": ("eth_getLogs", lambda _: []),
    "logs but for the last": ("eth_getLogs", lambda _: PaperNode(PAIRS).logs(0, RANGE - 1)[:-1]),
    "a block that is not there yet": ("eth_getLogs", unknown),
    "an older head": ("eth_call", lambda _: "0x" + PAIRS[20][1].hex()),
    "no block for the head": ("eth_call", unknown),
}


@pytest.mark.parametrize(("method", "lag"), LAGS.values(), ids=LAGS)
def test_a_node_that_lags_behind_others_is_asked_again_before_it_is_accused(
    method: str, lag: Callable[[list[Any]], Any], pauses: list[float]
) -> None:
    with NodeServer(lagging(PaperNode(PAIRS), method, lag)) as server:
        assert seen_through(server).refolded() == PAIRS
    assert len(pauses) == 1


def test_an_older_chain_from_a_node_behind_the_one_before_is_waited_out(pauses: list[float]) -> None:
    node, behind = PaperNode(PAIRS), PaperNode(PAIRS[:20])
    blocks: list[str] = []

    def answer(method: str, params: list[Any]) -> Any:
        blocks.extend([method] * (method == "eth_getBlockByNumber"))
        return (behind if len(blocks) == 2 else node)(method, params)

    with NodeServer(answer) as server:
        contract = seen_through(server)
        assert contract.refolded() == contract.refolded() == PAIRS
        assert server.count("eth_getLogs") == 1
    assert len(pauses) == 1


def test_a_node_that_withholds_an_entry_is_accused_when_it_does_so_again_and_again(pauses: list[float]) -> None:
    node = PaperNode(PAIRS)

    def answer(method: str, params: list[Any]) -> Any:
        shown = node(method, params)
        return [log for log in shown if log["transactionHash"] != word(7)] if method == "eth_getLogs" else shown

    with NodeServer(answer) as server:
        for known in ([], PAIRS[:5]):
            with pytest.raises(ViolationError, match="the node withholds or alters entries; use another node"):
                seen_through(server, known).refolded()
    assert len(pauses) == 6


def test_a_log_that_is_no_entry_is_a_violation(pauses: list[float]) -> None:
    node = PaperNode(PAIRS)

    def answer(method: str, params: list[Any]) -> Any:
        shown = node(method, params)
        if method == "eth_getLogs":
            shown[3]["data"] = "0x00"
        return shown

    with NodeServer(answer) as server, pytest.raises(ViolationError, match="the node shows a log that is no entry"):
        seen_through(server).refolded()


# ------------------------------------------------------------------------------------- blocks that are taken back


@pytest.fixture
def reorganized() -> Iterator[tuple[Anvil, LedgerContract]]:
    """A node of its own, and a ledger with entries in three blocks."""
    with Anvil() as node:
        governor = node.account("governor")
        contract = LedgerContract.deploy(connect(node.url), governor, CHARTER)
        for number in range(3):
            contract.change_charter(governor, cid_of(b"%d" % number))
        yield node, contract


def charters(pairs: Sequence[Remembered]) -> list[Cid]:
    return [entry.fact.charter for entry, _ in pairs if isinstance(entry.fact, CharterChanged)]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_entries_of_blocks_that_were_taken_back_are_gone_and_nobody_is_accused(
    reorganized: tuple[Anvil, LedgerContract], depth: int, pauses: list[float]
) -> None:
    node, contract = reorganized
    before = contract.refolded()
    node.reorganize(depth)
    assert contract.refolded() == before[: 3 - depth]
    contract.change_charter(node.account("governor"), cid_of(b"again"))
    assert charters(contract.refolded()) == [*charters(before[: 3 - depth]), cid_of(b"again")]
    assert not pauses


def test_a_history_that_was_read_before_other_blocks_took_the_place_of_its_own_is_read_anew(
    reorganized: tuple[Anvil, LedgerContract], pauses: list[float]
) -> None:
    node, contract = reorganized
    before = contract.refolded()
    later = replace(contract, known=before[:1])
    assert later.refolded() == before
    node.reorganize(2)
    node.mine(20)
    for number in (7, 8):
        contract.change_charter(node.account("governor"), cid_of(b"%d" % number))
    assert charters(contract.refolded()) == [cid_of(b"0"), cid_of(b"7"), cid_of(b"8")]
    assert later.refolded() == contract.refolded()
    assert not pauses


def test_what_is_known_of_blocks_that_were_taken_back_all_the_same_gives_way_to_what_the_node_shows(
    reorganized: tuple[Anvil, LedgerContract], pauses: list[float]
) -> None:
    node, contract = reorganized
    known = contract.refolded()
    node.reorganize(2)
    shown = replace(contract, known=known).refolded()
    assert shown == known[:1]
    assert find_fork(known, shown) is not None


def test_a_chain_that_is_shorter_than_before_is_read_as_it_is(
    reorganized: tuple[Anvil, LedgerContract], pauses: list[float]
) -> None:
    node, contract = reorganized
    before = node.snapshot()
    contract.change_charter(node.account("governor"), cid_of(b"gone"))
    assert len(contract.refolded()) == 4
    node.revert(before)
    assert len(contract.refolded()) == 3
