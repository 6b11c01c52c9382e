"""Differentially private training (DP-SGD, Abadi et al. 2016): clipped gradients of single examples, and noise.

Opacus gives the gradients of single examples and clips them; it accounts for nothing here, see `ledger.privacy`. Who
is in a batch and what the noise is must be hard to guess, so both come from a cipher's stream: torch's generator on the
CPU takes no more than 32 bits of a seed, which can be tried one after the other.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from Crypto.Cipher import ChaCha20
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.utils.data import Dataset, default_collate

from ledger.errors import UsageError
from ledger.plan import DpSgd, Training
from participant.examples import part_of
from participant.task import Task

COMPARED = 32
"""Examples on which it is tried whether the loss is a mean."""

Floats = npt.NDArray[np.float64]


class Chance:
    """Random numbers that follow from a seed and a label, and are not to be told from chance without the seed."""

    def __init__(self, seed: int, label: str) -> None:
        """Begin the stream."""
        key = hashlib.sha256(f"fedledger dp-sgd {label} {seed}".encode()).digest()
        self._stream = ChaCha20.new(key=key, nonce=bytes(8))

    def uniform(self, count: int) -> Floats:
        """Numbers above 0 and up to 1, all multiples of 2^-53 alike."""
        bits = np.frombuffer(self._stream.encrypt(bytes(8 * count)), "<u8") >> np.uint64(11)
        return np.ldexp((bits + np.uint64(1)).astype(np.float64), -53)

    def normal(self, count: int) -> Floats:
        """Numbers of the standard normal distribution (Box & Muller 1958)."""
        pairs = -(-count // 2)
        radius, angle = np.sqrt(-2 * np.log(self.uniform(pairs))), 2 * math.pi * self.uniform(pairs)
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


class _Noised(DPOptimizer):  # type: ignore[misc]  # Opacus has no types
    """Opacus' optimizer, with noise from a `Chance`, added in double precision."""

    generator: Chance

    def add_noise(self) -> None:
        for parameter in self.params:
            noise = torch.from_numpy(self.generator.normal(parameter.numel())).view_as(parameter)
            noised = parameter.summed_grad.double() + self.noise_multiplier * self.max_grad_norm * noise
            parameter.grad = noised.to(parameter.dtype)


def require_private(model: nn.Module) -> None:
    """Check that a model can be trained so that no example's gradient depends on another example.

    Raises:
        UsageError: With the layer that is in the way, and what to do.
    """
    for name, layer in model.named_modules():
        if said := _in_the_way(layer):
            raise UsageError(f"layer {name!r} ({type(layer).__name__}) cannot be trained privately: {said}")
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            kind = str(parameter.dtype).removeprefix("torch.")
            raise UsageError(f"parameter {name!r} is {kind}: private training clips and adds noise in float32 only")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError("the model has no parameter to train: leave some with requires_grad")


def _in_the_way(layer: nn.Module) -> str | None:
    if isinstance(layer, _BatchNorm):  # Opacus lets one without parameters pass
        return "it mixes the examples of a batch; use GroupNorm"
    if isinstance(layer, _NormBase) and layer.track_running_stats:
        return "it keeps statistics of the examples; give it track_running_stats=False"
    if not any(parameter.requires_grad for parameter in layer.parameters(recurse=False)):
        return None
    if (validate := ModuleValidator.VALIDATORS.get(type(layer))) is not None and validate(layer):
        return f"Opacus cannot take its gradients apart; use opacus.layers.DP{type(layer).__name__}"
    if any(True for _ in layer.buffers()):
        return "it keeps a buffer beside its parameters, which gets no noise; put the buffer into a layer of its own"
    return None


