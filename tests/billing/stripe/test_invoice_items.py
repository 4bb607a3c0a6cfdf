from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from billing import months, postpaid
from billing.stripe import client, objects
from billing.stripe.errors import RejectedError
from billing.stripe.fake import FakeStripe
from tests.billing.stripe_world import make_customer

pytestmark = pytest.mark.django_db
START = datetime(2026, 1, 10, tzinfo=UTC)


@pytest.fixture
def draft(fake_stripe: FakeStripe) -> objects.Invoice:
    """The draft of a month in which two dollars were used."""
    people, gateway = fake_stripe.people, client.gateway()
    people.stop_the_clock(START)
    customer = make_customer()
    gateway.create_subscription(
        customer=customer.id,
        price=postpaid.price_of("usd"),
        anchor=months.end(START.date().replace(day=1)),
        metadata={"organization": "1"},
        tax=False,
        key="sub:1",
    )
    people.wait(60)
    gateway.report_usage(
        event_name="mercato_spend_usd",
        customer=customer.id,
        value=2_000_000,
        at=people.now(),
        identifier="u1",
    )
    people.wait(int(timedelta(days=22).total_seconds()) + 60)
    people.save_card(customer.id)
    people.prefer_card(customer.id, people.cards(customer.id)[0]["id"])
    (found,) = gateway.list_invoices(customer=customer.id)
    return gateway.hold_invoice(found.id, key="hold:1")


def add(draft: objects.Invoice, amount: int, key: str = "item:1") -> objects.InvoiceItem:
    return client.gateway().add_invoice_item(
        invoice=draft.id,
        customer=draft.customer,
        amount=amount,
        currency="usd",
        description="Rounding",
        key=key,
    )


def test_a_line_is_added_to_a_draft_once(draft: objects.Invoice) -> None:
    first, second = add(draft, -1), add(draft, -1)

    assert first == second
    assert (first.invoice, first.amount, first.description) == (draft.id, -1, "Rounding")
    found = client.gateway().retrieve_invoice(draft.id)
    assert (draft.subtotal, found.subtotal, found.total) == (200, 199, 199)
    prices = [line.price for line in client.gateway().invoice_lines(draft.id)]
    assert prices == [postpaid.price_of("usd"), ""]


def test_a_final_invoice_takes_no_line_and_says_what_paid_it(draft: objects.Invoice) -> None:
    gateway = client.gateway()
    assert gateway.invoice_payments(draft.id) == []

    final = gateway.finalize_invoice(draft.id, key="final:1")

    assert final.status == "paid"
    (intent,) = gateway.invoice_payments(draft.id)
    assert gateway.retrieve_payment_intent(intent).amount_received == 200
    with pytest.raises(RejectedError):
        add(draft, 1, key="item:2")
