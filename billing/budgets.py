"""Which budgets a run is counted against."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime

from django.conf import settings
from django.db import transaction
from django.db.models import F

from accounts import audit
from accounts.models import ApiKey, Organization, User
from billing.models import Budget, BudgetSet, SpendLimit

Rank = Budget.Rank
Window = SpendLimit.Window
_LIFETIME_START = date(1970, 1, 1)
# How long a process believes which limits exist. What is left in a budget is never cached.
CACHE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class BudgetRefs:
    """The budgets of one run, in the order they are locked."""

    budget_set_id: int
    # (lock rank, budget id), sorted.
    members: tuple[tuple[int, int], ...]


def wallet(organization: Organization) -> Budget:
    """Return the organization's wallet, opening it on first use."""
    found, _ = Budget.objects.get_or_create(
        organization=organization,
        api_key=None,
        lock_rank=Rank.WALLET,
        window=Window.LIFETIME,
        window_start=_LIFETIME_START,
        currency=settings.CURRENCY,
    )
    return found


def limits(organization: Organization, api_key: ApiKey | None = None) -> list[SpendLimit]:
    """Return the limits of the organization itself, or of one of its keys.

    An organization that never had a limit gets the site's monthly one.
    """
    found = list(SpendLimit.objects.filter(organization=organization, api_key=api_key))
    if not found and api_key is None:
        made, _ = SpendLimit.objects.get_or_create(
            organization=organization,
            api_key=None,
            window=Window.MONTH,
            defaults={"amount_nanos": settings.MONTHLY_LIMIT_NANOS},
        )
        found = [made]
    return found


def set_limit(
    organization: Organization,
    window: str,
    nanos: int,
    *,
    api_key: ApiKey | None = None,
    actor: User | None = None,
) -> SpendLimit:
    """Set how much may be spent per window; the window that is running follows at once."""
    with transaction.atomic():
        limit, _ = SpendLimit.objects.update_or_create(
            organization=organization,
            api_key=api_key,
            window=window,
            defaults={"amount_nanos": nanos},
        )
        Budget.objects.filter(
            organization=organization,
            api_key=api_key,
            lock_rank=Rank.KEY if api_key else Rank.ORGANIZATION,
            window=window,
            window_start=_window_start(window, datetime.now(UTC)),
        ).update(capacity_nanos=nanos)
        audit.record(
            actor,
            "limit.set",
            api_key or organization,
            organization=organization,
            details={"window": window, "nanos": nanos},
        )
    return limit


def current(organization: Organization, limit: SpendLimit) -> Budget:
    """Return the running window of a limit, opening it if it is new."""
    found, _ = Budget.objects.get_or_create(
        organization=organization,
        api_key=limit.api_key,
        lock_rank=Rank.KEY if limit.api_key_id else Rank.ORGANIZATION,
        window=limit.window,
        window_start=_window_start(limit.window, datetime.now(UTC)),
        currency=settings.CURRENCY,
        defaults={"capacity_nanos": limit.amount_nanos},
    )
    return found


def _window_start(window: str, now: datetime) -> date:
    if window == Window.DAY:
        return now.date()
    return now.date().replace(day=1) if window == Window.MONTH else _LIFETIME_START


_cache: dict[tuple[int, int | None, date], tuple[float, BudgetRefs]] = {}


def refs(organization_id: int, api_key_id: int | None) -> BudgetRefs:
    """Return the budgets of a run that starts now: of the key, the organization, the wallet."""
    today = datetime.now(UTC).date()
    known = _cache.get((organization_id, api_key_id, today))
    if known and known[0] > time.monotonic():
        return known[1]
    if len(_cache) >= 10_000:
        _cache.clear()
    found = _load_refs(organization_id, api_key_id)
    _cache[organization_id, api_key_id, today] = (time.monotonic() + CACHE_SECONDS, found)
    return found


def _load_refs(organization_id: int, api_key_id: int | None) -> BudgetRefs:
    organization = Organization.objects.get(pk=organization_id)
    rules = limits(organization)
    if api_key_id is not None:
        rules += limits(organization, ApiKey.objects.get(pk=api_key_id))
    budgets = [current(organization, rule) for rule in rules] + [wallet(organization)]
    members = tuple(sorted((budget.lock_rank, budget.pk) for budget in budgets))
    ids = [budget_id for _, budget_id in members]
    key = ",".join(map(str, ids))
    with transaction.atomic():
        found, is_new = BudgetSet.objects.get_or_create(key=key, organization=organization)
        if is_new:
            found.budgets.set(ids)
    return BudgetRefs(budget_set_id=found.pk, members=members)


def raise_capacity(budget: Budget, nanos: int) -> None:
    """Add to what a wallet may spend; negative takes away."""
    Budget.objects.filter(pk=budget.pk).update(capacity_nanos=F("capacity_nanos") + nanos)
