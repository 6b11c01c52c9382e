"""Checks 1, 2 and 4: whether the source is the ledger, and on whose word its history is complete. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak

from ledger.audit.authors import OPERATORS
from ledger.audit.evidence import Evidence
from ledger.audit.places import place
from ledger.audit.proof import Proven, prove
from ledger.audit.report import Finding, Ground, incomplete, noted, violated
from ledger.chain.artifact import artifact, earlier_version
from ledger.documents import read_json
from ledger.entries import Entry, extend
from ledger.errors import UnavailableError, ViolationError
from ledger.facts import Address, GrantRecorded
from ledger.history import History
from ledger.receipts import Fork, Remembered, find_fork

_Result = tuple[str, list[Finding]]


@dataclass(frozen=True)
class Provider:
    """What another provider shows of the same ledger: its history, or why there is none.

    Attributes:
        name: Where it is.
        shown: Its entries, each with the refolded head after it.
        error: Why it shows no history.
        lies: Whether that is evidence against it.
    """

    name: str
    shown: tuple[Remembered, ...] = ()
    error: str | None = None
    lies: bool = False


@dataclass(frozen=True)
class Claims:
    """What is known from elsewhere than the source.

    Attributes:
        ledger: The ledger's address.
        head: A head (32 bytes).
        receipts: What members remember, by where it comes from.
        providers: What other providers show.
        block_hash: The hash of a block of the chain (32 bytes).
        since: The head up to which an earlier audit has passed (32 bytes).
        recompiled: The runtime code that the contract's source compiles to, here and now.
        contracts: Accounts that are contracts, which sign nothing.
    """

    ledger: Address | None = None
    head: bytes | None = None
    receipts: tuple[tuple[str, tuple[Remembered, ...]], ...] = ()
    providers: tuple[Provider, ...] = ()
    block_hash: bytes | None = None
    since: bytes | None = None
    recompiled: bytes | None = None
    contracts: frozenset[Address] = frozenset()


def check_code(evidence: Evidence, claims: Claims) -> _Result:
    """Check 1: chain id, address and code."""
    genesis, findings = evidence.genesis, []
    if claims.ledger not in (None, genesis.ledger):
        findings.append(
            violated(
                "the source is of another ledger", expected=claims.ledger, found=genesis.ledger, by="whoever made it"
            )
        )
    shipped = bytes.fromhex(artifact().runtime_bytecode[2:])
    earlier = earlier_version(evidence.code or b"")
    if earlier is not None:
        findings += _earlier(earlier, evidence, claims)
    for whose, code in (
        ("the code that the source shows", None if earlier else evidence.code),
        ("the code just compiled", claims.recompiled),
    ):
        if code is not None and code != shipped:
            expected, found = (f"{len(one):,} bytes, keccak256 0x{keccak(one).hex()}" for one in (shipped, code))
            text = f"{whose} is not the contract that this fedledger ships"
            findings.append(violated(text, expected=expected, found=found, by="whoever deployed it, or " + OPERATORS))
    if evidence.artifact is not None and (earlier or evidence.artifact != artifact().raw):
        findings.append(_other_artifact(evidence.artifact, evidence.code))
    if evidence.code is None:
        findings.append(incomplete("the source does not show the code at the ledger's address"))
    elif (
        (proven := _proven(evidence, claims))
        and isinstance(proven, Proven)
        and keccak(evidence.code) != proven.code_hash
    ):
        text = "the code that the source shows is not the one that the block commits to"
        expected, found = f"0x{proven.code_hash.hex()}", f"0x{keccak(evidence.code).hex()}"
        findings.append(violated(text, expected=expected, found=found, block=proven.block, by=OPERATORS))
    at = f"{genesis.ledger} on chain {genesis.chain_id}"
    return f"{at}: its code, {len(evidence.code or b''):,} bytes, compared with the shipped contract", findings


def _earlier(version: str, evidence: Evidence, claims: Claims) -> list[Finding]:
    """What there is to say of a ledger whose contract is that of an earlier version."""
    findings = [noted(f"the ledger's contract is that of fedledger {version}, which records no grants")]
    if claims.recompiled is not None:
        text = f"the source that this fedledger ships is not this contract's: compile it with fedledger {version}"
        findings.append(incomplete(text))
    for entry, _ in evidence.entries:
        if isinstance(entry.fact, GrantRecorded):
            text = f"the contract of fedledger {version} records no grants: this one was invented"
            findings.append(violated(text, entry=entry.index, block=entry.block, by=OPERATORS))
    return findings


def _other_artifact(raw: bytes, code: bytes | None) -> Finding:
    """What there is to say of a compiled contract beside the ledger that is not just the one shipped.

    Args:
        raw: The artifact's file.
        code: The ledger's code, as far as the source shows it.
    """
    try:
        compiled = bytes.fromhex(read_json(raw)["runtimeBytecode"][2:])
    except (ValueError, KeyError, TypeError):
        compiled = b""
    known = compiled == bytes.fromhex(artifact().runtime_bytecode[2:]) or earlier_version(compiled)
    if known and code in (None, compiled):
        return noted("the contract's source beside it is another version's, with the same code: do not read it there")
    return violated("the compiled contract beside it is not the ledger's", by=OPERATORS)


def check_entries(
    evidence: Evidence, claims: Claims, history: History, heads: Sequence[bytes]
) -> tuple[_Result, tuple[Ground, ...]]:
    """Check 2: the entries in their order, and what their last head rests on.

    Args:
        evidence: The evidence.
        claims: What is known from elsewhere.
        history: The state after all of them.
        heads: The refolded head after each.
    """
    findings = [violated(f"{text}: it was altered", by=OPERATORS) for text in evidence.unreadable]
    findings += _sequence(evidence, history, heads)
    refolded = heads[-1] if heads else evidence.genesis.head()
    if evidence.head != refolded:
        text = (
            "the entries do not refold to the head that the source itself records: one was dropped, repeated or edited"
        )
        expected, found = f"0x{evidence.head.hex()}", f"0x{refolded.hex()}"
        findings.append(violated(text, expected=expected, found=found, by=OPERATORS))
    grounds: list[tuple[int, Ground]] = []  # entries that it covers
    known = {evidence.genesis.head(): 0} | {head: number for number, head in enumerate(heads, 1)}

    def rests(kind: str, head: bytes, text: str, expected: str) -> None:
        if (covered := known.get(head)) is not None:
            rest = "" if covered == len(heads) else f", which covers {covered} of {len(heads)} entries"
            grounds.append((covered, Ground(kind, f"{text} 0x{head.hex()}{rest}")))
        else:
            wrong = "an entry was dropped, repeated, reordered or edited, or it is another history, or an older copy"
            findings.append(
                violated(
                    f"no entry leads to {text}: {wrong}", expected=expected, found=f"0x{refolded.hex()}", by=OPERATORS
                )
            )

    if claims.head is not None:
        rests("head", claims.head, "the head given", f"0x{claims.head.hex()}")
    if claims.since is not None:
        rests("head", claims.since, "the head of the earlier audit", f"0x{claims.since.hex()}")
    if claims.block_hash is not None:
        match _proven(evidence, claims):
            case Proven() as proven:
                text = f"the storage proof from block {proven.block}, 0x{proven.block_hash.hex()}, which holds the head"
                rests("block", proven.head, text, f"0x{proven.head.hex()}")
            case Finding() as finding:
                findings.append(finding)
    shown = _remembered(evidence, heads)
    for provider in claims.providers:
        said, ground = _compare(provider, shown)
        findings += said
        grounds += ground
    for name, remembered in claims.receipts:
        if remembered and find_fork(remembered, shown) is None:
            last = max(entry.index for entry, _ in remembered)
            grounds.append((last + 1, Ground("receipts", f"{len(remembered)} receipts in {name}, up to entry {last}")))
    covered = max((number for number, _ in grounds), default=None)
    if covered is None:
        word = "nothing from elsewhere vouches for it"
        if not findings and claims == Claims(ledger=claims.ledger, recompiled=claims.recompiled):
            word = "the history is consistent with itself"
            findings.append(noted(f"{word}: nothing from elsewhere was given to compare its head with"))
        grounds.append((0, Ground("source", f"the source's own word: {word}")))
    elif covered < len(heads):
        text = (
            f"entries {covered} to {len(heads) - 1} are consistent with themselves: no head from elsewhere covers them"
        )
        findings.append(noted(text))
    summary = f"{len(heads)} entries refolded, and compared with what is known from elsewhere"
    return (summary, findings), tuple(ground for _, ground in grounds)


def check_receipts(evidence: Evidence, claims: Claims, heads: Sequence[bytes]) -> _Result:
    """Check 4: what members remember lies on this history; where it does not, the fork is located."""
    shown, findings = _remembered(evidence, heads), []
    last = heads[-1] if heads else evidence.genesis.head()
    for name, remembered in claims.receipts:
        by = f"{OPERATORS}, or whoever wrote {name}"
        fork = find_fork(remembered, shown)
        # The entry after the last one here gives away the head before it: it follows, or this is another history.
        follows = fork is not None and (fork.remembered[0].index > len(shown) or _follows(last, fork.remembered))
        if fork is not None and fork.shown is None and follows:
            entry, head = fork.remembered
            text = f"{name} remembers entries after the last one here: the source is older, or withholds them"
            expected = f"entry {entry.index}, {_entry(entry, head)}"
            findings.append(incomplete(text, expected=expected, found="nothing: it ends before", by=by))
        elif fork is not None:
            findings.append(_forked(f"what {name} remembers", fork, by))
        for entry, head in remembered:
            if entry.index >= len(shown) or shown[entry.index][1] != head:
                continue
            before = shown[entry.index - 1][1] if entry.index else evidence.genesis.head()
            if not _follows(before, (entry, head)):
                text = f"what {name} says of an entry is not what its head commits to: it was edited"
                findings.append(violated(text, entry=entry.index, by=f"whoever wrote {name}"))
    count = sum(len(remembered) for _, remembered in claims.receipts)
    return f"{count} remembered entries looked for in this history", findings


def _compare(provider: Provider, shown: Sequence[Remembered]) -> tuple[list[Finding], list[tuple[int, Ground]]]:
    """What another provider's history says to the one that is audited, and how many entries it confirms."""
    name = f"provider {provider.name}"
    if provider.error is not None:
        finding = violated if provider.lies else incomplete
        return [finding(f"{name} does not show the ledger: {provider.error}")], []
    both = min(len(provider.shown), len(shown))
    if (fork := find_fork(provider.shown[:both], shown)) is not None:
        return [_forked(f"what {name} shows", fork, f"whoever runs {name}, or {OPERATORS}")], []
    findings = []
    if len(provider.shown) > len(shown):
        more = len(provider.shown) - len(shown)
        text = f"{name} shows {more} entries after the last one here: the source is older, or withholds them"
        findings.append(incomplete(text, entry=both, expected=f"{len(provider.shown)} entries", found=f"{len(shown)}"))
    rest = "" if both == len(shown) else f" for {both} of {len(shown)} entries"
    return findings, [(both, Ground("provider", f"{name} shows the same history{rest}"))]


