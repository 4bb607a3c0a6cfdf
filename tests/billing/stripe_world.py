"""Steps that tests of money at Stripe share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from billing import webhooks
from billing.models import StripeEvent
from billing.stripe import client, objects
from billing.stripe.gateway import StripeGateway


def deliver_all() -> None:
    """Carry all webhooks of the fake to the site, and let them take effect."""
    while webhooks.deliver_fake():
        pass
    StripeEvent.objects.filter(state=StripeEvent.State.RECEIVED).update(next_attempt_at=None)
    while webhooks.handle_due():
        pass


def make_customer(name: str = "acme") -> objects.Customer:
    """Make a customer at the fake."""
    return client.gateway().create_customer(
        email=f"{name}@example.com", name=name, metadata={"name": name}, key=f"cus:{name}:a1"
    )


def open_topup(
    customer: objects.Customer,
    amount: int = 2000,
    *,
    reference: str = "t1",
    tax: bool = False,
    gateway: StripeGateway | None = None,
) -> objects.CheckoutSession:
    """Open a payment page at the fake, for an amount of cents."""
    return (gateway or client.gateway()).create_topup_session(
        customer=customer.id,
        amount=amount,
        currency="usd",
        description="Credit",
        reference=reference,
        metadata={"topup_id": reference},
        success_url="http://testserver/ok",
        cancel_url="http://testserver/no",
        expires_at=client.fake().people.now() + timedelta(hours=1),
        save_card=True,
        tax=tax,
        key=f"topup:{reference}:a1",
    )


LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
