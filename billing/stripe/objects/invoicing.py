"""Usage that is counted and invoices that come of it, as Stripe knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Product:
    """What is sold, in Stripe's catalogue."""

    id: str
    name: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Price:
    """A price of Stripe's catalogue; `unit_amount` in minor units, with decimals."""

    id: str
    product: str
    currency: str
    unit_amount: Decimal
    meter: str
    lookup_key: str
    is_active: bool
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Meter:
    """A counter of usage; its event name cannot change."""

    id: str
    event_name: str
    display_name: str
    status: str
    customer_key: str
    value_key: str


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """The acknowledgement that usage was counted."""

    identifier: str
    event_name: str
    customer: str
    value: int
    timestamp: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MeterEventAdjustment:
    """The cancellation of a meter event: `pending` or `complete`."""

    event_name: str
    status: str
    identifier: str


@dataclass(frozen=True, slots=True)
class MeterSummary:
    """What a meter counted for a customer between two times."""

    start_at: datetime
    end_at: datetime
    value: int


@dataclass(frozen=True, slots=True)
class SubscriptionItem:
    """A price that is subscribed, with its current period."""

    id: str
    price: str
    period_start: datetime
    period_end: datetime


@dataclass(frozen=True, slots=True)
class Subscription:
    """A contract that makes an invoice each month."""

    id: str
    status: str
    customer: str
    currency: str
    items: tuple[SubscriptionItem, ...]
    latest_invoice: str
    billing_cycle_anchor: datetime
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """A line of an invoice; `quantity` is what the meter counted."""

    id: str
    description: str
    amount: int
    currency: str
    quantity: Decimal
    price: str
    subscription: str
    period_start: datetime
    period_end: datetime


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice: `draft`, `open`, `paid`, `uncollectible` or `void`."""

    id: str
    status: str
    number: str
    customer: str
    subscription: str
    currency: str
    subtotal: int
    tax: int
    total: int
    amount_due: int
    amount_paid: int
    amount_remaining: int
    auto_advance: bool
    period_start: datetime
    period_end: datetime
    due_at: datetime | None
    finalized_at: datetime | None
    paid_at: datetime | None
    hosted_url: str
    pdf_url: str
    # The first lines only; `Gateway.invoice_lines` returns all.
    lines: tuple[InvoiceLine, ...]
    created_at: datetime
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class InvoiceItem:
    """A line that was added to a draft by hand; `amount` in minor units, may be negative."""

    id: str
    invoice: str
    amount: int
    currency: str
    description: str


@dataclass(frozen=True, slots=True)
class CreditNote:
    """A correction of an invoice that is final."""

    id: str
    number: str
    status: str
    invoice: str
    customer: str
    currency: str
    amount: int
    total: int
    reason: str
    pdf_url: str
    created_at: datetime
    metadata: Mapping[str, str]
