"""What commands tell of how models fared at the sites, and of how updates compare: as the sites say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger.cli.connection import Connection
    from ledger.history import History, Round
    from ledger.manifest import Manifest, Score

MOST_ROUNDS = 8
"""Rounds that are looked at, from the newest back, for figures that can be read."""


def newest_figures(connection: Connection, history: History) -> dict[str, Any]:
    """The figures of the newest model of which this member can read some, as JSON has them, or why there are none.

    Nobody is asked for anything, and nothing fails: without figures, too, it is known where a ledger stands.
    """
    from ledger.figures import figures

    why = None
    ended = [known for known in reversed(history.rounds.values()) if known.ended and known.ended.manifest]
    for known in ended[:MOST_ROUNDS]:
        manifest, unread = manifest_at_once(connection, known)
        if manifest is None:
            return {"metrics": None, "why": unread}
        scores, sealed = readable_scores(connection, history, known, manifest)
        if found := figures(scores):
            metrics = {metric: figure.document() for metric, figure in found.items()}
            return {"round": known.number, "base_round": known.opened.base_round, "metrics": metrics, "why": None}
        why = why or sealed
    return {"metrics": None, "why": why}


def manifest_at_once(connection: Connection, known: Round) -> tuple[Manifest | None, str | None]:
    """The manifest of a round, or why it cannot be read now; neither where it has none."""
    from ledger.errors import FedledgerError
    from ledger.manifests import read_manifest

    store = connection.blobs_at_once
    try:
        return read_manifest(known, store), None
    except (FedledgerError, OSError) as error:
        return None, f"the manifest of round {known.number} cannot be read: {error}"


def readable_scores(
    connection: Connection, history: History, known: Round, manifest: Manifest
) -> tuple[Mapping[int, Score], str | None]:
    """The scores of a round that this member can read without being asked for anything, and why it cannot."""
    from ledger.facts import CharterAccepted
    from ledger.scores import scores_in
    from ledger.sealing import readers

    facts = [receipt.entry.fact for receipt in connection.memory.receipts()]
    own = {fact.member for fact in facts if isinstance(fact, CharterAccepted)}
    why = f"those of round {known.number} are sealed to its aggregators and auditors"
    may = not own or own & readers(known).keys()  # to open a member's identities takes a second: not in vain
    scores = scores_in(history, known, manifest, lambda: connection.openers[0] if may else [])
    if scores is not None:
        return scores, None
    return {}, f"{why}: {connection.openers[1]}" if may else why


def model_of(base_round: int) -> str:
    """The model that a round was built on, in words."""
    return f"the model of round {base_round}" if base_round else "the genesis model"


def figure_lines(told: Mapping[str, Any], names: Mapping[int, str]) -> list[tuple[str, object]]:
    """Figures as lines for people.

    Args:
        told: As `newest_figures` gives them.
        names: The members', by id.
    """
    from ledger.figures import foremost

    metrics = told["metrics"]
    if metrics is None:
        return [("figures", told["why"])]
    about = f"of {model_of(told['base_round'])}, as the sites say in their updates of round {told['round']}"
    lines: list[tuple[str, object]] = [("figures", about)]
    told_of = foremost({metric: figure["sites"] for metric, figure in metrics.items()})
    for metric in told_of:
        mean, worst, spread = (metrics[metric][name] for name in ("mean", "worst", "spread"))
        many = "1 site" if metrics[metric]["sites"] == 1 else f"{metrics[metric]['sites']} sites"
        where = f"{worst['member']} {names.get(worst['member'], 'never admitted')}"
        figure = f"mean {mean:.4g} of {many}, worst {worst['value']:.4g} at {where}, spread {spread:.4g}"
        lines.append((f"  {metric}", figure))
    if left := len(metrics) - len(told_of):
        lines.append(("  …", f"{left} metrics more, which fewer sites say: --json shows all"))
    return lines
