"""Publishers' earnings: accrued when a charge is booked, payable after the hold period."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import Organization
from billing import crashes, ledger
from billing.models import Earning

KIND = "earnings_released"
BATCH = 5000


def hold_period() -> timedelta:
    """Return how long earnings stay accrued: what is given back in that time costs nothing."""
    return timedelta(days=settings.EARNINGS_HOLD_DAYS)


def release_due(now: datetime | None = None) -> int:
    """Make payable what is older than the hold period; returns how many rows it was."""
    until = (now or timezone.now()) - hold_period()
    due = Earning.objects.filter(released_at=None, created_at__lte=until)
    released = 0
    for publisher_id in list(due.order_by().values_list("publisher", flat=True).distinct()):
        publisher = Organization.objects.get(pk=publisher_id)
        while count := _release(publisher, until):
            released += count
            if count < BATCH:
                break
    return released


def _release(publisher: Organization, until: datetime) -> int:
    """Release up to BATCH rows of one publisher in one transaction."""
    with transaction.atomic():
        due = Earning.objects.filter(
            publisher=publisher, released_at=None, created_at__lte=until
        ).order_by("id")
        # Locked: what is clawed back from now on comes out of what is payable.
        rows = list(due.select_for_update()[:BATCH])
        if not rows:
            return 0
        crashes.point("release.locked")
        _book(publisher, rows)
        crashes.point("release.booked")
        Earning.objects.filter(pk__in=[row.pk for row in rows], released_at=None).update(
            released_at=timezone.now()
        )
        crashes.point("release.marked")
    return len(rows)


def _book(publisher: Organization, rows: list[Earning]) -> None:
    """Book accrued → payable; the reference names rows that are never released again."""
    nanos = sum(row.amount_nanos - row.clawed_back_nanos for row in rows)
    if not nanos:
        # All of it was given back: there is nothing to book.
        return
    ledger.post(
        KIND,
        f"{publisher.pk}:{rows[0].pk}-{rows[-1].pk}",
        {
            ledger.account(ledger.ACCRUED, publisher, settings.CURRENCY): nanos,
            ledger.account(ledger.PAYABLE, publisher, settings.CURRENCY): -nanos,
        },
        organization=publisher,
        details={"earnings": len(rows)},
    )
