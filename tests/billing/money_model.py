"""What the books should say, without a database: the model that the state machine compares with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date


@dataclass
class Cap:
    """A limit, and its windows that were opened."""

    scope: str
    window: str
    unit: str
    amount: int
    windows: dict[date, Window] = field(default_factory=dict)

    def start(self, day: date) -> date:
        """Return the first day of the window that a day is in."""
        if self.window == "lifetime":
            return date(1970, 1, 1)
        return day.replace(day=1) if self.window == "month" else day

    def at(self, day: date) -> Window:
        """Return the window of a day; a new one has the limit as it is now."""
        return self.windows.setdefault(self.start(day), Window(self.unit, self.amount))


@dataclass
class Window:
    """One budget."""

    unit: str
    capacity: int
    posted: int = 0
    held: int = 0

    def fits(self, nanos: int) -> bool:
        """Whether one more run fits."""
        return self.posted + self.held + self.need(nanos) <= self.capacity

    def need(self, nanos: int) -> int:
        """What one run counts."""
        return 1 if self.unit == "calls" else nanos


@dataclass
class Run:
    """A hold."""

    windows: list[Window]
    reserved: int
    price: int
    rows: int
    state: str = "authorised"
    captured: int = 0
    settled: bool = False


@dataclass
class Purse:
    """What an organization has."""

    # (when it expires, or None; what is left), in the order in which grants are used up.
    grants: list[list[int | None]] = field(default_factory=list)
    paid: int = 0
    line: int = 0
    owed: int = 0

    def spend(self, nanos: int) -> None:
        """Pay a settlement: grants, then paid credit, then the line."""
        for grant in sorted(
            self.grants, key=lambda one: (one[0] is None, one[0] or 0, one[2] or 0)
        ):
            part = min(grant[1] or 0, nanos)
            grant[1] = (grant[1] or 0) - part
            nanos -= part
        if self.line or self.owed:
            from_paid = min(nanos, max(self.paid, 0))
            self.owed += nanos - from_paid
            self.paid -= from_paid
        else:
            self.paid -= nanos

    @property
    def promotional(self) -> int:
        """What is left of all grants."""
        return sum(grant[1] or 0 for grant in self.grants)
