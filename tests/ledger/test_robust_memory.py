"""Rules that look at all updates together take no more memory for more of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ledger import robust
from ledger.choices import Equally, Krum, Median, TrimmedMean
from ledger.facts import UpdateRecorded
from ledger.plan import TensorSpec
from ledger.storage.folder import FolderStore
from tests.rounds import Update, first, plan_of

MIB = 1 << 20
ROOM = 8 * MIB
ELEMENTS = 2 * MIB
SCHEMA = {"w": TensorSpec(dtype="F32", shape=[ELEMENTS])}
RULES: dict[str, dict[str, Any]] = {
    "median": {"average": Median(), "weighting": Equally()},
    "filter, clipping, trimmed mean": {
        "filter": Krum(attackers=0, keep=99),
        "clipping": 10.0,
        "average": TrimmedMean(share=0.2),
        "weighting": Equally(),
        "quorum": 3,
    },
}


@pytest.mark.parametrize("seal", ["none", "age"])
@pytest.mark.parametrize("rule", RULES)
def test_three_times_the_updates_take_no_more_memory(
    rule: str, seal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robust, "ROOM", ROOM)
    pattern = np.random.default_rng(0).standard_normal(ELEMENTS, dtype=np.float32)
    round_ = first(plan_of(SCHEMA, seal=seal, **RULES[rule]), {"w": np.zeros(ELEMENTS).tolist()})

    def peak(count: int) -> int:
        store = FolderStore(tmp_path / str(count))
        recorded, keys = list[UpdateRecorded](), dict[int, str]()
        for member in range(1, count + 1):
            posted, key = round_.post({member: Update({"w": pattern * np.float32(member)})}, store)
            recorded += posted
            keys |= key
        assert sum(path.stat().st_size for path in store.folder.iterdir()) > count * ROOM
        tracemalloc.start()
        try:
            settled = round_.settle_posted(recorded, keys, store)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert settled.manifest.counted == count
        return most

    few, many = peak(3), peak(9)
    assert many < few + ROOM // 2
