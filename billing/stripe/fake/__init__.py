"""What stands for Stripe without a key, in tests and on a site that is tried out."""

from __future__ import annotations

from billing.stripe.fake.transport import FakeStripe, Fault

__all__ = ["FakeStripe", "Fault"]
