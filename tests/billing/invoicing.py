"""What tests of invoices share: a month that can be billed, and what Stripe says of an invoice."""

from __future__ import annotations

from typing import Any

from accounts.models import Organization
from billing.models import BillingPeriod
from billing.stripe import objects
from tests.billing.postpaid_world import START


def make_period(organization: Organization) -> BillingPeriod:
    return BillingPeriod.objects.create(
        organization=organization,
        month=START.date().replace(day=1),
        state=BillingPeriod.State.DRAFT_CHECKED,
    )


def billed(coins: int = 100, **changes: Any) -> objects.Invoice:
    """Make what Stripe says of a final invoice."""
    fields: dict[str, Any] = {
        **dict.fromkeys(["customer", "subscription", "hosted_url", "pdf_url"], ""),
        **dict.fromkeys(["due_at", "finalized_at", "paid_at"]),
        "id": f"in_{coins}",
        "status": "open",
        "number": "S-1",
        "currency": "usd",
        "subtotal": coins,
        "tax": 0,
        "total": coins,
        "amount_due": coins,
        "amount_paid": 0,
        "amount_remaining": coins,
        "auto_advance": True,
        "period_start": START,
        "period_end": START,
        "lines": (),
        "created_at": START,
        "metadata": {},
    }
    return objects.Invoice(**{**fields, **changes})
