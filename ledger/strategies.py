"""The server's step: from the base model and the average of the updates to the next model. Pure.

Each step is one elementwise IEEE 754 operation of float64, rounded once into the stored dtype; what would leave its
range becomes its largest number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ledger.choices import CONTROL, FedAdagrad, FedAdam, FedAvg, FedAvgM, FedProx, FedYogi, Scaffold
from ledger.errors import InvalidBlobError
from ledger.plan import Plan
from ledger.updates import Array, TensorBlob, blob_size, decode, encode, from_float64, require_finite, to_float64

Float64s = npt.NDArray[np.float64]
_LARGEST = {"F32": float.fromhex("0x1.fffffep127"), "F16": 65504.0, "BF16": float.fromhex("0x1.fep127")}


@dataclass(frozen=True)
class Step:
    """Where the server steps from.

    Attributes:
        plan: The round's plan.
        base: The base model's tensors, in stored form.
        average: Gives the average of the updates' tensors, by name.
        state: What the server remembers of the rounds before, None for nothing; see `read_state`.
        counted: How many updates were averaged.
        eligible: How many members could have posted one.
    """

    plan: Plan
    base: Mapping[str, Array]
    average: Callable[[str], Float64s]
    state: TensorBlob | None
    counted: int
    eligible: int

    def taken(self) -> tuple[dict[str, Array], bytes | None]:
        """The model's tensors, in stored form, and the blob of what the server remembers now."""
        steps = self.state.header["steps"] + 1 if self.state else 1
        model, state = dict[str, Array](), dict[str, Array]()
        for name, spec in self.plan.tensors.items():
            start = to_float64(self.base[name], spec.dtype)
            average = self.average(name)
            difference = average if self.plan.wire else average - start
            match self.plan.strategy:
                case FedAvg() | FedProx():
                    new = start + average if self.plan.wire else average
                case Scaffold(server_learning_rate=rate):
                    new = start + np.float64(rate) * difference
                    share = np.float64(self.counted) / np.float64(self.eligible)
                    control = self._remembered(CONTROL, name, len(start)) + share * self.average(CONTROL + name)
                    state[CONTROL + name] = _stored(control, "F32")
                case FedAvgM(server_learning_rate=rate, momentum=momentum):
                    first = np.float64(momentum) * self._remembered("m/", name, len(start)) + difference
                    new = start + np.float64(rate) * first
                    state["m/" + name] = _stored(first, "F32")
                case FedAdagrad() | FedAdam() | FedYogi() as adaptive:
                    first, second = self._moments(adaptive, name, difference)
                    rate = adaptive.server_learning_rate
                    if isinstance(adaptive, FedAdam):
                        rate = _corrected(adaptive, steps)
                    with np.errstate(over="ignore"):  # infinity is clipped like all that is too large
                        new = start + np.float64(rate) * first / (np.sqrt(second) + np.float64(adaptive.tau))
                    if not isinstance(adaptive, FedAdagrad):
                        state["m/" + name] = _stored(first, "F32")
                    state["v/" + name] = _stored(second, "F32")
            model[name] = _stored(new, spec.dtype)
        if not state:
            return model, None
        return model, encode(_header(self.plan, steps), self.plan.state_tensors, state)

    def _moments(
        self, adaptive: FedAdagrad | FedAdam | FedYogi, name: str, difference: Float64s
    ) -> tuple[Float64s, Float64s]:
        """The first and second moments of a tensor's differences, after this one (Reddi et al. 2021, algorithm 2)."""
        square, second = np.square(difference), self._remembered("v/", name, len(difference))
        if isinstance(adaptive, FedAdagrad):
            return difference, second + square
        kept, new = np.float64(adaptive.beta_1), np.float64(1.0 - adaptive.beta_1)
        first = kept * self._remembered("m/", name, len(difference)) + new * difference
        kept, new = np.float64(adaptive.beta_2), np.float64(1.0 - adaptive.beta_2)
        if isinstance(adaptive, FedAdam):
            return first, kept * second + new * square
        return first, second - new * square * np.sign(second - square)

    def _remembered(self, kind: str, name: str, count: int) -> Float64s:
        return to_float64(self.state.tensors[kind + name], "F32") if self.state else np.zeros(count)


def _corrected(adam: FedAdam, steps: int) -> float:
    """The learning rate with Adam's correction (Kingma & Ba 2015, section 2), its exponents one higher, as Flower's."""
    first = second = 1.0
    for _ in range(steps + 1):  # no power function: its last digit may be another one elsewhere
        first, second = first * adam.beta_1, second * adam.beta_2
    return float(np.float64(adam.server_learning_rate) * np.sqrt(np.float64(1.0 - second)) / np.float64(1.0 - first))


def _stored(values: Float64s, dtype: str) -> Array:
    return from_float64(np.clip(values, -_LARGEST[dtype], _LARGEST[dtype]), dtype)


def _header(plan: Plan, steps: int) -> dict[str, Any]:
    return {"kind": "state", "strategy": plan.strategy.name, "steps": steps}


def max_state_bytes(plan: Plan) -> int:
    """The most bytes that a blob of what the server remembers has."""
    return blob_size(plan.state_tensors, _header(plan, (1 << 53) - 1))


def read_state(blob: bytes, plan: Plan, round_: int) -> TensorBlob | None:
    """What the server remembers before a round, from its blob.

    None if it is of another strategy or model, or what no settlement gives: a state that a cheat published does no more
    harm than to be left out.
    """
    try:
        decoded = decode(blob)
        require_finite(decoded)
    except InvalidBlobError:
        return None
    steps = decoded.header.get("steps")
    if type(steps) is not int or not 0 < steps < round_ or decoded.header != _header(plan, steps):
        return None
    if decoded.schema != plan.state_tensors:
        return None
    moments = (array for name, array in decoded.tensors.items() if name.startswith("v/"))
    return None if any((array < 0).any() for array in moments) else decoded
