"""The plan: the document that fixes a round before it starts. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from ledger.choices import (
    CONTROL,
    STATE,
    AnyAverage,
    AnyStrategy,
    AnyWeighting,
    ByExamples,
    FedAvg,
    Krum,
    Mean,
    Positive,
)
from ledger.documents import Document

MAX_PLAN_BYTES = 1 << 20

Dtype = Literal["F32", "F16", "BF16"]
ITEM_BYTES: dict[Dtype, int] = {"F32": 4, "F16": 2, "BF16": 2}
Count = Annotated[int, Field(ge=1, lt=1 << 53)]


def is_tensor_name(name: str) -> bool:
    """Whether a tensor may be called so."""
    return 1 <= len(name) <= 256 and name != "__metadata__"


class TensorSpec(Document):
    """One tensor's dtype (as safetensors names it) and shape."""

    dtype: Dtype
    shape: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 40)]], Field(max_length=16)]


class Training(Document):
    """What every site does with its rows."""

    epochs: Count
    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0, lt=1e6)]


class DpSgd(Document):
    """Differentially private training at every site (DP-SGD, Abadi et al. 2016), in place of epochs and batches.

    Attributes:
        clip: The largest L2 norm of one example's gradient.
        noise_multiplier: Standard deviation of the noise on the sum of gradients, in units of `clip`.
        sampling_rate: The probability with which each example is in a step's batch, independently (Poisson sampling).
        local_steps: Steps that a site takes in the round.
        delta: The delta of the (epsilon, delta) that is told: with a large one, any epsilon looks small.
        budget: The largest epsilon that a site may have spent by the end of the round, on all its rounds of this
            ledger; None for no limit.
    """

    name: Literal["dp-sgd"] = "dp-sgd"
    clip: Positive
    noise_multiplier: Positive
    sampling_rate: Annotated[float, Field(gt=0, le=1)]
    local_steps: Annotated[int, Field(ge=1, le=1_000_000)]
    delta: Annotated[float, Field(gt=0, le=1e-3)]
    budget: Positive | None = None


