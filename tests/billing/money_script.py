"""What goes wrong in one act of the site: a death at a line, or an answer of Stripe's is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.billing.deaths import DeathError, death_at

# Of the first thing that Stripe is asked to do: its answer is lost, or the process dies before
# the answer is written down.
LOST, KILLED = "lost", "killed"
faults = st.sampled_from(["", "", "", LOST, KILLED])


class LostError(Exception):
    """In the model: Stripe has done it, and the site does not know."""


@dataclass
class Script:
    """Goes wrong in the model as it does in the site."""

    death: str | None = None
    fault: str = ""

    def reach(self, point: str) -> None:
        """Die here if it is so decided."""
        if point == self.death:
            raise DeathError

    def ask(self) -> None:
        """Ask Stripe to do something: what was done has been noted before."""
        fault, self.fault = self.fault, ""
        if fault == KILLED:
            raise DeathError
        if fault == LOST:
            raise LostError


def is_killed(act: Callable[[], object], death: str | None = None) -> bool:
    """Do something, and say whether the process died of it."""
    try:
        with death_at(death):
            act()
    except DeathError:
        return True
    return False
