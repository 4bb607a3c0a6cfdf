"""The credit ledger as its owner reads it: lines by day, with a running balance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from django.db.models import Max, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncDate

from accounts.models import Organization
from billing import ledger
from billing.models import LedgerEntry, Settlement

DAYS_PER_PAGE = 14


@dataclass(frozen=True, slots=True)
class Line:
    """One movement of credit; the charges of a day are one line."""

    at: datetime
    kind: str
    reason: str
    calls: int
    amount_nanos: int
    # Credit after this line.
    balance_nanos: int = 0


def earned(organization: Organization) -> int:
    """Return what the organization's models have earned as a publisher, in nanos."""
    return -_sum(_entries(organization, ledger.ACCRUED) | _entries(organization, ledger.PAYABLE))


def statement(
    organization: Organization, *, before: date | None = None
) -> tuple[Sequence[Line], date | None]:
    """Return some days of lines, newest first, and the day before which the next page is.

    Args:
        before: Show days earlier than this one (UTC); None for the newest.
    """
    entries = _own(organization)
    if before is not None:
        entries = entries.filter(transaction__posted_at__lt=_midnight(before))
    days = list(
        entries.annotate(day=TruncDate("transaction__posted_at"))
        .values_list("day", flat=True)
        .distinct()
        .order_by("-day")[: DAYS_PER_PAGE + 1]
    )
    shown = days[:DAYS_PER_PAGE]
    if not shown:
        return [], None
    balance = -_sum(entries)
    recent = entries.filter(transaction__posted_at__gte=_midnight(shown[-1]))
    lines = sorted([*_charges(organization, recent), *_movements(recent)], key=_order, reverse=True)
    return _with_balance(lines, balance), shown[-1] if len(days) > len(shown) else None


@dataclass(frozen=True, slots=True)
class Statement:
    """An account over a period: what there was, what came and went, what is left. In nanos."""

    first: date
    last: date
    opening_nanos: int
    # Oldest first; the charges of a day are one line.
    lines: Sequence[Line]
    closing_nanos: int

    @property
    def credited_nanos(self) -> int:
        """What came in."""
        return sum(max(line.amount_nanos, 0) for line in self.lines)

    @property
    def charged_nanos(self) -> int:
        """What went out, as a positive amount."""
        return -sum(min(line.amount_nanos, 0) for line in self.lines)


def of_period(organization: Organization, first: date, last: date) -> Statement:
    """Return an organization's account from one day to another, both included (UTC)."""
    entries = _own(organization)
    start, end = _midnight(first), _midnight(last + timedelta(days=1))
    opening = -_sum(entries.filter(transaction__posted_at__lt=start))
    within = entries.filter(transaction__posted_at__gte=start, transaction__posted_at__lt=end)
    lines = sorted([*_charges(organization, within), *_movements(within)], key=_order)
    counted, balance = [], opening
    for line in lines:
        balance += line.amount_nanos
        counted.append(replace(line, balance_nanos=balance))
    return Statement(first, last, opening, counted, balance)


def _own(organization: Organization) -> QuerySet[LedgerEntry]:
    """Return what moves an organization's balance: its credit, and what it owes."""
    accounts = (ledger.CREDIT, ledger.PROMOTIONAL, ledger.RECEIVABLE)
    codes = [code.format(organization.pk) for code, _ in accounts]
    return LedgerEntry.objects.filter(account__code__in=codes)


def _entries(organization: Organization, account: tuple[str, str]) -> QuerySet[LedgerEntry]:
    return LedgerEntry.objects.filter(account__code=account[0].format(organization.pk))


def _sum(entries: QuerySet[LedgerEntry]) -> int:
    total: int = entries.aggregate(sum=Coalesce(Sum("amount_nanos"), 0))["sum"]
    return total


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def _charges(organization: Organization, entries: QuerySet[LedgerEntry]) -> list[Line]:
    """Return one line per day for all its settlements: there may be thousands of them."""
    grouped = (
        entries.filter(transaction__settlement__isnull=False)
        .annotate(day=TruncDate("transaction__posted_at"))
        .values("day")
        .annotate(last=Max("transaction__posted_at"), total=Sum("amount_nanos"))
        .order_by("-day")
    )
    # A settlement may have several entries: its calls are counted by itself.
    settled = Settlement.objects.filter(organization=organization, ledger_transaction__isnull=False)
    calls = dict(
        settled.annotate(day=TruncDate("ledger_transaction__posted_at"))
        .values_list("day")
        .annotate(calls=Sum("hold_count"))
        .values_list("day", "calls")
    )
    return [
        Line(
            at=row["last"],
            kind="usage",
            reason="",
            calls=calls.get(row["day"], 0),
            amount_nanos=-row["total"],
        )
        for row in grouped
    ]


def _movements(entries: QuerySet[LedgerEntry]) -> list[Line]:
    singles = (
        entries.filter(transaction__settlement__isnull=True)
        .values("transaction", "transaction__posted_at", "transaction__kind", "transaction__reason")
        .annotate(total=Sum("amount_nanos"))
        .order_by("-transaction")
    )
    return [
        Line(
            at=row["transaction__posted_at"],
            kind=row["transaction__kind"],
            reason=row["transaction__reason"],
            calls=0,
            amount_nanos=-row["total"],
        )
        for row in singles
    ]


def _order(line: Line) -> tuple[date, bool, datetime]:
    """Sort by day; within one, charges last, because they are its sum."""
    return line.at.astimezone(UTC).date(), line.kind == "usage", line.at


def _with_balance(lines: Sequence[Line], balance_nanos: int) -> list[Line]:
    """Count back from the newest balance."""
    counted = []
    for line in lines:
        counted.append(replace(line, balance_nanos=balance_nanos))
        balance_nanos -= line.amount_nanos
    return counted
