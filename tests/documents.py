"""Documents of audits as `fedledger audit --json` prints them, of any size, for whatever shows one."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from eth_hash.auto import keccak

from ledger.audit.report import Verdict, worst
from ledger.cid import RAW, Cid
from ledger.figures import figures
from ledger.manifest import Score

Json = dict[str, Any]

DAY = 86_400
BEGINNING = 1_790_000_000
"""Unix seconds: 21 September 2026."""

HOSPITALS = ["Cleveland", "Hungary", "Switzerland", "Long Beach VA"]

HOSTILE = [
    "</script><script>parent.harmed = 1</script>",
    '"><img src=x onerror="harmed = 1">',
    "Saint \u202eyraM\u202c\u2066\x1b[31m",
    "first\nsecond\r\n\x00third",
    "$\\frac{x}{$ </text></svg><script>harmed = 1</script>",
    "]]><!--",
    "{{ document }}{% raw %}",
    "x" * 5000,
    "\ud800 病院 בית־חולים _",
    "}</style><style>* { display: none }",
]
"""Names of people who mean harm."""

KEPT = {"verdict", "status", "outcome", "name", "roles"}
"""Words of closed lists; and names, which are hostile already."""

CHECKS = {
    "ledger": (
        "The source is the ledger that it claims to be: chain id, address, and runtime code as in the artifact.",
        "The source, for the code that it shows.",
        "That the address is the one that the consortium agreed on.",
    ),
    "entries": (
        "The entries are complete and untouched up to the head.",
        "Whoever the head was heard from.",
        "What came after that head.",
    ),
    "authors": (
        "The member that an entry names signed it.",
        "Nobody: signatures are recovered here.",
        "Who held the key.",
    ),
    "receipts": (
        "Every remembered receipt and head lies on this history.",
        "The members that kept them.",
        "What no member kept a receipt of.",
    ),
    "rules": (
        "Membership, keys, charter, base models, deadlines, quorum and approvals held at every entry.",
        "The entries alone.",
        "That the chain's clock was right.",
    ),
    "blobs": (
        "Every blob is there, and is what its CID says.",
        "Nobody: every blob is hashed here.",
        "That no other copy of an erased blob exists.",
    ),
    "documents": (
        "Every manifest accounts for every update of its round exactly once, and every exclusion is true.",
        "The aggregator, where it claims that an update was unavailable.",
        "That a site trained honestly on honest data.",
    ),
    "settlement": (
        "Settling every round again gives the recorded model, byte for byte.",
        "Nobody: it is computed here.",
        "That the model is a good one.",
    ),
    "objections": (
        "Rejections, erasures and aborted rounds that had updates are listed, whoever wins.",
        "The entries alone.",
        "Who was right.",
    ),
}
"""Name to what it proves, on whose word, and what it leaves open; in their order."""


def cid(*of: object) -> str:
    """A CID that stands for these words."""
    return str(Cid(keccak(repr(of).encode()), RAW))


def word(*of: object) -> str:
    """32 bytes in hex that stand for these words."""
    return "0x" + keccak(repr(of).encode()).hex()


def account(*of: object) -> str:
    """An account that stands for these words."""
    return word(*of)[:42]


def finding(verdict: str, text: str, **evidence: Any) -> Json:
    """A finding; what is not given is null."""
    fields = ("round", "member", "cid", "entry", "block", "expected", "found", "by")
    assert evidence.keys() <= set(fields)
    return {"verdict": verdict, "text": text, **{name: evidence.get(name) for name in fields}}


def document(
    rounds: int = 20,
    sites: int = 4,
    findings: Mapping[str, Sequence[Json]] | None = None,
    names: Sequence[str] = HOSPITALS,
    **changes: Any,
) -> Json:
    """An audit's document.

    Every fifth round or so has an excluded update and an absent site; the last site joins after a quarter of the
    rounds; the last round is open and the one before it is aborted, if there are that many.

    Args:
        rounds: How many.
        sites: How many participants; an aggregator and an auditor join them.
        findings: Those of each check, by its name; the verdicts follow from them.
        names: The sites' names; those without one are called Hospital and their number.
        changes: Top-level fields to replace.
    """
    chance = random.Random(f"{rounds} {sites}")
    members = [_member(id_, names[id_ - 1] if id_ <= len(names) else f"Hospital {id_}") for id_ in range(1, sites + 1)]
    members += [_member(sites + 1, "Coordinating centre", "aggregator"), _member(sites + 2, "Regulator", "auditor")]
    weights = [chance.randrange(100, 1500) for _ in range(sites)]
    timeline = [_round(number, rounds, weights, chance) for number in range(1, rounds + 1)]
    checks: list[Json] = [
        {
            "number": number,
            "name": name,
            "status": worst(Verdict(one["verdict"]) for one in (findings or {}).get(name, ())).value,
            "proves": proves,
            "rests_on": rests_on,
            "leaves_open": leaves_open,
            "summary": f"{rounds * (sites + 4)} entries and {rounds} rounds looked at",
            "findings": list((findings or {}).get(name, ())),
        }
        for number, (name, (proves, rests_on, leaves_open)) in enumerate(CHECKS.items(), start=1)
    ]
    return {
        "fedledger": "0.1.0",
        "verdict": worst(Verdict(check["status"]) for check in checks).value,
        "rests_on": [
            {"kind": "receipts", "text": "3 receipts of 2 members lie on this history, the newest at its head."},
            {"kind": "provider", "text": "A second provider shows the same head."},
        ],
        "ledger": {
            "chain_id": 1337,
            "address": account("ledger"),
            "governor": account("governor"),
            "charter": cid("charter"),
        },
        "head": word("head", rounds, sites),
        "entries": rounds * (sites + 4),
        "rounds": rounds,
        "updates": sum(len(one["updates"]) for one in timeline),
        "scope": {"rounds": None, "since": None, "left_open": None},
        "checks": checks,
        "members": members,
        "timeline": timeline,
        **changes,
    }


def violated(**changes: Any) -> Json:
    """The audit of a history in which an aggregator left an update out, and a blob was altered."""
    left_out = finding(
        "violated",
        "the recorded model is not the one that settling again gives: the update of member 2 (Hungary) was left out",
        round=7,
        member={"id": 2, "name": "Hungary", "account": account("member", 2)},
        cid=cid("model", 7),
        entry=61,
        block=70,
        expected=cid("another model", 7),
        found=cid("model", 7),
        by="the aggregator that settled the round, member 5 (Coordinating centre)",
    )
    altered = finding(
        "violated",
        "the update of round 3 is not what its CID says: the stored bytes were altered or cut short",
        round=3,
        member={"id": 1, "name": "Cleveland", "account": account("member", 1)},
        cid=cid("update", 3, 1),
        entry=22,
        block=24,
        by="whoever keeps the blobs",
    )
    rejected = finding(
        "verified",
        "the auditor rejected the model of round 18",
        round=18,
        member={"id": 6, "name": "Regulator", "account": account("member", 6)},
        cid=cid("report", 18),
    )
    return document(
        findings={"blobs": [altered], "settlement": [left_out], "objections": [rejected]},
        rests_on=[{"kind": "head", "text": "The head given with --head is the head of these entries."}],
        **changes,
    )


def incomplete(**changes: Any) -> Json:
    """The audit of some rounds of a history of which a blob is missing, and whose head nobody else vouches for."""
    missing = finding(
        "incomplete",
        "the update of round 4 is missing: ask its owner, the aggregator or a mirror for it",
        round=4,
        member={"id": 3, "name": "Switzerland", "account": account("member", 3)},
        cid=cid("update", 4, 3),
        entry=33,
        block=36,
    )
    claimed = finding("verified", "round 5: the aggregator claims that an update was unavailable", round=5)
    return document(
        findings={"blobs": [missing], "documents": [claimed]},
        rests_on=[
            {"kind": "source", "text": "No word but the source's own: the history is consistent with itself."},
        ],
        scope={
            "rounds": [3, 4, 5, 6, 7, 11],
            "since": word("an earlier head"),
            "left_open": "Documents and settlement of the other 14 rounds were not looked at.",
        },
        **changes,
    )


def private(rounds: int = 20, sites: int = 4, **changes: Any) -> Json:
    """The audit of a history whose plans are private from the second round on, with a budget from the fifth on.

    The first site took part in a round that was not; what the second has spent is not known.
    """
    audit = document(rounds, sites, **changes)
    for one in audit["timeline"][1:]:
        spent: list[Json] = []
        for update in one["updates"]:
            member, epsilon = update["member"], round(0.4 * math.sqrt(one["round"]) + 0.1 * update["member"], 3)
            known = (
                {"epsilon": epsilon, "rdp": round(epsilon * 1.2, 3)}
                if member > 2
                else dict.fromkeys(("epsilon", "rdp"))
            )
            spent.append({"member": member, "known": member != 2, **known})
        one["privacy"] = {"delta": 1e-5, "budget": 2.0 if one["round"] >= 5 else None, "spent": spent}
    audit["timeline"][2]["privacy"]["spent"] = None
    return audit


def scored(rounds: int = 20, sites: int = 4, **changes: Any) -> Json:
    """The audit of a history in which the sites say how each round's base fared, by two metrics.

    The third site falls behind. Every other round's scores are sealed, and the first two rounds have none; an update
    far away is filtered in every sixth round, the first of which has no scores either.
    """
    audit = document(rounds, sites, **changes)
    chance = random.Random("scores")
    for one in audit["timeline"]:
        for update in one["updates"]:
            if update["outcome"] == "counted" and one["round"] % 6 == 0 and update["member"] == 2:
                update |= {"outcome": "excluded", "weight": None, "reason": "filtered"}
        counted = [
            one_["member"] for one_ in one["updates"] if one_["outcome"] == "counted" or one_["reason"] == "filtered"
        ]
        if one["round"] <= 2 or one["round"] == 6 or not counted:
            continue
        scores = {}
        for member in counted:
            gain = 0.3 * (1 - 0.8 ** one["base_round"]) - (0.12 if member == 3 else 0) + chance.uniform(-0.02, 0.02)
            norm, distance = round(chance.uniform(0.5, 1.5), 4), round(chance.uniform(1, 4), 4)
            metrics = {"auc": round(0.6 + gain, 4), "loss": round(0.7 - gain, 4)}
            scores[member] = Score(norm=norm, distance=distance, metrics=metrics)
        one["scores"] = {
            "sealed": one["round"] % 2 == 0,
            "sites": {str(member): score.model_dump(mode="json") for member, score in scores.items()},
            "figures": {metric: figure.document() for metric, figure in figures(scores).items()},
        }
    return audit


def unreadable() -> Json:
    """The audit of a source that cannot be read."""
    check = document(0, 0)["checks"][0]
    found = finding("incomplete", "history.car ends in the middle of a block: fetch it again")
    return document(
        0,
        0,
        verdict="incomplete",
        rests_on=[],
        ledger=None,
        head=None,
        members=[],
        checks=[{**check, "status": "incomplete", "summary": "the source is read", "findings": [found]}],
    )


def hostile() -> Json:
    """A document whose every text was chosen by somebody who means harm."""

    def spoil(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: spoil(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [spoil(inner, key) for inner in value]
        if not isinstance(value, str) or key in KEPT:
            return value
        return f"{HOSTILE[1]}{HOSTILE[2]}{value}{HOSTILE[3]}{HOSTILE[0]}"

    honest = violated(rounds=12, sites=len(HOSTILE), names=HOSTILE)
    honest["timeline"][3]["quality"] = {HOSTILE[0]: 0.5, HOSTILE[4]: 1e308, HOSTILE[9]: -1e308, "_": 0}
    honest["timeline"][4]["deadline"] = 2**64 - 1
    metrics = dict(zip(HOSTILE[1:], (0.5, 1e15, -1e15, 5e-324, 0, 1, 2, 3, 4), strict=True))
    said = Score.model_construct(norm=1e308, distance=-1.0, metrics=metrics)  # no manifest has such names
    scores = dict.fromkeys((*range(1, len(HOSTILE) + 1), 99), said)
    told = {metric: figure.document() for metric, figure in figures(scores).items()}
    told[HOSTILE[2]] |= {"mean": 1e308, "spread": 1e308, "deviation": 1e308}
    for one in honest["timeline"][6:9]:
        one["scores"] = {
            "sealed": True,
            "sites": {str(member): score.model_dump(mode="json") for member, score in scores.items()},
            "figures": told,
        }
        one["updates"][0] |= {"outcome": "excluded", "reason": "filtered"}
    spent = [
        {"member": id_, "known": True, "epsilon": 100.0, "rdp": 100.0} for id_ in (*range(1, len(HOSTILE) + 1), 99)
    ]
    honest["timeline"][5]["privacy"] = {"delta": 5e-324, "budget": 999_999.0, "spent": spent}
    spoilt: Json = spoil(honest)
    return spoilt


def _member(id_: int, name: str, role: str = "participant") -> Json:
    return {"id": id_, "name": name, "account": account("member", id_), "roles": [role]}


def _round(number: int, rounds: int, weights: Sequence[int], chance: random.Random) -> Json:
    sites = len(weights)
    status = "open" if number == rounds > 2 else "aborted" if number == rounds - 1 > 2 else "released"
    if number == rounds - 2 > 2:
        status = "settled"
    opened_at = BEGINNING + (number - 1) * DAY
    eligible = [id_ for id_ in range(1, sites + 1) if id_ < sites or number > rounds // 4]
    settled = status in ("settled", "released")
    updates = []
    for id_ in eligible:
        if chance.random() < 0.05:
            continue
        reason = chance.choice(["unavailable", "malformed", "nonfinite"]) if chance.random() < 0.05 else None
        counted = settled and reason is None
        updates.append(
            {
                "member": id_,
                "outcome": "counted" if counted else "excluded" if settled else "recorded",
                "weight": weights[id_ - 1] + number if counted else None,
                "reason": reason if settled else None,
                "cid": cid("update", number, id_),
                "at": opened_at + 600 * id_ + chance.randrange(600),
                "relayed": id_ % 2 == 0,
            }
        )
    attested = [{"member": sites + 2, "approve": status == "released", "report": cid("report", number)}]
    return {
        "round": number,
        "status": status,
        "opened_at": opened_at,
        "deadline": opened_at + DAY // 2,
        "ended_at": None if status == "open" else opened_at + DAY // 2 + 60,
        "released_at": opened_at + DAY // 2 + 7200 if status == "released" else None,
        "aggregator": sites + 1,
        "base_round": number - 1,
        "model": cid("model", number) if settled else None,
        "state": None,
        "counted": sum(update["outcome"] == "counted" for update in updates) if settled else None,
        "eligible": eligible,
        "updates": updates,
        "attestations": attested if settled else [],
        "quality": {"auc": round(0.88 - 0.2 / number + chance.uniform(-0.01, 0.01), 4)} if settled else None,
        "scores": None,
        "privacy": None,
        "gas": 180_000 + 39_113 * len(updates),
        "bytes": 12_000 * (len(updates) + 2),
    }
