"""Which budgets a run is counted against."""

from __future__ import annotations

import calendar
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from time import monotonic_ns
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models import Case, F, Sum, When
from django.db.models.functions import Coalesce

from accounts import audit
from accounts.models import ApiKey, Organization, User
from billing import ids
from billing.models import Budget, BudgetSet, Hold, SpendLimit, Unit

Rank = Budget.Rank
Window = SpendLimit.Window
_LIFETIME_START = date(1970, 1, 1)
# How long a process believes which limits exist. What is left in a budget is never cached.
CACHE_SECONDS = 5


class Member(NamedTuple):
    """One budget of a run. Members are locked in this order: narrow before wide."""

    lock_rank: int
    budget_id: int
    unit: str
    # Such as `key-day-calls`: the name of the cap in headers and errors.
    name: str
    # When the window closes, in seconds since 1970; 0: never.
    closes_at: int


@dataclass(frozen=True, slots=True)
class BudgetRefs:
    """The budgets of one run, in the order they are locked."""

    budget_set_id: int
    members: tuple[Member, ...]


def wallet(organization: Organization) -> Budget:
    """Return the budget of the organization's wallet, opening it on first use."""
    found, _ = Budget.objects.get_or_create(
        organization=organization,
        api_key=None,
        lock_rank=Rank.WALLET,
        window=Window.LIFETIME,
        window_start=_LIFETIME_START,
        unit=Unit.MONEY,
        currency=settings.CURRENCY,
    )
    return found


def limits(organization: Organization, api_key: ApiKey | None = None) -> list[SpendLimit]:
    """Return the limits of the organization itself, or of one of its keys.

    An organization that never had a monthly limit gets the site's.
    """
    found = list(SpendLimit.objects.filter(organization=organization, api_key=api_key))
    usual = (Window.MONTH, Unit.MONEY)
    if api_key is None and usual not in {(limit.window, limit.unit) for limit in found}:
        made, _ = SpendLimit.objects.get_or_create(
            organization=organization,
            api_key=None,
            window=Window.MONTH,
            unit=Unit.MONEY,
            defaults={"amount": settings.MONTHLY_LIMIT_NANOS},
        )
        found.append(made)
    return [limit for limit in found if limit.amount is not None]


def set_limit(
    organization: Organization,
    window: str,
    amount: int | None,
    *,
    unit: str = Unit.MONEY,
    api_key: ApiKey | None = None,
    actor: User | None = None,
    via: str = "",
) -> SpendLimit:
    """Set how much may be spent per window; the window that is running follows at once.

    Args:
        amount: Nanos or calls, as `unit` says; None: no limit. A limit that is lifted may still
            bind for CACHE_SECONDS.
        via: The key of the program that sets it.
    """
    with transaction.atomic():
        was_counted = SpendLimit.objects.filter(
            organization=organization, api_key=api_key, window=window, unit=unit, amount__gte=0
        ).exists()
        limit, _ = SpendLimit.objects.update_or_create(
            organization=organization,
            api_key=api_key,
            window=window,
            unit=unit,
            defaults={"amount": amount},
        )
        if amount is not None:
            _follow(organization, limit, amount, was_counted=was_counted)
        audit.record(
            actor,
            "limit.set",
            api_key or organization,
            organization=organization,
            details={"window": window, "unit": unit, "amount": amount},
            via=via,
        )
    return limit


def _follow(
    organization: Organization, limit: SpendLimit, amount: int, *, was_counted: bool
) -> None:
    """Let the running window follow its limit."""
    running = Budget.objects.select_for_update().get(pk=current(organization, limit).pk)
    if not was_counted:
        # While there was no limit nothing was counted here.
        counted = _used(running)
        running.spent_before = max(counted - running.posted - running.held, 0)
    running.capacity = amount - running.spent_before
    running.save(update_fields=["spent_before", "capacity"])


def current(organization: Organization, limit: SpendLimit, at: datetime | None = None) -> Budget:
    """Return the window of a limit that runs now, or ran at an instant, opening it if it is new."""
    window = Budget(
        organization=organization,
        api_key=limit.api_key,
        lock_rank=Rank.KEY if limit.api_key_id else Rank.ORGANIZATION,
        window=limit.window,
        window_start=window_start(limit.window, at or datetime.now(UTC)),
        unit=limit.unit,
        currency=settings.CURRENCY,
    )
    same = {name: getattr(window, name) for name in _WINDOW}
    found = Budget.objects.filter(**same).first()
    if found is not None:
        return found
    spent = _used(window)
    found, _ = Budget.objects.get_or_create(
        **same, defaults={"spent_before": spent, "capacity": (limit.amount or 0) - spent}
    )
    return found


_WINDOW = (*("organization", "api_key", "lock_rank", "window", "window_start", "unit", "currency"),)


