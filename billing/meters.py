"""Usage on credit lines → reports for Stripe's meter: an outbox, cut hour by hour.

A bucket grows while the settler books; each cut reports what was added since the last one.
`value = floor(to / 1000) - floor(from / 1000)`: whatever the cuts are, their sum is exact.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from billing import crashes, months
from billing.currencies import MICRO_NANOS
from billing.models import BillingPeriod, MeterBucket, MeterReport, Wallet

# After the end of an hour: what was accepted in it is mostly settled then.
CUT_DELAY = timedelta(seconds=30)
# Stripe refuses usage that is more than 35 days old.
OLDEST = timedelta(days=30)
_HOUR = timedelta(hours=1)
_SECOND = timedelta(seconds=1)

# While a month is in one of these states, usage still counts for it; then its sum is fixed.
COUNTING = (
    BillingPeriod.State.OPEN,
    BillingPeriod.State.DRAINING,
    BillingPeriod.State.SETTLED,
)
OPEN_STATES = (MeterReport.State.PENDING, MeterReport.State.SENT, MeterReport.State.UNKNOWN)


def cut(now: datetime | None = None, *, organization_id: int | None = None) -> int:
    """Cut every bucket that has something new and whose hour is over; returns how many.

    What has no subscription yet waits until it has: Stripe would not bill it.
    """
    now = now or timezone.now()
    due = MeterBucket.objects.filter(
        nanos__gt=F("cut_nanos"), hour__lte=now - CUT_DELAY - _HOUR
    ).exclude(organization__wallet__stripe_subscription="")
    if organization_id is not None:
        due = due.filter(organization=organization_id)
    found = list(due.order_by("hour", "pk").values_list("pk", flat=True))
    return sum(_cut(bucket_id, now) for bucket_id in found)


def _cut(bucket_id: int, now: datetime) -> bool:
    with transaction.atomic():
        bucket = MeterBucket.objects.get(pk=bucket_id)
        period = _lock_period(bucket, months.of(bucket.hour))
        # The month's lock is held: what is cut now is in the sum before it is fixed, or never.
        bucket.refresh_from_db()
        if bucket.nanos == bucket.cut_nanos:
            return False
        counted_at = _counted_at(bucket, period, now)
        if months.of(counted_at) != period.month:
            _lock_period(bucket, months.of(counted_at))
        seq = bucket.reports.count() + 1
        crashes.point("meter.cutting")
        MeterReport.objects.create(
            bucket=bucket,
            seq=seq,
            nanos_from=bucket.cut_nanos,
            nanos_to=bucket.nanos,
            value=value(bucket.cut_nanos, bucket.nanos),
            identifier=identifier(bucket, seq),
            counted_at=counted_at,
        )
        MeterBucket.objects.filter(pk=bucket_id).update(cut_nanos=bucket.nanos)
        crashes.point("meter.cut")
    return True


def value(nanos_from: int, nanos_to: int) -> int:
    """Return the micro-units between two sums: telescoping, so that cuts never drift."""
    return nanos_to // MICRO_NANOS - nanos_from // MICRO_NANOS


def identifier(bucket: MeterBucket, seq: int) -> str:
    """Return the name under which Stripe counts a cut once."""
    return f"u1:{bucket.organization_id}:{bucket.currency}:{bucket.hour:%Y%m%d%H}:{seq}"


def _counted_at(bucket: MeterBucket, period: BillingPeriod, now: datetime) -> datetime:
    """Return the second for which a cut counts: in its hour, or now if that month is closed."""
    wallet = Wallet.objects.get(organization=bucket.organization_id)
    usual = bucket.hour + _HOUR - _SECOND
    # Stripe bills only what counts after the subscription began.
    begins = wallet.subscribed_at or usual
    moment = max(usual, begins)
    is_late = period.state not in COUNTING or months.of(moment) != period.month
    return now.replace(microsecond=0) if is_late or moment < now - OLDEST else moment


def _lock_period(bucket: MeterBucket, month: date) -> BillingPeriod:
    same: dict[str, Any] = {
        "organization_id": bucket.organization_id,
        "currency": bucket.currency,
        "month": month,
    }
    BillingPeriod.objects.get_or_create(**same)
    return BillingPeriod.objects.select_for_update().get(**same)


def counted_in(period: BillingPeriod) -> QuerySet[MeterReport]:
    """Return the reports that a month is billed for, late usage of earlier months included."""
    return MeterReport.objects.filter(
        bucket__organization=period.organization_id,
        bucket__currency=period.currency,
        counted_at__gte=months.start(period.month),
        counted_at__lt=months.end(period.month),
    )


def micros(reports: QuerySet[MeterReport]) -> int:
    """Return what Stripe's meter should have counted for some reports."""
    total: int = reports.aggregate(total=Coalesce(Sum("value"), 0))["total"]
    return total


def nanos(reports: QuerySet[MeterReport]) -> int:
    """Return the exact amount that some reports stand for."""
    total: int = reports.aggregate(total=Coalesce(Sum(F("nanos_to") - F("nanos_from")), 0))["total"]
    return total
