from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from accounts.errors import ConflictError, InvalidRequestError
from accounts.models import Organization, User
from billing import (
    credit_notes,
    invoice_payments,
    invoices,
    ledger,
    webhooks,
)
from billing import wallets as wallet_rows
from billing.invariants import violations
from billing.models import (
    Invoice,
    InvoiceSeries,
    MeterBucket,
    MeterReport,
    StripeEvent,
    Wallet,
)
from billing.money import NANOS
from billing.stripe import client, objects
from catalog.models import ModelVersion
from tests.billing import postpaid_world as world
from tests.billing.invoicing import billed, make_period
from tests.billing.postpaid_world import START, Clock
from tests.billing.stripe_world import deliver_all
from tests.factories import make_organization

State = Invoice.State

CENT = NANOS // 100


@pytest.fixture
def operator(tenant: Organization) -> User:
    return User.objects.get(email="operator@example.com")


# Numbers ------------------------------------------------------------------------------------


# What becomes of it -------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_webhook_before_the_invoice_is_written_is_not_lost(
    tenant: Organization, version: ModelVersion, clock: Clock, books: None
) -> None:
    """Invariant 13: paid at Stripe before our invoice has a number: the close books it."""
    people = client.fake().people
    people.save_card(wallet_rows.of(tenant).stripe_customer)
    world.prefer_card(tenant)
    world.use(tenant, version, START, rows=500_000)
    world.report(clock)
    clock.wait(hours=2)
    world.report(clock)
    # Stripe does all of it by itself, and all its webhooks come first.
    clock.wait(days=24)
    deliver_all()
    assert not StripeEvent.objects.exclude(state="done").exists()

    world.turn_the_wheel(clock)

    assert Invoice.objects.get().state == State.PAID


@pytest.mark.django_db
def test_a_voided_invoice_is_written_off(invoice: Invoice, tenant: Organization) -> None:
    client.gateway().void_invoice(invoice.stripe_invoice, key="by hand")

    deliver_all()
    deliver_all()

    invoice.refresh_from_db()
    assert invoice.state == State.VOIDED
    assert wallet_rows.of(tenant).owed_nanos == 0
    assert ledger.balance_of(ledger.WRITE_OFF) == 10 * NANOS


@pytest.mark.django_db
def test_what_was_given_up_and_is_paid_after_all_is_booked_back(
    invoice: Invoice, tenant: Organization
) -> None:
    facts = invoice_payments.look(invoice.stripe_invoice)
    gone = billed(1000, id=invoice.stripe_invoice, status="uncollectible")
    paid = billed(1000, id=invoice.stripe_invoice, status="paid", amount_paid=1000)

    for said in (gone, gone, paid, paid):
        invoice_payments.apply(invoice_payments.Facts(said, facts.notes, ()))

    invoice.refresh_from_db()
    assert invoice.state == State.PAID
    assert ledger.balance_of(ledger.WRITE_OFF) == 0
    assert ledger.balance_of(ledger.CLEARING) == 10 * NANOS
    assert wallet_rows.of(tenant).owed_nanos == 0


@pytest.mark.django_db
def test_tax_is_owed_to_the_state_and_not_by_the_wallet(books: None, clock: Clock) -> None:
    """Invariant 25: net and tax sum to the total; paying takes off the net alone."""
    tenant = make_organization(credit_nanos=0)
    world.set_line(tenant, world.LINE)
    period = make_period(tenant)
    said = billed(1000, total=1190, tax=190)
    invoice = invoices.issue(period, said)
    assert invoice is not None
    Wallet.objects.filter(organization=tenant).update(owed_nanos=0)

    paid = billed(1000, total=1190, tax=190, status="paid", amount_paid=1190)
    invoice_payments.apply(invoice_payments.Facts(paid, (), ()))

    assert ledger.balance_of(ledger.TAX) == -190 * CENT
    assert ledger.balance_of(ledger.CLEARING) == 1190 * CENT
    # Nothing was owed here: what is paid beyond that is credit.
    assert wallet_rows.of(tenant).paid_nanos == 1000 * CENT