def _forked(what: str, fork: Fork, by: str) -> Finding:
    common, (entry, head) = fork.common, fork.remembered
    last = f"entry {common[0].index} (head 0x{common[1].hex()})" if common else "no entry"
    here = "nothing: it ends before" if fork.shown is None else _entry(*fork.shown)
    text = f"{what} is another history: the last entry in common is {last}"
    elsewhere = f"entry {entry.index}, {_entry(entry, head)}"
    return violated(text, entry=entry.index, block=entry.block, expected=elsewhere, found=here, by=by)


def _follows(before: bytes, remembered: Remembered) -> bool:
    """Whether an entry leads from the head before it to the head after it."""
    return extend(before, remembered[0]) == remembered[1]


def _entry(entry: Entry, head: bytes) -> str:
    return f"{type(entry.fact).__name__} in block {entry.block} (head 0x{head.hex()})"


def _remembered(evidence: Evidence, heads: Sequence[bytes]) -> list[Remembered]:
    return [(entry, head) for (entry, _), head in zip(evidence.entries, heads, strict=True)]


def _proven(evidence: Evidence, claims: Claims) -> Proven | Finding | None:
    """What the storage proof shows to whoever trusts the block hash given; or why it shows nothing."""
    if claims.block_hash is None:
        return None
    expected = f"0x{claims.block_hash.hex()}"
    if evidence.proof is None:
        return incomplete("the source has no storage proof: the block hash given cannot be used", expected=expected)
    try:
        proven = prove(evidence.proof, evidence.genesis.ledger)
    except UnavailableError as error:
        return incomplete(str(error), expected=expected)
    except ViolationError as error:
        return violated(str(error), expected=expected, by=OPERATORS)
    if proven.block_hash != claims.block_hash:
        text = "the storage proof is from another block than the one whose hash was given: export with --block-hash"
        found = f"0x{proven.block_hash.hex()}, block {proven.block}"
        return incomplete(text, expected=expected, found=found)
    return proven


def _sequence(evidence: Evidence, history: History, heads: Sequence[bytes]) -> list[Finding]:
    """Entries that are missing, repeated, out of place, or do not lead from head to head."""
    findings: list[Finding] = []
    before, block, time = evidence.genesis.head(), 0, 0
    seen: set[int] = set()
    indexes = {entry.index for entry, _ in evidence.entries}
    for (entry, shown), refolded in zip(evidence.entries, heads, strict=True):
        wrong = None
        if entry.index in seen:
            wrong = "it stands there a second time"
        elif entry.index > 0 and entry.index - 1 not in seen:
            lost = "is missing" if entry.index - 1 not in indexes else "is not in its place"
            wrong = f"entry {entry.index - 1} {lost} before it"
        elif refolded != shown and extend(before, entry) != shown:
            wrong = "it does not lead from the head before it to the head after it"
        if wrong is None and (
            entry.block < block or entry.time < time or (entry.block == block and entry.time != time)
        ):
            wrong = "block and time do not follow those before it"
        if wrong is not None:
            findings.append(violated(wrong, by=OPERATORS, **place(history, entry)))
        seen.add(entry.index)
        before, block, time = shown, entry.block, entry.time
    return findings
