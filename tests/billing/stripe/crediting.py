"""What tests of Stripe's webhooks let happen: an example handler, and signatures."""

from __future__ import annotations

from billing.models import StripeEvent
from billing.stripe import client, objects, signatures

PAID = ("checkout.session.completed", "checkout.session.async_payment_succeeded")


def session_of(event: StripeEvent) -> objects.CheckoutSession:
    """Ask for the payment's session as it is now."""
    return client.gateway().retrieve_session(event.object_id)


def signed(payload: bytes, *, at: int | None = None, secret: str | None = None) -> str:
    """Sign a webhook's body as Stripe would."""
    return signatures.sign(payload, secret or signatures.secrets()[0], at)
