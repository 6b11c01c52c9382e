"""The audit's report for people who would rather look than read: one self-contained HTML file. Pure.

`report.html.j2` is the page. It asks no network for anything, and its policy (Content-Security-Policy) allows only the
one style and the one script whose hashes it states. Strangers chose the names in it: each value is escaped, on one
line, of bearable length, and shows its control characters instead of obeying them. Importing this raises `UsageError`
where the extra `report` is not installed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from ledger.audit.report import plain
from ledger.errors import UsageError
from ledger.figures import MOST_SHOWN, foremost

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    from ledger.audit import plots
except ImportError as error:
    raise UsageError(
        f"the HTML report needs a package that is not installed ({error.name}): pip install 'fedledger[report]'"
    ) from error

ROUNDS_ACROSS = 10
"""Rounds side by side in one table of the matrix: what fits on a sheet of paper."""

Round = Mapping[str, Any]


def render(document: Mapping[str, Any]) -> str:
    """The report on an audit.

    Args:
        document: What the audit found, see docs/audit.md.

    Returns:
        A page of HTML; the same for the same document.
    """
    environment = Environment(
        loader=PackageLoader("ledger.audit", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        utc=_utc, ranges=_ranges, hash=_hash, short=plots.short, moment=_moment, thousands="{:,}".format
    )
    environment.globals["value"] = _value
    timeline, names = document["timeline"], {one["id"]: one["name"] for one in document["members"]}
    sites = _sites(document)
    rules: plots.Rules = {}
    fared = _fared(timeline)
    return environment.get_template("report.html.j2").render(
        document=document,
        embedded=_embedded(document),
        names=names,
        sites=sites,
        matrix=_matrix(timeline),
        figures={name: Markup(svg) for name, svg in _figures(timeline, sites, names, fared, rules).items()},  # noqa: S704 - drawn here
        plot_rules=rules,
        fared=fared,
        private=[one for one in timeline if one["privacy"]],
        measures=sorted({name for one in timeline for name in one["quality"] or {}}),
    )


def _sites(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each site contributed over all rounds, in ascending member id: who participates, could have, or posted."""
    names = {one["id"]: one["name"] for one in document["members"]}
    found = {one["id"] for one in document["members"] if "participant" in one["roles"]}
    eligible: dict[int, int] = defaultdict(int)
    updates: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    absent: dict[int, int] = defaultdict(int)
    for one in document["timeline"]:
        posted = {update["member"] for update in one["updates"]}
        for member in one["eligible"]:
            eligible[member] += 1
            absent[member] += member not in posted
        for update in one["updates"]:
            updates[update["member"]].append(update)
    total = sum(update["weight"] or 0 for listed in updates.values() for update in listed)
    sites = []
    for member in sorted(found | eligible.keys() | updates.keys()):
        weight = sum(update["weight"] or 0 for update in updates[member])
        sites.append(
            {
                "id": member,
                "name": names.get(member),
                "eligible": eligible[member],
                "posted": len(updates[member]),
                "relayed": sum(update["relayed"] for update in updates[member]),
                "absent": absent[member],
                "weight": weight,
                "share": weight / total if total else None,
                **{
                    outcome: sum(update["outcome"] == outcome for update in updates[member])
                    for outcome in ("counted", "excluded")
                },
            }
        )
    return sites


def _matrix(timeline: Sequence[Round]) -> list[list[dict[str, Any]]]:
    """The rounds, as many as fit side by side at a time, each with its updates by member."""
    rounds = []
    for one in timeline:
        updates: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
        for update in one["updates"]:
            updates[update["member"]].append(update)
        rounds.append({"round": one["round"], "eligible": set(one["eligible"]), "updates": dict(updates)})
    return [rounds[at : at + ROUNDS_ACROSS] for at in range(0, len(rounds), ROUNDS_ACROSS)]


