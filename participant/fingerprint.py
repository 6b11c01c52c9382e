"""A digest of a site's examples, as its task loads them: to the same data the same one, on every machine."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from ledger.errors import UsageError


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def fingerprint(examples: Iterable[Any]) -> bytes:
    """The sha256 digest of examples, in their order: of the exact bytes of every value, its type and its shape.

    Raises:
        UsageError: If one holds something else than tensors, arrays, numbers, text and bytes, and tuples, lists and
            dicts of them.
    """
    digest = hashlib.sha256(b"fedledger: examples")
    for example in examples:
        _add(digest, example)
    return digest.digest()


def _add(digest: _Hash, value: Any) -> None:
    match value:
        case None | bool() | int() | str() | bytes():
            _add_bytes(digest, type(value).__name__, repr(value).encode())
        case float():
            _add_bytes(digest, "float", struct.pack("<d", value))
        case tuple() | list():
            _add_bytes(digest, "sequence", str(len(value)).encode())
            for one in value:
                _add(digest, one)
        case Mapping():
            _add_bytes(digest, "mapping", str(len(value)).encode())
            for key in sorted(value, key=repr):
                _add(digest, key)
                _add(digest, value[key])
        case _:
            array = _array(value)
            little = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
            _add_bytes(digest, f"{little.dtype.str} {list(array.shape)}", little.tobytes())


def _add_bytes(digest: _Hash, kind: str, content: bytes) -> None:
    """Each with its length before it, so that nothing can be read in two ways."""
    for part in (kind.encode(), content):
        digest.update(len(part).to_bytes(8, "little") + part)


def _array(value: Any) -> np.ndarray[Any, np.dtype[Any]]:
    if hasattr(value, "detach"):  # a tensor of torch, which need not be installed
        value = value.detach().cpu().contiguous()
        value = value.view(_sixteen_bits()) if str(value.dtype) == "torch.bfloat16" else value
        value = value.numpy()
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcSU":
        return np.asarray(value)
    raise UsageError(
        f"an example holds a {type(value).__name__}, of which no fingerprint can be taken: give tensors, arrays, "
        "numbers or text"
    )


def _sixteen_bits() -> Any:
    import torch

    return torch.uint16
