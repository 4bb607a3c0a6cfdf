"""What Stripe's webhooks about invoices, their payments and subscriptions do here."""

from __future__ import annotations

from accounts import audit
from billing import invoice_payments, periods, postpaid, webhooks
from billing.models import BillingPeriod, Invoice, StripeEvent, TopUp, Wallet
from billing.stripe import client, objects


def _look(event: StripeEvent) -> invoice_payments.Facts:
    return invoice_payments.look(event.object_id)


@webhooks.handles(
    "invoice.finalized",
    "invoice.paid",
    "invoice.voided",
    "invoice.marked_uncollectible",
    fetch=_look,
)
def follow_invoice(event: StripeEvent, facts: invoice_payments.Facts) -> None:
    """Let an invoice be paid or given up, once its month has written it.

    Before that nothing is lost: the close of the month asks Stripe itself.
    """
    invoice_payments.apply(facts)


def _note(event: StripeEvent) -> invoice_payments.Facts:
    note = client.gateway().retrieve_credit_note(event.object_id)
    return invoice_payments.look(note.invoice)


@webhooks.handles("credit_note.created", "credit_note.voided", fetch=_note)
def follow_note(event: StripeEvent, facts: invoice_payments.Facts) -> None:
    """Book a correction, or take it back."""
    invoice_payments.apply(facts)


def _disputed(event: StripeEvent) -> invoice_payments.Facts | None:
    """Read the invoice that a disputed payment has paid; None if it is none of ours (yet)."""
    gateway = client.gateway()
    intent = gateway.retrieve_dispute(event.object_id).payment_intent
    if not intent or TopUp.objects.filter(payment_intent=intent).exists():
        return None
    found = gateway.invoice_of(intent)
    known = Invoice.objects.filter(stripe_invoice=found).exclude(stripe_invoice="")
    return invoice_payments.look(found) if known.exists() else None


@webhooks.handles(
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "charge.dispute.closed",
    fetch=_disputed,
)
def follow_dispute(event: StripeEvent, facts: invoice_payments.Facts | None) -> None:
    """Let an invoice whose payment a bank takes back be owed again."""
    if facts is not None:
        invoice_payments.apply(facts)


@webhooks.handles("invoice.payment_failed", fetch=_look)
def note_failure(event: StripeEvent, facts: invoice_payments.Facts) -> None:
    """Write down that a card was refused; Stripe tries again by itself."""
    invoice = invoice_payments.apply(facts)
    if invoice is not None and invoice.state == Invoice.State.FINALISED:
        organization = invoice.organization
        audit.record(None, "invoice.payment_failed", invoice, organization=organization)


def _draft(event: StripeEvent) -> objects.Invoice:
    return client.gateway().retrieve_invoice(event.object_id)


@webhooks.handles("invoice.created", "invoice.finalization_failed", fetch=_draft)
def follow_draft(event: StripeEvent, draft: objects.Invoice) -> None:
    """Let the close of a month know its draft, and stop if Stripe cannot make it final."""
    wallet = Wallet.objects.filter(stripe_customer=draft.customer).exclude(stripe_customer="")
    owner = wallet.values_list("organization", flat=True).first()
    period = periods.of_invoice(owner, draft) if owner and draft.subscription else None
    if period is None:
        return
    BillingPeriod.objects.filter(pk=period.pk, stripe_invoice="").update(stripe_invoice=draft.id)
    if event.type == "invoice.finalization_failed" and draft.status == "draft":
        periods.block(period, "Stripe could not make the invoice final: see its dashboard.")


def _subscription(event: StripeEvent) -> objects.Subscription:
    return client.gateway().retrieve_subscription(event.object_id)


@webhooks.handles(
    "customer.subscription.updated", "customer.subscription.deleted", fetch=_subscription
)
def follow_subscription(event: StripeEvent, found: objects.Subscription) -> None:
    """Forget a subscription that has ended: a new one is made while there is a credit line."""
    if found.status in postpaid.ENDED:
        postpaid.ended(found.id)
