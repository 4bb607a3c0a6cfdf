"""Counting what limits do, for operators: by unit, never by whose limit it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from accounts.limits import Limit
from inference.limits.script import Refusal
from inference.metrics import counting, families

ADMITTED, REFUSED = "admitted", "refused"
# The limit of what costs nothing is the site's, and no tenant's.
READS = "reads"


def unit_of(limit: Limit) -> str:
    """Return what a limit is counted as."""
    return READS if limit.owner.startswith(f"{READS}:") else limit.unit


def decided(decisions: Iterable[tuple[tuple[Limit, ...], Refusal | None]]) -> None:
    """Count requests that Redis has admitted or refused; once for each unit that binds them."""
    found: Counter[tuple[str, str]] = Counter()
    for limits, refusal in decisions:
        if refusal is None:
            found.update({(unit, ADMITTED): 1 for unit in {unit_of(each) for each in limits}})
        else:
            found[unit_of(refusal.limit), REFUSED] += 1
    for labels, n in found.items():
        counting.add(families.LIMITED, labels, n)


def refused(limit: Limit) -> None:
    """Count a request that was refused without asking Redis."""
    counting.add(families.LIMITED, (unit_of(limit), REFUSED))


def let_through(requests: int) -> None:
    """Count requests that could not be counted against their limits."""
    counting.add(families.UNCOUNTED, n=requests)