class Plan(Document):
    """What a round computes and what it needs.

    What settlement does with the updates, in this order: the `filter` leaves some out; `clipping` shortens those that
    are too long; the `average` is taken; the `strategy` makes the model of it.

    Attributes:
        settlement: Version of the settlement rules; 1 has nothing of `_LATER`, and averages plainly.
        tensors: The schema of the model, by tensor name.
        strategy: How the model comes from the base and the average, and what sites do differently.
        weighting: What an update weighs.
        filter: What leaves out updates that look wrong; None for nothing.
        clipping: The largest L2 norm of an update's difference from the base model; None for any.
        average: The average.
        wire: The dtype of updates that are differences from the base model; None where they are the trained tensors.
        privacy: How training protects single examples; None for not at all.
        seal: Whether updates are sealed, ``age``, or for everyone to read, ``none``.
        max_update_bytes: An update's blob may not be larger.
        window: Seconds in which the round takes updates.
        quorum: The fewest counted updates.
        grace: Seconds after the window in which only aggregators can end the round; then anyone can abort it.
        approvals: The approvals that release the model.
        rejections: The most rejections with which it can be released.
        participants_attest: Whether participants may attest too, beside auditors.
        public_quality: Whether all may know how good updates and models are: by the scores in the manifest, and by the
            reports of attestations. What is not sealed shows its scores in any case.
    """

    TITLE: ClassVar[str] = "plan"

    settlement: Literal[1, 2] = 2
    tensors: Annotated[dict[str, TensorSpec], Field(min_length=1)]
    strategy: AnyStrategy = FedAvg()
    weighting: AnyWeighting = ByExamples()
    filter: Krum | None = None
    clipping: Positive | None = None
    average: AnyAverage = Mean()
    wire: Dtype | None = None
    training: Training
    privacy: DpSgd | None = None
    seal: Literal["age", "none"] = "age"
    max_update_bytes: Count
    window: Annotated[int, Field(ge=1, lt=1 << 32)]
    grace: Annotated[int, Field(ge=0, lt=1 << 32)] = 86_400
    quorum: Annotated[int, Field(ge=1, lt=1 << 16)]
    approvals: Annotated[int, Field(ge=0, lt=1 << 16)]
    rejections: Annotated[int, Field(ge=0, lt=1 << 16)] = 0
    participants_attest: bool = False
    public_quality: bool = False

    @property
    def update_tensors(self) -> dict[str, TensorSpec]:
        """The schema of an update."""
        if self.strategy.name == "scaffold":
            return _as(self.tensors, "", self.wire) | _as(self.tensors, CONTROL, self.wire or "F32")
        return _as(self.tensors, "", self.wire) if self.wire else self.tensors

    @property
    def state_tensors(self) -> dict[str, TensorSpec]:
        """The schema of what the server remembers; empty where that is nothing."""
        kinds = STATE.get(self.strategy.name, ())
        return {name: spec for kind in kinds for name, spec in _as(self.tensors, kind, "F32").items()}

    @property
    def is_robust(self) -> bool:
        """Whether settlement has to look at the updates together, before it averages them."""
        return self.filter is not None or self.clipping is not None or self.average.name != "mean"

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, plan: Any) -> Any:
        if not isinstance(plan, dict) or plan.get("settlement") != 1:
            return plan
        if later := sorted(_LATER & plan.keys()):
            raise ValueError(f"settlement 1 knows no {later[0]}")
        return {**plan, "seal": "none"}

    @model_serializer(mode="wrap")
    def _as_its_version_has_it(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        later = _LATER if self.settlement == 1 else set()
        return {key: value for key, value in write(self).items() if key not in later}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        size = sum(math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype] for tensor in self.update_tensors.values())
        if size > self.max_update_bytes:
            raise ValueError(f"tensors of {size:,} bytes do not fit an update of {self.max_update_bytes:,}")
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        strategy, filter_ = self.strategy.name, self.filter
        if self.settlement == 1 and (strategy != "fedavg" or self.weighting.by != "examples"):
            raise ValueError("settlement 1 knows fedavg by examples only")
        if self.average.name != "mean" and self.weighting.by != "equal":
            raise ValueError(f'a {self.average.name} knows no weights: say so with weighting by "equal"')
        if filter_ is not None and self.quorum < 2 * filter_.attackers + 3:
            least = 2 * filter_.attackers + 3
            raise ValueError(f"krum needs {least} updates against {filter_.attackers} attackers: a quorum of {least}")
        if strategy == "scaffold" and self.is_robust:
            raise ValueError("scaffold takes no filter, no clipping and the mean: they would leave its controls apart")
        if strategy == "scaffold" and any(name.startswith(CONTROL) for name in self.tensors):
            raise ValueError(f"with scaffold no tensor's name begins with {CONTROL}: rename it")
        if strategy in ("fedprox", "scaffold") and self.privacy is not None:
            raise ValueError(f"{strategy} changes how sites train, and so does privacy: leave one of them out")
        return self

    @field_validator("tensors", mode="before")
    @classmethod
    def _one_by_one(cls, tensors: Any) -> Any:
        """Stops at the first that is wrong: errors of a million tensors would take the reader's memory."""
        if not isinstance(tensors, dict):
            return tensors
        for name in tensors:
            if not is_tensor_name(name):
                raise ValueError(f"not a tensor's name: {name[:64]!r}")
        return {name: TensorSpec.model_validate(tensor) for name, tensor in tensors.items()}


_LATER = {"seal", "privacy", "filter", "clipping", "average", "wire"}
"""What only version 2 has."""


def _as(tensors: Mapping[str, TensorSpec], kind: str, dtype: Dtype | None) -> dict[str, TensorSpec]:
    """Tensors of the same shapes, under longer names, in another dtype if one is given."""
    return {
        kind + name: spec if dtype is None else TensorSpec(dtype=dtype, shape=spec.shape)
        for name, spec in tensors.items()
    }
