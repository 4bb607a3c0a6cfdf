"""What Stripe keeps of a payment or for a dispute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accounts.models import Organization
from billing import ledger, minor


def book(
    organization: Organization, currency: str, movement: str, fee: int, about: Mapping[str, Any]
) -> None:
    """Book a fee of Stripe's, once per movement of our balance.

    In the book of the organization: the chain of another book is not locked after its wallet.

    Args:
        organization: Its wallet is locked.
        movement: Stripe's id of the balance transaction; empty while it is not known.
        fee: Coins; negative if Stripe gave one back.
        about: What was paid, such as {"top_up": "…"}.
    """
    if not fee or not movement:
        return
    nanos = minor.to_nanos(fee, currency)
    ledger.post(
        "stripe_fee",
        movement,
        {
            ledger.account(ledger.FEES, currency=currency): nanos,
            ledger.account(ledger.CLEARING, currency=currency): -nanos,
        },
        organization=organization,
        details=about,
    )