@pytest.mark.django_db
def test_a_credit_note_of_an_open_invoice_takes_off_what_is_owed(
    invoice: Invoice, tenant: Organization, operator: User
) -> None:
    """Invariant 25: credit notes are never more than the invoice."""
    for _ in range(2):
        credit_notes.create(invoice, 300, actor=operator, reason="Broken", reference="form-1")
        deliver_all()
        invoice.refresh_from_db()

    assert invoice.credited_minor == 300
    assert wallet_rows.of(tenant).owed_nanos == 7 * NANOS
    with pytest.raises(InvalidRequestError, match=r"At most 7\.00"):
        credit_notes.create(invoice, 701, actor=operator, reason="More", reference="form-2")
    credit_notes.create(invoice, 700, actor=operator, reason="All", reference="form-3")
    deliver_all()
    invoice.refresh_from_db()
    # Nothing is left to pay.
    assert (invoice.state, invoice.credited_minor) == (State.PAID, 1000)
    assert wallet_rows.of(tenant).owed_nanos == 0
    assert ledger.balance_of(ledger.CLEARING) == 0


@pytest.mark.django_db
def test_a_credit_note_of_a_paid_invoice_gives_the_money_back(
    invoice: Invoice, tenant: Organization, operator: User
) -> None:
    people = client.fake().people
    people.save_card(wallet_rows.of(tenant).stripe_customer)
    world.prefer_card(tenant)
    people.pay_invoice(invoice.stripe_invoice)
    deliver_all()
    invoice.refresh_from_db()
    before = ledger.balance_of(ledger.CLEARING)

    credit_notes.create(invoice, 400, actor=operator, reason="Broken", reference="form-1")
    deliver_all()
    deliver_all()

    invoice.refresh_from_db()
    assert (invoice.state, invoice.credited_minor) == (State.PAID, 400)
    assert before - ledger.balance_of(ledger.CLEARING) == 4 * NANOS
    assert ledger.balance_of(ledger.WRITE_OFF) == 4 * NANOS
    assert wallet_rows.of(tenant).owed_nanos == 0


@pytest.mark.django_db
def test_a_voided_credit_note_is_owed_again(invoice: Invoice, tenant: Organization) -> None:
    facts = invoice_payments.look(invoice.stripe_invoice)
    note = objects.CreditNote(
        id="cn_1",
        number="1",
        status="issued",
        invoice=invoice.stripe_invoice,
        customer="",
        currency="usd",
        amount=300,
        total=300,
        reason="",
        pdf_url="",
        created_at=START + timedelta(days=40),
        metadata={},
    )
    void = objects.CreditNote(**{**note_fields(note), "status": "void"})

    for each in (note, note, void, void):
        invoice_payments.apply(invoice_payments.Facts(facts.invoice, [each], ()))

    invoice.refresh_from_db()
    assert invoice.credited_minor == 0
    assert wallet_rows.of(tenant).owed_nanos == 10 * NANOS
    assert ledger.balance_of(ledger.WRITE_OFF) == 0


def note_fields(note: objects.CreditNote) -> dict[str, Any]:
    return {name: getattr(note, name) for name in note.__dataclass_fields__}


@pytest.mark.django_db
def test_only_open_and_paid_invoices_are_corrected(invoice: Invoice, operator: User) -> None:
    client.gateway().void_invoice(invoice.stripe_invoice, key="by hand")
    deliver_all()
    invoice.refresh_from_db()

    with pytest.raises(ConflictError):
        credit_notes.create(invoice, 1, actor=operator, reason="No", reference="form-1")


@pytest.mark.django_db
def test_somebody_elses_invoice_is_left_alone(invoice: Invoice, tenant: Organization) -> None:
    """Invariant 35: an invoice of Stripe's that is none of ours has no effect."""
    stranger = billed(1000, id="in_unknown", status="paid", amount_paid=1000)

    assert invoice_payments.apply(invoice_payments.Facts(stranger, (), ())) is None
    assert wallet_rows.of(tenant).owed_nanos == 10 * NANOS


def test_the_handlers_are_registered() -> None:
    known = webhooks.HANDLERS.keys()

    assert {"invoice.paid", "credit_note.created", "customer.subscription.deleted"} <= known


@pytest.mark.django_db
def test_the_proof_of_the_books_sees_what_is_wrong_with_invoices(
    tenant: Organization, clock: Clock, version: ModelVersion
) -> None:
    """Invariant 37: a cut that was not reported, and a number that nobody has, are found."""
    world.use(tenant, version, START, rows=500_000)
    world.close_month(clock, tenant)
    assert violations() == []

    MeterBucket.objects.update(cut_nanos=F("cut_nanos") - 1)
    InvoiceSeries.objects.update(last_number=2)
    MeterReport.objects.update(nanos_to=F("nanos_to") - 1)
    MeterBucket.objects.update(cut_nanos=F("cut_nanos") - 1)

    said = "\n".join(violations())
    assert "buckets_are_cut_as_reported" in said
    assert "numbers_have_no_gaps: series INV-2026 should end at 2" in said
    assert "invoices_are_frozen: invoice INV-2026-000001 bills" in said
