"""Usage: every call, what it cost, and why."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from datetime import UTC, date, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from asgiref.sync import sync_to_async
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.http import require_GET

from accounts.sessions import (
    ConsoleRequest,
    organization_required,
    organization_required_async,
)
from billing import budgets, calls, exports, usage_groups
from billing.forms import UsageFilterForm
from billing.money import decimal_text

PAGE_SIZE = 50
MAX_CHART_DAYS = 366


@require_GET
@organization_required
def usage(request: ConsoleRequest) -> HttpResponse:
    """Show the calls that the address asks for."""
    form = UsageFilterForm(request.GET, organization=request.organization)
    holds = form.holds()
    found, following = calls.page(holds, before=_id(request.GET.get("before")), size=PAGE_SIZE)
    asked = {name: str(value) for name, value in request.GET.items() if value}
    asked.pop("before", None)
    days = _days(form)
    group = request.GET.get("group", "")
    group = group if group in usage_groups.GROUPS else ""
    page = {
        "section": "usage",
        "form": form,
        "calls": found,
        "totals": calls.totals(holds),
        "latency": calls.latencies(holds),
        "wallet": budgets.wallet(request.organization),
        "days": days,
        "chart": [[day.isoformat(), decimal_text(cost), count] for day, count, cost in days],
        "query": urlencode(asked),
        "older": urlencode({**asked, "before": following}) if following else "",
        "is_first": "before" not in request.GET,
        "is_filtered": bool(asked.keys() & {"model", "key", "outcome"}),
        "presets": _presets(form, asked),
        "group": group,
        "groups": usage_groups.by(form, group) if group else [],
        "grouped": _grouped(asked),
    }
    return render(request, "console/usage.html", page)


@require_GET
@organization_required_async
async def usage_csv(request: ConsoleRequest) -> HttpResponseBase:
    """Send all calls of the filter as CSV, in pieces."""
    form = await sync_to_async(UsageFilterForm)(request.GET, organization=request.organization)
    lines: AsyncIterator[str] = exports.csv_lines(await sync_to_async(form.holds)())
    first, last = form.days
    answer = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    name = f"usage-{request.organization.slug}-{first}-{last}.csv"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


@require_GET
@organization_required
def usage_groups_csv(request: ConsoleRequest) -> HttpResponse:
    """Send the sums of the grouped view as CSV."""
    form = UsageFilterForm(request.GET, organization=request.organization)
    group = request.GET.get("group", "")
    if group not in usage_groups.GROUPS:
        return HttpResponse(status=400)
    first, last = form.days
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    name = f"usage-by-{group}-{request.organization.slug}-{first}-{last}.csv"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    rows = csv.writer(answer)
    rows.writerow([group, "calls", "rows", "compute_ms", "cost_usd"])
    for each in usage_groups.by(form, group):
        cost = decimal_text(each.cost_nanos)
        rows.writerow([exports.plain(each.label), each.calls, each.rows, each.compute_ms, cost])
    return answer


def _grouped(asked: dict[str, str]) -> list[dict[str, str]]:
    """Return the links to the ways in which usage can be summed; the first is not at all."""
    rest = {name: value for name, value in asked.items() if name != "group"}
    labels = {
        "": gettext("Calls"),
        "model": gettext("By model"),
        "key": gettext("By key"),
        "day": gettext("By day"),
        "outcome": gettext("By outcome"),
    }
    return [
        {
            "name": name,
            "label": label,
            "query": urlencode({**rest, "group": name} if name else rest),
        }
        for name, label in labels.items()
    ]


def _days(form: UsageFilterForm) -> list[tuple[date, int, int]]:
    """Return (day, charged calls, nanos) for each day of the period, also those without calls."""
    found = {day: (count, cost) for day, count, cost in calls.cost_per_day(form.rollups())}
    first, last = form.days
    first = max(first, last - timedelta(days=MAX_CHART_DAYS - 1))
    wanted = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [(day, *found.get(day, (0, 0))) for day in wanted]


def _presets(form: UsageFilterForm, asked: dict[str, str]) -> list[dict[str, Any]]:
    """Return the links to the usual periods."""
    today = timezone.now().astimezone(UTC).date()
    presets = []
    for length in (1, 7, 30, 90):
        period = (today - timedelta(days=length - 1), today)
        query = urlencode({**asked, "start": period[0], "end": period[1]})
        presets.append({"days": length, "query": query, "current": period == form.days})
    return presets


def _id(text: str | None) -> UUID | None:
    """Read a place to continue from; nonsense means the newest page."""
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
