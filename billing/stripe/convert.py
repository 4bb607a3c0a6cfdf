"""The SDK's payment objects, turned into values of ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

import stripe

from billing.stripe import objects


class _Identified(Protocol):
    id: str


def key(reference: str | _Identified | None) -> str:
    """Return the id of what may be an id, an expanded object, or nothing."""
    if reference is None:
        return ""
    return reference if isinstance(reference, str) else reference.id


def moment(seconds: int) -> datetime:
    """Return a time from seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def moment_or_none(seconds: int | None) -> datetime | None:
    """Return a time, if there is one."""
    return None if seconds is None else moment(seconds)


def labels(metadata: stripe.StripeObject | None) -> Mapping[str, str]:
    """Return what we wrote on an object."""
    return {} if metadata is None else {str(k): str(v) for k, v in metadata.to_dict().items()}


def customer(raw: stripe.Customer) -> objects.Customer:
    """Return a customer; one that was deleted has nothing but its id."""
    if getattr(raw, "deleted", False):
        return objects.Customer(raw.id, "", "", is_deleted=True, metadata={})
    settings = getattr(raw, "invoice_settings", None)
    return objects.Customer(
        id=raw.id,
        email=raw.email or "",
        default_payment_method=key(settings.default_payment_method) if settings else "",
        is_deleted=False,
        metadata=labels(raw.metadata),
    )


def card(raw: stripe.PaymentMethod) -> objects.Card:
    """Return a saved card; other means of payment have no expiry."""
    details = getattr(raw, "card", None)
    return objects.Card(
        id=raw.id,
        customer=key(raw.customer),
        brand=details.brand if details else raw.type,
        last4=(details.last4 or "") if details else "",
        exp_month=details.exp_month if details else 0,
        exp_year=details.exp_year if details else 0,
    )


def setup_intent(raw: stripe.SetupIntent) -> objects.SetupIntent:
    """Return the saving of a card."""
    return objects.SetupIntent(raw.id, raw.status, key(raw.customer), key(raw.payment_method))


def balance_transaction(raw: stripe.BalanceTransaction) -> objects.BalanceTransaction:
    """Return a movement on our balance."""
    return objects.BalanceTransaction(
        id=raw.id,
        type=raw.type,
        reporting_category=raw.reporting_category,
        amount=raw.amount,
        fee=raw.fee,
        net=raw.net,
        currency=raw.currency,
        source=key(raw.source),
        created_at=moment(raw.created),
        available_at=moment(raw.available_on),
    )


def charge(raw: stripe.Charge) -> objects.Charge:
    """Return money taken from a card."""
    movement = raw.balance_transaction
    return objects.Charge(
        id=raw.id,
        status=raw.status,
        amount=raw.amount,
        amount_refunded=raw.amount_refunded,
        currency=raw.currency,
        customer=key(raw.customer),
        payment_intent=key(raw.payment_intent),
        is_paid=raw.paid,
        is_disputed=raw.disputed,
        balance_transaction_id=key(movement),
        balance_transaction=(
            balance_transaction(movement)
            if isinstance(movement, stripe.BalanceTransaction)
            else None
        ),
        created_at=moment(raw.created),
        metadata=labels(raw.metadata),
    )


def payment_intent(raw: stripe.PaymentIntent) -> objects.PaymentIntent:
    """Return a payment."""
    error, latest = raw.last_payment_error, raw.latest_charge
    # Named by its kind: absent when the next action is another one.
    redirect = getattr(raw.next_action, "redirect_to_url", None)
    return objects.PaymentIntent(
        id=raw.id,
        status=raw.status,
        amount=raw.amount,
        amount_received=raw.amount_received,
        currency=raw.currency,
        customer=key(raw.customer),
        payment_method=key(raw.payment_method),
        charge_id=key(latest),
        charge=charge(latest) if isinstance(latest, stripe.Charge) else None,
        action_url=(redirect.url or "") if redirect else "",
        error_code=getattr(error, "code", None) or "",
        decline_code=getattr(error, "decline_code", None) or "",
        created_at=moment(raw.created),
        livemode=raw.livemode,
        metadata=labels(raw.metadata),
    )


def checkout_session(raw: stripe.checkout.Session) -> objects.CheckoutSession:
    """Return a visit of the payment page."""
    intent, total = raw.payment_intent, raw.total_details
    return objects.CheckoutSession(
        id=raw.id,
        url=raw.url or "",
        mode=raw.mode,
        status=raw.status or "",
        payment_status=raw.payment_status,
        currency=raw.currency or "",
        amount_subtotal=raw.amount_subtotal or 0,
        amount_total=raw.amount_total or 0,
        amount_tax=total.amount_tax if total else 0,
        customer=key(raw.customer),
        client_reference_id=raw.client_reference_id or "",
        payment_intent_id=key(intent),
        payment_intent=(
            payment_intent(intent) if isinstance(intent, stripe.PaymentIntent) else None
        ),
        setup_intent_id=key(raw.setup_intent),
        invoice_id=key(raw.invoice),
        expires_at=moment(raw.expires_at),
        created_at=moment(raw.created),
        livemode=raw.livemode,
        metadata=labels(raw.metadata),
    )


def refund(raw: stripe.Refund) -> objects.Refund:
    """Return money given back."""
    return objects.Refund(
        id=raw.id,
        status=raw.status or "",
        amount=raw.amount,
        currency=raw.currency,
        charge=key(raw.charge),
        payment_intent=key(raw.payment_intent),
        # Stripe leaves both out of a refund that has not failed.
        failure_reason=getattr(raw, "failure_reason", None) or "",
        balance_transaction_id=key(raw.balance_transaction),
        failure_balance_transaction_id=key(getattr(raw, "failure_balance_transaction", None)),
        created_at=moment(raw.created),
        metadata=labels(raw.metadata),
    )


def dispute(raw: stripe.Dispute) -> objects.Dispute:
    """Return a payment that the bank took back."""
    return objects.Dispute(
        id=raw.id,
        status=raw.status,
        reason=raw.reason,
        amount=raw.amount,
        currency=raw.currency,
        charge=key(raw.charge),
        payment_intent=key(raw.payment_intent),
        balance_transactions=tuple(balance_transaction(each) for each in raw.balance_transactions),
        evidence_due_at=moment_or_none(raw.evidence_details.due_by),
        created_at=moment(raw.created),
        metadata=labels(raw.metadata),
    )