def _used(budget: Budget) -> int:
    """Count what was used in a window, whether settled or not; one statement, one moment."""
    start = datetime.combine(budget.window_start, time.min, tzinfo=UTC)
    counted = Hold.objects.filter(
        organization_id=budget.organization_id,
        currency=budget.currency,
        accepted_at__gte=start,
        # Ids are in the order of time, and indexed; an id is made a moment before it is accepted.
        pk__gte=ids.floor(start - timedelta(minutes=1)) if start.year > 1970 else ids.FIRST,
    ).exclude(state__in=[Hold.State.VOIDED, Hold.State.EXPIRED], settlement__isnull=False)
    if closes := window_end(budget.window, budget.window_start):
        # A window may be opened late, by a run that was accepted in it.
        counted = counted.filter(accepted_at__lt=datetime.combine(closes, time.min, tzinfo=UTC))
    if budget.api_key_id is not None:
        counted = counted.filter(api_key_id=budget.api_key_id)
    if budget.unit == Unit.CALLS:
        return counted.count()
    amount = Case(When(settlement=None, then="reserved_nanos"), default="captured_nanos")
    total: int = counted.aggregate(total=Coalesce(Sum(amount), 0))["total"]
    return total


def window_start(window: str, now: datetime) -> date:
    """Return the first day (UTC) of the window that `now` is in."""
    today = now.astimezone(UTC).date()
    if window == Window.DAY:
        return today
    return today.replace(day=1) if window == Window.MONTH else _LIFETIME_START


def window_end(window: str, start: date) -> date | None:
    """Return the day (UTC) on which the next window opens; None for a lifetime."""
    if window == Window.DAY:
        return start + timedelta(days=1)
    if window == Window.MONTH:
        return (start + timedelta(days=31)).replace(day=1)
    return None


_cache: dict[tuple[int, int | None, date], tuple[int, BudgetRefs]] = {}


def refs(organization_id: int, api_key_id: int | None, at: datetime) -> BudgetRefs:
    """Return the budgets of a run that was accepted at an instant: key, organization, wallet.

    Price, window and invoice of a run all go by the instant at which it was accepted.
    """
    day = at.astimezone(UTC).date()
    known = _cache.get((organization_id, api_key_id, day))
    if known and known[0] > monotonic_ns():
        return known[1]
    if len(_cache) >= 10_000:
        _cache.clear()
    found = _load_refs(organization_id, api_key_id, at)
    _cache[organization_id, api_key_id, day] = (monotonic_ns() + CACHE_SECONDS * 10**9, found)
    return found


def _load_refs(organization_id: int, api_key_id: int | None, at: datetime) -> BudgetRefs:
    organization = Organization.objects.get(pk=organization_id)
    rules = limits(organization)
    if api_key_id is not None:
        rules += limits(organization, ApiKey.objects.get(pk=api_key_id))
    budgets = [current(organization, rule, at) for rule in rules] + [wallet(organization)]
    members = tuple(sorted(member(budget) for budget in budgets))
    budget_ids = [member.budget_id for member in members]
    key = ",".join(map(str, budget_ids))
    with transaction.atomic():
        found, is_new = BudgetSet.objects.get_or_create(key=key, organization=organization)
        if is_new:
            found.budgets.set(budget_ids)
    return BudgetRefs(budget_set_id=found.pk, members=members)


def load(budget_ids: Iterable[int], *, is_locked: bool = False) -> dict[int, Budget]:
    """Return budgets by id, with their organizations.

    Args:
        is_locked: Whether they are locked until the transaction ends: narrow before wide, then by
            id, as everybody locks them.
    """
    found = Budget.objects.select_related("organization").filter(pk__in=set(budget_ids))
    if is_locked:
        found = found.select_for_update(of=("self",), no_key=True)
    return {budget.pk: budget for budget in found.order_by("lock_rank", "id")}


def member(budget: Budget) -> Member:
    """Return a budget as a run counts against it."""
    closes = window_end(budget.window, budget.window_start)
    return Member(
        lock_rank=budget.lock_rank,
        budget_id=budget.pk,
        unit=budget.unit,
        name="wallet"
        if budget.lock_rank == Rank.WALLET
        else name_of(budget.api_key_id, budget.window, budget.unit),
        closes_at=_seconds(closes) if closes else 0,
    )


def name_of(api_key_id: int | None, window: str, unit: str) -> str:
    """Return the name of a cap in headers and errors, such as `key-day-calls`."""
    scope = Rank.ORGANIZATION if api_key_id is None else Rank.KEY
    counts = "" if unit == Unit.MONEY else f"-{unit}"
    return f"{scope.name.lower()}-{window}{counts}"


def _seconds(day: date) -> int:
    return calendar.timegm(day.timetuple())


def raise_capacity(budget: Budget, nanos: int) -> None:
    """Add to what a wallet may spend; negative takes away."""
    Budget.objects.filter(pk=budget.pk).update(capacity=F("capacity") + nanos)
