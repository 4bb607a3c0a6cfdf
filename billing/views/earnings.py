"""Earnings: what models earned, when it is payable, what was paid, and the account for it."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, timedelta
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.http import require_GET, require_POST

from accounts.sessions import ConsoleRequest, organization_required, owner_required
from billing import connect, earnings, publisher_reports
from billing.earnings_forms import CountryForm, EarningsFilterForm
from billing.models import Payout, PayoutAccount
from billing.money import decimal_text
from billing.publisher_reports import Line
from billing.stripe import client
from billing.stripe.errors import StripeCallError

PAYOUTS_SHOWN = 24
COLUMNS = ["day", "what", "model", "calls", "amount_usd", "reference"]


@require_GET
@organization_required
def earnings_page(request: ConsoleRequest) -> HttpResponse:
    """Show what the organization's models earned in the period of the address."""
    return render(request, "console/earnings.html", _page(request))


def _page(request: ConsoleRequest) -> dict[str, Any]:
    organization = request.organization
    form = EarningsFilterForm(request.GET, organization=organization)
    first, last = form.days
    model = form.cleaned_data.get("model", "") if form.is_valid() else ""
    lines = publisher_reports.by_day(organization, first, last, model)
    days = _days(lines, first, last)
    asked = {name: str(value) for name, value in request.GET.items() if value}
    return {
        "section": "earnings",
        "form": form,
        "totals": publisher_reports.totals(organization),
        "releases": publisher_reports.releases(organization),
        "hold_days": earnings.hold_period().days,
        "minimum_nanos": settings.PAYOUT_MINIMUM_NANOS,
        "lines": lines,
        "models": _models(lines),
        "days": days,
        "chart": [[day.isoformat(), decimal_text(nanos), calls] for day, calls, nanos in days],
        "has_earned": any(nanos for _, _, nanos in days),
        "payouts": Payout.objects.filter(organization=organization)[:PAYOUTS_SHOWN],
        "account": PayoutAccount.objects.filter(organization=organization).first(),
        "country_form": CountryForm(),
        "is_publisher": publisher_reports.is_publisher(organization),
        "is_fake": client.is_fake(),
        "query": urlencode(asked),
        "presets": _presets(form, asked),
    }


def _days(lines: Sequence[Line], first: date, last: date) -> list[tuple[date, int, int]]:
    """Return (day, calls, nanos) for each day of the period, also those without earnings."""
    sums: dict[date, list[int]] = defaultdict(lambda: [0, 0])
    for line in lines:
        sums[line.day][0] += line.calls
        sums[line.day][1] += line.earned_nanos
    wanted = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [(day, sums[day][0], sums[day][1]) for day in wanted]


def _models(lines: Sequence[Line]) -> list[tuple[str, int, int, int]]:
    """Return (model, calls, earned, given back) over the period, the best first."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for line in lines:
        found = sums[line.model]
        found[0] += line.calls
        found[1] += line.earned_nanos
        found[2] += line.given_back_nanos
    rows = [(name, calls, earned, back) for name, (calls, earned, back) in sums.items()]
    return sorted(rows, key=lambda row: (-row[2], row[0]))


def _presets(form: EarningsFilterForm, asked: dict[str, str]) -> list[dict[str, Any]]:
    """Return the links to the usual periods."""
    today = timezone.now().astimezone(UTC).date()
    presets = []
    for length in (7, 30, 90):
        period = (today - timedelta(days=length - 1), today)
        query = urlencode({**asked, "start": period[0], "end": period[1]})
        presets.append({"days": length, "query": query, "current": period == form.days})
    return presets


@require_GET
@organization_required
def earnings_csv(request: ConsoleRequest) -> HttpResponse:
    """Send the statement of the period: what was earned, given back and paid out."""
    organization = request.organization
    form = EarningsFilterForm(request.GET, organization=organization)
    first, last = form.days
    model = form.cleaned_data.get("model", "") if form.is_valid() else ""
    rows = [row for line in _oldest_first(request, model, form) for row in _rows(line)]
    if not model:
        rows += _payout_rows(request, first, last)
    buffer = io.StringIO()
    csv.writer(buffer).writerows([COLUMNS, *sorted(rows, key=lambda row: row[0])])
    answer = HttpResponse(buffer.getvalue(), content_type="text/csv; charset=utf-8")
    name = f"earnings-{organization.slug}-{first}-{last}.csv"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


def _oldest_first(request: ConsoleRequest, model: str, form: EarningsFilterForm) -> list[Line]:
    return publisher_reports.by_day(request.organization, *form.days, model)[::-1]


def _rows(line: Line) -> list[list[str]]:
    day, rows = line.day.isoformat(), []
    if line.calls or line.earned_nanos:
        earned = decimal_text(line.earned_nanos)
        rows.append([day, "earned", line.model, str(line.calls), earned, ""])
    if line.given_back_nanos:
        back = decimal_text(-line.given_back_nanos)
        rows.append([day, "given_back", line.model, "", back, ""])
    return rows


def _payout_rows(request: ConsoleRequest, first: date, last: date) -> list[list[str]]:
    found = Payout.objects.filter(
        organization=request.organization,
        created_at__date__gte=first,
        created_at__date__lte=last,
    ).exclude(state=Payout.State.FAILED)
    return [
        [
            payout.created_at.astimezone(UTC).date().isoformat(),
            f"payout_{payout.state}",
            "",
            "",
            decimal_text(-payout.amount_nanos),
            str(payout.pk),
        ]
        for payout in found
    ]


@require_POST
@owner_required
def payout_account(request: ConsoleRequest) -> HttpResponse:
    """Open the account at Stripe if there is none, and lead to the page that asks who one is."""
    known = PayoutAccount.objects.filter(organization=request.organization).first()
    form = CountryForm(request.POST)
    if known is None and not form.is_valid():
        page = _page(request) | {"country_form": form}
        return render(request, "console/earnings.html", page, status=422)
    try:
        account = known or connect.start(
            request.organization, country=form.cleaned_data["country"], actor=request.user
        )
        address = connect.link(
            account,
            return_url=settings.PUBLIC_URL + reverse("payout_account_back"),
            refresh_url=settings.PUBLIC_URL + reverse("earnings") + "?account=again",
        )
    except StripeCallError:
        messages.error(request, gettext("Stripe gave no answer. Try again in a minute."))
        return redirect("earnings")
    return redirect(address)


@require_GET
@owner_required
def payout_account_back(request: ConsoleRequest) -> HttpResponse:
    """Ask Stripe how the account is now, and go back to the page."""
    account = PayoutAccount.objects.filter(organization=request.organization).first()
    if account is not None:
        try:
            connect.refresh(account)
        except StripeCallError:
            messages.error(request, gettext("Stripe gave no answer. The page follows by itself."))
    return redirect("earnings")
