"""Named points at which a test may kill the process, to prove that any line may be the last.

`MERCATO_CRASH_AT=settle.booked` ends the process there the hard way, as a power failure would;
`settle.booked:3` does so the third time. Without the variable a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

_AT, _, _TIMES = os.environ.get("MERCATO_CRASH_AT", "").partition(":")
_reached: Counter[str] = Counter()


def point(name: str) -> None:
    """Die here if the environment says so."""
    if name == _AT:
        _reached[name] += 1
        if _reached[name] == int(_TIMES or 1):
            os.kill(os.getpid(), signal.SIGKILL)
