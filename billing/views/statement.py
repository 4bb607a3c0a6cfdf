"""The account of a period: what there was, what came and went, what is left."""

from __future__ import annotations

import csv
from datetime import UTC, date, timedelta
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.http import require_GET

from accounts.sessions import ConsoleRequest, organization_required
from billing import statements
from billing.exports import plain
from billing.money import decimal_text
from billing.period_forms import PeriodForm

MAX_DAYS = 366


class StatementForm(PeriodForm):
    """From which day to which; the running month if nothing is asked."""

    def __init__(self, data: Any) -> None:
        asked = {name: data[name] for name in ("start", "end") if data.get(name)}
        super().__init__({"start": timezone.now().astimezone(UTC).date().replace(day=1), **asked})

    def clean(self) -> dict[str, Any]:
        """Refuse also what is longer than a year."""
        data = super().clean()
        start, end = data.get("start"), data.get("end")
        if start and end and (end - start).days >= MAX_DAYS:
            self.add_error("end", gettext("A period is at most a year."))
        return data


@require_GET
@organization_required
def statement(request: ConsoleRequest) -> HttpResponse:
    """Show the account of the period that the address asks for."""
    form = StatementForm(request.GET)
    days = form.days if form.is_valid() else None
    found = statements.of_period(request.organization, *days) if days else None
    page = {
        "section": "statement",
        "form": form,
        "statement": found,
        "presets": _presets(days),
    }
    return render(request, "console/statement.html", page)


@require_GET
@organization_required
def statement_csv(request: ConsoleRequest) -> HttpResponse:
    """Send the same as CSV, with what there was, what is left, and the totals."""
    form = StatementForm(request.GET)
    if not form.is_valid():
        return HttpResponse(status=400)
    days = form.days
    found = statements.of_period(request.organization, *days)
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    name = f"statement-{request.organization.slug}-{days[0]}-{days[1]}.csv"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    currency = settings.CURRENCY
    rows = csv.writer(answer)
    rows.writerow(["when", "kind", "reason", "calls", f"amount_{currency}", f"balance_{currency}"])
    rows.writerow([days[0], "opening", "", "", "", decimal_text(found.opening_nanos)])
    for line in found.lines:
        rows.writerow(
            [
                *(line.at.isoformat(), line.kind, plain(line.reason), line.calls or ""),
                *(decimal_text(line.amount_nanos), decimal_text(line.balance_nanos)),
            ]
        )
    rows.writerow([days[1], "credited", "", "", decimal_text(found.credited_nanos), ""])
    rows.writerow([days[1], "charged", "", "", decimal_text(-found.charged_nanos), ""])
    rows.writerow([days[1], "closing", "", "", "", decimal_text(found.closing_nanos)])
    return answer


def _presets(days: tuple[date, date] | None) -> list[dict[str, Any]]:
    """Return the links to the months that people ask for."""
    today = timezone.now().astimezone(UTC).date()
    this = today.replace(day=1)
    last = (this - timedelta(days=1)).replace(day=1)
    periods = [
        (gettext("This month"), this, today),
        (gettext("Last month"), last, this - timedelta(days=1)),
        (gettext("This year"), today.replace(month=1, day=1), today),
    ]
    return [
        {"label": label, "query": f"start={start}&end={end}", "current": days == (start, end)}
        for label, start, end in periods
    ]
