"""Frauds that the demo can play, one by each kind of party, so that everybody can see what the audit says to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ledger.aggregator import Aggregator, Proposal, propose
from ledger.entries import Entry
from ledger.facts import MemberAdmitted, UpdateRecorded
from ledger.storage.folder import FolderStore
from participant.site import Site

VICTIM = "Hungary"
"""The hospital whose update the fraud is about."""


class Cheat(StrEnum):
    """Who cheats."""

    PARTICIPANT = "participant"
    AGGREGATOR = "aggregator"
    STORAGE = "storage"
    NODE = "node"


@dataclass(frozen=True)
class GarbageSite(Site):
    """A participant that posts garbage as its update."""

    def answer(self) -> None:
        """Post something that is no tensor blob."""
        known = self.contract.history().open_round
        if known is not None:
            self._post(known, b"This is not a tensor blob. " * 100)


@dataclass(frozen=True)
class DroppingAggregator(Aggregator):
    """An aggregator that leaves one member's update out of the average and does not say so.

    Attributes:
        victim: That member's account.
    """

    victim: str = ""

    def propose(self) -> Proposal:
        """Settle as if the update had never come."""
        history = self.contract.history()
        member = history.member_by_account(self.victim)
        if member is not None:
            history.rounds[history.latest_round].updates.pop(member.id, None)
        return propose(history, self.store, (), self.identities)


def cast(
    cheat: Cheat | None, sites: Mapping[str, Site], aggregator: Aggregator
) -> tuple[Mapping[str, Site], Aggregator]:
    """Who plays a round in which `cheat` is played: the sites and the aggregator."""
    victim = sites[VICTIM]
    match cheat:
        case Cheat.PARTICIPANT:
            garbage = GarbageSite(**vars(victim))
            return {**sites, VICTIM: garbage}, aggregator
        case Cheat.AGGREGATOR:
            return sites, DroppingAggregator(**vars(aggregator), victim=victim.account.address)
        case _:
            return sites, aggregator


def tamper(
    cheat: Cheat | None, store: FolderStore, entries: Sequence[tuple[Entry, bytes]], round_: int
) -> list[tuple[Entry, bytes]]:
    """What store and node do to the victim's update of a round afterwards; returns the entries that the node shows."""
    facts = [entry.fact for entry, _ in entries]
    victims = {fact.member for fact in facts if isinstance(fact, MemberAdmitted) and fact.name == VICTIM}
    shown = []
    for entry, head in entries:
        fact = entry.fact
        if isinstance(fact, UpdateRecorded) and fact.round == round_ and fact.member in victims:
            if cheat is Cheat.STORAGE:
                path = store.path(fact.update)
                blob = bytearray(path.read_bytes())
                blob[len(blob) // 2] ^= 1
                path.write_bytes(blob)
            if cheat is Cheat.NODE:
                continue
        shown.append((entry, head))
    return shown
