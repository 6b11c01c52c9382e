"""How the updates of a round compare: its scores, as its manifest has them for everybody or, in the annex, for some."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ledger.history import History, Round
from ledger.manifest import Manifest, Score
from ledger.sealing import Identity, read_annex
from ledger.updates import Place


def public_scores(manifest: Manifest) -> dict[int, Score] | None:
    """The scores that are for everybody, by member id; None where there are none."""
    if manifest.scores is None:
        return None
    return {int(member): score for member, score in manifest.scores.items()}


def scores_in(
    history: History, known: Round, manifest: Manifest, identities: Callable[[], Sequence[Identity]]
) -> Mapping[int, Score] | None:
    """The scores that a manifest has for everybody, or its annex for the holders of some identities, by member id.

    Args:
        history: The whole history.
        known: The round.
        manifest: Its manifest.
        identities: Gives the reader's own age identities; asked only if they are needed.

    Returns:
        None where they are in the annex, and none of the identities opens it.
    """
    if manifest.scores is not None or manifest.annex is None:
        return public_scores(manifest) or {}
    try:
        opened = read_annex(manifest.annex, Place.of(history.genesis, known.opened), identities())
    except ValueError:
        return None  # the audit says so
    return None if opened is None else opened.scores
