"""What each of the nine checks proves, on whose word, and what it leaves open: as it is printed, and documented."""

from __future__ import annotations

from ledger.audit.report import Meaning

MEANINGS = (
    Meaning(
        1,
        "ledger",
        "the source is the ledger that it claims to be, and its code is the shipped contract, or an earlier one",
        "that the address is the ledger's: yours (--ledger); that this code stands there: the source's, or the block's "
        "whose hash you trust (--block-hash)",
        "that the contract's source does what it says: read it, or compile it yourself (--recompile)",
    ),
    Meaning(
        2,
        "entries",
        "the entries are complete and untouched up to a head that is known from elsewhere",
        "whoever gave that head: see what it rests on; with none, the source's own",
        "whether the history goes on beyond that head",
    ),
    Meaning(
        3,
        "authors",
        "every entry is what its author signed",
        "nobody's: signatures are verified",
        "who held the key; what a contract that acts for a member (a Safe) checked; a transaction that a member sends "
        "itself names chain, contract and round, and not the history before it",
    ),
    Meaning(
        4,
        "receipts",
        "everything that members remember lies on this history",
        "the members whose receipts were given",
        "what nobody remembered",
    ),
    Meaning(
        5,
        "rules",
        "entries were allowed, plans are within the charter's limits, and sites within the plans' privacy budgets",
        "nobody's: the contract's rules are replayed, and the privacy spent is computed; times are the chain's",
        "that the chain's times are true; that a site clipped and added noise as its plan says, which is its word",
    ),
    Meaning(
        6,
        "blobs",
        "every blob is there, and is what its CID says",
        "nobody's: blobs are hashed",
        "that erased blobs have no copies",
    ),
    Meaning(
        7,
        "documents",
        "every plan, base model and manifest says what it must, and every exclusion is true",
        "nobody's: they are read and derived again; `unavailable`, and `unopenable` where no key of yours was named, "
        "is the aggregator's claim",
        "that an update which was claimed unavailable was so; of updates that stay sealed, whether the reasons are "
        "true",
    ),
    Meaning(
        8,
        "settlement",
        "settling every round again gives the recorded model, byte for byte",
        "nobody's: it is computed again",
        "that a site trained honestly, on honest data, on as many examples as it says, and that a model fared there as "
        "it says; rounds that no key of yours opens",
    ),
    Meaning(
        9,
        "objections",
        "rejections, erasures and aborted rounds are listed, whoever won",
        "the members who recorded them",
        "who was right",
    ),
)
