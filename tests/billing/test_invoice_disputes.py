"""Disputes of what has paid an invoice: it is owed again, nobody spends, and won it is paid."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from accounts.models import Organization, OutgoingMail, User
from billing import credit_notes, invoice_disputes, invoice_payments, ledger, wallets
from billing.checks import stripe_books, stripe_facts
from billing.models import Dispute, Invoice, StripeEvent
from billing.money import NANOS
from billing.staleness import StaleError
from billing.stripe import client as stripe
from billing.stripe.fake.money import DISPUTE_FEE
from catalog.models import ModelVersion
from tests.billing import postpaid_world as world
from tests.billing.invoice_disputing import charge_of, paid_by_card
from tests.billing.postpaid_world import Clock
from tests.billing.reconciling import found
from tests.billing.stripe_world import deliver_all
from tests.factories import make_user

pytestmark = pytest.mark.django_db
CENT = NANOS // 100


@pytest.fixture
def paid(invoice: Invoice) -> Invoice:
    """Ten dollars of January, paid with a card."""
    return paid_by_card(invoice)


@pytest.fixture
def admin(client: Client, db: None) -> Client:
    """The console."""
    client.force_login(make_user("boss@example.com", is_staff=True, is_superuser=True))
    return client


def frozen(organization: Organization) -> bool:
    return Organization.objects.get(pk=organization.pk).is_frozen


def owed(organization: Organization) -> int:
    return wallets.of(organization).owed_nanos


def test_a_disputed_invoice_is_owed_again_and_nobody_spends(
    paid: Invoice, tenant: Organization
) -> None:
    before, fees = ledger.balance_of(ledger.CLEARING), ledger.balance_of(ledger.FEES)

    stripe.fake().people.dispute(charge_of(paid))
    deliver_all()

    assert owed(tenant) == 10 * NANOS == ledger.balance_of(ledger.RECEIVABLE, tenant)
    assert before - ledger.balance_of(ledger.CLEARING) == 10 * NANOS + DISPUTE_FEE * CENT
    assert ledger.balance_of(ledger.FEES) - fees == DISPUTE_FEE * CENT
    assert frozen(tenant)
    row = Dispute.objects.get()
    assert (row.payment, row.state, row.withdrawn_minor) == (paid, "open", 1000)
    mail = OutgoingMail.objects.get(template="mail/dispute_opened")
    assert mail.context["invoice"] == paid.number


def test_a_dispute_that_is_won_pays_the_invoice_again(paid: Invoice, tenant: Organization) -> None:
    """Invariant 17: what was taken back comes back, once."""
    people = stripe.fake().people
    dispute = people.dispute(charge_of(paid), 400)
    deliver_all()
    assert owed(tenant) == 4 * NANOS

    people.close_dispute(dispute["id"], won=True)
    deliver_all()

    assert (owed(tenant), frozen(tenant)) == (0, False)
    paid.refresh_from_db()
    assert paid.state == Invoice.State.PAID


def test_a_dispute_that_is_lost_leaves_the_invoice_owed_and_the_organization_frozen(
    paid: Invoice, tenant: Organization
) -> None:
    people = stripe.fake().people
    dispute = people.dispute(charge_of(paid))
    people.close_dispute(dispute["id"], won=False)

    deliver_all()

    assert (owed(tenant), frozen(tenant)) == (10 * NANOS, True)
    assert Dispute.objects.get().state == "lost"


def test_what_was_read_before_the_last_change_is_not_believed(
    paid: Invoice, tenant: Organization
) -> None:
    """A handler that read Stripe, and was slower than another one that read it later."""
    people = stripe.fake().people
    dispute = people.dispute(charge_of(paid))
    slow = invoice_payments.look(paid.stripe_invoice)
    deliver_all()
    people.close_dispute(dispute["id"], won=True)
    deliver_all()

    with pytest.raises(StaleError):
        invoice_payments.apply(slow)

    assert (owed(tenant), frozen(tenant)) == (0, False)


def test_what_a_credit_note_gave_back_is_not_owed_again(
    paid: Invoice, tenant: Organization
) -> None:
    """Invariant 17: four of ten dollars went to the card: six are owed, the rest is our loss."""
    credit_notes.create(
        paid, 400, actor=User.objects.get(email="operator@example.com"), reason="x", reference="1"
    )
    deliver_all()
    lost = ledger.balance_of(ledger.WRITE_OFF)

    stripe.fake().people.dispute(charge_of(paid), 1000)
    deliver_all()

    assert owed(tenant) == 6 * NANOS
    assert ledger.balance_of(ledger.WRITE_OFF) - lost == 4 * NANOS


def test_what_comes_back_and_is_not_owed_any_more_is_credit(
    paid: Invoice, tenant: Organization
) -> None:
    """An operator took the debt off meanwhile: the money is the tenant's."""
    people = stripe.fake().people
    dispute = people.dispute(charge_of(paid))
    deliver_all()
    wallets.settle_owed(
        tenant, 4 * NANOS, {ledger.account(ledger.SUSPENSE): 4 * NANOS}, kind="x", external_ref="1"
    )

    people.close_dispute(dispute["id"], won=True)
    deliver_all()
    deliver_all()

    wallet = wallets.of(tenant)
    assert (wallet.owed_nanos, wallet.paid_nanos) == (0, 4 * NANOS)


