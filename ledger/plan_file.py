"""The plan as people write it: a TOML or JSON file that may leave out what follows from the base model."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ledger.choices import (
    ByExamples,
    ByTable,
    Equally,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedProx,
    FedYogi,
    Krum,
    Mean,
    Median,
    Scaffold,
    TrimmedMean,
)
from ledger.cid import RAW, Cid
from ledger.documents import Document, read_json
from ledger.errors import InvalidBlobError, UsageError
from ledger.facts import Address
from ledger.manifest import MOST_METRICS
from ledger.plan import MAX_PLAN_BYTES, DpSgd, Plan, TensorSpec, Training
from ledger.storage.folder import read_regular
from ledger.updates import MAX_HEADER_BYTES, Layout, Place, Schema, blob_size, decode, update_header

Key = int | str
D = TypeVar("D", bound=Document)

_MOST_WRITTEN = 16 * MAX_PLAN_BYTES  # people write spaces, too
_MOST = (1 << 53) - 1  # the largest integer that a canonical document can hold
_MOST_DESCRIBED = MAX_HEADER_BYTES - (1 << 14)  # a blob's own header, with the longest metrics, takes the rest
_PARTS: dict[Key, type[Document]] = {"training": Training, "privacy": DpSgd, "filter": Krum}
_KINDS: dict[Key, dict[Key, type[Document]]] = {
    "strategy": {
        "fedavg": FedAvg,
        "fedprox": FedProx,
        "fedavgm": FedAvgM,
        "fedadagrad": FedAdagrad,
        "fedadam": FedAdam,
        "fedyogi": FedYogi,
        "scaffold": Scaffold,
    },
    "weighting": {"examples": ByExamples, "equal": Equally, "table": ByTable},
    "average": {"mean": Mean, "median": Median, "trimmed-mean": TrimmedMean},
}
"""Parts that are one of several documents, each by its name."""


def read_plan(path: Path, model: Callable[[], bytes] | None = None) -> Plan:
    """Read a plan from a file, ``.toml`` or else JSON; what it leaves out has the default.

    Without ``tensors`` these are the base model's, and without ``max_update_bytes`` it is their `update_bytes`.

    Args:
        path: The file.
        model: Gives the base model's blob; it is asked only for a file without ``tensors``.

    Raises:
        UsageError: If the file holds no plan; with the key, and what is wrong with it.
    """
    written = _parsed(path)
    tensors = written.get("tensors")
    if isinstance(tensors, dict):
        tensors = {name: _valid(path, TensorSpec, spec, ("tensors", name)) for name, spec in tensors.items()}
    elif tensors is None and model is not None:
        try:
            tensors = decode(model()).schema
        except InvalidBlobError as error:
            none = f"the base model, whose tensors {path} would take, is none ({error.detail})"
            raise UsageError(f"{none}: build on another one") from None
    if tensors and isinstance(tensors, dict):
        written["tensors"] = tensors
    plan = _valid(path, Plan, {"max_update_bytes": _MOST} | written, ())
    if "max_update_bytes" not in written:
        plan = plan.model_copy(update={"max_update_bytes": update_bytes(plan.update_tensors)})
    if (size := len(plan.encode())) > MAX_PLAN_BYTES:
        raise UsageError(
            f"{path} makes a plan of {size:,} bytes, {MAX_PLAN_BYTES:,} at most: make a model of fewer tensors"
        )
    for what, schema in (("an update", plan.update_tensors), ("the server's state", plan.state_tensors)):
        if (size := len(Layout(schema).head({}))) > _MOST_DESCRIBED:
            raise UsageError(
                f"{path} makes {what} with a header of {size:,} bytes, {_MOST_DESCRIBED:,} at most: make a model of "
                "fewer tensors"
            )
    return plan


def update_bytes(schema: Schema) -> int:
    """The bytes of the largest update of a schema: its tensors, after the longest header that there can be."""
    cid = Cid(bytes(32), RAW)  # all CIDs have the same length
    place = Place(_MOST, Address("0x" + "00" * 20), _MOST, cid, cid)
    # In a name each quotation mark and backslash is escaped, and that again, as JSON stands in JSON.
    names = [f"{number:064b}".translate({48: '"', 49: "\\"}) for number in range(MOST_METRICS)]
    metrics = dict.fromkeys(names, -1.2345678901234567e-6)
    return blob_size(schema, update_header(place, _MOST, _MOST, metrics=metrics))


def _parsed(path: Path) -> dict[str, Any]:
    try:
        text = read_regular(path, _MOST_WRITTEN).decode("utf-8-sig")
        written = tomllib.loads(text) if path.suffix == ".toml" else read_json(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): name another file") from None
    except (ValueError, RecursionError) as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON (name it .toml if it is TOML)"
        raise UsageError(f"{path} is no plan: the file: Invalid {kind}: {error}; correct it, or name another") from None
    if not isinstance(written, dict):
        raise UsageError(f"{path} is no plan: the file is to be one object with keys; correct it, or name another")
    return {key: _kind(value) for key, value in written.items()}


def _kind(value: Any) -> Any:
    """5 for 5.0: people write either, and a document knows integers and other numbers apart."""
    if isinstance(value, dict):
        return {key: _kind(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_kind(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _valid(path: Path, document: type[D], written: object, place: Sequence[Key]) -> D:
    """The document that stands at a place of the file."""
    try:
        return document.model_validate(written)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    # A key that is mistyped is missing, too: what stands there is what to correct.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    at, part = list(first["loc"] or ("the plan",)), document.model_fields
    if at[0] in _KINDS and len(at) > 1:
        part = _KINDS[at[0]][at.pop(1)].model_fields
    elif at[0] in _PARTS and len(at) > 1:
        part = _PARTS[at[0]].model_fields
    *inside, key = at
    where = ".".join(map(str, [*place, *at]))
    if first["type"] != "extra_forbidden":
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{path} is no plan: {where}: {said}; correct it, or name another file")
    fields = list(part)
    raise UsageError(f"{path} is no plan: {where!r} is no key of it: {_meant(str(key), fields, [*place, *inside])}")


def _meant(key: str, fields: Sequence[str], place: Sequence[Key]) -> str:
    """What was meant by an unknown key: one of its place, or one of another place, where TOML's sections mislead."""
    if place:
        elsewhere = {name: f"{name}, before the first [section]" for name in Plan.model_fields}
    else:
        several = [(part, one) for part, kinds in _KINDS.items() for one in kinds.values()]
        elsewhere = {name: f"{part}.{name}" for part, one in [*several, *_PARTS.items()] for name in one.model_fields}
    if near := get_close_matches(key, fields, 1):
        return f"did you mean {near[0]}?"
    if near := get_close_matches(key, elsewhere, 1, cutoff=0.8):  # of those here, a worse match is a better guess
        return f"did you mean {elsewhere[near[0]]}?"
    return f"the keys there are {', '.join(fields)}"
