"""The close of a month: a row per organization that goes from state to state.

Each step may be taken twice and the process may die between any two lines: what a step does is
either in one transaction with the new state, or an operation at Stripe that happens once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts import audit
from accounts.errors import ConflictError
from accounts.models import User
from billing import crashes, drafts, invoice_payments, invoices, meters, months, stripe_ops
from billing.drafts import Blocked, Wait
from billing.models import BillingPeriod, Hold, Invoice, MeterBucket, MeterReport
from billing.staleness import until_fresh
from billing.stripe import objects
from billing.stripe.errors import StripeCallError

log = logging.getLogger(__name__)
State = BillingPeriod.State
# What was accepted in the last moment of a month has been written by then.
GRACE = timedelta(minutes=1)
# No longer is waited for runs of the month: what ends later counts for the next one.
DRAIN_LIMIT = timedelta(minutes=20)
_BLOCKED_MAX = 500
# Where a month is compared with Stripe: there an operator may accept a difference.
ACCEPTABLE = (State.METERED, State.DRAFT_CHECKED, State.FINALISED)


def open_due() -> None:
    """Open a row for every month with usage that is not reported yet."""
    found = MeterBucket.objects.filter(nanos__gt=F("cut_nanos"))
    for owner, currency, hour in found.values_list("organization", "currency", "hour"):
        BillingPeriod.objects.get_or_create(
            organization_id=owner, currency=currency, month=months.of(hour)
        )


def close_due(now: datetime | None = None) -> int:
    """Go on with every month that is over, oldest first; returns how many steps were taken."""
    now = now or timezone.now()
    open_due()
    due = BillingPeriod.objects.filter(month__lt=months.of(now), blocked="")
    due = due.exclude(state=State.RECONCILED).order_by("month", "pk")
    return sum(close(period, now) for period in due.select_related("organization"))


def close(period: BillingPeriod, now: datetime | None = None) -> int:
    """Take every step that is possible now; returns how many were taken.

    What a person must decide is written on the row, and nothing more happens until then.
    """
    now = now or timezone.now()
    count = 0
    try:
        while not period.blocked and period.state in _STEPS:
            _STEPS[period.state](period, now)
            crashes.point(f"close.{period.state}")
            period.refresh_from_db()
            count += 1
    except Wait:
        pass
    except Blocked as error:
        block(period, str(error))
    except stripe_ops.OutcomeUnknownError as error:
        block(period, f"The outcome of an operation at Stripe is not known: {error}")
    except StripeCallError as error:
        log.warning("the close of %s waits for Stripe: %s", period, error)
    period.refresh_from_db()
    return count


def of_invoice(organization_id: int, draft: objects.Invoice) -> BillingPeriod | None:
    """Return the month that a draft of Stripe's is about, unless it is closed."""
    month = months.of(draft.period_end - timedelta(seconds=1))
    if draft.period_end != months.end(month):
        return None
    same = BillingPeriod.objects.filter(
        organization=organization_id, currency=draft.currency, month=month
    )
    return same.exclude(state__in=[State.FINALISED, State.RECONCILED]).first()


def block(period: BillingPeriod, reason: str) -> None:
    """Stop the close of a month until a person has looked."""
    BillingPeriod.objects.filter(pk=period.pk, blocked="").update(
        blocked=reason[:_BLOCKED_MAX], changed_at=timezone.now()
    )
    log.error("the close of %s is blocked: %s", period, reason)


def _go(period: BillingPeriod, state: BillingPeriod.State) -> None:
    BillingPeriod.objects.filter(pk=period.pk, state=period.state).update(
        state=state, changed_at=timezone.now()
    )


def _begin(period: BillingPeriod, now: datetime) -> None:
    """The month is over."""
    if now < months.end(period.month):
        raise Wait
    _go(period, State.DRAINING)


def _drain(period: BillingPeriod, now: datetime) -> None:
    """Wait for runs that were accepted in the month, for a while, and until they are settled."""
    drafts.hold(period)
    end = months.end(period.month)
    if now < end + GRACE:
        raise Wait
    waiting = Hold.objects.filter(
        organization=period.organization_id, accepted_at__lt=end, settlement=None
    )
    if now < end + DRAIN_LIMIT and waiting.exists():
        raise Wait
    _go(period, State.SETTLED)


def _meter(period: BillingPeriod, now: datetime) -> None:
    """Report everything, and fix what counts for the month: what comes later is the next one's."""
    drafts.hold(period)
    meters.cut(now, organization_id=period.organization_id)
    if rejected := drafts.rejected(period):
        raise Blocked(f"Stripe has refused {rejected} usage reports of this month.")
    with transaction.atomic():
        locked = BillingPeriod.objects.select_for_update().get(pk=period.pk)
        end = months.end(period.month)
        uncut = MeterBucket.objects.filter(
            organization=period.organization_id,
            currency=period.currency,
            hour__gte=months.start(period.month),
            hour__lt=end,
            nanos__gt=F("cut_nanos"),
        )
        open_reports = meters.counted_in(period).exclude(state=MeterReport.State.OK)
        if locked.state != State.SETTLED or uncut.exists() or open_reports.exists():
            raise Wait
        _go(period, State.METERED)


