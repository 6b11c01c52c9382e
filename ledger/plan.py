"""The plan: the document that fixes a round before it starts. Pure."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from ledger.documents import Document

MAX_PLAN_BYTES = 1 << 20
MAX_WEIGHT = 1 << 32
"""Integers up to here times a float32 are far from overflowing a float64."""

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


class FedAvg(Document):
    """The mean of the updates' tensors, weighted (McMahan et al. 2017)."""

    name: Literal["fedavg"] = "fedavg"


class Weighting(Document):
    """An update weighs as many as its examples, at most `cap`."""

    by: Literal["examples"] = "examples"
    cap: Annotated[int, Field(ge=1, le=MAX_WEIGHT)] = 1_000_000


class Training(Document):
    """What every site does with its rows."""

    epochs: Count
    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0, lt=1e6)]


Positive = Annotated[float, Field(gt=0, lt=1e6)]


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

    Attributes:
        settlement: Version of the settlement rules; 1 knows no privacy, no seal and no witness in an update's header.
        tensors: The schema of every update and of the model, by tensor name.
        privacy: How training protects single examples; None for not at all.
        seal: Whether updates are sealed, ``age``, or for everyone to read, ``none``.
        max_update_bytes: An update's blob may not be larger.
        window: Seconds in which the round takes updates.
        quorum: The fewest counted updates.
        grace: Seconds after the window in which only aggregators can end the round; then anyone can abort it.
        approvals: The approvals that release the model.
        rejections: The most rejections with which it can be released.
        participants_attest: Whether participants may attest too, beside auditors.
        public_quality: Whether the reports of attestations say in public how good the model is.
    """

    TITLE: ClassVar[str] = "plan"

    settlement: Literal[1, 2] = 2
    tensors: Annotated[dict[str, TensorSpec], Field(min_length=1)]
    strategy: FedAvg = FedAvg()
    weighting: Weighting = Weighting()
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

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, plan: Any) -> Any:
        if not isinstance(plan, dict) or plan.get("settlement") != 1:
            return plan
        if later := sorted({"seal", "privacy"} & plan.keys()):
            raise ValueError(f"settlement 1 knows no {later[0]}")
        return {**plan, "seal": "none"}

    @model_serializer(mode="wrap")
    def _as_its_version_has_it(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        later = {"seal", "privacy"} if self.settlement == 1 else set()
        return {key: value for key, value in write(self).items() if key not in later}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        elements = sum(math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype] for tensor in self.tensors.values())
        if elements > self.max_update_bytes:
            raise ValueError(f"tensors of {elements:,} bytes do not fit an update of {self.max_update_bytes:,}")
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
