"""What becomes of an invoice: paid, given up, corrected, disputed. Each is booked once.

Whoever learns that an invoice may have changed reads all of it at Stripe (`look`), and lets it take
effect in one transaction (`apply`): order and number of webhooks do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from accounts import audit
from billing import crashes, credit_notes, invoice_disputes, ledger, minor, stripe_fees, wallets
from billing.models import Invoice
from billing.receivables import account, net_of, settle, to_credit, write_off
from billing.staleness import StaleError, until_fresh
from billing.stripe import client, objects
from billing.stripe.errors import StripeCallError

State = Invoice.State
_UNPAID = (State.FINALISED, State.UNCOLLECTIBLE)


@dataclass(frozen=True, slots=True)
class Facts:
    """What Stripe says of an invoice.

    Attributes:
        invoice: As it is now.
        notes: All its credit notes, those that were voided too.
        payments: The payments it was paid with.
        disputes: All disputes of these payments.
        revision: The invoice's here, before Stripe was asked.
    """

    invoice: objects.Invoice
    notes: Sequence[objects.CreditNote]
    payments: Sequence[objects.PaymentIntent]
    disputes: Sequence[objects.Dispute] = ()
    revision: int = 0


def look(stripe_invoice: str) -> Facts:
    """Read an invoice at Stripe, with its credit notes, payments and their disputes.

    Raises:
        StripeCallError: Stripe did not answer, or does not know it.
    """
    gateway = client.gateway()
    known = Invoice.objects.filter(stripe_invoice=stripe_invoice).only("revision").first()
    revision = known.revision if known else 0
    notes = gateway.list_credit_notes(invoice=stripe_invoice)
    # Last, so that an invoice that is paid has all the notes that made it so.
    found = gateway.retrieve_invoice(stripe_invoice)
    paid = gateway.invoice_payments(stripe_invoice) if found.amount_paid else []
    payments = [gateway.retrieve_payment_intent(intent) for intent in paid]
    disputes = [each for intent in paid for each in gateway.list_disputes(payment_intent=intent)]
    return Facts(found, notes, payments, disputes, revision)


def refresh(invoice: Invoice) -> None:
    """Ask Stripe about an invoice, and let what it says take effect.

    Raises:
        StripeCallError: Stripe did not answer.
        StaleError: It changes faster than it can be read.
    """
    until_fresh(lambda: apply(look(invoice.stripe_invoice)))


def refresh_open(limit: int = 100) -> int:
    """Ask about invoices that are not paid: a webhook may never have come; returns how many."""
    waiting = Invoice.objects.filter(state=State.FINALISED).order_by("issued_at")
    asked = 0
    for invoice in waiting[:limit]:
        try:
            refresh(invoice)
        except (StripeCallError, StaleError):
            continue
        asked += 1
    return asked


def apply(facts: Facts) -> Invoice | None:
    """Let what Stripe says take effect, once; None if the invoice is none of ours (yet).

    An invoice that the close of its month has not written yet is asked about again then.

    Raises:
        StaleError: Somebody else has let a dispute take effect since it was read.
    """
    known = Invoice.objects.filter(stripe_invoice=facts.invoice.id).first()
    if known is None or not facts.invoice.id:
        return None
    with transaction.atomic():
        wallets.lock(known.organization)
        invoice = Invoice.objects.select_for_update().get(pk=known.pk)
        if invoice.revision != facts.revision:
            raise StaleError(f"{invoice} is at {invoice.revision}, not {facts.revision}")
        credit_notes.follow(invoice, facts.notes)
        if facts.invoice.status == "paid" and invoice.state in _UNPAID:
            _pay(invoice, facts.invoice)
        elif facts.invoice.status == "void" and invoice.state == State.FINALISED:
            _give_up(invoice, State.VOIDED)
        elif facts.invoice.status == "uncollectible" and invoice.state == State.FINALISED:
            _give_up(invoice, State.UNCOLLECTIBLE)
        for payment in facts.payments:
            _book_fee(invoice, payment)
        invoice_disputes.follow(invoice, facts.disputes)
        crashes.point("invoice.applied")
    return invoice


def _pay(invoice: Invoice, paid: objects.Invoice) -> None:
    """Book a payment: what is owed falls, and the credit line is free again."""
    due = invoice.total_minor - invoice.credited_minor
    cash = min(paid.amount_paid, due)
    net = invoice.subtotal_minor - net_of(invoice, invoice.credited_minor)
    coin = minor.coin(invoice.currency)
    entries = {
        account(ledger.CLEARING, invoice): cash * coin,
        # Paid otherwise, as with a balance at Stripe: somebody has to explain it.
        account(ledger.SUSPENSE, invoice): (due - cash) * coin,
        account(ledger.TAX, invoice): (net - due) * coin,
    }
    if invoice.state == State.UNCOLLECTIBLE:
        # It was given up before: nothing is owed any more.
        entries[account(ledger.WRITE_OFF, invoice)] = -net * coin
        ledger.post(
            "invoice_recovered",
            invoice.stripe_invoice,
            entries,
            organization=invoice.organization,
            reason=invoice.number,
        )
    elif net:
        # Stripe rounds a month to whole coins, and may have rounded up.
        reference = invoice.stripe_invoice
        surplus = to_credit(invoice, net * coin, kind="invoice_surplus", external_ref=reference)
        entries[account(ledger.CLEARING, invoice)] -= surplus
        settle(invoice, net * coin - surplus, entries, kind="invoice_paid", external_ref=reference)
    _move(invoice, State.PAID, paid_at=paid.paid_at or timezone.now())


def _give_up(invoice: Invoice, state: Invoice.State) -> None:
    """Write an invoice off: nobody will pay it."""
    net = invoice.subtotal_minor - net_of(invoice, invoice.credited_minor)
    write_off(invoice, net, kind="invoice_written_off", external_ref=invoice.stripe_invoice)
    _move(invoice, state)


def _move(invoice: Invoice, state: Invoice.State, paid_at: datetime | None = None) -> None:
    before, invoice.state, invoice.paid_at = invoice.state, state, paid_at
    invoice.save(update_fields=["state", "paid_at"])
    audit.record(
        None,
        f"invoice.{state}",
        invoice,
        organization=invoice.organization,
        details={"before": before, "stripe": invoice.stripe_invoice},
    )


def _book_fee(invoice: Invoice, payment: objects.PaymentIntent) -> None:
    """Book what Stripe kept of a payment."""
    about = {"invoice": invoice.number, "charge": payment.charge_id}
    movement, fee = payment.balance_transaction_id, payment.fee or 0
    stripe_fees.book(invoice.organization, invoice.currency, movement, fee, about)
