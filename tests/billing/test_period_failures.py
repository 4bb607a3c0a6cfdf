from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.models import AuditEntry, Organization, User
from billing import (
    budgets,
    crashes,
    customers,
    invoice_payments,
    meter_sender,
    meters,
    months,
    periods,
    postpaid,
    wallets,
)
from billing.models import BillingPeriod, Invoice, MeterReport
from billing.money import NANOS
from billing.stripe import client
from billing.stripe.fake.transport import Fault
from catalog.models import ModelVersion
from tests.billing import postpaid_world as world
from tests.billing.postpaid_world import START, Clock
from tests.billing.stripe_world import deliver_all

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]

State = BillingPeriod.State

FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def tenant(clock: Clock) -> Organization:
    return world.make_postpaid(slug="acme")


@pytest.fixture
def operator(tenant: Organization) -> User:
    return User.objects.get(email="operator@example.com")


def test_rejected_reports_block_the_month(
    tenant: Organization, version: ModelVersion, clock: Clock, operator: User
) -> None:
    world.use(tenant, version, START, rows=5_000)
    MeterReport.objects.all().delete()
    clock.go_to(START + timedelta(hours=1))
    meters.cut(clock.now)
    MeterReport.objects.update(state=MeterReport.State.REJECTED)

    period = world.close_month(clock, tenant)

    assert period.blocked == "Stripe has refused 1 usage reports of this month."
    assert meter_sender.retry(MeterReport.objects.get(), actor=operator, reason="known")
    meter_sender.send(clock.now)
    periods.retry(period, actor=operator, reason="sent again")
    world.turn_the_wheel(clock)
    period.refresh_from_db()
    assert period.state == State.RECONCILED


def test_a_card_that_is_refused_leaves_the_invoice_open_until_it_is_paid(
    clock: Clock, version: ModelVersion
) -> None:
    tenant = world.make_postpaid(slug="poor", card=False)
    world.use(tenant, version, START, rows=50_000)

    period = world.close_month(clock, tenant)

    invoice = Invoice.objects.get()
    assert (period.state, invoice.state) == (State.RECONCILED, Invoice.State.FINALISED)
    assert wallets.of(tenant).owed_nanos == NANOS
    assert AuditEntry.objects.filter(action="invoice.payment_failed").exists()
    people = client.fake().people
    people.save_card(wallets.of(tenant).stripe_customer)
    world.prefer_card(tenant)
    people.pay_invoice(invoice.stripe_invoice)
    # The webhook never comes; the hourly look finds out.
    client.fake().post.drop()
    assert invoice_payments.refresh_open() == 1
    deliver_all()
    invoice.refresh_from_db()
    assert invoice.state == Invoice.State.PAID
    assert wallets.of(tenant).owed_nanos == 0


def test_the_saved_card_pays_the_invoice(clock: Clock, version: ModelVersion) -> None:
    tenant = world.make_postpaid(slug="rich", card=False)
    customer = wallets.of(tenant).stripe_customer
    card = client.fake().people.save_card(customer)["id"]
    assert customers.remember(customers.SavedCard(customer, card, "Visa •••• 4242"))
    world.use(tenant, version, START, rows=50_000)

    world.close_month(clock, tenant)

    assert Invoice.objects.get().state == Invoice.State.PAID


POINTS = [
    "meter.cutting",
    "meter.cut",
    "meter.sending",
    "meter.sent",
    "close.open",
    "close.holding",
    "close.draining",
    "close.settled",
    "close.adding",
    "close.added",
    "close.metered",
    "close.finalising",
    "close.issuing",
    "close.numbered",
    "close.issued",
    "close.draft_checked",
    "invoice.applied",
    "close.finalised",
]


class _Died(BaseException):
    """The process has ended here; nobody catches it."""


