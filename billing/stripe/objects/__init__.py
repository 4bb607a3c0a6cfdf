"""What crosses the boundary to Stripe: plain frozen values, never the SDK's own objects.

Amounts are in minor units (cents), as Stripe counts them; times are UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.stripe.objects.connect import (
    Account,
    AccountLink,
    Balance,
    BankPayment,
    Event,
    Transfer,
    TransferReversal,
)
from billing.stripe.objects.invoicing import (
    CreditNote,
    Invoice,
    InvoiceItem,
    InvoiceLine,
    Meter,
    MeterEvent,
    MeterEventAdjustment,
    MeterSummary,
    Price,
    Product,
    Subscription,
    SubscriptionItem,
)
from billing.stripe.objects.payments import (
    BalanceTransaction,
    Card,
    Charge,
    CheckoutSession,
    Customer,
    Dispute,
    PaymentIntent,
    PortalSession,
    Refund,
    SetupIntent,
)

__all__ = [
    "Account",
    "AccountLink",
    "Balance",
    "BalanceTransaction",
    "BankPayment",
    "Card",
    "Charge",
    "CheckoutSession",
    "CreditNote",
    "Customer",
    "Dispute",
    "Event",
    "Invoice",
    "InvoiceItem",
    "InvoiceLine",
    "Meter",
    "MeterEvent",
    "MeterEventAdjustment",
    "MeterSummary",
    "PaymentIntent",
    "PortalSession",
    "Price",
    "Product",
    "Refund",
    "SetupIntent",
    "Subscription",
    "SubscriptionItem",
    "Transfer",
    "TransferReversal",
    "as_json",
    "plain",
]


def as_json(value: object) -> dict[str, Any]:
    """Return one of the values above as a dict that JSON can hold: for `StripeOp.response`.

    Raises:
        TypeError: It is not one of them.
    """
    if isinstance(value, type) or not hasattr(value, "__dataclass_fields__"):
        raise TypeError(f"{type(value).__name__} is not a value of the boundary")
    return {name: plain(each) for name, each in asdict(value).items()}  # type: ignore[call-overload]  # checked above


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: times and decimals as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value
