"""Who read at Stripe before somebody else wrote what was read later: it must be read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_ATTEMPTS = 3
Result = TypeVar("Result")


class StaleError(Exception):
    """What was read at Stripe is older than what is known here: read it again."""


def until_fresh(act: Callable[[], Result]) -> Result:
    """Read at Stripe and write what was read, again if somebody else was faster.

    Args:
        act: Reads and writes.

    Raises:
        StaleError: It changes faster than it can be read.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return act()
        except StaleError:
            continue
    return act()