@pytest.mark.parametrize("point", POINTS)
def test_a_close_that_dies_anywhere_ends_as_if_it_had_not(
    tenant: Organization,
    version: ModelVersion,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    """Invariant 11: a process that dies at any point of the close changes nothing in the end."""
    world.use(tenant, version, START, rows=50_300)
    died: list[str] = []

    def die(name: str) -> None:
        if name == point and not died:
            died.append(name)
            raise _Died

    monkeypatch.setattr(crashes, "point", die)

    def survive(act: Any, *args: Any) -> None:
        try:
            act(*args)
        except _Died:
            clock.wait(minutes=3)

    survive(world.report, clock)
    clock.go_to(FEBRUARY + timedelta(minutes=2))
    for _ in range(4):
        survive(world.turn_the_wheel, clock)

    assert died == [point]
    period = BillingPeriod.objects.get(month=months.of(START))
    assert (period.state, period.blocked) == (State.RECONCILED, "")
    invoice = Invoice.objects.get()
    assert (invoice.number, invoice.total_minor) == ("INV-2026-000001", 100)
    assert (invoice.state, wallets.of(tenant).owed_nanos) == ("paid", 6 * NANOS // 1000)
    theirs = client.gateway().retrieve_invoice(invoice.stripe_invoice)
    assert (theirs.status, theirs.total) == ("paid", 100)


@pytest.mark.parametrize(
    "route",
    [
        "POST /v1/invoices/*",
        "POST /v1/invoices/*/finalize",
        "POST /v1/invoiceitems",
        "GET /v1/invoices/*",
        "POST /v1/billing/meter_events",
    ],
)
@pytest.mark.parametrize("fault", [Fault.AFTER_SEND, Fault.BEFORE_SEND, Fault.RATE_LIMITED])
def test_answers_that_are_lost_change_nothing(
    tenant: Organization, version: ModelVersion, clock: Clock, route: str, fault: Fault
) -> None:
    """Invariant 23: whatever call of the close fails, each thing happens once at Stripe."""
    world.use(tenant, version, START, rows=50_300)
    client.fake().fail(fault, route)

    world.close_month(clock, tenant)
    world.turn_the_wheel(clock)

    assert BillingPeriod.objects.get(month=months.of(START)).state == State.RECONCILED
    assert Invoice.objects.get().total_minor == 100
    assert client.gateway().retrieve_invoice(Invoice.objects.get().stripe_invoice).total == 100


def test_a_subscription_that_ended_is_made_anew(tenant: Organization, clock: Clock) -> None:
    first = wallets.of(tenant).stripe_subscription
    clock.wait(days=1)
    client.gateway().cancel_subscription(first, key="by hand")

    deliver_all()

    assert postpaid.enrol_due() == 1

    wallet = wallets.of(tenant)
    assert wallet.stripe_subscription not in {"", first}
    assert wallet.subscribed_at == clock.now


def test_enrolling_twice_makes_one_of_each(clock: Clock) -> None:
    """Regression 20: diggerhq/opencomputer#276: one meter, one price, one way to report."""
    for slug in ("one", "two"):
        world.set_line(world.make_postpaid(slug=slug, card=False), 5 * NANOS)

    posts = [call.route for call in client.fake().calls("POST /v1/*")]
    assert posts.count("POST /v1/billing/meters") == 1
    assert posts.count("POST /v1/products") == 1
    assert posts.count("POST /v1/prices") == 1
    assert posts.count("POST /v1/subscriptions") == 2
    assert posts.count("POST /v1/customers") == 2


def test_a_line_that_is_taken_away_still_bills_what_is_owed(
    tenant: Organization, version: ModelVersion, clock: Clock
) -> None:
    world.use(tenant, version, START, rows=50_000)
    world.set_line(tenant, 0)
    assert budgets.wallet(tenant).available == -NANOS

    world.close_month(clock, tenant)

    assert Invoice.objects.get().state == Invoice.State.PAID
    assert budgets.wallet(tenant).available == 0
