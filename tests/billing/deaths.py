"""Deaths of the process at named lines, in a test that goes on living."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import strategies as st

from billing import crashes

BEFORE_COMMIT = (
    *("admit.reserved", "admit.stored", "capture.ended", "capture.used"),
    *("settle.claimed", "settle.opened", "settle.booked", "settle.marked"),
    *("expire.found", "expire.ended", "refund.clawed_back", "refund.booked"),
    *("release.locked", "release.booked", "release.marked", "meter.cutting", "meter.cut"),
    *("payout.made", "payout.failing", "close.issuing", "close.numbered", "invoice.applied"),
)
AFTER_COMMIT = (
    *("admit.committed", "capture.committed", "settle.committed", "refund.next"),
    *("payout.claimed", "payout.sent", "meter.sending", "meter.sent"),
    *("close.open", "close.holding", "close.draining", "close.settled", "close.adding"),
    *("close.added", "close.metered", "close.finalising", "close.issued"),
    *("close.draft_checked", "close.finalised"),
)


# How often somebody died at a line, in this process.
died_at: Counter[str] = Counter()


class DeathError(Exception):
    """The process is gone at this line."""


def dying(*parts: str) -> st.SearchStrategy[str | None]:
    """Draw a line of some parts at which it is killed, such as `settle.booked`; or None."""
    points = [each for each in BEFORE_COMMIT + AFTER_COMMIT if each.partition(".")[0] in parts]
    return st.one_of(st.none(), st.sampled_from(points))


@contextmanager
def death_at(name: str | None) -> Iterator[None]:
    """Let the named point end what runs, as a kill would: nothing after it happens."""

    def point(reached: str) -> None:
        if reached == name:
            died_at[name] += 1
            raise DeathError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crashes, "point", point)
        yield