def test_tax_and_use_have_the_same_part_of_what_is_gone() -> None:
    invoice = Invoice(subtotal_minor=1000, tax_minor=190, total_minor=1190, currency="usd")
    for gone in (0, 1, 333, 1190, 1500):
        wanted = invoice_disputes.target(invoice, gone)
        assert sum(wanted.values()) == 0
        assert wanted["owed"] == min(gone * 1000 // 1190, 1000) * CENT
        assert wanted["tax"] <= 190 * CENT


def test_an_invoice_that_is_disputed_before_it_is_written_is_owed_again(
    tenant: Organization, version: ModelVersion, clock: Clock, books: None
) -> None:
    """Invariant 13: Stripe has billed, collected and lost it before our invoice has a number."""
    people = stripe.fake().people
    people.save_card(wallets.of(tenant).stripe_customer)
    world.prefer_card(tenant)
    world.use(tenant, version, world.START, rows=500_000)
    world.report(clock)
    clock.wait(hours=2)
    world.report(clock)
    clock.wait(days=24)
    people.dispute(people.all("charge")[0]["id"])
    deliver_all()
    assert not StripeEvent.objects.exclude(state="done").exists()

    world.turn_the_wheel(clock)

    assert (owed(tenant), frozen(tenant)) == (10 * NANOS, True)


def test_the_comparison_knows_what_disputes_have_moved(
    paid: Invoice, tenant: Organization, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (stripe_facts, stripe_books):
        monkeypatch.setattr(module, "GRACE", timedelta(0))
    people = stripe.fake().people
    dispute = people.dispute(charge_of(paid))
    deliver_all()
    assert found() == {}

    people.close_dispute(dispute["id"], won=True)
    assert "clearing_is_stripes_balance" in found()
    deliver_all()
    assert "clearing_is_stripes_balance" not in found()


def test_a_dispute_that_is_not_booked_is_found(paid: Invoice, tenant: Organization) -> None:
    stripe.fake().people.dispute(charge_of(paid))
    deliver_all()

    Dispute.objects.update(withdrawn_minor=900)

    assert found() == {"disputed_invoices_are_booked": {f"invoice:{paid.number}"}}
    Dispute.objects.update(withdrawn_minor=1000)


def test_the_console_shows_who_disputes_which_invoice(
    paid: Invoice, tenant: Organization, admin: Client
) -> None:
    stripe.fake().people.dispute(charge_of(paid))
    deliver_all()
    dispute = Dispute.objects.get()

    rows = admin.get(reverse("admin:billing_dispute_changelist")).content.decode()
    one = admin.get(reverse("admin:billing_dispute_change", args=[dispute.pk])).content.decode()
    bill = admin.get(reverse("admin:billing_invoice_change", args=[paid.pk])).content.decode()

    assert tenant.slug in rows
    assert paid.number in rows
    assert paid.number in one
    assert "$10" in one
    assert dispute.pk in bill


def test_a_dispute_is_of_one_payment(paid: Invoice, tenant: Organization) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Dispute.objects.create(id="du_1", amount_minor=1)
