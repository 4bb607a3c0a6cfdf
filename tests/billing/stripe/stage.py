"""Where a history of what happens at Stripe plays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from billing.models import TopUp
from billing.stripe.fake import FakeStripe
from billing.stripe.fake.events import emit
from billing.stripe.fake.store import Body
from tests.billing.postpaid_world import Clock

# What a history does before its first moment is known to the site when it begins; then each one is
# a moment at which webhooks could come.
Moments = Iterator[None]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a history plays: a Stripe and a clock of its own."""

    fake: FakeStripe
    clock: Clock

    def tell(self, kind: str, name: str, *, before: Body | None = None, **changes: Any) -> None:
        """Let Stripe change an object and tell of it: what no deed of the fake does."""
        with self.fake._store.transaction() as stripe:
            body = stripe.find(name)
            assert body is not None
            emit(stripe, kind, stripe.save(body | changes))
            if before is not None:
                event = stripe.newest("event")[0]
                event["data"]["previous_attributes"] = before
                stripe.save(event)

    def charge_of(self, top_up: TopUp) -> str:
        """Return the charge of a top-up, also before the site knows it."""
        session = self.fake.people.look(top_up.checkout_session) or {}
        intent = self.fake.people.look(session["payment_intent"]) or {}
        return str(intent["latest_charge"])
