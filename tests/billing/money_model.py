"""What the books should say, without a database: the model that the state machine compares with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

# Nanos: Stripe counts in coins.
CENT = 10_000_000


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
class Earning:
    """What a settlement has earned the publisher."""

    released: bool = False


@dataclass
class Run:
    """A hold."""

    windows: list[Window]
    day: date
    reserved: int
    price: int
    rows: int
    state: str = "authorised"
    captured: int = 0
    # Given back of what was captured.
    given: int = 0
    settled: bool = False
    # Of what was captured.
    publisher: int = 0
    earning: Earning = field(default_factory=Earning)

    @property
    def left(self) -> int:
        """What of the charge was not given back."""
        return self.captured - self.given


@dataclass
class Purse:
    """What an organization has."""

    # (when it expires, or None; what is left), in the order in which grants are used up.
    grants: list[list[int | None]] = field(default_factory=list)
    paid: int = 0
    line: int = 0
    owed: int = 0

    def spend(self, nanos: int) -> int:
        """Pay a settlement: grants, then paid credit, then the line; returns what is owed of it."""
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
            return nanos - from_paid
        self.paid -= nanos
        return 0

    def clear(self, nanos: int) -> None:
        """Pay what is owed; what is more becomes paid credit."""
        surplus = max(nanos - self.owed, 0)
        self.owed -= nanos - surplus
        self.paid += surplus

    @property
    def promotional(self) -> int:
        """What is left of all grants."""
        return sum(grant[1] or 0 for grant in self.grants)


@dataclass
class Case:
    """A dispute: what it is about, how it stands, and what the site has heard of it."""

    name: str
    nanos: int
    state: str = "open"
    heard: str = ""


@dataclass
class Payment:
    """A top-up by card, and what the site has heard of it; in nanos."""

    intent: str
    credit: int
    # Given back by the site itself: refund → how much; those that arrived or may still arrive.
    own: dict[str, int] = field(default_factory=dict)
    # Those that did not arrive, and the site has not heard of it.
    failed: list[str] = field(default_factory=list)
    # Given back by somebody else at Stripe.
    others: int = 0
    cases: list[Case] = field(default_factory=list)
    clawed_back: int = 0

    def hear(self) -> int:
        """Let the site hear of everything; returns what that changes of the paid credit."""
        back = sum(self.own.pop(name) for name in self.failed)
        self.failed = []
        gone = self.others + sum(case.nanos for case in self.cases if case.state != "won")
        target = min(gone, self.credit - sum(self.own.values()))
        taken, self.clawed_back = target - self.clawed_back, target
        return back - taken

    @property
    def at_bank(self) -> int:
        """What Stripe would still give back."""
        arrived = sum(nanos for name, nanos in self.own.items() if name not in self.failed)
        return self.credit - arrived - self.others

    @property
    def left(self) -> int:
        """What of the credit was neither given back nor taken back, as the site knows."""
        return self.credit - sum(self.own.values()) - self.clawed_back


@dataclass
class Freeze:
    """Who has stopped the organization from spending."""

    # Empty, `dispute` or `operator`.
    by: str = ""
    # Disputes that were lost since.
    lost: int = 0

    def hear(self, case: Case, others: list[Case]) -> None:
        """Let the site hear how a dispute stands."""
        before, case.heard = case.heard, case.state
        if not before and case.state != "won" and not self.by:
            self.by, self.lost = "dispute", 0
        if before in {"", "open"}:
            self.lost += case.state == "lost"
        if before in {"", "open"} and case.state == "won" and self.by == "dispute":
            is_open = any(other.heard == "open" for other in others)
            self.by = "dispute" if is_open or self.lost else ""
