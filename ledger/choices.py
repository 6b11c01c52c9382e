"""What a plan chooses from: strategies, weightings, and what makes an average robust. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from ledger.documents import Document, MemberId

MAX_WEIGHT = 1 << 32
"""Integers up to here times a float32 are far from overflowing a float64."""
Positive = Annotated[float, Field(gt=0, lt=1e6)]
Share = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[int, Field(ge=1, le=MAX_WEIGHT)]


# ------------------------------------------------------------------- strategies


class FedAvg(Document):
    """The model is the average of the updates (McMahan et al. 2017)."""

    name: Literal["fedavg"] = "fedavg"


class FedProx(Document):
    """FedAvg, and every site's loss grows with half of `mu` times the squared way from the base (Li et al. 2020)."""

    name: Literal["fedprox"] = "fedprox"
    mu: Positive


class FedAvgM(Document):
    """The server steps by the rounds' average differences with momentum (Hsu et al. 2019)."""

    name: Literal["fedavgm"] = "fedavgm"
    server_learning_rate: Positive = 1.0
    momentum: Share = 0.9


class FedAdagrad(Document):
    """The server steps with Adagrad (Reddi et al. 2021)."""

    name: Literal["fedadagrad"] = "fedadagrad"
    server_learning_rate: Positive = 0.1
    tau: Positive = 1e-3


class FedAdam(Document):
    """The server steps with Adam (Reddi et al. 2021), its learning rate corrected as Flower's is."""

    name: Literal["fedadam"] = "fedadam"
    server_learning_rate: Positive = 0.1
    beta_1: Share = 0.9
    beta_2: Share = 0.99
    tau: Positive = 1e-3


class FedYogi(Document):
    """The server steps with Yogi (Reddi et al. 2021)."""

    name: Literal["fedyogi"] = "fedyogi"
    server_learning_rate: Positive = 0.01
    beta_1: Share = 0.9
    beta_2: Share = 0.99
    tau: Positive = 1e-3


class Scaffold(Document):
    """Control variates hold the sites on one course (Karimireddy et al. 2020, option I)."""

    name: Literal["scaffold"] = "scaffold"
    server_learning_rate: Positive = 1.0


CONTROL = "control/"
"""What the names of control variates begin with, in updates and in the server's state."""
STATE: dict[str, tuple[str, ...]] = {
    "fedavgm": ("m/",),
    "fedadagrad": ("v/",),
    "fedadam": ("m/", "v/"),
    "fedyogi": ("m/", "v/"),
    "scaffold": (CONTROL,),
}
"""What the server remembers of every tensor from round to round, by strategy: what its name begins with."""


# -------------------------------------------------------------------- weighting


class ByExamples(Document):
    """An update weighs as many as its examples, at most `cap`."""

    by: Literal["examples"] = "examples"
    cap: Weight = 1_000_000

    def of(self, member: int, examples: int) -> int:
        """What a member's update weighs."""
        return min(examples, self.cap)

    @property
    def most(self) -> int:
        """The most that any weighs."""
        return self.cap


class Equally(Document):
    """Every update weighs the same."""

    by: Literal["equal"] = "equal"

    def of(self, member: int, examples: int) -> int:
        """What a member's update weighs."""
        return 1

    @property
    def most(self) -> int:
        """The most that any weighs."""
        return 1


class ByTable(Document):
    """An update weighs what the table says of its member's id; `others` where it says nothing."""

    by: Literal["table"] = "table"
    weights: dict[MemberId, Weight]
    others: Weight = 1

    def of(self, member: int, examples: int) -> int:
        """What a member's update weighs."""
        return self.weights.get(str(member), self.others)

    @property
    def most(self) -> int:
        """The most that any weighs."""
        return max([self.others, *self.weights.values()])


# ------------------------------------------------------- robust against some sites


class Krum(Document):
    """Keeps the updates that lie closest to their neighbours (Blanchard et al. 2017): one, or several (multi-Krum).

    Attributes:
        attackers: How many updates may be anything: with 2 attackers + 3 updates or more, none of theirs alone decides.
        keep: How many are kept; None for all but as many as the attackers.
    """

    name: Literal["krum"] = "krum"
    attackers: Annotated[int, Field(ge=0, lt=1 << 15)]
    keep: Annotated[int, Field(ge=1, lt=1 << 16)] | None = None

    def kept(self, updates: int) -> int:
        """How many of so many are kept."""
        return max(1, updates - self.attackers) if self.keep is None else min(self.keep, updates)


class Mean(Document):
    """The weighted mean of the updates."""

    name: Literal["mean"] = "mean"


class Median(Document):
    """Of each element its median over the updates (Yin et al. 2018)."""

    name: Literal["median"] = "median"


class TrimmedMean(Document):
    """Of each element the mean over the updates without the smallest and the largest ones (Yin et al. 2018).

    Attributes:
        share: Which share of the updates is left out at either end, rounded down to whole updates.
    """

    name: Literal["trimmed-mean"] = "trimmed-mean"
    share: Annotated[float, Field(gt=0, lt=0.5)]


# ------------------------------------------------------------------ one of several


def _told_by(key: str, *names: str) -> Discriminator:
    """Which kind of document is meant: by a key, which may be left out for the first kind."""
    return Discriminator(
        lambda said: said.get(key, names[0]) if isinstance(said, dict) else getattr(said, key, None),
        custom_error_type="kind",
        custom_error_message=f"its {key} is to be one of {', '.join(names)}",
    )


AnyStrategy = Annotated[
    Annotated[FedAvg, Tag("fedavg")]
    | Annotated[FedProx, Tag("fedprox")]
    | Annotated[FedAvgM, Tag("fedavgm")]
    | Annotated[FedAdagrad, Tag("fedadagrad")]
    | Annotated[FedAdam, Tag("fedadam")]
    | Annotated[FedYogi, Tag("fedyogi")]
    | Annotated[Scaffold, Tag("scaffold")],
    _told_by("name", "fedavg", "fedprox", "fedavgm", "fedadagrad", "fedadam", "fedyogi", "scaffold"),
]
AnyWeighting = Annotated[
    Annotated[ByExamples, Tag("examples")] | Annotated[Equally, Tag("equal")] | Annotated[ByTable, Tag("table")],
    _told_by("by", "examples", "equal", "table"),
]
AnyAverage = Annotated[
    Annotated[Mean, Tag("mean")] | Annotated[Median, Tag("median")] | Annotated[TrimmedMean, Tag("trimmed-mean")],
    _told_by("name", "mean", "median", "trimmed-mean"),
]
