"""A site's examples: which are held out from training, and a digest of all that they hold. Without torch."""

from __future__ import annotations

import hashlib
import struct
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.errors import UsageError

FEWEST = 10
"""Of fewer examples, none is held out."""
SHARE = 5
"""One of so many examples is held out."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Some of a dataset's examples; a slice of it is what the dataset gives for an array of numbers.

    Attributes:
        dataset: The dataset.
        rows: Which, by number.
    """

    dataset: Any
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, at: Any) -> Any:
        rows = self.rows[at]
        return self.dataset[rows if isinstance(rows, np.ndarray) else int(rows)]


def part_of(dataset: Any, rows: Rows) -> Any:
    """Some examples of a dataset; those of an array are an array again."""
    return dataset[rows] if isinstance(dataset, np.ndarray) else Part(dataset, rows)


def split(dataset: Any) -> tuple[Any, Any]:
    """Hold out every fifth example of a shuffle that depends on nothing but how many there are.

    Returns:
        The part to train on and the part held out, each in the dataset's order.
    """
    count = len(dataset)
    if count < FEWEST:
        return dataset, []
    # A bit generator's numbers, unlike numpy's shuffles, are promised to stay the same in all versions.
    shuffled = np.argsort(np.random.PCG64(count).random_raw(count), kind="stable")
    held_out = np.sort(shuffled[SHARE - 1 :: SHARE])
    return part_of(dataset, np.setdiff1d(np.arange(count), held_out)), part_of(dataset, held_out)


def require_dataset(dataset: Any) -> None:
    """Check that something has ``len`` and ``[]``.

    Raises:
        UsageError: If not.
    """
    for needed in ("__len__", "__getitem__"):
        if not hasattr(dataset, needed):
            kind = type(dataset).__name__
            raise UsageError(f"it gives a {kind}, which has no {needed}: give a Dataset with len and []")


# ------------------------------------------------------------------- digest


def fingerprint(*parts: Any) -> bytes:
    """The sha256 of all examples of some datasets: dtype, shape and exact bytes of all that they hold, in order.

    The same numbers give the same digest on every machine, and whether they are torch's or numpy's. One example is in
    memory at a time.

    Raises:
        UsageError: If an example holds something whose bytes are not fixed, such as an object of a class of its own.
    """
    digest = hashlib.sha256(b"fedledger: a fingerprint of examples")
    for part in parts:
        digest.update(struct.pack("<Q", len(part)))
        for at in range(len(part)):
            digest.update(_encoded(part[at], at))
    return digest.digest()


def _encoded(item: Any, at: int) -> bytes:
    """No two different items have the same encoding: each begins with its kind and its length."""
    match item:
        case np.ndarray() | np.generic() if not isinstance(item, np.ma.MaskedArray) and item.dtype.kind in "biufcUS":
            array = np.asarray(item)
            return _framed(f"array {array.dtype.name} {list(array.shape)}", _bytes(array))
        case bool() | int() | str() | bytes() | None:
            kind = type(item).__name__
            return _framed(kind, item if isinstance(item, bytes) else repr(item).encode("utf-8", "surrogatepass"))
        case float():
            return _framed("float", struct.pack("<d", item))
        case tuple() | list():
            return _framed("sequence", b"".join(_encoded(one, at) for one in item))
        case dict():
            pairs = sorted((_encoded(key, at), _encoded(value, at)) for key, value in item.items())
            return _framed("dict", b"".join(key + value for key, value in pairs))
    torch = sys.modules.get("torch")  # without it, nothing is a tensor
    if torch is not None and isinstance(item, torch.Tensor) and item.layout is torch.strided:
        values = item.detach().cpu().resolve_conj().resolve_neg()
        narrow = {torch.bfloat16: torch.int16}.get(values.dtype)  # numpy has no such type
        content = _bytes((values if narrow is None else values.view(narrow)).numpy())
        return _framed(f"array {str(values.dtype).removeprefix('torch.')} {list(values.shape)}", content)
    raise UsageError(
        f"example {at} holds a {type(item).__name__}, of which no fingerprint can be taken: give tensors, arrays, "
        "numbers and text, in tuples, lists and dicts"
    )


def _bytes(array: npt.NDArray[Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def _framed(kind: str, content: bytes) -> bytes:
    return struct.pack("<QQ", len(kind), len(content)) + kind.encode() + content
