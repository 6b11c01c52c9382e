"""How much of its examples' privacy a site has spent, computed from the plans of the rounds that it took part in. Pure.

Two accountants of dp-accounting compute it, neither of which trains: privacy loss distributions (PLD), whose epsilon is
told, and Rényi differential privacy (RDP), which PLD may not exceed. The mechanism is DP-SGD's, the Gaussian one on a
Poisson sample; datasets are neighbours if one has one example more. dp-accounting is imported when there is something
to compute: a history without private plans needs none of it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, reduce
from typing import Any

from ledger.errors import FedledgerError, UnavailableError, UsageError
from ledger.history import History, Round
from ledger.plan import Plan

LARGEST = 100.0
"""A larger epsilon is told as unlimited: it protects nothing."""
LEAST_NOISE = 0.3
"""So is what has less noise than this, in units of the clip: to compute it would take long, and much memory."""
LEAST_RATE = 1e-9
"""A lower sampling rate counts as this one: dp-accounting computes none that is much lower."""
TOLERANCE = 0.01
"""By how much PLD may exceed RDP: the error of putting privacy losses on a grid."""

_GRIDS = (1e-4, 1e-5)  # the first that gives an epsilon within the tolerance is enough

PlanOf = Callable[[Round], Plan]
"""Gives a round's plan; raises `FedledgerError` where it cannot be had."""
Step = tuple[float, float]
"""The noise multiplier and the sampling rate of one step."""
Counted = list[tuple[Step, int]]
"""How many of each kind."""


@dataclass(frozen=True)
class Spent:
    """What a member has spent by the end of a round, on all its rounds of this ledger.

    Attributes:
        round: The round; the member has an update in it.
        member: The member's id.
        rounds: In how many rounds it has taken part by then.
        epsilon: By PLD, infinite where it is unlimited, None where it is not known.
        rdp: By RDP, likewise.
        delta: The delta of both; None where the round's plan is not private, or not known.
        budget: The plan's; None where it has none, or is not known.
        unknown: Why it is not known, None where it is.
    """

    round: int
    member: int
    rounds: int
    epsilon: float | None
    rdp: float | None
    delta: float | None = None
    budget: float | None = None
    unknown: str | None = None

    @property
    def left(self) -> float | None:
        """What is left of the budget, never more than it is; None where there is no budget, or it is not known."""
        if self.budget is None or self.epsilon is None:
            return None
        return max(0.0, round(self.budget - rounded_up(self.epsilon), 3)) if math.isfinite(self.epsilon) else 0.0

    @property
    def exceeds(self) -> bool:
        """Whether it is known to be more than the budget; a last digit that another processor gives is not."""
        return self.budget is not None and self.epsilon is not None and self.epsilon > self.budget * (1 + 1e-6)


Spending = Mapping[tuple[int, int], Spent]
"""By round and member."""


@dataclass
class Account:
    """One member's rounds so far.

    Attributes:
        member: The member's id.
    """

    member: int
    _rounds: int = 0
    _steps: dict[Step, int] = field(default_factory=dict)
    _unlimited: bool = False
    _unknown: str | None = None
    _last: tuple[Round, Plan | None] | None = None

    def add(self, known: Round, plan_of: PlanOf) -> None:
        """Take a round in which the member has an update, or is to have one."""
        try:
            plan = plan_of(known)
        except FedledgerError as error:
            plan = None
            self._unknown = self._unknown or f"the plan of round {known.number} cannot be had: {error}"
        self._rounds += 1
        self._last = known, plan
        if plan is not None and plan.privacy is None:
            self._unlimited = True
        elif plan is not None and plan.privacy is not None:
            step = plan.privacy.noise_multiplier, plan.privacy.sampling_rate
            self._steps[step] = self._steps.get(step, 0) + plan.privacy.local_steps

    def spent(self) -> Spent:
        """What the member has spent by the end of the last round.

        Raises:
            UsageError: If it takes dp-accounting to know, and that is not installed.
        """
        if self._last is None:
            raise UsageError(f"member {self.member} has taken part in no round: add one")
        known, plan = self._last
        privacy = plan.privacy if plan is not None else None
        epsilon, rdp, unknown = None, None, self._unknown
        if self._unlimited:
            epsilon, rdp, unknown = math.inf, math.inf, None
        elif unknown is None and privacy is not None:
            try:
                epsilon, rdp = epsilons(frozenset(self._steps.items()), privacy.delta)
            except UnavailableError as error:
                unknown = str(error)
        return Spent(
            known.number,
            self.member,
            self._rounds,
            epsilon,
            rdp,
            privacy.delta if privacy else None,
            privacy.budget if privacy else None,
            unknown,
        )