def train(task: Task, model: nn.Module, dataset: Dataset[Any], training: Training, privacy: DpSgd, seed: int) -> None:
    """Train `model` in place, for one round, privately.

    Args:
        task: Gives loss and optimizer, as in other training.
        model: The model, in training mode; see `require_private`.
        dataset: The examples. One that is in a batch counts once, whatever the dataset makes of it.
        training: The plan's; its batch size is how many examples are looked at together.
        privacy: The plan's.
        seed: Decides batches and noise: whoever knows it can take the noise off again.

    Raises:
        UsageError: If weights of classes follow from the examples, or the loss is no mean over these, leaves a
            parameter out, or gives something else than a gradient for each example.
    """
    if type(task).train is not Task.train:
        raise UsageError(
            "a private plan trains in its own way, and what this task does in its place could not be told: take the "
            "task without its train(), or a plan without privacy"
        )
    batches, examples = Chance(seed, "batches"), len(dataset)  # type: ignore[arg-type]  # Dataset promises no len
    _require_fixed(task, dataset, examples)
    _require_mean(task, model, dataset, min(examples, COMPARED))
    hooked = GradSampleModule(model, loss_reduction="mean")
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = _Noised(
        task.optimizer(list(named.values()), training),
        noise_multiplier=privacy.noise_multiplier,
        max_grad_norm=privacy.clip,
        expected_batch_size=privacy.sampling_rate * examples,
        loss_reduction="mean",
        generator=Chance(seed, "noise"),
    )
    optimizer.zero_grad()
    for _ in range(privacy.local_steps):
        chosen = np.flatnonzero(batches.uniform(examples) <= privacy.sampling_rate)
        for at in range(0, len(chosen), training.batch_size):
            part = chosen[at : at + training.batch_size]
            # Not the wrapped model, whose names begin with `_module.`: its layers have the hooks.
            loss = task.loss(model, _batch(dataset, part))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Full backward hook is firing")  # as Opacus wants it
                loss.backward()  # type: ignore[no-untyped-call]
            _require_one_each(named, len(part))
            _step(optimizer, skip=True)
        for parameter in optimizer.params:  # no examples, so that an empty batch is no exception; now comes the noise
            parameter.grad_sample = torch.zeros(0, *parameter.shape)
        _step(optimizer, skip=False)
    hooked.remove_hooks()


def _batch(dataset: Dataset[Any], rows: Iterable[int]) -> Any:
    return default_collate([dataset[int(row)] for row in rows])


def _require_fixed(task: Task, dataset: Dataset[Any], examples: int) -> None:
    """Weights that follow from all examples are in the gradient of each: one would move the others', too."""
    for kept in np.arange(0), np.arange(1, examples):  # of none at all, and, should that be the same, without one
        try:
            given = task.class_weights(part_of(dataset, kept))
        except Exception:  # whatever a task does where it finds no examples: it looks for them
            fixed = False
        else:
            ours = task.weight_of_class
            fixed = given is ours or (given is not None and ours is not None and torch.equal(given, ours))
        if not fixed:
            raise UsageError(
                "class_weights() gives other weights of fewer examples, and no noise hides what weights tell of them: "
                "give fixed weights, or take a plan without privacy"
            )


def _require_mean(task: Task, model: nn.Module, dataset: Dataset[Any], examples: int) -> None:
    """Opacus multiplies by the size of the batch: of another loss, an example would change the others' gradients."""
    if examples < 2:
        return
    model.eval()
    with torch.no_grad():
        parts = range(examples), range(1), range(1, examples)
        together, first, rest = (float(task.loss(model, _batch(dataset, rows))) for rows in parts)
    model.train()
    mean = (first + (examples - 1) * rest) / examples
    if abs(together - mean) > 1e-3 * max(abs(together), abs(mean)) + 1e-6:
        raise UsageError(
            f"the loss of {examples} examples is {together:.6g}, and the mean of their losses is {mean:.6g}: a private "
            "plan needs a loss that is the mean over examples, each by itself, and not left to chance"
        )


def _step(optimizer: DPOptimizer, skip: bool) -> None:
    """Clip and add up; unless it is to `skip` them, noise and the step, too."""
    optimizer.signal_skip_step(skip)
    optimizer.step()
    optimizer.zero_grad()


def _require_one_each(named: dict[str, nn.Parameter], examples: int) -> None:
    for name, parameter in named.items():
        found = parameter.grad_sample  # type: ignore[attr-defined]  # Opacus puts it there
        if found is None:
            raise UsageError(f"the loss leaves parameter {name!r} out: use it, or freeze it (requires_grad=False)")
        if isinstance(found, list) or len(found) != examples:
            # Clipped one by one, several gradients of an example would be more than the clip together.
            count = "several" if isinstance(found, list) else len(found)
            raise UsageError(
                f"parameter {name!r} has {count} gradients for {examples} examples: its layer must see one row for "
                "each example, in the first dimension, once"
            )
