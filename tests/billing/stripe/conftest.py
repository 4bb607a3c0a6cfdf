"""Handlers of Stripe's webhooks for tests alone."""

from __future__ import annotations

import pytest

from billing import webhooks
from billing.models import StripeEvent, StripeOp
from billing.stripe import objects
from tests.billing.stripe.crediting import PAID, session_of


@pytest.fixture
def no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what the site does with webhooks."""
    monkeypatch.setattr(webhooks, "HANDLERS", {})


@pytest.fixture
def credits(no_handlers: None) -> list[str]:
    """An example handler: credits a payment once, by a row that is unique."""
    credited: list[str] = []

    @webhooks.handles(*PAID, fetch=session_of)
    def credit(event: StripeEvent, session: objects.CheckoutSession) -> None:
        if not session.is_paid:
            return
        _, is_new = StripeOp.objects.get_or_create(
            idem_key=session.id,
            defaults={"kind": "credit", "business_key": session.id, "params": {}},
        )
        if is_new:
            credited.append(session.id)

    return credited
