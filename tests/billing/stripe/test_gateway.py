"""Every call of the gateway, through the real SDK, against what stands for Stripe."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import stripe

from billing.stripe import client, objects
from billing.stripe.fake import FakeStripe
from billing.stripe.gateway import StripeGateway
from tests.billing.stripe_world import LONG_AGO, make_customer, open_topup

DECEMBER, JANUARY = datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)

METHODS = {
    name
    for name, _ in inspect.getmembers(StripeGateway, inspect.isfunction)
    if not name.startswith("_")
}

PLAIN = str | int | bool | Decimal | datetime | None


class Recorder:
    """A gateway that notes which methods were called, and looks at all they return."""

    def __init__(self, gateway: StripeGateway) -> None:
        self._gateway = gateway
        self.called: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.called.add(name)
            result = getattr(self._gateway, name)(*args, **options)
            result = list(result) if isinstance(result, Iterator) else result
            assert_plain(result)
            return result

        return call


def assert_plain(value: Any) -> None:
    """Fail if anything of the SDK is in a value, at any depth."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            assert_plain(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            assert_plain(key)
            assert_plain(item)
    elif isinstance(value, list | tuple):
        for item in value:
            assert_plain(item)
    else:
        assert isinstance(value, PLAIN), type(value)
    assert not isinstance(value, stripe.StripeObject)


def test_no_object_of_the_sdk_leaves_the_boundary(fake_stripe: FakeStripe) -> None:
    """Invariant 42: a StripeObject never leaks past the adapter, from any method."""
    gateway = Recorder(client.gateway())
    fake_stripe.people.stop_the_clock(DECEMBER + timedelta(days=9))

    customer = pay_in(gateway, fake_stripe)
    use(gateway, fake_stripe, customer)
    pay_out(gateway, fake_stripe)
    look_around(gateway)

    assert gateway.called == METHODS


def pay_in(gateway: Any, fake: FakeStripe) -> str:
    customer = gateway.create_customer(email="a@b.c", name="A", metadata={"a": "b"}, key="c1").id
    topup = open_topup(gateway.retrieve_customer(customer), gateway=gateway)
    fake.people.pay(topup.id)
    intent = gateway.retrieve_session(topup.id).payment_intent_id
    closed = open_topup(gateway.retrieve_customer(customer), reference="t2")
    assert gateway.expire_session(closed.id, key="e1").status == "expired"
    page = gateway.create_setup_session(
        customer=customer,
        currency="usd",
        metadata={},
        success_url="http://x/",
        cancel_url="http://x/",
        key="s1",
    )
    fake.people.pay(page.id, "5555555555554444")
    setup = gateway.retrieve_setup_intent(gateway.retrieve_session(page.id).setup_intent_id)
    assert [each.brand for each in gateway.list_cards(customer)] == ["mastercard", "visa"]
    card = gateway.retrieve_card(setup.payment_method).id
    assert gateway.set_default_card(customer, card, key="d1").default_payment_method == card
    paid = gateway.charge_saved_card(
        customer=customer,
        card=card,
        amount=700,
        currency="usd",
        description="Automatic",
        metadata={"n": "1"},
        key="p1",
    )
    assert (paid.status, paid.fee, paid.amount_refunded) == ("succeeded", 51, 0)
    assert gateway.retrieve_charge(paid.charge_id).payment_intent == paid.id
    assert gateway.retrieve_payment_intent(paid.id).metadata == {"n": "1"}
    assert len(gateway.list_payment_intents(customer=customer, since=LONG_AGO)) == 2
    refund = gateway.create_refund(payment_intent=intent, amount=500, metadata={}, key="r1")
    assert gateway.retrieve_refund(refund.id) == gateway.list_refunds(payment_intent=intent)[0]
    dispute = fake.people.dispute(paid.charge_id)["id"]
    assert gateway.retrieve_dispute(dispute).net_withdrawn == 700
    assert len(gateway.list_disputes(payment_intent=paid.id)) == 1
    assert gateway.create_portal_session(customer=customer, return_url="http://x/", key="b1").url
    return str(customer)


