"""What a member remembers: a fork is located exactly, and the state folder survives what happens to folders."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.entries import Entry, extend, to_line
from ledger.errors import Forked, UnavailableError, UsageError
from ledger.facts import Address, GovernanceOffered
from ledger.receipts import Fork, Receipt, Remembered, StateFolder, chains, find_fork, read_receipts
from tests.ledger.test_entries import GENESIS, history

LATER = 1 << 40
"""A block behind all of the tests' blocks."""


def chain(names: Sequence[int]) -> list[Remembered]:
    """A history with an entry for each number; the same numbers give the same history."""
    head, pairs = GENESIS.head(), []
    for index, name in enumerate(names):
        fact = GovernanceOffered(Address(f"0x{name:040x}"))
        entry = Entry(index, fact, 10 + index, 1000 + index, f"0x{index << 32 | name:064x}")
        head = extend(head, entry)
        pairs.append((entry, head))
    return pairs


OURS = chain(range(8))


# ----------------------------------------------------------------------------------------------- forks


@given(st.data())
def test_what_lies_on_a_history_is_no_fork_however_sparse_and_in_whatever_order(data: st.DataObject) -> None:
    ours = chain(range(data.draw(st.integers(0, 12))))
    shown = ours + chain(range(len(ours) + data.draw(st.integers(0, 3))))[len(ours) :]
    remembered = data.draw(st.permutations(ours))[: data.draw(st.integers(0, len(ours)))]
    assert find_fork(remembered, shown) is None


@given(st.data())
def test_a_fork_at_any_height_is_located_exactly_by_who_remembers_all(data: st.DataObject) -> None:
    ours = chain(range(data.draw(st.integers(1, 12))))
    height = data.draw(st.integers(0, len(ours) - 1))
    theirs = chain([*range(height), *range(100, 100 + data.draw(st.integers(0, 14)))])
    fork = find_fork(data.draw(st.permutations(ours)), theirs)
    assert fork == Fork(
        ours[height - 1] if height else None, ours[height], theirs[height] if height < len(theirs) else None
    )


@given(st.data())
def test_a_sparse_memory_locates_a_fork_between_what_it_has_and_exactly_if_it_has_the_first_different_entry(
    data: st.DataObject,
) -> None:
    ours = chain(range(data.draw(st.integers(1, 12))))
    height = data.draw(st.integers(0, len(ours) - 1))
    theirs = chain([*range(height), *range(100, 100 + data.draw(st.integers(0, 14)))])
    kept = data.draw(st.sets(st.integers(0, len(ours) - 1), min_size=1).filter(lambda some: max(some) >= height))
    fork = find_fork(data.draw(st.permutations([ours[index] for index in sorted(kept)])), theirs)
    assert fork is not None
    first = min(index for index in kept if index >= height)
    assert fork.remembered == ours[first]
    assert fork.shown == (theirs[first] if first < len(theirs) else None)
    last = height - 1 if first == height else max((index for index in kept if index < height), default=-1)
    assert fork.common == (ours[last] if last >= 0 else None)
    assert ("not remembered" in fork.sentences()[1]) == (first > last + 1)


def test_a_receipt_whose_head_was_altered_is_not_on_the_history() -> None:
    entry = OURS[3][0]
    fork = find_fork([OURS[5], (entry, bytes(32))], OURS)
    assert fork is not None
    assert (fork.remembered, fork.shown) == ((entry, bytes(32)), OURS[3])


def test_a_fork_is_told_with_index_kind_block_and_head_of_both_sides() -> None:
    theirs = chain([0, 1, 99])
    fork = find_fork(OURS, theirs)
    assert fork is not None
    assert fork.sentences() == [
        f"last in common: entry 1, GovernanceOffered, block 11, head 0x{OURS[1][1].hex()}",
        f"remembered:     entry 2, GovernanceOffered, block 12, head 0x{OURS[2][1].hex()}",
        f"shown instead:  entry 2, GovernanceOffered, block 12, head 0x{theirs[2][1].hex()}",
    ]
    ended = find_fork(OURS, [])
    assert ended is not None
    assert ended.sentences()[0] == "last in common: no entry"
    assert ended.sentences()[-1] == "shown instead:  nothing, that history ends before"


# ---------------------------------------------------------------------------------------- state folder


@pytest.fixture
def memory(tmp_path: Path) -> StateFolder:
    """A folder that remembers `OURS`, and has receipts of three of them."""
    folder = StateFolder(tmp_path / "state" / "1-0xabc")
    folder.remember(OURS, LATER, LATER)
    folder.keep([OURS[2], OURS[4], OURS[7]])
    return folder


def again(memory: StateFolder) -> StateFolder:
    """The same folder, as another command finds it."""
    return StateFolder(memory.folder)


