"""What keeps sites from drifting apart in local training: FedProx (Li et al. 2020), SCAFFOLD (Karimireddy et al. 2020).

Both add something to the gradients before every step of the optimizer, whichever it is: FedProx the way back to the
base model, SCAFFOLD the difference between the server's control variate and the site's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import Dataset, default_collate

from ledger.choices import FedProx, Scaffold
from ledger.errors import UsageError
from ledger.plan import Plan
from participant.controls import Controls, Float64s
from participant.modules import federated
from participant.task import Task, moved

Added = dict[nn.Parameter, Callable[[nn.Parameter], Tensor]]
"""What is added to the gradient of each parameter, given where it stands."""


@contextmanager
def held(task: Task, model: nn.Module, plan: Plan, controls: Controls) -> Iterator[None]:
    """While this lasts, steps of an optimizer over the model's parameters are those of the plan's strategy.

    Args:
        task: Whose default training it is.
        model: The base model.
        plan: The round's.
        controls: The control variates, for SCAFFOLD.

    Raises:
        UsageError: If the task trains in its own way, or takes no step with an optimizer of torch.
    """
    added, steps = _added(model, plan, controls), 0
    if added is None:
        yield
        return
    name = plan.strategy.name
    if type(task).train is not Task.train:
        raise UsageError(
            f"a plan of {name} adds to every gradient, and whether this task's own way of training takes that could "
            "not be told: take the task without its train(), or a plan of another strategy"
        )

    within: list[torch.optim.Optimizer] = []  # one that steps by another's steps adds once

    def before(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        nonlocal steps
        own = [one for group in optimizer.param_groups for one in group["params"] if one in added]
        if within or not own:
            return
        within.append(optimizer)
        steps += 1
        for parameter in own:
            more = added[parameter](parameter)
            parameter.grad = more if parameter.grad is None else more + parameter.grad

    def after(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if optimizer in within:
            within.remove(optimizer)

    # At all optimizers of torch, so that none is missed; those of other parameters are left as they are.
    hooks = register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if not steps:
        raise UsageError(f"a plan of {name} needs steps of an optimizer of torch: give one in optimizer()")


def _added(model: nn.Module, plan: Plan, controls: Controls) -> Added | None:
    match plan.strategy:
        case FedProx(mu=mu):
            return {one: _back_to(one.detach().clone(), mu) for one in trained(model).values()}
        case Scaffold():
            return {one: _along(_difference(name, one, controls)) for name, one in trained(model).items()}
    return None


def _back_to(base: Tensor, mu: float) -> Callable[[nn.Parameter], Tensor]:
    """The gradient of mu / 2 times the squared distance from the base."""
    return lambda parameter: mu * (parameter.detach() - base.to(parameter.device))


def _along(difference: Tensor) -> Callable[[nn.Parameter], Tensor]:
    return lambda parameter: difference.to(parameter.device)


def _difference(name: str, parameter: nn.Parameter, controls: Controls) -> Tensor:
    none = np.zeros(parameter.numel())
    difference = controls.server.get(name, none) - controls.own.get(name, none)
    return torch.from_numpy(difference).to(parameter.dtype).reshape(parameter.shape)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that an optimizer is given, under the names by which they are averaged."""
    named = federated(model).items()
    return {name: one for name, one in named if isinstance(one, nn.Parameter) and one.requires_grad}


def gradient(task: Task, model: nn.Module, dataset: Dataset[Any], batch_size: int) -> dict[str, Float64s]:
    """The gradient of the mean loss over all examples: a site's control variate, at the base model (option I).

    It is taken as training takes it, batch by batch and in training mode, or a layer such as batch normalisation would
    give the gradient of another function than the one that steps follow, and the correction would not cancel. Only the
    order is the dataset's own. What the layers keep changes with it: give a model that is thrown away afterwards.

    Args:
        task: Gives the loss.
        model: The base model, in training mode.
        dataset: The examples.
        batch_size: The plan's. A last batch of one example is joined to the one before it.

    Returns:
        Flat arrays by tensor name; zeros for what is not trained.

    Raises:
        UsageError: If a value is NaN or infinite.
    """
    model.to(task.device())
    examples: int = len(dataset)  # type: ignore[arg-type]  # Dataset promises no len
    total = {name: np.zeros(tensor.numel()) for name, tensor in federated(model).items()}
    starts = list(range(0, examples, batch_size))
    if len(starts) > 1 and examples - starts[-1] == 1:
        starts.pop()
    for first, end in pairwise([*starts, examples]):
        model.zero_grad()
        batch = default_collate([dataset[row] for row in range(first, end)])
        task.loss(model, moved(batch, task.device())).backward()  # type: ignore[no-untyped-call]
        for name, parameter in trained(model).items():
            if parameter.grad is not None:
                total[name] += (end - first) * parameter.grad.to_dense().double().cpu().numpy().reshape(-1)
    for name, values in total.items():
        if not np.isfinite(values).all():
            raise UsageError(f"the gradient of tensor {name!r} at the base model has a value that is NaN or infinite")
    return {name: values / examples for name, values in total.items()}