def spending(history: History, plan_of: PlanOf, rounds: Container[int] | None = None) -> Iterator[Spent]:
    """What members have spent, by round and member id: every recorded update counts, for others have seen it.

    Args:
        history: The history; it is all that is asked, no site.
        plan_of: Gives its plans.
        rounds: By the end of which rounds; None for all.

    Raises:
        UsageError: See `Account.spent`.
    """
    accounts: dict[int, Account] = {}
    for number, known in sorted(history.rounds.items()):
        for member in sorted(known.updates):
            account = accounts.setdefault(member, Account(member))
            account.add(known, plan_of)
            if rounds is None or number in rounds:
                yield account.spent()


def after(history: History, member: int, known: Round, plan_of: PlanOf) -> Spent:
    """What a member will have spent with its update of a round that it has not answered yet; raises as `spending`."""
    account = Account(member)
    for number, earlier in sorted(history.rounds.items()):
        if member in earlier.updates and number != known.number:
            account.add(earlier, plan_of)
    account.add(known, plan_of)
    return account.spent()


def rounded_up(epsilon: float) -> float:
    """An epsilon as it is shown, with three decimals: never less than it is."""
    shown = round(epsilon, 3)
    return shown if shown >= epsilon else round(shown + 0.001, 3)


def told(epsilon: float | None) -> str:
    """An epsilon in words: ``unlimited`` where it is infinite, ``unknown`` where it is None."""
    if epsilon is None:
        return "unknown"
    return "unlimited" if math.isinf(epsilon) else f"{rounded_up(epsilon):.3f}"


def spent_document(spent: Spent) -> dict[str, Any]:
    """What a member has spent, in JSON; epsilons are rounded up, and null where unlimited or not `known`."""
    finite = spent.epsilon is not None and math.isfinite(spent.epsilon)
    return {
        "member": spent.member,
        "known": spent.epsilon is not None,
        "epsilon": rounded_up(spent.epsilon) if spent.epsilon is not None and finite else None,
        "rdp": rounded_up(spent.rdp) if spent.rdp is not None and finite else None,
    }


@lru_cache(maxsize=4096)
def epsilons(steps: frozenset[tuple[Step, int]], delta: float) -> tuple[float, float]:
    """The smallest known epsilon of some steps at a delta, by PLD and by RDP; infinite if unlimited.

    Raises:
        UsageError: If dp-accounting is not installed.
        UnavailableError: If PLD exceeds RDP: one of the two is wrong.
    """
    if any(noise < LEAST_NOISE for (noise, _), _ in steps):
        return math.inf, math.inf
    counted = [((noise, max(rate, LEAST_RATE)), count) for (noise, rate), count in sorted(steps)]
    try:
        rdp = pld = _rdp(counted, delta)
        if rdp > LARGEST:
            return math.inf, math.inf
        for grid in _GRIDS:
            pld = _pld(counted, delta, grid)
            if pld <= rdp + TOLERANCE:
                return pld, rdp
            if math.isinf(pld):
                break  # the delta is smaller than what it cuts off
    except (ArithmeticError, ValueError) as error:
        raise UnavailableError(
            f"dp-accounting cannot compute an epsilon for these plans ({error}): take others"
        ) from None
    raise UnavailableError(
        f"the two accountants disagree: epsilon {pld:.6g} by PLD, {rdp:.6g} by RDP, at delta {delta:g}; take a plan "
        "with other noise, sampling rate, steps or delta"
    )


def _rdp(counted: Counted, delta: float) -> float:
    with _installed():
        from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
        from dp_accounting.rdp import RdpAccountant
    told = logging.getLogger("absl")
    told.disabled, before = True, told.disabled  # it warns of each order that it leaves out, which is no harm
    try:
        accountant = RdpAccountant()
        for (noise, rate), count in counted:
            accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), count)
        return float(accountant.get_epsilon(delta))
    finally:
        told.disabled = before


def _pld(counted: Counted, delta: float, grid: float) -> float:
    """As `PLDAccountant` of dp-accounting has it, but one step's distribution, which takes longest, is made once."""

    def composed(step: Step, count: int) -> Any:
        noise, rate = step
        if rate == 1:  # many Gaussians are one
            return _one_step(noise / math.sqrt(count), 1.0, grid)
        return _one_step(noise, rate, grid).self_compose(count)

    distribution = reduce(lambda one, other: one.compose(other), (composed(*one) for one in counted))
    return float(distribution.get_epsilon_for_delta(delta))


@lru_cache(maxsize=16)
def _one_step(noise: float, rate: float, grid: float) -> Any:
    with _installed():
        from dp_accounting import NeighboringRelation
        from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
    return from_gaussian_mechanism(
        noise,
        value_discretization_interval=grid,
        sampling_prob=rate,
        neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
    )


@contextmanager
def _installed() -> Iterator[None]:
    """Around the imports of dp-accounting."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"what a site has spent of its privacy takes {error.name} to compute, which is not installed: "
            "pip install 'fedledger[privacy]'"
        ) from None
