"""``fedledger round list`` and ``fedledger round show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ledger.cli.connection import Connection, connected
from ledger.cli.output import document, facts, plain, table
from ledger.cli.scores import manifest_at_once, model_of, readable_scores

if TYPE_CHECKING:
    from ledger.history import History, Round


@click.command("list")
@connected()
def list_(connection: Connection) -> None:
    """List all rounds.

    Exit status: 0 done; 1 what the node shows is not the ledger; 2 wrong use; 3 the node cannot be reached.
    """
    from ledger.chain.sentences import moment

    history = connection.history()
    if connection.as_json:
        document({"rounds": [_described(history, known) for known in history.rounds.values()]})
        return
    now = connection.now
    rows = [
        (
            known.number,
            known.status.value,
            f"round {known.opened.base_round}" if known.opened.base_round else "genesis",
            f"{len(known.updates)} of {known.eligible}",
            f"{_votes(known, True)} of {known.opened.approvals}",
            _votes(known, False),
            moment(known.opened.deadline, now),
        )
        for known in history.rounds.values()
    ]
    table(["round", "status", "base", "updates", "approvals", "rejections", "deadline"], rows)


@click.command()
@click.argument("number", metavar="[N]", type=click.IntRange(1, (1 << 32) - 1), required=False)
@connected(store=True, opens=True)
def show(connection: Connection, number: int | None) -> None:
    """Show round N, or the newest: plan, deadline, who reads its updates, model, attestations, grants, erasures.

    And what its manifest did with each update, with its scores, where this member can read them.

    Exit status: 0 done; 1 what the node shows is not the ledger; 2 wrong use; 3 the node cannot be reached.
    """
    from ledger.chain.sentences import moment

    history = connection.history()
    known = known_round(history, number or history.latest_round)
    told = _described(history, known) | _settled(connection, history, known)
    if connection.as_json:
        document(told)
        return
    opened = known.opened
    facts(
        [
            ("round", known.number),
            ("status", told["status"]),
            ("opened by", _name(history, opened.aggregator)),
            ("plan", opened.plan),
            ("base", f"{opened.base}, {f'of round {opened.base_round}' if opened.base_round else 'the genesis model'}"),
            ("deadline", moment(opened.deadline, connection.now)),
            ("needs", f"{opened.quorum} updates of {known.eligible} participants, {opened.approvals} approvals"),
            ("readers", ", ".join(_name(history, member) for member in told["readers"])),
            ("model", told["model"]),
            ("manifest", told["manifest"]),
            ("state", told["state"]),
            ("aborted for", told["reason"]),
        ]
    )
    if known.updates:
        click.echo()
        updates = known.updates.items()
        table(
            ["update of", "weight", "sealed", "blob"],
            [
                (_name(history, member), one.weight, "yes" if one.key_blob else "NO", one.update)
                for member, one in updates
            ],
        )
    if told["outcomes"]:
        click.echo()
        _show_outcomes(history, known, told["outcomes"])
    if told["unread"]:
        click.echo(plain(f"\nnot shown: {told['unread']}"))
    if known.attestations:
        click.echo()
        said = [
            (_name(history, member), "approves" if one.approve else "rejects", one.report)
            for member, one in known.attestations.items()
        ]
        table(["attestation of", "verdict", "report"], said)
    for one in told["grants"]:
        click.echo(f"\nopened by {_name(history, one['member'])} for {_name(history, one['to'])}")
    for erased in known.erasures:
        blob = f"0x{erased.digest.hex()}"
        click.echo(f"\nto be erased, {erased.reason.name.lower()}: {blob}, of {_name(history, erased.member)}")


def _settled(connection: Connection, history: History, known: Round) -> dict[str, Any]:
    """What the manifest did with each update, and its scores; of what cannot be read, why."""
    manifest, unread = manifest_at_once(connection, known)
    if manifest is None:
        return {"state": None, "outcomes": None, "unread": unread}
    scores, unread = readable_scores(connection, history, known, manifest)
    outcomes = [
        {
            "member": row.member,
            "weight": row.weight,
            "excluded": row.excluded,
            "score": scores[row.member].model_dump(mode="json") if row.member in scores else None,
        }
        for row in manifest.updates
    ]
    return {"state": manifest.state, "outcomes": outcomes, "unread": unread and f"scores: {unread}"}


def _show_outcomes(history: History, known: Round, outcomes: list[dict[str, Any]]) -> None:
    from collections import Counter

    from ledger.figures import foremost

    metrics = foremost(Counter(metric for one in outcomes if one["score"] for metric in one["score"]["metrics"]))

    def row(one: dict[str, Any]) -> list[str]:
        score = one["score"] or {"norm": None, "distance": None, "metrics": {}}
        values = [score["norm"], score["distance"], *(score["metrics"].get(metric) for metric in metrics)]
        cells = ["–" if value is None else f"{value:.4g}" for value in values]
        return [_name(history, one["member"]), one["excluded"] or f"weight {one['weight']}", *cells]

    table(["update of", "settled as", "norm", "distance", *metrics], map(row, outcomes))
    if metrics:
        click.echo(f"{', '.join(metrics)}: of {model_of(known.opened.base_round)}, as the sites say")


def known_round(history: History, number: int) -> Round:
    """A round of the ledger.

    Raises:
        UsageError: If there is no such round.
    """
    from ledger.errors import UsageError

    if (found := history.rounds.get(number)) is None:
        newest = f"the newest is {history.latest_round}" if history.rounds else "none was opened yet"
        raise UsageError(f"there is no round {number or 'to show'}: {newest}")
    return found


def _votes(known: Round, approve: bool) -> int:
    return [attestation.approve for attestation in known.attestations.values()].count(approve)


def _name(history: History, member: int) -> str:
    known = history.members.get(member)
    return f"{member} {known.name if known else 'never admitted'}"


def _described(history: History, known: Round) -> dict[str, Any]:
    from ledger.facts import RoundAborted, RoundSettled
    from ledger.sealing import readers

    opened, ended = known.opened, known.ended
    return {
        "round": known.number,
        "status": known.status.value,
        "aggregator": opened.aggregator,
        "plan": str(opened.plan),
        "base_round": opened.base_round,
        "base": str(opened.base),
        "opened_at": known.opened_at,
        "opening_head": "0x" + known.opening_head.hex(),
        "deadline": opened.deadline,
        "grace": opened.grace,
        "quorum": opened.quorum,
        "approvals": opened.approvals,
        "rejections": opened.rejections,
        "participants_attest": opened.participants_attest,
        "eligible": known.eligible,
        "readers": list(readers(known)),
        "updates": [
            {
                "member": member,
                "update": str(one.update),
                "key_blob": "0x" + one.key_blob.hex() if one.key_blob else None,
                "weight": one.weight,
                "sender": one.sender,
            }
            for member, one in sorted(known.updates.items())
        ],
        "model": str(ended.model) if isinstance(ended, RoundSettled) else None,
        "manifest": str(ended.manifest) if ended and ended.manifest else None,
        "counted": ended.counted if isinstance(ended, RoundSettled) else None,
        "reason": ended.reason.name.lower() if isinstance(ended, RoundAborted) else None,
        "attestations": [
            {"member": member, "approve": one.approve, "report": str(one.report)}
            for member, one in sorted(known.attestations.items())
        ],
        "grants": [
            {"member": one.member, "to": one.to, "keys": str(one.keys)}
            for one in history.grants
            if one.first <= known.number <= one.last
        ],
        "erasures": [
            {
                "member": one.member,
                "digest": "0x" + one.digest.hex(),
                "reason": one.reason.name.lower(),
                "sender": one.sender,
            }
            for one in known.erasures
        ],
    }
