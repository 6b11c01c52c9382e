"""A model of any size, checked without taking it into memory."""

from __future__ import annotations

import numpy as np

from ledger.cid import CHUNK, Cid, Node, leaf, tree
from ledger.errors import BlobMismatchedError, BlobMissingError
from ledger.plan import Plan
from ledger.storage import Blobs
from ledger.threads import shared
from ledger.updates import MODEL_HEADER, Layout, to_float64


def is_model(store: Blobs, cid: Cid, plan: Plan, threads: int) -> bool:
    """Whether a blob is what its CID says, and a model as the plan says: read once, leaf by leaf.

    If not, or where its head is too large for that, `ledger.updates.decode_model` tells why.
    """
    layout = Layout(plan.tensors)
    head = layout.head(MODEL_HEADER)
    size = len(head) + layout.size

    def fine_leaves(numbers: range) -> list[tuple[Node, bool]]:
        found, room = [], bytearray(min(CHUNK, size))
        for number in numbers:
            chunk = blob.leaf(number, room)
            fine = number > 0 or chunk[: len(head)] == head
            for span, stored, _ in layout.pieces(chunk, number * CHUNK - len(head)):
                fine = fine and bool(np.isfinite(to_float64(stored, span.dtype)).all())
            found.append((leaf(chunk), fine))
        return found

    try:
        with store.open(cid) as blob:
            if blob.size != size or len(head) > CHUNK:
                return False
            leaves = shared(fine_leaves, -(-size // CHUNK), threads)
    except (BlobMissingError, BlobMismatchedError):
        return False
    return all(fine for _, fine in leaves) and tree([node for node, _ in leaves])[-1].cid == cid
