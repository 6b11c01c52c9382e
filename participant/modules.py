"""A torch module's tensors as rounds average them: which these are, out of the module as arrays, and into it again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ledger.errors import UsageError
from ledger.plan import Dtype, TensorSpec
from ledger.updates import Array
from participant.tensors import Tensors, require_alike, require_finite, require_takes

DTYPES: dict[torch.dtype, Dtype] = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def federated(model: nn.Module) -> dict[str, Tensor]:
    """The floating tensors of a model's ``state_dict`` by name, tied ones once, under their first name.

    Raises:
        UsageError: If there are none, or one that no plan takes.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise UsageError(
                f"its state {name!r} is a {type(tensor).__name__}: keep what is no tensor out of state_dict"
            )
        if is_lazy(tensor):
            raise UsageError(
                f"tensor {name!r} has no shape before the first batch: give the layer its size, not a lazy one"
            )
        if not (tensor.is_floating_point() or tensor.is_complex()) or any(tensor is other for other in found.values()):
            continue
        if tensor.dtype not in DTYPES:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise UsageError(
                f"tensor {name!r} is {kind}: settlement takes float32, or float16 and bfloat16: call .float()"
            )
        require_takes(name, tensor.dim())
        found[name] = tensor
    if not found:
        raise UsageError("it has no floating tensors, so that there is nothing to average: give it some")
    return found


def schema_of(model: nn.Module) -> dict[str, TensorSpec]:
    """Dtype and shape of a model's federated tensors; raises what `federated` does."""
    return {
        name: TensorSpec(dtype=DTYPES[tensor.dtype], shape=list(tensor.shape))
        for name, tensor in federated(model).items()
    }


def read(model: nn.Module, otherwise: str) -> Tensors:
    """A model's federated tensors, copied to the CPU.

    Args:
        model: The model.
        otherwise: What to say before the tensor that has a value that is NaN or infinite.

    Raises:
        UsageError: If there is such a tensor; and what `federated` raises.
    """
    stored: Tensors = {}
    for name, tensor in federated(model).items():
        require_finite(name, bool(torch.isfinite(tensor).all()), otherwise)
        values = tensor.detach().cpu().contiguous()
        stored[name] = (values.view(torch.uint16) if values.dtype is torch.bfloat16 else values).numpy().copy()
    return stored


def write(model: nn.Module, tensors: Mapping[str, Array]) -> None:
    """Give a model's federated tensors these values, of any shape; the rest of its state stays.

    Raises:
        UsageError: If names or sizes are another model's; and what `federated` raises.
    """
    require_alike(schema_of(model), tensors)
    # Copies, since what is decoded from a blob cannot be written to.
    state = {
        name: torch.from_numpy(np.array(tensors[name]).reshape(-1)).view(tensor.dtype).reshape(tensor.shape)
        for name, tensor in federated(model).items()
    }
    model.load_state_dict(state, strict=False)