def _check(period: BillingPeriod, now: datetime) -> None:
    """Compare Stripe's draft with the ledger."""
    _require_earlier_closed(period)
    drafts.hold(period)
    drafts.check(period, now)
    _go(period, State.DRAFT_CHECKED)


def _require_earlier_closed(period: BillingPeriod) -> None:
    earlier = BillingPeriod.objects.filter(
        organization=period.organization_id, currency=period.currency, month__lt=period.month
    )
    if earlier.exclude(state__in=[State.FINALISED, State.RECONCILED]).exists():
        # What it leaves is carried into this month.
        raise Wait


def _finalise(period: BillingPeriod, now: datetime) -> None:
    """Make the draft final at Stripe, then number and freeze our invoice."""
    invoices.issue(period, drafts.finalize(period))


def _reconcile(period: BillingPeriod, now: datetime) -> None:
    """Ask Stripe once more: what it has counted and billed is what we have written."""
    counted, known = drafts.counted_at_stripe(period), meters.micros(meters.counted_in(period))
    if counted is not None and counted != known:
        raise Blocked(f"Stripe has counted {counted} micro-units, the ledger {known}.")
    _follow_invoice(period)
    _go(period, State.RECONCILED)


def _follow_invoice(period: BillingPeriod, *, is_accepted: bool = False) -> None:
    """Let what has become of the invoice at Stripe take effect, also before we had written it."""
    invoice = Invoice.objects.filter(period=period).first()
    if invoice is None:
        return

    def act() -> None:
        facts = invoice_payments.look(invoice.stripe_invoice)
        if facts.invoice.total != invoice.total_minor and not is_accepted:
            raise Blocked("Stripe's invoice has another total now than the one that was written.")
        invoice_payments.apply(facts)

    until_fresh(act)


_STEPS: dict[str, Callable[[BillingPeriod, datetime], None]] = {
    State.OPEN: _begin,
    State.DRAINING: _drain,
    State.SETTLED: _meter,
    State.METERED: _check,
    State.DRAFT_CHECKED: _finalise,
    State.FINALISED: _reconcile,
}


# What an operator does ------------------------------------------------------------------------


def retry(period: BillingPeriod, *, actor: User, reason: str) -> BillingPeriod:
    """Look again at a month that is blocked; what was reported since then counts too."""
    with transaction.atomic():
        locked = BillingPeriod.objects.select_for_update().get(pk=period.pk)
        if locked.state in {State.METERED, State.DRAFT_CHECKED}:
            locked.state = State.SETTLED
        locked.blocked = ""
        locked.save(update_fields=["state", "blocked", "changed_at"])
        _record(period, "billing_period.retried", actor, reason)
    close(locked)
    return locked


def accept(period: BillingPeriod, *, actor: User, reason: str) -> BillingPeriod:
    """Close a blocked month with what there is: the difference is billed or carried.

    While Stripe's invoice is a draft it is brought to what the ledger says; if it is final, what
    it does not bill is carried into the next month.

    Raises:
        ConflictError: The month is not blocked at a comparison with Stripe, or Stripe's draft has
            lines of others, or Stripe does not answer.
    """
    if not period.blocked or period.state not in ACCEPTABLE:
        raise ConflictError("Only a month that differs from Stripe can be accepted.")
    _record(period, "billing_period.accepted", actor, reason)
    try:
        _accept(period, timezone.now())
    except (Blocked, Wait) as error:
        raise ConflictError(str(error) or "Stripe is still counting. Try again.") from error
    except StripeCallError as error:
        raise ConflictError(f"Stripe does not answer: {error.message}") from error
    BillingPeriod.objects.filter(pk=period.pk).update(blocked="")
    period.refresh_from_db()
    return period


def _accept(period: BillingPeriod, now: datetime) -> None:
    if period.state == State.METERED:
        drafts.check(period, now, is_accepted=True)
        _go(period, State.DRAFT_CHECKED)
    if period.state != State.FINALISED:
        invoices.issue(period, drafts.finalize(period, is_accepted=True))
        period.refresh_from_db()
    _follow_invoice(period, is_accepted=True)
    _go(period, State.RECONCILED)


def _record(period: BillingPeriod, action: str, actor: User, reason: str) -> None:
    audit.record(
        actor,
        action,
        period,
        organization=period.organization,
        reason=reason,
        details={"state": period.state, "blocked": period.blocked},
    )
