"""The SDK's meters, subscriptions and invoices, turned into values of ours."""

from __future__ import annotations

from decimal import Decimal

import stripe

from billing.stripe import objects
from billing.stripe.convert import key, labels, moment, moment_or_none


def product(raw: stripe.Product) -> objects.Product:
    """Return what is sold."""
    return objects.Product(raw.id, raw.name, labels(raw.metadata))


def price(raw: stripe.Price) -> objects.Price:
    """Return a price."""
    recurring = raw.recurring
    return objects.Price(
        id=raw.id,
        product=key(raw.product),
        currency=raw.currency,
        unit_amount=raw.unit_amount_decimal or Decimal(0),
        meter=(recurring.meter or "") if recurring else "",
        lookup_key=raw.lookup_key or "",
        is_active=raw.active,
        metadata=labels(raw.metadata),
    )


def meter(raw: stripe.billing.Meter) -> objects.Meter:
    """Return a counter of usage."""
    return objects.Meter(
        id=raw.id,
        event_name=raw.event_name,
        display_name=raw.display_name,
        status=raw.status,
        customer_key=raw.customer_mapping.event_payload_key,
        value_key=raw.value_settings.event_payload_key,
    )


def meter_event(raw: stripe.billing.MeterEvent) -> objects.MeterEvent:
    """Return the acknowledgement of usage."""
    payload = labels(raw.payload)
    return objects.MeterEvent(
        identifier=raw.identifier,
        event_name=raw.event_name,
        customer=payload["stripe_customer_id"],
        value=int(payload["value"]),
        timestamp=moment(raw.timestamp),
        created_at=moment(raw.created),
    )


def meter_event_adjustment(
    raw: stripe.billing.MeterEventAdjustment,
) -> objects.MeterEventAdjustment:
    """Return the cancellation of usage."""
    cancelled = (raw.cancel.identifier or "") if raw.cancel else ""
    return objects.MeterEventAdjustment(raw.event_name, raw.status, cancelled)


def meter_summary(raw: stripe.billing.MeterEventSummary) -> objects.MeterSummary:
    """Return what a meter counted; whole numbers are exact, as they have at most 15 digits."""
    return objects.MeterSummary(
        moment(raw.start_time), moment(raw.end_time), int(raw.aggregated_value)
    )


def subscription(raw: stripe.Subscription) -> objects.Subscription:
    """Return a contract."""
    return objects.Subscription(
        id=raw.id,
        status=raw.status,
        customer=key(raw.customer),
        currency=raw.currency,
        items=tuple(
            objects.SubscriptionItem(
                id=each.id,
                price=each.price.id,
                period_start=moment(each.current_period_start),
                period_end=moment(each.current_period_end),
            )
            # A method of the SDK's class hides the field of the same name.
            for each in raw["items"].data
        ),
        latest_invoice=key(raw.latest_invoice),
        billing_cycle_anchor=moment(raw.billing_cycle_anchor),
        metadata=labels(raw.metadata),
    )


def invoice_line(raw: stripe.InvoiceLineItem) -> objects.InvoiceLine:
    """Return a line of an invoice."""
    details = raw.pricing.price_details if raw.pricing else None
    quantity = raw.quantity_decimal
    return objects.InvoiceLine(
        id=raw.id,
        description=raw.description or "",
        amount=raw.amount,
        currency=raw.currency,
        quantity=Decimal(raw.quantity or 0) if quantity is None else quantity,
        price=key(details.price) if details else "",
        subscription=key(raw.subscription),
        period_start=moment(raw.period.start),
        period_end=moment(raw.period.end),
    )


def invoice_item(raw: stripe.InvoiceItem) -> objects.InvoiceItem:
    """Return a line that was added to a draft."""
    return objects.InvoiceItem(
        id=raw.id,
        invoice=key(raw.invoice),
        amount=raw.amount,
        currency=raw.currency,
        description=raw.description or "",
    )


def invoice(raw: stripe.Invoice) -> objects.Invoice:
    """Return an invoice with its first lines."""
    contract = raw.parent.subscription_details if raw.parent else None
    return objects.Invoice(
        # A preview has no id.
        id=getattr(raw, "id", None) or "",
        status=raw.status or "",
        number=raw.number or "",
        customer=key(raw.customer),
        subscription=key(contract.subscription) if contract else "",
        currency=raw.currency,
        subtotal=raw.subtotal,
        tax=sum(each.amount for each in raw.total_taxes or []),
        total=raw.total,
        amount_due=raw.amount_due,
        amount_paid=raw.amount_paid,
        amount_remaining=raw.amount_remaining,
        auto_advance=bool(raw.auto_advance),
        period_start=moment(raw.period_start),
        period_end=moment(raw.period_end),
        due_at=moment_or_none(raw.due_date),
        finalized_at=moment_or_none(raw.status_transitions.finalized_at),
        paid_at=moment_or_none(raw.status_transitions.paid_at),
        hosted_url=getattr(raw, "hosted_invoice_url", None) or "",
        pdf_url=getattr(raw, "invoice_pdf", None) or "",
        lines=tuple(invoice_line(each) for each in raw.lines.data),
        created_at=moment(raw.created),
        metadata=labels(raw.metadata),
    )


def credit_note(raw: stripe.CreditNote) -> objects.CreditNote:
    """Return a correction of an invoice."""
    return objects.CreditNote(
        id=raw.id,
        number=raw.number,
        status=raw.status,
        invoice=key(raw.invoice),
        customer=key(raw.customer),
        currency=raw.currency,
        amount=raw.amount,
        total=raw.total,
        reason=raw.reason or "",
        pdf_url=raw.pdf,
        created_at=moment(raw.created),
        metadata=labels(raw.metadata),
    )
