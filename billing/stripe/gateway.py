"""Everything that Mercato asks of Stripe: one typed method per call, values of ours in and out."""

from __future__ import annotations

from billing.stripe.connect import Connect
from billing.stripe.invoicing import Invoicing
from billing.stripe.payments import Payments


class StripeGateway(Payments, Invoicing, Connect):
    """Stripe, or what stands for it.

    Every method may raise `billing.stripe.errors.StripeCallError`: `RejectedError` if Stripe said
    no, `AmbiguousError` if the outcome is not known, `RateLimitedError` or `MisconfiguredError` if
    nothing happened. Every method that makes or changes something takes our own idempotency key.
    None may be called inside a database transaction.
    """
