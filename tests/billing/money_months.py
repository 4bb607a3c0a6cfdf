"""What the books should say of credit lines, without a database: meters, months, invoices."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from billing import months
from tests.billing.money_model import CENT, Purse, Run
from tests.billing.money_script import LostError, Script

MICRO = 1000
_KEY_LIVES = timedelta(hours=23)
_OLDEST = timedelta(days=30)
_DRAIN_LIMIT = timedelta(minutes=20)
_COUNTING_TAKES = timedelta(minutes=5)


class Wait(Exception):  # noqa: N818  (nothing is wrong)
    """The close goes no further now."""


@dataclass
class Hour:
    """What was used on the line in an hour, and what of it is reported."""

    nanos: int = 0
    cut: int = 0


@dataclass
class Told:
    """A report to the meter."""

    value: int
    nanos: int
    counted_at: datetime
    # When Stripe's answer came.
    accepted: datetime | None = None
    asked: datetime | None = None
    at_bank: bool = False
    heard: bool = False


@dataclass
class Month:
    """A month of the organization."""

    state: str = "open"
    held: bool = False
    # Added to what Stripe has counted, and final there; in coins.
    added: int = 0
    # Whether it is not known if that was added.
    is_asking: bool = False
    final: int | None = None
    # What is owed for it, until that is known to be paid.
    open: int = 0
    paid: bool = False

    @property
    def is_counting(self) -> bool:
        """Whether what is used still counts for it."""
        return self.state in {"open", "draining", "settled"}


def coins_of(micros: int) -> int:
    """Return what Stripe makes of what it counted: rounded half up."""
    return (micros + CENT // MICRO // 2) // (CENT // MICRO)


@dataclass
class Owed:
    """What was used on the line until it is paid."""

    purse: Purse
    hours: dict[datetime, Hour] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    months: dict[date, Month] = field(default_factory=dict)

    def use(self, charges: list[tuple[date, int]], owed: int) -> None:
        """Note what a settlement left owed, of its newest charges."""
        for day, nanos in reversed(charges):
            part = min(nanos, owed)
            owed -= part
            if part:
                noon = datetime.combine(day, time(12), tzinfo=UTC)
                self.hours.setdefault(noon, Hour()).nanos += part

    # Meters ---------------------------------------------------------------------------------

    def cut(self, now: datetime, script: Script) -> None:
        """Write down what is to be told."""
        for noon, hour in sorted(self.hours.items()):
            if hour.nanos == hour.cut or noon > now - timedelta(hours=1, seconds=30):
                continue
            usual = noon + timedelta(minutes=59, seconds=59)
            is_late = not self.months.get(months.of(noon), Month()).is_counting
            at = now.replace(microsecond=0) if is_late or usual < now - _OLDEST else usual
            script.reach("meter.cutting")
            script.reach("meter.cut")
            self.months.setdefault(months.of(noon), Month())
            self.months.setdefault(months.of(at), Month())
            value = hour.nanos // MICRO - hour.cut // MICRO
            self.told.append(Told(value, hour.nanos - hour.cut, at))
            hour.cut = hour.nanos

    def send(self, now: datetime, script: Script) -> None:
        """Tell what was not told, oldest first."""
        for one in self.told:
            if not one.heard and not self._tell(one, now, script):
                return

    def _tell(self, one: Told, now: datetime, script: Script) -> bool:
        is_forgotten = one.asked is not None and one.asked < now - _KEY_LIVES
        # After a day only Stripe's sum tells whether it was counted.
        if one.value and not (is_forgotten and one.at_bank):
            if one.asked is None and one.counted_at < now - _OLDEST:
                # Too old to be told as what it was: it counts for the month that runs.
                one.counted_at = now.replace(microsecond=0)
                self.months.setdefault(months.of(now), Month())
            one.asked = now if is_forgotten or not one.asked else one.asked
            script.reach("meter.sending")
            was_there, one.at_bank = one.at_bank, True
            try:
                script.ask()
            except LostError:
                return False
            if not was_there:
                script.reach("meter.sent")
        one.heard, one.accepted = True, now
        return True

    # Months ---------------------------------------------------------------------------------

    def close(self, now: datetime, runs: list[Run], script: Script) -> None:
        """Go on with every month that is over."""
        for noon, hour in self.hours.items():
            if hour.nanos > hour.cut:
                self.months.setdefault(months.of(noon), Month())
        for start in sorted(self.months):
            if start >= months.of(now):
                break
            try:
                while self.months[start].state != "reconciled":
                    before = self.months[start].state
                    self._step(start, now, runs, script)
                    script.reach(f"close.{before}")
            except (Wait, LostError):
                continue

    def _step(self, start: date, now: datetime, runs: list[Run], script: Script) -> None:
        month, end = self.months[start], months.end(start)
        if month.state == "open":
            month.state = "draining"
        elif month.state == "draining":
            self._hold(month, script)
            waits = any(not run.settled and run.day < end.date() for run in runs)
            if now < end + timedelta(minutes=1) or (now < end + _DRAIN_LIMIT and waits):
                raise Wait
            month.state = "settled"
        elif month.state == "settled":
            self._hold(month, script)
            self.cut(now, script)
            if any(not one.heard for one in self.counted(start)):
                raise Wait
            month.state = "metered"
        elif month.state == "metered":
            self._check(start, now, script)
        elif month.state == "draft_checked":
            self._finalise(start, month, script)
        else:
            self.pay(start, script)
            month.state = "reconciled"

    def _hold(self, month: Month, script: Script) -> None:
        if not month.held:
            script.reach("close.holding")
            month.held = True
            script.ask()

    def _check(self, start: date, now: datetime, script: Script) -> None:
        month = self.months[start]
        earlier = [self.months[one].state for one in self.months if one < start]
        if any(state not in {"finalised", "reconciled"} for state in earlier):
            raise Wait
        self._hold(month, script)
        counted = self.counted(start)
        if any(one.accepted and one.accepted > now - _COUNTING_TAKES for one in counted):
            raise Wait
        missing = self.coins(start) - coins_of(sum(one.value for one in counted))
        if missing != month.added:
            script.reach("close.adding")
            month.added, month.is_asking = missing, True
        if month.is_asking:
            script.ask()
            month.is_asking = False
        script.reach("close.added")
        month.state = "draft_checked"

    def _finalise(self, start: date, month: Month, script: Script) -> None:
        if month.final is None:
            script.reach("close.finalising")
            month.final = self.coins(start)
            script.ask()
        script.reach("close.issuing")
        script.reach("close.numbered")
        month.state, month.open = "finalised", month.final
        script.reach("close.issued")

    def counted(self, start: date) -> list[Told]:
        """Return the reports that a month is billed for."""
        return [one for one in self.told if months.of(one.counted_at) == start]

    def coins(self, start: date) -> int:
        """Return what a month is billed: whole coins of all that was used and not billed before."""
        used = sum(one.nanos for one in self.told if months.of(one.counted_at) <= start)
        billed = sum(one.final or 0 for day, one in self.months.items() if day < start)
        return used // CENT - billed

    # Invoices -------------------------------------------------------------------------------

    def pay(self, start: date, script: Script) -> None:
        """Let the site hear how an invoice stands, if there is one."""
        month = self.months[start]
        if not month.final:
            return
        script.reach("invoice.applied")
        if month.paid and month.open:
            self.purse.clear(month.open * CENT)
            month.open = 0

    @property
    def invoices(self) -> list[int]:
        """The coins of each invoice that is final at Stripe, oldest first."""
        return [one.final for _, one in sorted(self.months.items()) if one.final is not None]
