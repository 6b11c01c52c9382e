"""Tensors as rounds average them: arrays by name; what names and forms they may have. Without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ledger.errors import UsageError
from ledger.plan import TensorSpec, is_tensor_name
from ledger.updates import Array, Schema

Tensors = dict[str, Array]
"""Arrays by name in stored form (see `ledger.updates`): numpy has no bfloat16, its 16 bits are kept as an integer."""

MAX_DIMENSIONS = 16
_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def require_takes(name: str, dimensions: int) -> None:
    """Check that a plan takes a tensor of this name.

    Raises:
        UsageError: If not.
    """
    if not is_tensor_name(name) or not _is_text(name) or dimensions > MAX_DIMENSIONS:
        raise UsageError(
            f"tensor {name[:64]!r} fits no plan: give it a name of at most 256 letters that is not __metadata__, "
            f"and at most {MAX_DIMENSIONS} dimensions"
        )


def require_finite(name: str, finite: bool, otherwise: str) -> None:
    """Check that a tensor has finite values.

    Raises:
        UsageError: If not; `otherwise` is what to say before.
    """
    if not finite:
        raise UsageError(f"{otherwise}: tensor {name!r} has a value that is NaN or infinite")


def require_alike(model: Schema, tensors: Mapping[str, Array]) -> None:
    """Check that a base model's tensors are those of the task's model, whatever their shapes.

    Raises:
        UsageError: If names or sizes are another model's.
    """
    for name in sorted(model.keys() | tensors.keys()):
        if name not in model or name not in tensors:
            where = "the task's model" if name in model else "the base model"
            raise UsageError(f"tensor {name!r} is in {where} alone: take the task from which the base model was made")
        if tensors[name].nbytes != math.prod(model[name].shape) * _BYTES[model[name].dtype]:
            raise UsageError(
                f"tensor {name!r} has another size in the base model: take the task from which it was made"
            )


def difference(model: Schema, other: Schema, called: str) -> str | None:
    """The first difference between a model's schema and another, called so, as a phrase; None if they agree."""
    for name in sorted(model.keys() | other.keys()):
        if (ours := model.get(name)) != (theirs := other.get(name)):
            return f"tensor {name!r} is {_show(ours)} in the task's model, and {_show(theirs)} in {called}"
    return None


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _show(spec: TensorSpec | None) -> str:
    return f"{spec.dtype} {spec.shape}" if spec else "absent"
