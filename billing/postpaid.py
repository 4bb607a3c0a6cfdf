"""Credit lines: who may use before paying, and what Stripe needs to bill it each month."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from accounts.models import Organization, User
from billing import customers, months, stripe_ops, wallets
from billing.currencies import coins_per_micro
from billing.meter_sender import event_name
from billing.models import StripeOp, Wallet
from billing.stripe import client, objects
from billing.stripe.errors import RejectedError, StripeCallError

log = logging.getLogger(__name__)
# A subscription that Stripe refused is asked for again no sooner.
_AFTER_REFUSAL = timedelta(hours=1)
ENDED = {"canceled", "incomplete_expired"}


def set_line(organization: Organization, nanos: int, *, actor: User, reason: str) -> Wallet:
    """Set a credit line, and subscribe the organization at Stripe if that works at once.

    If it does not, `enrol_due` does it later: usage waits to be reported until then.
    """
    wallet = wallets.set_line(organization, nanos, actor=actor, reason=reason)
    if wallet.line_nanos:
        _try_to_enrol(organization)
    wallet.refresh_from_db()
    return wallet


def enrol_due() -> int:
    """Subscribe every organization with a credit line or a debt that has no subscription."""
    due = Wallet.objects.filter(Q(line_nanos__gt=0) | Q(owed_nanos__gt=0), stripe_subscription="")
    return sum(_try_to_enrol(each.organization) for each in due.select_related("organization"))


def _try_to_enrol(organization: Organization) -> bool:
    try:
        enrol(organization)
    except (StripeCallError, stripe_ops.OutcomeUnknownError) as error:
        log.warning("%s cannot be subscribed now: %s", organization, error)
        return False
    return True


def enrol(organization: Organization) -> str:
    """Return the organization's metered subscription, made on first use.

    Raises:
        StripeCallError: Stripe did not answer, or refused.
    """
    wallet = wallets.of(organization)
    if wallet.stripe_subscription:
        return wallet.stripe_subscription
    customer = customers.ensure(organization)
    found = _living(customer) or _subscribe(organization, customer, price_of(wallet.currency))
    # Stripe counts from the beginning of its period on.
    Wallet.objects.filter(pk=wallet.pk, stripe_subscription="").update(
        stripe_subscription=found.id,
        subscribed_at=min(each.period_start for each in found.items),
    )
    wallet.refresh_from_db()
    return wallet.stripe_subscription


def _living(customer: str) -> objects.Subscription | None:
    """Return the subscription that exists already: of an attempt that died, for instance."""
    found = client.gateway().list_subscriptions(customer)
    mine = [each for each in found if "organization" in each.metadata]
    return next((each for each in mine if each.status not in ENDED), None)


def _subscribe(organization: Organization, customer: str, price: str) -> objects.Subscription:
    number, compensated, frozen = _attempt(organization)
    anchor = months.end(months.of(timezone.now()))
    params = frozen or {
        "customer": customer,
        "price": price,
        "anchor": anchor.isoformat(),
        "metadata": {"organization": str(organization.pk)},
        "tax": settings.STRIPE_TAX,
    }
    gateway = client.gateway()

    def call(given: Mapping[str, Any], key: str) -> objects.Subscription:
        moment = datetime.fromisoformat(given["anchor"]).astimezone(UTC)
        return gateway.create_subscription(**{**given, "anchor": moment}, key=key)

    made = stripe_ops.run(
        "subscription",
        f"{organization.pk}:{number}",
        call,
        params,
        find=lambda: _living(customer),
        compensated=compensated,
    )
    return gateway.retrieve_subscription(made.stripe_id)


def _attempt(organization: Organization) -> tuple[int, int, dict[str, Any] | None]:
    """Return which subscription this is, what of it was refused, and what was frozen for it.

    Raises:
        RejectedError: Stripe refused it less than an hour ago.
    """
    opened = StripeOp.objects.filter(
        kind="subscription", business_key__startswith=f"{organization.pk}:"
    )
    done = opened.filter(state=StripeOp.State.OK).count()
    latest = opened.filter(business_key=f"{organization.pk}:{done + 1}").first()
    if latest is None:
        return done + 1, 0, None
    if latest.state != StripeOp.State.REJECTED:
        return done + 1, 0, dict(latest.params)
    if (latest.finished_at or latest.created_at) > timezone.now() - _AFTER_REFUSAL:
        raise RejectedError(latest.last_error)
    # Nothing was booked for it: it may be tried anew, for the month that is now.
    return done + 1, latest.attempt, None


def lookup_key(currency: str) -> str:
    """Return the name of the price of a micro-unit."""
    return event_name(currency)


def price_of(currency: str) -> str:
    """Return the metered price of a currency at Stripe; meter, product and price are made once.

    What exists there is adopted, never made twice.

    Raises:
        StripeCallError: Stripe did not answer, or refused.
    """
    gateway = client.gateway()
    name = lookup_key(currency)
    if found := gateway.find_price(name):
        return found.id
    meter = stripe_ops.run(
        "meter",
        name,
        lambda given, key: gateway.adopt_meter(**given, key=key),
        {"event_name": name, "display_name": f"Mercato usage, {currency}"},
    )
    product = stripe_ops.run(
        "product",
        name,
        lambda given, key: gateway.create_product(**given, key=key),
        {"name": "Model usage", "metadata": {"mercato": name}},
    )
    made = stripe_ops.run(
        "price",
        name,
        lambda given, key: gateway.create_metered_price(
            **{**given, "unit_amount": coins_per_micro(currency)}, key=key
        ),
        {
            "product": product.stripe_id,
            "meter": meter.stripe_id,
            "currency": currency,
            "lookup_key": name,
        },
        find=lambda: gateway.find_price(name),
    )
    return made.stripe_id


def ended(subscription: str) -> bool:
    """Forget a subscription that has ended; with a credit line another is made soon."""
    return bool(
        Wallet.objects.filter(stripe_subscription=subscription).update(
            stripe_subscription="", subscribed_at=None
        )
    )
