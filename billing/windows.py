"""The state of each cap: what is used, held and left of the window that runs, when it opens again.

Only reads, in a fixed number of queries: pages and answers load however many caps are reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from django.conf import settings
from django.db.models import QuerySet

from accounts.models import ApiKey, Organization
from billing import budgets
from billing.models import Budget, BudgetAlert, SpendLimit

Key = tuple[int | None, str, str]


@dataclass(frozen=True, slots=True)
class Cap:
    """One cap and its running window; amounts are nanos or calls, as `unit` says.

    Attributes:
        name: As in headers and errors, such as `key-day-calls`.
        opens_at: When the next window opens; None for a lifetime.
        forecast: What will be used when the window closes, if it goes on like this.
        reached: Thresholds in percent that were passed in this window.
        was_refused: Whether a run was refused because of it in this window.
    """

    rule_id: int
    name: str
    key: ApiKey | None
    window: str
    unit: str
    limit: int
    used: int
    held: int
    opens_at: datetime | None
    forecast: int | None
    reached: tuple[int, ...] = ()
    was_refused: bool = False

    @property
    def left(self) -> int:
        """What can still be set aside."""
        return max(self.limit - self.used - self.held, 0)

    @property
    def percent(self) -> int:
        """How much of the cap is used or held, rounded down; more than 100 after it was lowered."""
        taken = self.used + self.held
        return taken * 100 // self.limit if self.limit else 100

    @property
    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.left == 0


def rules(organization: Organization) -> QuerySet[SpendLimit]:
    """Return the caps of an organization and its keys that can still be used, widest first."""
    # Gives an organization that never had a limit the site's.
    budgets.limits(organization)
    usable = ApiKey.objects.visible_to(organization).usable()
    found = SpendLimit.objects.filter(organization=organization, amount__isnull=False)
    return found.filter(api_key=None) | found.filter(api_key__in=usable)


def of(organization: Organization, *, at: datetime | None = None) -> list[Cap]:
    """Return all caps: the organization's, then each key's; months before days."""
    found = rules(organization).select_related("api_key").order_by("api_key__name", "pk")
    running = Running(organization, at=at)
    caps = [running.cap(rule) for rule in found]
    return sorted(caps, key=_order)


def of_organization(organization: Organization) -> list[Cap]:
    """Return the caps that bind all calls of an organization together."""
    running = Running(organization)
    return sorted(map(running.cap, budgets.limits(organization)), key=_order)


def of_key(organization: Organization, key: ApiKey) -> list[Cap]:
    """Return the caps that bind the calls of a key: its own, then the organization's."""
    running = Running(organization)
    own = SpendLimit.objects.filter(api_key=key, amount__isnull=False).select_related("api_key")
    shared = budgets.limits(organization)
    return sorted(map(running.cap, own), key=_order) + sorted(map(running.cap, shared), key=_order)


_WINDOWS = [SpendLimit.Window.DAY, SpendLimit.Window.MONTH, SpendLimit.Window.LIFETIME]


def _order(cap: Cap) -> tuple[str, int, int, str]:
    key = cap.key
    return (key.name if key else "", key.pk if key else 0, _WINDOWS.index(cap.window), cap.unit)  # type: ignore[arg-type]  # a plain text


class Running:
    """The windows of an organization that run at an instant, read once."""

    def __init__(self, organization: Organization, *, at: datetime | None = None) -> None:
        self.at = at or datetime.now(UTC)
        starts = {window: budgets.window_start(window, self.at) for window in _WINDOWS}
        rows = Budget.objects.filter(
            organization=organization,
            currency=settings.CURRENCY,
            lock_rank__lt=Budget.Rank.WALLET,
            window_start__in=starts.values(),
        )
        self._rows: dict[Key, Budget] = {
            (row.api_key_id, row.window, row.unit): row
            for row in rows
            if row.window_start == starts[SpendLimit.Window(row.window)]
        }
        self._alerts = _alerts(self._rows)

    def cap(self, rule: SpendLimit) -> Cap:
        """Return the state of one cap. A window without a row has not been used yet."""
        row = self._rows.get((rule.api_key_id, rule.window, rule.unit))
        start = budgets.window_start(rule.window, self.at)
        closes = budgets.window_end(rule.window, start)
        used, held = (row.used, row.held) if row else (0, 0)
        alerts = self._alerts.get(row.pk, []) if row else []
        return Cap(
            rule_id=rule.pk,
            name=budgets.name_of(rule.api_key_id, rule.window, rule.unit),
            key=rule.api_key,
            window=rule.window,
            unit=rule.unit,
            limit=rule.amount or 0,
            used=used,
            held=held,
            opens_at=_midnight(closes) if closes else None,
            forecast=_forecast(used, start, closes, self.at) if closes else None,
            reached=tuple(sorted(alert.percent for alert in alerts)),
            was_refused=any(alert.was_refused for alert in alerts),
        )


def _alerts(rows: Mapping[Key, Budget]) -> dict[int, list[BudgetAlert]]:
    found: dict[int, list[BudgetAlert]] = {}
    for alert in BudgetAlert.objects.filter(budget__in=[row.pk for row in rows.values()]):
        found.setdefault(alert.budget_id, []).append(alert)
    return found


def _forecast(used: int, start: date, closes: date, at: datetime) -> int:
    """What is used when the window closes, if the rest of it goes as the part until now."""
    whole = (closes - start).days * 86_400
    # A single call right after midnight says nothing about the month.
    elapsed = max((at - _midnight(start)) // timedelta(seconds=1), 3600)
    return used * whole // min(elapsed, whole)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)
