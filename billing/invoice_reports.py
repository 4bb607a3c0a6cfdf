"""What tenants read of their invoices: files, and what the running month has come to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime

from django.db.models import OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce, ExtractMonth, ExtractYear
from django.http import HttpResponse, StreamingHttpResponse
from django.utils import timezone

from accounts.models import Organization
from billing import exports, months, statement_pdf, wallets
from billing.models import BillingPeriod, Hold, Invoice, MeterBucket
from billing.statement_texts import Language

LANGUAGES: tuple[Language, ...] = ("en", "zh")


def of(organization: Organization) -> QuerySet[Invoice]:
    """Return the organization's own invoices, newest first."""
    return Invoice.objects.filter(organization=organization).select_related("period")


@dataclass(frozen=True, slots=True)
class Running:
    """The month that runs, for an organization with a credit line.

    Attributes:
        used_nanos: Used on the line this month.
        owed_nanos: All that is used and not paid, open invoices included.
        free_nanos: What can be used before the line is full.
        ends_at: When it is billed.
    """

    month: date
    used_nanos: int
    owed_nanos: int
    line_nanos: int
    free_nanos: int
    ends_at: datetime


def running(organization: Organization) -> Running | None:
    """Return what the running month has come to; None without a credit line or a debt."""
    wallet = wallets.of(organization)
    if not (wallet.line_nanos or wallet.owed_nanos):
        return None
    month = months.of(timezone.now())
    this = BillingPeriod(organization=organization, currency=wallet.currency, month=month)
    return Running(
        month=month,
        used_nanos=used(this),
        owed_nanos=wallet.owed_nanos,
        line_nanos=wallet.line_nanos,
        free_nanos=max(wallet.line_nanos - wallet.owed_nanos, 0),
        ends_at=months.end(month),
    )


def used(period: BillingPeriod) -> int:
    """Return what was used on credit in a month, in nanos."""
    total: int = MeterBucket.objects.filter(
        organization=period.organization_id,
        currency=period.currency,
        hour__gte=months.start(period.month),
        hour__lt=months.end(period.month),
    ).aggregate(total=Coalesce(Sum("nanos"), 0))["total"]
    return total


def with_used(periods: QuerySet[BillingPeriod]) -> QuerySet[BillingPeriod]:
    """Add `used_nanos` to periods: what `used` returns of each, in the same query."""
    buckets = MeterBucket.objects.filter(
        organization=OuterRef("organization"),
        currency=OuterRef("currency"),
        hour__year=ExtractYear(OuterRef("month")),
        hour__month=ExtractMonth(OuterRef("month")),
    )
    sums = buckets.order_by().values("organization").values(total=Sum("nanos"))
    return periods.annotate(used_nanos=Coalesce(Subquery(sums), 0))


def pdf(invoice: Invoice, language: Language) -> HttpResponse:
    """Answer with the PDF of an invoice."""
    content = statement_pdf.render(invoice.frozen, invoice.sha256, language)
    answer = HttpResponse(content, content_type="application/pdf")
    answer["Content-Disposition"] = f'attachment; filename="{invoice.number}-{language}.pdf"'
    return answer


def csv(invoice: Invoice) -> StreamingHttpResponse:
    """Answer with every call of an invoice's month, in pieces."""
    month = invoice.period.month
    holds = Hold.objects.filter(organization=invoice.organization_id)
    lines: AsyncIterator[str] = exports.csv_lines(
        holds.accepted(months.start(month), months.end(month))
    )
    answer = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{invoice.number}.csv"'
    return answer
