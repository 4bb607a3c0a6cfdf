"""Rows of payments, invoices and reconciliation, for the console's pages."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import count
from uuid import uuid4

from django.utils import timezone

from accounts.models import Organization
from billing.ids import uuid7
from billing.models import (
    AutoReload,
    BillingPeriod,
    CreditRefund,
    Dispute,
    Finding,
    Invoice,
    MeterBucket,
    ReconciliationRun,
    RedeemCode,
    StripeEvent,
    StripeOp,
    TopUp,
)

_NUMBERS = count(1)
_DOLLAR_NANOS = 1_000_000_000


def make_payments(organization: Organization) -> None:
    """Make a row of everything that payments, invoices and reconciliation have."""
    number = next(_NUMBERS)
    top_up = TopUp.objects.create(
        id=uuid7(),
        organization=organization,
        kind=TopUp.Kind.CHECKOUT,
        credit_nanos=5 * _DOLLAR_NANOS,
        charge_minor=500,
        payment_intent=f"pi_{number}",
    )
    CreditRefund.objects.create(
        id=uuid4(), top_up=top_up, amount_nanos=_DOLLAR_NANOS, amount_minor=100, reason="Test"
    )
    Dispute.objects.create(id=f"dp_{number}", top_up=top_up, amount_minor=500)
    RedeemCode.objects.create(digest=f"{number:064}", last4="ABCD", amount_nanos=_DOLLAR_NANOS)
    AutoReload.objects.create(
        organization=organization,
        threshold_nanos=_DOLLAR_NANOS,
        amount_nanos=5 * _DOLLAR_NANOS,
        monthly_limit_nanos=50 * _DOLLAR_NANOS,
    )
    _make_stripe(number)
    _make_month(organization, number)
    run = ReconciliationRun.objects.create()
    Finding.objects.create(
        run=run,
        last_run=run,
        check_name="wallet_is_its_entries",
        subject=f"organization:{number}",
        organization=organization,
        text="The wallet and its entries disagree.",
        expected_nanos=2,
        found_nanos=1,
    )


def _make_stripe(number: int) -> None:
    StripeEvent.objects.create(
        id=f"evt_{number}",
        type="charge.refunded",
        object_type="charge",
        object_id=f"ch_{number}",
        payload={},
        created_at=timezone.now(),
    )
    StripeOp.objects.create(
        kind="refund",
        business_key=f"test:{number}",
        idem_key=f"test-{number}",
        request_hash="0" * 64,
        params={},
    )


def _make_month(organization: Organization, number: int) -> None:
    now = timezone.now()
    period = BillingPeriod.objects.create(organization=organization, month=date(2026, 1, 1))
    Invoice.objects.create(
        number=f"TEST-{number:06}",
        organization=organization,
        period=period,
        used_nanos=3 * _DOLLAR_NANOS,
        subtotal_minor=300,
        total_minor=300,
        stripe_invoice=f"in_{number}",
        frozen={},
        sha256="0" * 64,
        issued_at=now,
    )
    bucket = MeterBucket.objects.create(
        organization=organization,
        hour=now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=1),
        nanos=3000,
        cut_nanos=3000,
    )
    bucket.reports.create(
        seq=1,
        nanos_from=0,
        nanos_to=3000,
        value=3,
        identifier=f"test-{number}",
        counted_at=now,
    )
