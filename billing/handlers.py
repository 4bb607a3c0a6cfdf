"""The modules that handle Stripe's webhooks: importing one registers its handlers."""

from __future__ import annotations

from importlib import import_module

MODULES: tuple[str, ...] = (
    "billing.connect",
    "billing.payout_events",
    "billing.payment_events",
    "billing.invoice_events",
)


def register() -> None:
    """Import the modules, so that `billing.webhooks.HANDLERS` is complete in every process."""
    for name in MODULES:
        import_module(name)
