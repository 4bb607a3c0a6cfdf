"""Balance: what is there, how it came and went, and the limit on it."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.dateparse import parse_date
from django.utils.translation import gettext
from django.views.decorators.http import require_GET, require_POST

from accounts.models import Organization
from accounts.sessions import ConsoleRequest, maker_required, organization_required
from billing import budgets, statements
from billing.forms import LimitForm
from billing.models import SpendLimit


@require_GET
@organization_required
def balance(request: ConsoleRequest) -> HttpResponse:
    """Show the balance, the month's limit and the credit ledger."""
    page = _page(request.organization, _day(request.GET.get("before", "")))
    limit = page["limit"]
    page["form"] = LimitForm(initial={"amount": limit.amount if limit else None})
    return render(request, "console/balance.html", page)


@require_POST
@maker_required
def limit_set(request: ConsoleRequest) -> HttpResponse:
    """Set the organization's monthly limit."""
    form = LimitForm(request.POST)
    if not form.is_valid():
        page = _page(request.organization, None) | {"form": form}
        return render(request, "console/balance.html", page, status=422)
    budgets.set_limit(
        request.organization,
        SpendLimit.Window.MONTH,
        form.cleaned_data["amount"],
        actor=request.user,
    )
    messages.success(request, gettext("The limit is set. It applies to the next run."))
    return redirect("balance")


def _page(organization: Organization, before: date | None) -> dict[str, Any]:
    lines, following = statements.statement(organization, before=before)
    month = SpendLimit.Window.MONTH
    limit = next((rule for rule in budgets.limits(organization) if rule.window == month), None)
    running = budgets.current(organization, limit) if limit else None
    return {
        "section": "balance",
        "wallet": budgets.wallet(organization),
        "limit": limit,
        "month": running,
        "used_nanos": running.posted + running.held if running else 0,
        "earned_nanos": statements.earned(organization),
        "lines": lines,
        "before": before,
        "following": following,
    }


def _day(text: str) -> date | None:
    """Read a date of the address; nonsense means the newest page."""
    try:
        return parse_date(text)
    except ValueError:
        return None
