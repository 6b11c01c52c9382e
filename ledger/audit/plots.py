"""The report's plots: drawn by matplotlib, each as an SVG element that stands inline in a page. Pure.

What a plot shows is in a table of the report, too, and nothing is told by colour alone.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from ledger.audit.report import plain

Round = Mapping[str, Any]
Rules = dict[str, str]
"""Styles of the plots so far (such as ``fill: none``) and the class that each has become."""

Points = Sequence[tuple[int, float]]

WIDTH = 7.2
BLUE, RED, GREY, INK = "#1f4e79", "#9b1c1c", "#5b6067", "#1c1e21"
MARKERS = "osD^vPX*"
LARGEST = 1e15
"""Nothing that is measured here is larger; a stranger's document may say otherwise."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=[BLUE, "#a34a00", "#17603a", "#6b3fa0", GREY]),
    "grid.color": "#dfe2e6",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def short(text: str, longest: int = 30) -> str:
    """The beginning of a stranger's text, for a place that has room for so many characters."""
    shown = plain(text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def timeline(rounds: Sequence[Round], rules: Rules, label: str) -> str:
    """When each round was opened, was to end, ended and was released; a line each, the first on top."""
    start = min(one["opened_at"] for one in rounds)
    fields = ("opened_at", "deadline", "ended_at", "released_at")
    span = max(one[field] for one in rounds for field in fields if one[field] is not None) - start
    unit, seconds = next((u for u in _UNITS if span >= 3 * u[1]), _UNITS[-1])

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for one in rounds:
            ends = one["deadline"] if one["ended_at"] is None else one["ended_at"]
            bar = [(moment - start) / seconds for moment in (one["opened_at"], ends)]
            axes.plot(bar, [one["round"]] * 2, color=BLUE, linewidth=3, solid_capstyle="butt")
        for name, marker, color, moments in (
            ("deadline", "|", INK, [(one["deadline"], one["round"]) for one in rounds]),
            ("settled", "o", BLUE, [(o["ended_at"], o["round"]) for o in rounds if o["status"] in _SETTLED]),
            ("aborted", "X", RED, [(o["ended_at"], o["round"]) for o in rounds if o["status"] == "aborted"]),
            ("released", "D", BLUE, [(o["released_at"], o["round"]) for o in rounds]),
        ):
            known = [((moment - start) / seconds, number) for moment, number in moments if moment is not None]
            if known:
                face = "none" if name == "released" else color
                axes.plot(*zip(*known, strict=True), marker, color=color, markerfacecolor=face, label=name)
        axes.set_xlabel(f"{unit} since the first round was opened")
        axes.set_ylabel("round")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_ylim(max(one["round"] for one in rounds) + 0.7, min(one["round"] for one in rounds) - 0.7)
        axes.legend(loc="upper right", ncols=2, handletextpad=0.3)

    return _svg("timeline", min(1.4 + 0.13 * len(rounds), 7.5), draw, rules, label)


def quality(rounds: Sequence[Round], rules: Rules, label: str) -> str:
    """Every measure of quality by round."""
    names = sorted({name for one in rounds for name in one["quality"] or {}})

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for at, name in enumerate(names):
            points = [(one["round"], (one["quality"] or {}).get(name)) for one in rounds]
            shown = [(number, value) for number, value in points if _drawable(value)]
            axes.plot(
                *zip(*shown, strict=True) if shown else ((), ()), marker=MARKERS[at % len(MARKERS)], label=short(name)
            )
        axes.legend()
        _rounds_below(axes, rounds)

    return _svg("quality", 2.6, draw, rules, label)


def privacy(rounds: Sequence[Round], names: Mapping[int, str], rules: Rules, label: str) -> str:
    """What each site has spent by round, and the plans' budgets."""
    spent: dict[int, list[tuple[int, float]]] = {}
    for one in rounds:
        for site in (one["privacy"] or {}).get("spent") or []:
            if _drawable(site["epsilon"]):
                spent.setdefault(site["member"], []).append((one["round"], site["epsilon"]))
    budgets = [(one["round"], one["privacy"]["budget"]) for one in rounds if one["privacy"]]
    budgets = [(number, budget) for number, budget in budgets if _drawable(budget)]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for at, (member, points) in enumerate(sorted(spent.items())):
            axes.plot(*zip(*points, strict=True), marker=MARKERS[at % len(MARKERS)], label=_named(member, names))
        if budgets:
            axes.step(*zip(*budgets, strict=True), where="mid", color=RED, linestyle="--", marker="_", label="budget")
        axes.set_ylabel("epsilon")
        axes.set_ylim(bottom=0)
        if spent or budgets:
            axes.legend(loc="upper left", ncols=2)
        _rounds_below(axes, rounds)

    return _svg("privacy", 2.8, draw, rules, label)


def fared(
    said: Mapping[int, Points],
    means: Points,
    worst: int,
    names: Mapping[int, str],
    metric: str,
    rules: Rules,
    label: str,
) -> str:
    """What each site says of each model by one metric, their means, and where the newest model fared worst."""
    few = len(said) <= len(MARKERS)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()

        def line(points: Points, name: str, **style: Any) -> None:
            shown = [point for point in points if _drawable(point[1])]
            if shown:
                axes.plot(*zip(*shown, strict=True), label=name, **style)

        others = sorted(said.keys() - {worst})
        for at, member in enumerate(others):
            if few:
                line(said[member], _named(member, names), marker=MARKERS[at % len(MARKERS)])
            else:  # to tell them apart there is the table
                line(said[member], "_" if at else "the other sites", color=GREY, linewidth=0.6)
        line(means, "mean of the sites", color=INK, linestyle=":", linewidth=2.2)
        crosses = {"marker": "x", "markersize": 7, "markeredgewidth": 2}
        line(said[worst], f"worst: {_named(worst, names)}", color=RED, linestyle="--", linewidth=2.2, **crosses)
        if axes.get_lines():
            axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        axes.set_ylabel(short(metric))
        _numbers_below(axes, [model for model, _ in means], "model of round (0: the genesis model)")

    return _svg(f"fared by {metric}", 3.2, draw, rules, label)


def shares(sites: Sequence[tuple[str, float]], rules: Rules, label: str) -> str:
    """Each site's share of all weight that was counted, between 0 and 1."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        bars = axes.barh(range(len(sites)), [share for _, share in sites], color=BLUE, height=0.62)
        axes.bar_label(bars, [f"{share:.1%}" for _, share in sites], padding=4, color=INK)
        axes.set_yticks(range(len(sites)), [short(name) for name, _ in sites])
        axes.set_ylim(len(sites) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, max(share for _, share in sites) * 1.12 or 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlabel("share of all weight counted")

    return _svg("shares", 0.9 + 0.24 * len(sites), draw, rules, label)


def costs(rounds: Sequence[Round], rules: Rules, label: str) -> str:
    """Gas and bytes by round, one above the other."""

    def draw(figure: Figure) -> None:
        for axes, field in zip(figure.subplots(2, sharex=True), ("gas", "bytes"), strict=True):
            known = [(one["round"], one[field]) for one in rounds if _drawable(one[field])]
            axes.bar(*zip(*known, strict=True) if known else ((), ()), color=BLUE, width=0.7)
            axes.grid(visible=False, axis="x")
            axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
            axes.set_ylabel(field)
            axes.set_ylim(bottom=0)
        figure.align_ylabels()
        _rounds_below(axes, rounds)

    return _svg("costs", 3.6, draw, rules, label)


_SETTLED = ("settled", "released")
_UNITS = [("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1)]


def _named(member: int, names: Mapping[int, str]) -> str:
    return short(f"{member}  {names.get(member, '')}")


def _drawable(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and abs(value) < LARGEST


def _rounds_below(axes: Axes, rounds: Sequence[Round]) -> None:
    _numbers_below(axes, [one["round"] for one in rounds], "round")


def _numbers_below(axes: Axes, numbers: Sequence[int], label: str) -> None:
    axes.set_xlim(min(numbers) - 0.7, max(numbers) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel(label)


def _svg(name: str, height: float, draw: Callable[[Figure], None], rules: Rules, label: str) -> str:
    """An SVG element without style attributes, which the page's policy forbids: each becomes a class of `rules`."""
    target = io.StringIO()
    # matplotlib measures text in a font of its own, and warns of every letter that it lacks; the browser has its own.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        figure.savefig(target, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(target.getvalue())  # noqa: S314 - matplotlib has just written it
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}style", "}metadata")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.partition("}")[2]
        attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if element.tag == "g":
            attributes.pop("id", None)  # nothing refers to it, and every figure has the same
        if style := attributes.pop("style", None):
            attributes["class"] = rules.setdefault(style, f"p{len(rules)}")
        element.attrib.clear()
        element.attrib.update(attributes)
    root.attrib.update({"role": "img", "aria-label": label})
    return ElementTree.tostring(root, encoding="unicode")
