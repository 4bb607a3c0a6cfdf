"""How often Python looks for cycles in a process that serves."""

from __future__ import annotations

import gc

# Lists and dicts made and not yet freed. One JSON body with an image makes thirty, all of them
# free of cycles: with Python's 700 every second dozen requests pay for a search that finds none.
_YOUNG, _MIDDLE, _OLD = 20_000, 20, 20


def collect_rarely() -> None:
    """Leave what was loaded at the start out of every search, and search less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
