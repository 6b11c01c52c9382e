"""A person's yes to plans: by which plans this member's people have agreed to train, and what a plan asks of them."""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ledger.chain.sentences import moment
from ledger.cid import Cid
from ledger.errors import FedledgerError, UnavailableError
from ledger.history import History, Round
from ledger.plan import MAX_PLAN_BYTES, Plan, TensorSpec
from ledger.receipts import LOCK
from ledger.storage import Blobs
from ledger.storage.folder import read_regular, replacing

AGREED = "agreed.json"
_MOST = 1 << 24  # bytes of the file, which has about 70 for a plan
_TENSORS_SHOWN = 5


class Agreed:
    """The plans that a person here has said yes to, in a ledger's folder of the member's state.

    Every method raises UnavailableError if the file cannot be read or written, or is damaged: what cannot be read is
    never taken for a yes.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / AGREED

    def plans(self) -> list[Cid]:
        """Their CIDs, the one agreed to last at the end."""
        try:
            found = json.loads(read_regular(self._file, _MOST))
            return [Cid.parse(plan) for plan in found["plans"]]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unavailable(error) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise UnavailableError(f"{self._file} is damaged: delete it, and agree to the plan again") from None

    def add(self, plan: Cid) -> None:
        """Keep a yes."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with open(self._file.parent / LOCK, "a", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                plans = [str(one) for one in self.plans() if one != plan]
                with replacing(self._file) as file:
                    file.write(json.dumps({"plans": [*plans, str(plan)]}, indent=1).encode())
        except OSError as error:
            raise self._unavailable(error) from None

    def last(self, blobs: Blobs) -> Plan | None:
        """The plan agreed to last, as far as it is still to be had."""
        with suppress(FedledgerError):
            if plans := self.plans():
                return Plan.decode(blobs.get(plans[-1], limit=MAX_PLAN_BYTES))
        return None

    def _unavailable(self, error: OSError) -> UnavailableError:
        return UnavailableError(f"{self._file} cannot be read and written ({error.strerror}): make it so")


def readers(history: History, known: Round) -> Mapping[int, bytes] | None:
    """Who can open a round's sealed updates: age public keys by member id; None if that is not known."""
    return None  # nothing is sealed yet


def described(history: History, known: Round, plan: Plan, before: Plan | None, now: int) -> Iterator[str]:
    """What a round asks of its sites, for people, a line each.

    Args:
        history: The ledger's.
        known: The round.
        plan: Its plan.
        before: The plan that was agreed to last: what is different is told; None to tell all of it.
        now: The chain's time.
    """
    opened = known.opened
    yield f"Round {known.number} trains by a plan that nobody here has agreed to yet."
    facts: dict[str, object] = {
        "opened by": f"{opened.aggregator} {history.members[opened.aggregator].name}",
        "deadline": moment(opened.deadline, now),
        "plan": opened.plan,
        "updates": _who_reads(history, known, plan),
    }
    yield from _aligned(facts)
    if before is None:
        yield "The plan:"
        yield from _aligned(values(plan) | {"tensors": _counted(plan.tensors)})
    else:
        yield "What is different from the plan agreed to last:"
        yield from _aligned(changes(before, plan))


def values(plan: Plan) -> dict[str, object]:
    """What a plan says beside its tensors, by the keys as people write them; what is none is left out."""
    return dict(_flat(plan.model_dump(mode="json", exclude={"tensors"}, exclude_none=True)))


def changes(before: Plan, after: Plan) -> dict[str, str]:
    """What is different in a plan, by key: ``old -> new``."""
    old, new = values(before), values(after)
    keys = [*new, *(key for key in old if key not in new)]
    found = {key: f"{old.get(key, 'none')} -> {new.get(key, 'none')}" for key in keys if old.get(key) != new.get(key)}
    if tensors := list(_changed_tensors(before.tensors, after.tensors)):
        more = len(tensors) - _TENSORS_SHOWN
        found["tensors"] = "; ".join(tensors[:_TENSORS_SHOWN]) + (f"; and {more:,} more" if more > 0 else "")
    return found


def _flat(document: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, object]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{place}{key}.")
        else:
            yield place + key, json.dumps(value) if isinstance(value, bool) else value


def _changed_tensors(before: Mapping[str, TensorSpec], after: Mapping[str, TensorSpec]) -> Iterator[str]:
    for name in [*after, *(name for name in before if name not in after)]:
        old, new = (f"{spec.dtype} {spec.shape}" if spec else "none" for spec in (before.get(name), after.get(name)))
        if old != new:
            yield f"{name} {old} -> {new}"


def _counted(tensors: Mapping[str, TensorSpec]) -> str:
    numbers = sum(math.prod(tensor.shape) for tensor in tensors.values())
    return f"{len(tensors):,}, {numbers:,} numbers in all"


def _who_reads(history: History, known: Round, plan: Plan) -> str:
    if plan.seal == "none":
        return "NOT SEALED: whoever reaches the store can read them, and learn from them about the records"
    if (keys := readers(history, known)) is None:
        return f"sealed ({plan.seal}), to whom is not known here"
    return "sealed to " + ", ".join(f"{member} {history.members[member].name}" for member in sorted(keys))


def _aligned(facts: Mapping[str, object]) -> Iterator[str]:
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        line = f"  {name.ljust(width)}  {value}"  # with names that strangers gave: they write no line of their own
        yield "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
