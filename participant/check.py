"""What `fedledger task check` does: one step of a task's training, before a round is at stake."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from ledger.errors import UsageError
from ledger.plan import Plan, Training
from ledger.plan_file import read_plan, update_bytes
from ledger.privacy import epsilons, rounded_up
from participant.any_task import AnyTask
from participant.array_task import ArrayTask
from participant.policy import PolicyFile
from participant.task_file import hook
from participant.tensors import difference
from participant.trainer import Trainer, genesis

WITHOUT_A_PLAN = Training(epochs=1, batch_size=32, learning_rate=0.01)
SEED = 0


@dataclass(frozen=True)
class Checked:
    """A task that can answer rounds.

    Attributes:
        examples: How many it trains on: the update's weight, before the plan's cap.
        held_out: How many more the data has, on which models are evaluated.
        tensors: How many a round averages.
        update_bytes: The most that an update has.
        before: How good a new model is on the first batch, by the task's names.
        after: And after one step on it.
        step_seconds: How long the step takes.
        epoch_seconds: How long an epoch takes, roughly.
        round_seconds: And all of a round.
        epsilon: What a round spends of the examples' privacy, at the plan's delta; None where that is not limited.
        delta: The plan's; None where it is not private.
        notes: What may be meant so, and may not, a sentence each.
    """

    examples: int
    held_out: int
    tensors: int
    update_bytes: int
    before: dict[str, float]
    after: dict[str, float]
    step_seconds: float
    epoch_seconds: float
    round_seconds: float
    epsilon: float | None
    delta: float | None
    notes: list[str]


def check(task: AnyTask, data: Path, plan_file: Path | None, policy_file: PolicyFile | None = None) -> Checked:
    """Load the data, compare the model with the plan, and train one step on the first batch.

    Args:
        task: The task.
        data: What ``--data`` names.
        plan_file: The plan for its rounds; None to train as `WITHOUT_A_PLAN`.
        policy_file: The site's own, within which the plan has to be.

    Raises:
        UsageError: If a site could not answer a round with it.
    """
    trainer = Trainer(task, data)
    size = update_bytes(trainer.schema())
    if plan_file is not None:
        plan = read_plan(plan_file, lambda: genesis(task, SEED))
        size = update_bytes(plan.update_tensors)
        _fits(trainer, size, plan, plan_file)
        if policy_file and (policy := policy_file.read()) and (refused := policy.refused_plan(plan)):
            raise UsageError(
                f"{plan_file} is not within the policy {policy_file.path} ({'; '.join(refused)}): change one of them"
            )
    else:
        plan = _without_a_plan(trainer, size)
    batch, once, part = plan.training.batch_size, _one_step(plan), None if plan.privacy else plan.training.batch_size
    start = trainer.initial(SEED)
    before = trainer.evaluate(start, batch)
    with hook(task, "evaluate"):
        for name, value in before.items():
            if not math.isfinite(value):
                raise UsageError(f"{name} is {value} before any training: look for empty or infinite values in {data}")
    if plan.privacy is None:  # of a base model, a site says nothing then
        trainer.metrics(start)
    _ = trainer.fingerprint  # every update has one, or there is none
    first = trainer.train(start, once, SEED, part)  # torch loads much of itself in the first step
    began = perf_counter()
    trained = trainer.train(start, once, SEED, part)
    step = perf_counter() - began
    arrays = isinstance(task, ArrayTask)
    with hook(task, "fit" if arrays else "train"):
        if all(trained[name].tobytes() == start[name].tobytes() for name in start):
            what = "give back what was learned" if arrays else "give the optimizer the parameters"
            raise UsageError(f"a step changes no tensor: {what}, and a learning rate above 0")
    after = trainer.evaluate({name: trained[name] for name in start}, batch)
    notes = []
    if any(trained[name].tobytes() != first[name].tobytes() for name in trained):
        notes.append(
            "the same step twice gave different tensors: something in it is left to chance, or to several threads"
        )
    if plan.privacy is None and after.get("loss", 0.0) >= before.get("loss", math.inf):
        notes.append("one step did not make the loss smaller: if an epoch does not either, lower the learning rate")
    epoch = step * math.ceil(trainer.examples_by(plan) / batch)
    # SCAFFOLD goes through the examples once more, for its control variate.
    round_, epsilon, delta = epoch * (plan.training.epochs + (plan.strategy.name == "scaffold")), None, None
    if privacy := plan.privacy:
        epoch, round_, delta = step / privacy.sampling_rate, step * privacy.local_steps, privacy.delta
        taken = ((privacy.noise_multiplier, privacy.sampling_rate), privacy.local_steps)
        spent, _ = epsilons(frozenset({taken}), delta)
        epsilon = rounded_up(spent) if math.isfinite(spent) else None
        if epsilon is None:
            notes.append("a round spends an unlimited epsilon: take more noise, a lower sampling rate or fewer steps")
        elif privacy.budget is not None and spent > privacy.budget:
            notes.append(f"a round spends more than the plan's budget of {privacy.budget:g}: no site will answer it")
    counts = trainer.examples_by(plan), 0 if plan.privacy else trainer.held_out, len(start)
    return Checked(*counts, size, before, after, step, epoch, round_, epsilon, delta, notes)


def _without_a_plan(trainer: Trainer, size: int) -> Plan:
    return Plan(
        tensors=trainer.schema(), training=WITHOUT_A_PLAN, max_update_bytes=size, window=1, quorum=1, approvals=0
    )


def _one_step(plan: Plan) -> Plan:
    once: dict[str, object] = {"training": plan.training.model_copy(update={"epochs": 1})}
    if plan.privacy is not None:
        once["privacy"] = plan.privacy.model_copy(update={"local_steps": 1})
    return plan.model_copy(update=once)


def _fits(trainer: Trainer, size: int, plan: Plan, file: Path) -> None:
    if differs := difference(trainer.schema(), plan.tensors, str(file)):
        raise UsageError(f"{differs}: correct one of them, or leave tensors out of the plan")
    if size > plan.max_update_bytes:
        raise UsageError(
            f"an update has up to {size:,} bytes, max_update_bytes of {file} is {plan.max_update_bytes:,}: "
            "raise it, or leave it out of the plan"
        )