def _fared(timeline: Sequence[Round]) -> dict[str, Any]:
    """What is known of how the models fared at the sites, and of how updates compare."""
    scored = [one for one in timeline if one["scores"]]
    sites: Counter[str] = Counter()
    for one in scored:
        sites.update({metric: figure["sites"] for metric, figure in one["scores"]["figures"].items()})
    return {
        "rounds": scored,
        "metrics": foremost(sites),
        "left": max(0, len(sites) - MOST_SHOWN),
        "filtered": [
            {"round": one["round"], "member": update["member"], "score": _score(one, update["member"])}
            for one in timeline
            for update in one["updates"]
            if update["reason"] == "filtered"
        ],
    }


def _curves(rounds: Sequence[Round], metric: str) -> tuple[dict[int, plots.Points], plots.Points, int]:
    """What each site says by model, the means, and the site where the newest model fared worst; the models by round.

    Where several rounds were built on one model, what was said first stands.
    """
    said: dict[int, dict[int, float]] = defaultdict(dict)
    means: dict[int, float] = {}
    worst = 0
    for one in rounds:
        if (figure := one["scores"]["figures"].get(metric)) is not None:
            means.setdefault(one["base_round"], figure["mean"])
            worst = figure["worst"]["member"]
        for member, score in one["scores"]["sites"].items():
            if metric in score["metrics"]:
                said[int(member)].setdefault(one["base_round"], score["metrics"][metric])
    return {member: sorted(points.items()) for member, points in said.items()}, sorted(means.items()), worst


def _score(one: Round, member: int) -> Mapping[str, Any]:
    """An update's score, with nothing in it where it is not known."""
    unknown: Mapping[str, Any] = {"norm": None, "distance": None, "metrics": {}}
    return (one["scores"] or {"sites": {}})["sites"].get(str(member), unknown)  # type: ignore[no-any-return]


def _value(number: float | None) -> str:
    """A figure as people read it."""
    return "–" if number is None else f"{number:.4g}"


def _figures(
    timeline: Sequence[Round],
    sites: Sequence[Mapping[str, Any]],
    names: Mapping[int, str],
    fared: Mapping[str, Any],
    rules: plots.Rules,
) -> dict[str, str]:
    """The plots for which there is something to plot, by name."""
    figures = {}
    if timeline:
        figures["timeline"] = plots.timeline(
            timeline, rules, f"Timeline of {len(timeline)} rounds; the table below has the same times."
        )
    if any(one["quality"] for one in timeline):
        figures["quality"] = plots.quality(timeline, rules, "Quality by round; the table below has the same values.")
    if any(one["privacy"] and one["privacy"]["spent"] for one in timeline):
        label = "Epsilon by round and site; the table below has the same values."
        figures["privacy"] = plots.privacy(timeline, names, rules, label)
    for at, metric in enumerate(fared["metrics"]):
        label = f"{plots.short(metric)} by model and site; the tables below have the figures."
        figures[f"fared {at}"] = plots.fared(*_curves(fared["rounds"], metric), names, metric, rules, label)
    if any(site["share"] for site in sites):
        bars = [(f"{site['id']}  {site['name'] or ''}", site["share"]) for site in sites]
        figures["shares"] = plots.shares(bars, rules, "Share of weight by site; the table below has the same values.")
    if any(one[field] is not None for one in timeline for field in ("gas", "bytes")):
        figures["costs"] = plots.costs(timeline, rules, "Gas and bytes by round; the table below has the same values.")
    return figures


def _shown(value: object) -> object:
    """A value of the document as the page shows it; what is markup already stays as it is."""
    return value if isinstance(value, Markup) else plain("" if value is None else str(value))


def _moment(seconds: int) -> str | None:
    """A time as HTML wants it (ISO 8601); None if no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat() + "Z"
    except (OverflowError, ValueError, OSError):
        return None


def _utc(seconds: int) -> str:
    """A time as people read it; UTC."""
    moment = _moment(seconds)
    return moment[:-1].replace("T", " ") if moment else f"second {seconds}"


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers as people list them, such as ``3–7, 9``."""
    runs = [
        [number for _, number in run]
        for _, run in groupby(enumerate(sorted(set(numbers))), lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def _hash(text: str) -> str:
    """How a Content-Security-Policy names an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _embedded(document: Mapping[str, Any]) -> Markup:
    """The document in JSON, in ASCII, and without a character that HTML gives a meaning."""
    text = json.dumps(document, indent=1)
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)  # noqa: S704 - escaped above
