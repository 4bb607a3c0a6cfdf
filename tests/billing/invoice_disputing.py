"""Steps that tests of disputed invoices share."""

from __future__ import annotations

from billing import wallets
from billing.models import Invoice
from billing.stripe import client
from tests.billing import postpaid_world as world
from tests.billing.stripe_world import deliver_all


def paid_by_card(invoice: Invoice) -> Invoice:
    """Pay an invoice with a card, and let it be known."""
    people, tenant = client.fake().people, invoice.organization
    people.save_card(wallets.of(tenant).stripe_customer)
    world.prefer_card(tenant)
    people.pay_invoice(invoice.stripe_invoice)
    deliver_all()
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.PAID
    return invoice


def charge_of(invoice: Invoice) -> str:
    """Return the charge that has paid an invoice."""
    gateway = client.gateway()
    (intent,) = gateway.invoice_payments(invoice.stripe_invoice)
    return gateway.retrieve_payment_intent(intent).charge_id
