"""Sends usage reports to Stripe: one at a time per customer, each counted once.

The identifier never changes. Stripe knows it for a day at least: an outcome that is not known is
asked again for 23 hours, then only Stripe's own sums may tell whether it was counted.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from accounts import audit
from accounts.errors import ConflictError
from accounts.models import Organization, User
from billing import crashes, meters, months, wallets
from billing.models import BillingPeriod, MeterReport, Wallet
from billing.stripe import client
from billing.stripe.errors import AmbiguousError, RejectedError, StripeCallError

# An hour less than Stripe knows an identifier at least.
IDENTIFIER_LIVES = timedelta(hours=23)
# Longer than a call may take: three attempts of 15 seconds, and sleeps.
_LEASE = timedelta(seconds=120)
_LONGEST_WAIT = timedelta(hours=1)
_ERROR_MAX = 500

State = MeterReport.State


def event_name(currency: str) -> str:
    """Return the name of the currency's meter."""
    return f"mercato_spend_{currency}"


def open_reports() -> QuerySet[MeterReport]:
    """Return what Stripe has not counted for certain."""
    return MeterReport.objects.filter(state__in=meters.OPEN_STATES)


def send(now: datetime | None = None) -> int:
    """Send what waits, oldest first, customer by customer; returns how many were accepted.

    After a failure the customer's next report waits too: order is kept, others go on.
    """
    now = now or timezone.now()
    waiting = open_reports().order_by().values_list("bucket__organization", flat=True).distinct()
    accepted = 0
    for organization_id in sorted(waiting):
        while (report := _claim(organization_id, now)) is not None:
            if not _deliver(report, now):
                break
            accepted += 1
    return accepted


def _claim(organization_id: int, now: datetime) -> MeterReport | None:
    """Take the customer's oldest report, unless another process sends for it, or it must wait."""
    organization = Organization.objects.get(pk=organization_id)
    with transaction.atomic():
        # The lock makes "is anything in flight?" and "then this one is" one step.
        wallet = wallets.lock(organization)
        mine = open_reports().filter(bucket__organization=organization_id)
        if not wallet.stripe_customer or mine.filter(claimed_until__gt=now).exists():
            return None
        report = mine.select_related("bucket").order_by("pk").first()
        if report is None:
            return None
        MeterReport.objects.filter(pk=report.pk).update(
            claimed_until=now + _LEASE, attempts=F("attempts") + 1
        )
    report.refresh_from_db()
    return report


def _deliver(report: MeterReport, now: datetime) -> bool:
    """Send one report that this process has claimed; returns whether Stripe counts it."""
    if report.value == 0:
        # Less than a micro-unit so far: there is nothing to tell.
        return _accept(report)
    if report.first_sent_at is not None and report.first_sent_at < now - IDENTIFIER_LIVES:
        is_counted = _compare(report, now)
        if is_counted is not False:
            return bool(is_counted)
    elif report.first_sent_at is None and report.counted_at < now - meters.OLDEST:
        _count_now(report, now)
    return _send(report, now)


def _send(report: MeterReport, now: datetime) -> bool:
    # On disk before it is sent: a process that dies now leaves something to ask about.
    MeterReport.objects.filter(pk=report.pk).update(
        state=State.SENT, first_sent_at=report.first_sent_at or now
    )
    crashes.point("meter.sending")
    wallet = Wallet.objects.get(organization=report.bucket.organization_id)
    try:
        client.gateway().report_usage(
            event_name=event_name(report.bucket.currency),
            customer=wallet.stripe_customer,
            value=report.value,
            at=report.counted_at,
            identifier=report.identifier,
        )
    except RejectedError as error:
        if error.is_duplicate_usage:
            return _accept(report)
        _fail(report, error, now, State.REJECTED)
        return False
    except AmbiguousError as error:
        _fail(report, error, now, State.UNKNOWN)
        return False
    except StripeCallError as error:
        # Nothing happened this time; what happened before is as unknown as it was.
        was_sent = report.first_sent_at is not None
        _fail(report, error, now, State.UNKNOWN if was_sent else State.PENDING)
        return False
    crashes.point("meter.sent")
    return _accept(report)


def _accept(report: MeterReport) -> bool:
    MeterReport.objects.filter(pk=report.pk, state__in=meters.OPEN_STATES).update(
        state=State.OK, accepted_at=timezone.now(), claimed_until=None, last_error=""
    )
    return True