def use(gateway: Any, fake: FakeStripe, customer: str) -> None:
    meter = gateway.adopt_meter(event_name="usd", display_name="Usage", key="m1")
    assert gateway.list_meters() == [meter]
    product = gateway.create_product(name="Usage", metadata={}, key="pr1").id
    price = gateway.create_metered_price(
        product=product,
        meter=meter.id,
        currency="usd",
        unit_amount=Decimal("0.0001"),
        lookup_key="usd",
        key="pr2",
    )
    assert gateway.find_price("usd") == price
    assert gateway.find_price("eur") is None
    contract = gateway.create_subscription(
        customer=customer, price=price.id, anchor=JANUARY, metadata={}, tax=True, key="s2"
    )
    now = fake.people.now()
    for number in (1, 2):
        gateway.report_usage(
            event_name="usd", customer=customer, value=5_000_000, at=now, identifier=f"u{number}"
        )
    gateway.cancel_usage(event_name="usd", identifier="u2", key="x1")
    counted = gateway.usage_summaries(
        meter=meter.id, customer=customer, start=DECEMBER, end=JANUARY, hourly=True
    )
    assert [each.value for each in counted] == [5_000_000]
    fake.people.wait(22 * 86400)
    invoice = gateway.list_invoices(customer=customer, subscription=contract.id, since=LONG_AGO)[0]
    assert (invoice.status, invoice.total) == ("draft", 500)
    assert [each.quantity for each in gateway.invoice_lines(invoice.id)] == [5_000_000]
    assert not gateway.hold_invoice(invoice.id, key="h1").auto_advance
    gateway.label_invoice(invoice.id, metadata={"number": "7"}, description="x", key="l1")
    item = gateway.add_invoice_item(
        invoice=invoice.id,
        customer=customer,
        amount=50,
        currency="usd",
        description="Late usage",
        key="i1",
    )
    assert item.invoice == invoice.id
    final = gateway.finalize_invoice(invoice.id, key="f1")
    assert (final.status, final.total) == ("paid", 550)
    paid_by = gateway.retrieve_payment_intent(gateway.invoice_payments(invoice.id)[0])
    assert paid_by.amount == 550
    assert gateway.invoice_of(paid_by.id) == invoice.id
    assert gateway.retrieve_invoice(invoice.id).metadata == {"number": "7"}
    note = gateway.create_credit_note(
        invoice=invoice.id,
        amount=100,
        out_of_band_amount=100,
        reason="order_change",
        memo="late",
        metadata={},
        key="n1",
    )
    assert gateway.retrieve_credit_note(note.id) == gateway.list_credit_notes(invoice=invoice.id)[0]
    assert gateway.list_subscriptions(customer)[0].id == contract.id
    fake.people.wait(1800)
    gateway.cancel_subscription(contract.id, key="y1")
    assert gateway.retrieve_subscription(contract.id).status == "canceled"
    last = gateway.list_invoices(customer=customer, subscription=contract.id)[0]
    fake.people.remove_card(gateway.retrieve_customer(customer).default_payment_method)
    gateway.report_usage(
        event_name="usd",
        customer=customer,
        value=10**6,
        at=last.period_start,
        identifier="u3",
    )
    assert gateway.finalize_invoice(last.id, key="f2").status == "open"
    assert gateway.void_invoice(last.id, key="v1").status == "void"
    card = gateway.list_cards(customer)[0].id
    assert gateway.detach_card(card, key="k1").customer == ""


def pay_out(gateway: Any, fake: FakeStripe) -> None:
    account = gateway.create_account(email="p@q.r", country="US", metadata={"p": "1"}, key="a1")
    assert not account.can_receive
    link = gateway.create_account_link(
        account=account.id, return_url="http://x/", refresh_url="http://x/", key="al1"
    )
    assert link.url
    fake.people.onboard(account.id)
    assert gateway.retrieve_account(account.id).can_receive
    fake.people.deposit(1000)
    assert gateway.retrieve_balance().available["usd"] > 400
    sent = gateway.create_transfer(
        amount=400,
        currency="usd",
        destination=account.id,
        transfer_group="payout:1",
        description="December",
        metadata={"payout_id": "1"},
        key="t1",
    )
    gateway.reverse_transfer(sent.id, amount=150, metadata={}, key="tr1")
    assert gateway.list_reversals(sent.id)[0].amount == 150
    assert gateway.retrieve_transfer(sent.id).amount_reversed == 150
    assert gateway.list_transfers(transfer_group="payout:1")[0].id == sent.id
    assert gateway.last_bank_payment(account.id) is None
    fake.people.send_to_bank(account.id, 250, failure="Closed.")
    assert gateway.last_bank_payment(account.id).failure == "Closed."


def look_around(gateway: Any) -> None:
    moves = gateway.balance_transactions(since=LONG_AGO, until=datetime(2030, 1, 1, tzinfo=UTC))
    assert sum(each.net for each in moves) == gateway.retrieve_balance().available["usd"]
    event = gateway.list_events(since=LONG_AGO, types=["transfer.created"])[0]
    assert gateway.retrieve_event(event.id).object_type == "transfer"


def test_the_whole_balance_is_listed_over_pages(fake_stripe: FakeStripe) -> None:
    for number in range(230):
        fake_stripe.people.deposit(number + 1)

    moves = list(client.gateway().balance_transactions(since=LONG_AGO))

    assert [each.amount for each in moves] == list(range(230, 0, -1))


def test_the_movements_of_one_source_are_found(fake_stripe: FakeStripe) -> None:
    session = open_topup(make_customer())
    fake_stripe.people.pay(session.id)
    fake_stripe.people.deposit(1)
    paid = client.gateway().retrieve_session(session.id).payment_intent
    assert paid is not None

    moves = list(client.gateway().balance_transactions(since=LONG_AGO, source=paid.charge_id))

    assert [each.id for each in moves] == [paid.balance_transaction_id]


def test_values_become_json(fake_stripe: FakeStripe) -> None:
    session = open_topup(make_customer())
    fake_stripe.people.pay(session.id)

    text = json.dumps(objects.as_json(client.gateway().retrieve_session(session.id)))

    assert json.loads(text)["payment_intent"]["charge"]["balance_transaction"]["fee"] == 88


def test_only_values_of_the_boundary_become_json() -> None:
    with pytest.raises(TypeError):
        objects.as_json({"id": 1})


def charge(customer: str, card: str, amount: int = 500, key: str = "p1") -> objects.PaymentIntent:
    return client.gateway().charge_saved_card(
        customer=customer,
        card=card,
        amount=amount,
        currency="usd",
        description="Automatic",
        metadata={},
        key=key,
    )
