"""Deaths of the process at named lines, in a test that goes on living."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from billing import crashes

BEFORE_COMMIT = (
    *("admit.reserved", "admit.stored", "capture.ended", "capture.used"),
    *("settle.claimed", "settle.opened", "settle.booked", "settle.marked"),
)
AFTER_COMMIT = ("admit.committed", "capture.committed", "settle.committed")


class DeathError(Exception):
    """The process is gone at this line."""


@contextmanager
def death_at(name: str | None) -> Iterator[None]:
    """Let the named point end what runs, as a kill would: nothing after it happens."""

    def point(reached: str) -> None:
        if reached == name:
            raise DeathError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crashes, "point", point)
        yield