def _fail(report: MeterReport, error: Exception, now: datetime, state: MeterReport.State) -> None:
    wait = min(timedelta(seconds=2 ** min(report.attempts, 12)), _LONGEST_WAIT)
    changes = {"first_sent_at": None} if state == State.PENDING else {}
    MeterReport.objects.filter(pk=report.pk, state__in=meters.OPEN_STATES).update(
        state=state, last_error=str(error)[:_ERROR_MAX], claimed_until=now + wait, **changes
    )


def _compare(report: MeterReport, now: datetime) -> bool | None:
    """Look at Stripe's sum of the report's hour.

    Returns:
        Whether the report is in it (it is accepted then); None if that cannot be told now.
    """
    hour = months.hour_of(report.counted_at)
    of_hour = MeterReport.objects.filter(
        bucket__organization=report.bucket.organization_id,
        bucket__currency=report.bucket.currency,
        counted_at__gte=hour,
        counted_at__lt=hour + timedelta(hours=1),
    )
    known = meters.micros(of_hour.filter(state=State.OK))
    try:
        counted = _at_stripe(report, hour)
    except StripeCallError as error:
        _fail(report, error, now, State.UNKNOWN)
        return None
    if counted == known + report.value:
        return _accept(report)
    if counted == known:
        # Stripe has not counted it, and has forgotten its identifier.
        if report.counted_at < now - meters.OLDEST:
            _count_now(report, now)
        MeterReport.objects.filter(pk=report.pk).update(first_sent_at=now)
        report.first_sent_at = now
        return False
    _fail(report, _Unclear(counted, known, report.value), now, State.REJECTED)
    return None


class _Unclear(Exception):  # noqa: N818  (never raised: what an operator reads)
    def __init__(self, counted: int, known: int, value: int) -> None:
        super().__init__(
            f"Sent more than 23 hours ago, and Stripe counts {counted} in its hour: neither "
            f"{known} without it nor {known + value} with it."
        )


def _at_stripe(report: MeterReport, hour: datetime) -> int:
    currency = report.bucket.currency
    gateway = client.gateway()
    wallet = Wallet.objects.get(organization=report.bucket.organization_id)
    name = event_name(currency)
    meter = next((each for each in gateway.list_meters() if each.event_name == name), None)
    if meter is None:
        raise RejectedError(f"There is no active meter {name}.")
    found = gateway.usage_summaries(
        meter=meter.id,
        customer=wallet.stripe_customer,
        start=hour,
        end=hour + timedelta(hours=1),
    )
    return sum(each.value for each in found)


def _count_now(report: MeterReport, now: datetime) -> None:
    """Let usage that has become too old to be sent count for the running month."""
    with transaction.atomic():
        bucket = report.bucket
        BillingPeriod.objects.get_or_create(
            organization_id=bucket.organization_id,
            currency=bucket.currency,
            month=months.of(now),
        )
        report.counted_at = now.replace(microsecond=0)
        MeterReport.objects.filter(pk=report.pk, state__in=meters.OPEN_STATES).update(
            counted_at=report.counted_at
        )


def retry(report: MeterReport, *, actor: User, reason: str) -> bool:
    """Let a rejected report be sent again, under its own identifier; returns whether it was."""
    with transaction.atomic():
        # What was sent long ago is compared with Stripe's sums first, as ever.
        revived = MeterReport.objects.filter(pk=report.pk, state=State.REJECTED).update(
            state=State.UNKNOWN, claimed_until=None
        )
        if revived:
            organization = report.bucket.organization
            audit.record(
                actor, "meter_report.retried", report, organization=organization, reason=reason
            )
    return revived == 1


def decide(report: MeterReport, *, is_counted: bool, actor: User, reason: str) -> None:
    """End what no sum of Stripe's tells any more: a rejected report is in it, or counts now.

    Without that its month could never be closed.

    Args:
        is_counted: Stripe has it; otherwise it is sent for the running month.

    Raises:
        ConflictError: The report is not rejected any more.
    """
    now = timezone.now()
    to = State.OK if is_counted else State.PENDING
    with transaction.atomic():
        decided = MeterReport.objects.filter(pk=report.pk, state=State.REJECTED).update(
            state=to, claimed_until=None, accepted_at=now if is_counted else None
        )
        if not decided:
            raise ConflictError("The report is not rejected any more.")
        if not is_counted:
            MeterReport.objects.filter(pk=report.pk).update(first_sent_at=None)
            _count_now(report, now)
        action = "meter_report.counted" if is_counted else "meter_report.moved"
        audit.record(actor, action, report, organization=report.bucket.organization, reason=reason)
