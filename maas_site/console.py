"""The console's first page: what is there, what was spent, what to do next."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.models import ApiKey, Organization
from accounts.sessions import ConsoleRequest, organization_required
from billing import budgets, calls
from billing.models import Hold
from training.models import Job

RECENT_CALLS = 8
RECENT_JOBS = 4


@require_GET
@organization_required
def overview(request: ConsoleRequest) -> HttpResponse:
    """Show the organization at a glance."""
    organization = request.organization
    holds = Hold.objects.visible_to(organization)
    recent, _following = calls.page(holds, before=None, size=RECENT_CALLS)
    wallet = budgets.wallet(organization)
    spend = _spend(organization)
    page = {
        "section": "overview",
        "wallet": wallet,
        "spend": spend,
        "days_left": _days_left(wallet.available, spend["month_nanos"]),
        "calls": recent,
        "jobs": _jobs(organization),
        "steps": _steps(organization, has_called=bool(recent)),
    }
    return render(request, "console/overview.html", page)


def _spend(organization: Organization) -> dict[str, Any]:
    """Return spend and calls of today and of thirty days, UTC."""
    today = datetime.combine(timezone.now().astimezone(UTC).date(), time.min, tzinfo=UTC)
    holds = Hold.objects.visible_to(organization).accepted(
        today - timedelta(days=29), today + timedelta(days=1)
    )
    is_today = Q(accepted_at__gte=today)
    return holds.aggregate(
        month_nanos=Coalesce(Sum("captured_nanos"), 0),
        month_calls=Count("pk"),
        month_failed=Count("pk", filter=Q(state__in=[Hold.State.VOIDED, Hold.State.EXPIRED])),
        today_nanos=Coalesce(Sum("captured_nanos", filter=is_today), 0),
        today_calls=Count("pk", filter=is_today),
    )


def _days_left(available_nanos: int, month_nanos: int) -> int | None:
    """Return how long the balance lasts at the pace of thirty days; None says nothing."""
    if month_nanos <= 0 or available_nanos <= 0:
        return None
    days = available_nanos * 30 // month_nanos
    return days if days <= 365 else None


def _jobs(organization: Organization) -> QuerySet[Job]:
    mine = Job.objects.visible_to(organization).listed()
    return mine.exclude(state__in=Job.TERMINAL)[:RECENT_JOBS]


def _steps(organization: Organization, *, has_called: bool) -> list[dict[str, Any]]:
    """Return what a new tenant does first; nothing once all of it is done."""
    has_key = ApiKey.objects.visible_to(organization).exists()
    done = {"verify": True, "key": has_key, "call": has_called}
    return [] if all(done.values()) else [{"name": k, "is_done": v} for k, v in done.items()]