def test_what_was_seen_is_remembered_by_the_next_command_too(memory: StateFolder) -> None:
    assert again(memory).seen() == OURS
    assert [(one.entry, one.head) for one in again(memory).receipts()] == [OURS[2], OURS[4], OURS[7]]
    assert {one.status for one in again(memory).receipts()} == {"final"}


def test_every_kind_of_entry_is_remembered_as_it_is(tmp_path: Path) -> None:
    every_kind = history()
    StateFolder(tmp_path).remember(every_kind, LATER, LATER)
    StateFolder(tmp_path).keep(every_kind)
    assert StateFolder(tmp_path).seen() == every_kind
    assert StateFolder(tmp_path).receipts() == [Receipt(*pair, "final") for pair in every_kind]


def test_only_what_is_final_is_remembered_as_seen_and_the_boundary_is_included(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    for final, seen in [(9, 0), (10, 1), (12, 3), (11, 3), (-5, 3)]:
        folder.remember(OURS, final, LATER)
        assert StateFolder(tmp_path).seen() == OURS[:seen]


def test_a_receipt_is_pending_then_final(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.remember(OURS, 9, 17)
    folder.keep([OURS[0]])
    statuses = [folder.receipts()[0].status]
    for final in (9, 10, 9):
        assert folder.remember(OURS, final, 17) == []
        statuses.append(folder.receipts()[0].status)
    assert statuses == ["pending", "pending", "final", "final"]


def test_a_receipt_off_the_chain_is_displaced_once_and_comes_back_with_its_block(tmp_path: Path) -> None:
    folder, other = StateFolder(tmp_path), chain([0, 99])
    folder.keep([OURS[1]])
    displaced = Receipt(*OURS[1], "displaced")
    assert folder.remember(OURS[:1], 9, 10) == [], "the node has not come to the receipt's block yet"
    assert folder.remember(other, 9, 11) == [displaced]
    assert folder.remember(other, 9, 11) == [], "said before"
    assert folder.receipts() == [displaced]
    assert folder.remember(OURS, 9, 17) == []
    assert folder.receipts() == [Receipt(*OURS[1], "pending")]


def test_a_receipt_follows_its_transaction_to_a_later_block(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.keep([OURS[1]])
    first, entry = chain([0, 50])[0], OURS[1][0]
    between = Entry(1, GovernanceOffered(Address("0x" + "77" * 20)), 11, 1001, "0x" + "77" * 32)
    moved = Entry(2, entry.fact, 13, 1003, entry.transaction)
    heads = [first[1], extend(first[1], between), extend(extend(first[1], between), moved)]
    shown = list(zip([first[0], between, moved], heads, strict=True))
    assert folder.remember(shown, 9, 13) == []
    assert folder.receipts() == [Receipt(moved, heads[2], "pending")]


def test_another_history_is_refused_and_not_remembered(memory: StateFolder) -> None:
    with pytest.raises(Forked, match="entry 3, GovernanceOffered, block 13"):
        again(memory).remember(chain([0, 1, 2, 99, *range(4, 20)]), LATER, LATER)
    assert again(memory).seen() == OURS


def test_an_append_that_was_interrupted_at_any_byte_is_made_good(tmp_path: Path) -> None:
    before = "".join(to_line(*pair) + "\n" for pair in OURS[:2])
    whole = "".join(to_line(*pair) + "\n" for pair in OURS[:4])
    for cut in range(len(before), len(whole)):
        folder = StateFolder(tmp_path / str(cut))
        folder.folder.mkdir()
        file = folder.folder / "seen.jsonl"
        file.write_text(whole[:cut])
        assert folder.seen() == OURS[: whole[:cut].count("\n")]
        folder.remember(OURS[:4], LATER, LATER)
        assert file.read_text() == whole


def test_a_tail_of_zeros_as_a_power_cut_leaves_it_is_made_good(memory: StateFolder) -> None:
    with open(memory.folder / "seen.jsonl", "ab") as file:
        file.write(bytes(700))
    longer = chain(range(9))
    again(memory).remember(longer, LATER, LATER)
    assert again(memory).seen() == longer


def lines(change: Callable[[list[str]], object]) -> Callable[[Path], object]:
    """A change of a file's lines."""

    def apply(path: Path) -> None:
        text = path.read_text().split("\n")
        change(text)
        path.write_text("\n".join(text))

    return apply


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "garbage": ("seen.jsonl", lambda path: path.write_bytes(b"\xff\xfe\x00garbage\n"), "line 1 of "),
    "another format": ("seen.jsonl", lambda path: path.write_text("{}\n"), "line 1 of "),
    "a line is missing": ("seen.jsonl", lines(lambda text: text.pop(2)), "entry 3 stands in the place of 2"),
    "the first line is missing": ("seen.jsonl", lines(lambda text: text.pop(0)), "entry 1 stands in the place of 0"),
    "a line twice": ("seen.jsonl", lines(lambda text: text.insert(2, text[2])), "entry 2 stands in the place of 3"),
    "a field was edited": (
        "seen.jsonl",
        lines(lambda text: text.__setitem__(4, text[4].replace('"block": 14', '"block": 15'))),
        "line 5 of ",
    ),
    "a head was edited": (
        "seen.jsonl",
        lines(lambda text: text.__setitem__(4, text[4][:-66] + "0" * 64 + '"}')),
        "its head does not follow from the line before",
    ),
    "cut short": ("seen.jsonl", lines(lambda text: text.__delitem__(slice(5, -1))), "final, and seen.jsonl does not"),
    "gone, and receipts are there": ("seen.jsonl", lambda path: path.unlink(), "final, and seen.jsonl does not have"),
    "no file": ("seen.jsonl", folder_instead, "cannot be read and written ("),
    "receipts of garbage": ("receipts.jsonl", lambda path: path.write_text("garbage\n"), "line 1 of "),
    "an unknown status": (
        "receipts.jsonl",
        lines(lambda text: text.__setitem__(1, text[1].replace('"final"', '"lost"'))),
        "line 2 of ",
    ),
    "another's receipt": (
        "receipts.jsonl",
        lambda path: path.write_text(Receipt(*chain([99])[0], "final").to_line() + "\n"),
        "line 1 of ",
    ),
}


@pytest.mark.parametrize(("name", "damage", "said"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_and_never_taken_for_nothing_remembered(
    memory: StateFolder, name: str, damage: Callable[[Path], object], said: str
) -> None:
    damage(memory.folder / name)
    for use in (
        lambda: again(memory).receipts(),
        lambda: again(memory).remember(OURS, LATER, LATER),
        lambda: again(memory).keep([OURS[5]]),
    ):
        with pytest.raises(UnavailableError) as caught:
            use()
        assert said in str(caught.value)
        assert str(memory.folder) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_commands_at_the_same_time_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    whole = chain(range(60))
    failed: list[BaseException] = []
    start = threading.Barrier(8)

    def command(first: int) -> None:
        try:
            start.wait()
            for length in range(first, 61, 8):
                StateFolder(tmp_path).remember(whole[:length], LATER, LATER)
                StateFolder(tmp_path).keep([whole[length - 1]])
        except BaseException as error:
            failed.append(error)

    commands = [threading.Thread(target=command, args=(number,)) for number in range(1, 9)]
    for one in commands:
        one.start()
    for one in commands:
        one.join()
    assert failed == []
    assert StateFolder(tmp_path).seen() == whole
    assert [(one.entry, one.head) for one in StateFolder(tmp_path).receipts()] == whole


def test_a_folder_that_cannot_be_made_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match=r"/dev/null/1-0xabc, .* \(Not a directory\): make it so, or name"):
        StateFolder(Path("/dev/null/1-0xabc")).remember(OURS, LATER, LATER)


def test_the_chains_of_an_address_are_those_of_its_folders(tmp_path: Path) -> None:
    for name in ("31337-0xab", "1-0xab", "5-0xcd", "notes-0xab"):
        (tmp_path / name).mkdir()
    assert chains(tmp_path, "0xAB") == [1, 31337]
    assert chains(tmp_path / "none", "0xAB") == []


# ------------------------------------------------------------------------------------ read by an audit


def test_a_folder_its_seen_entries_and_a_file_of_receipts_are_read(memory: StateFolder, tmp_path: Path) -> None:
    assert read_receipts(memory.folder) == OURS
    assert read_receipts(memory.folder / "seen.jsonl") == OURS
    assert read_receipts(memory.folder / "receipts.jsonl") == [OURS[2], OURS[4], OURS[7]]
    sent = tmp_path / "sent"
    sent.write_bytes((to_line(*OURS[4]) + "\r\n\r\n" + to_line(*OURS[1])).encode())
    assert read_receipts(sent) == [OURS[4], OURS[1]], "whatever a mail program made of the line ends"


def test_receipts_that_are_not_final_prove_nothing(tmp_path: Path) -> None:
    file = tmp_path / "receipts.jsonl"
    file.write_text(Receipt(*OURS[0], "pending").to_line() + "\n" + Receipt(*OURS[1], "displaced").to_line() + "\n")
    with pytest.raises(UsageError, match="remembers no final entry"):
        read_receipts(file)


@pytest.mark.parametrize("content", ["", "\n", "garbage", "{}\n", '{"status": "final", }', "\x00"])
def test_what_is_no_file_of_receipts_is_wrong_use(tmp_path: Path, content: str) -> None:
    file = tmp_path / "sent"
    file.write_text(content)
    with pytest.raises(UsageError, match=r"sent (is no receipt|remembers no final entry)"):
        read_receipts(file)


def test_a_path_that_holds_nothing_remembered_is_wrong_use(memory: StateFolder) -> None:
    for path in (memory.folder.parent, memory.folder / "none", Path("/dev/null")):
        with pytest.raises(UsageError):
            read_receipts(path)
