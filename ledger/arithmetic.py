"""Whether this machine's arithmetic can be relied on. Pure.

Not a part of the trusted core: it can keep a settlement or an audit from running, and changes nothing in it.
"""

from __future__ import annotations

import numpy as np

from ledger.averaging import Sums
from ledger.errors import UnavailableError
from ledger.plan import Dtype, TensorSpec
from ledger.updates import Layout, from_float64

# Two updates of weight 1023 and 1. Their mean lies just above a tie of bfloat16 and of float16, where rounding
# twice goes wrong, and among the subnormals of float32 and float16, which a flush to zero loses.
_SELF_TEST_VALUES = (
    [1 + 2.0**-8, 1 + 2.0**-11, 3 * 2.0**-149, 0.1, -(2.0**-24)],
    [1 + 2.0**-8 + 2.0**-23, 1 + 2.0**-11 + 2.0**-23, 2.0**-149, -7.25, 2.0**-20],
)
_SELF_TEST_MEANS: dict[Dtype, str] = {
    "F32": "0080803f0010803f030000009a19be3d00c07bb3",
    "F16": "043c013c0000f12d0180",
    "BF16": "813f803f0000be3d7cb3",
}


def self_test() -> None:
    """Check this machine's arithmetic on a vector that flush-to-zero, double rounding or fused operations change.

    Raises:
        UnavailableError: If it computes something else, so that no settlement here could be believed.
    """
    sums = Sums(Layout({"v": TensorSpec(dtype="F32", shape=[5])}))
    for values, weight in zip(_SELF_TEST_VALUES, (1023, 1), strict=True):
        sums.add(memoryview(np.array(values, "<f4").tobytes()), 0, weight)
    for dtype, expected in _SELF_TEST_MEANS.items():
        found = from_float64(sums.mean(slice(0, 5), 1024), dtype).tobytes().hex()
        if found != expected:
            raise UnavailableError(
                f"this machine's arithmetic is not IEEE 754, to nearest, ties to even ({dtype}: {found}, expected "
                f"{expected}): settle and audit on another machine, or look for a library that flushes to zero"
            )
