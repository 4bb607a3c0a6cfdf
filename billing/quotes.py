"""Binding quotes: a price and a share that hold for one run although both may change.

Made here for whatever a higher app can count; used by the admission of the run, which marks the
quote in the same transaction as its hold (billing.holds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from accounts.models import Organization
from billing.errors import QuoteExpiredError
from billing.ids import uuid7
from billing.models import Quote
from billing.rating import PricePlan, plan_of, rate

# Expired quotes that nobody used are kept for questions, then forgotten.
KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Promise:
    """A quote that a run wants to use: what it will be rated by."""

    quote_id: UUID
    plan: PricePlan
    share_version_id: int


def make(
    organization_id: int,
    plan: PricePlan,
    *,
    share_version_id: int,
    quantities: Mapping[str, int],
    model_version_id: int | None = None,
    subject: Mapping[str, Any] | None = None,
) -> Quote:
    """Promise a price for one run.

    Args:
        quantities: Dimension → the most units the run may use.
        subject: What else must be the same when it is used, as JSON.

    Returns:
        The quote; its amount is the most that the run can cost, in nanos.
    """
    return Quote.objects.create(
        id=uuid7(),
        organization_id=organization_id,
        model_version_id=model_version_id,
        price_version_id=plan.price_version_id,
        share_version_id=share_version_id,
        quantities=dict(quantities),
        subject=dict(subject or {}),
        currency=plan.currency,
        amount_nanos=rate(plan, quantities),
        expires_at=timezone.now() + timedelta(minutes=settings.QUOTE_MINUTES),
    )


def find(organization: Organization, quote_id: UUID) -> Quote | None:
    """Return a quote of the organization; None if it has none of this id."""
    return Quote.objects.filter(organization=organization, pk=quote_id).first()


def read(organization_id: int, text: str) -> Quote:
    """Return the quote that a request names, if it can still be used.

    Raises:
        QuoteExpiredError: It is unknown, another organization's, used, or has expired.
    """
    quote = None
    if (quote_id := _uuid(text)) is not None:
        found = Quote.objects.select_related("price_version").filter(pk=quote_id)
        quote = found.filter(organization_id=organization_id).first()
    if quote is None:
        raise QuoteExpiredError("There is no such quote.")
    if quote.hold_id is not None:
        raise QuoteExpiredError("This quote was used. Nothing was charged.")
    if quote.expires_at <= timezone.now():
        raise QuoteExpiredError("This quote has expired. Nothing was charged.")
    return quote


def promise(
    quote: Quote, *, quantities: Mapping[str, int], model_version_id: int | None = None
) -> Promise:
    """Return what a run is rated by that uses a quote.

    Whether the quote is still open is asked again, with the run's hold, when it is admitted.

    Args:
        quantities: Dimension → the most units of the run.

    Raises:
        QuoteExpiredError: The quote is for another version, or for less.
    """
    if quote.model_version_id != model_version_id:
        raise QuoteExpiredError("This quote is for another version. Nothing was charged.")
    plan = plan_of(quote.price_version)
    # What the price does not count cannot make the run dearer.
    for name, units in quantities.items():
        if name in plan.components and units > quote.quantities.get(name, 0):
            raise QuoteExpiredError(
                f"This quote is for at most {quote.quantities.get(name, 0)} of {name}, and the run "
                f"may use {units}. Nothing was charged."
            )
    return Promise(quote.pk, plan, quote.share_version_id)


def state(quote: Quote, at: datetime | None = None) -> str:
    """Return `open`, `used` or `expired`."""
    if quote.hold_id is not None:
        return "used"
    return "open" if quote.expires_at > (at or timezone.now()) else "expired"


def forget_expired() -> int:
    """Delete quotes that nobody used and that expired long ago; returns how many."""
    old = Quote.objects.filter(hold=None, expires_at__lt=timezone.now() - KEPT)
    return old.delete()[0]


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
