"""Customers, cards, payments, refunds and disputes, as Stripe knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Customer:
    """Who pays: one per organization."""

    id: str
    email: str
    default_payment_method: str
    is_deleted: bool
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Card:
    """A saved means of payment, as a person recognizes it."""

    id: str
    customer: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int


@dataclass(frozen=True, slots=True)
class SetupIntent:
    """The saving of a card: `succeeded` once `payment_method` may be charged off session."""

    id: str
    status: str
    customer: str
    payment_method: str


@dataclass(frozen=True, slots=True)
class BalanceTransaction:
    """A movement on Stripe's balance of ours; `net = amount - fee`, negative when money leaves."""

    id: str
    type: str
    reporting_category: str
    amount: int
    fee: int
    net: int
    currency: str
    source: str
    created_at: datetime
    available_at: datetime


@dataclass(frozen=True, slots=True)
class Charge:
    """Money taken from a card."""

    id: str
    status: str
    amount: int
    amount_refunded: int
    currency: str
    customer: str
    payment_intent: str
    is_paid: bool
    is_disputed: bool
    balance_transaction_id: str
    # Only when it was asked for and the money has arrived.
    balance_transaction: BalanceTransaction | None
    created_at: datetime
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PaymentIntent:
    """A payment and where it stands; only `succeeded` is money."""

    id: str
    status: str
    amount: int
    amount_received: int
    currency: str
    customer: str
    payment_method: str
    charge_id: str
    # Only when it was asked for.
    charge: Charge | None
    # Where the person confirms the payment, when `status` is `requires_action`.
    action_url: str
    error_code: str
    decline_code: str
    created_at: datetime
    livemode: bool
    metadata: Mapping[str, str]

    @property
    def fee(self) -> int | None:
        """Stripe's fee in minor units; None while it is not known."""
        transaction = self.charge.balance_transaction if self.charge else None
        return transaction.fee if transaction else None

    @property
    def balance_transaction_id(self) -> str:
        """The movement that brought the money; empty while it is not known."""
        return self.charge.balance_transaction_id if self.charge else ""

    @property
    def amount_refunded(self) -> int:
        """What was given back so far, in minor units."""
        return self.charge.amount_refunded if self.charge else 0


@dataclass(frozen=True, slots=True)
class CheckoutSession:
    """A visit of Stripe's payment page; paid only if `payment_status` says so."""

    id: str
    url: str
    mode: str
    status: str
    payment_status: str
    currency: str
    amount_subtotal: int
    amount_total: int
    amount_tax: int
    customer: str
    client_reference_id: str
    payment_intent_id: str
    # Only when it was asked for and exists.
    payment_intent: PaymentIntent | None
    setup_intent_id: str
    invoice_id: str
    expires_at: datetime
    created_at: datetime
    livemode: bool
    metadata: Mapping[str, str]

    @property
    def is_paid(self) -> bool:
        """Whether the money is there, or none was asked."""
        return self.payment_status in {"paid", "no_payment_required"}


@dataclass(frozen=True, slots=True)
class PortalSession:
    """A visit of Stripe's customer portal."""

    id: str
    url: str


@dataclass(frozen=True, slots=True)
class Refund:
    """Money given back: `pending`, `requires_action`, `succeeded`, `failed` or `canceled`."""

    id: str
    status: str
    amount: int
    currency: str
    charge: str
    payment_intent: str
    failure_reason: str
    balance_transaction_id: str
    failure_balance_transaction_id: str
    created_at: datetime
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Dispute:
    """A payment that the bank took back, or asks about; `net_withdrawn` is what is gone now."""

    id: str
    status: str
    reason: str
    amount: int
    currency: str
    charge: str
    payment_intent: str
    balance_transactions: tuple[BalanceTransaction, ...]
    evidence_due_at: datetime | None
    created_at: datetime
    metadata: Mapping[str, str]

    @property
    def net_withdrawn(self) -> int:
        """Disputed money that Stripe holds now, without fees: 0 before and after."""
        return -sum(each.amount for each in self.balance_transactions)

    @property
    def fees(self) -> int:
        """What Stripe took for the dispute."""
        return sum(each.fee for each in self.balance_transactions)
