"""Balance: what is there, and how it came and went."""

from __future__ import annotations

from datetime import date
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.dateparse import parse_date
from django.views.decorators.http import require_GET

from accounts.models import Organization
from accounts.sessions import ConsoleRequest, organization_required
from billing import budgets, statements, windows


@require_GET
@organization_required
def balance(request: ConsoleRequest) -> HttpResponse:
    """Show the balance, the budgets and the credit ledger."""
    page = _page(request.organization, _day(request.GET.get("before", "")))
    return render(request, "console/balance.html", page)


def _page(organization: Organization, before: date | None) -> dict[str, Any]:
    lines, following = statements.statement(organization, before=before)
    return {
        "section": "balance",
        "wallet": budgets.wallet(organization),
        "caps": windows.of_organization(organization),
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
