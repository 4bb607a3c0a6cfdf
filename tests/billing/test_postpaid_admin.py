from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, Organization, User
from billing import meters, wallets
from billing.models import BillingPeriod, Invoice, MeterReport
from billing.money import NANOS
from billing.stripe import client as stripe
from billing.stripe.fake.transport import Fault
from catalog.models import ModelVersion
from tests.billing import postpaid_world as world
from tests.billing.postpaid_world import START, Clock
from tests.billing.stripe_world import deliver_all
from tests.billing.test_periods import inject
from tests.factories import make_organization, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]


@pytest.fixture
def boss(db: None) -> User:
    return make_user("boss@example.com", is_staff=True, is_superuser=True)


def look(client: Client, boss: User, row: Model | type[Model], query: str = "") -> str:
    """Open the list of a model, or the page of a row."""
    client.force_login(boss)
    name = f"admin:billing_{row._meta.model_name}"
    is_row = isinstance(row, Model)
    address = reverse(f"{name}_change", args=[row.pk]) if is_row else reverse(f"{name}_changelist")
    answer = client.get(address + query)
    assert answer.status_code == 200
    return answer.content.decode()


def press(client: Client, boss: User, row: Model, deed: str, **form: Any) -> list[str]:
    """Press a button above a row, and return what it says."""
    client.force_login(boss)
    address = reverse(f"admin:billing_{row._meta.model_name}_{deed}", args=[row.pk])
    assert client.get(address).status_code == 200
    data = {"submission": uuid.uuid4(), "reason": "A good one", **form}
    answer = client.post(address, data)
    if answer.status_code == 200:
        return [str(each) for each in answer.context["form"].errors.values()]
    return [str(message) for message in get_messages(answer.wsgi_request)]


def test_a_credit_line_is_set_with_a_reason(clock: Clock, client: Client, boss: User) -> None:
    organization = make_organization(credit_nanos=0)
    wallet = wallets.of(organization)

    said = press(client, boss, wallet, "set_line", amount="250.00")

    wallet.refresh_from_db()
    assert said == ["The line is set."]
    assert wallet.line_nanos == 250 * NANOS
    assert wallet.stripe_subscription.startswith("sub_")
    entry = AuditEntry.objects.get(action="credit_line.set")
    assert (entry.actor, entry.reason) == (boss, "A good one")
    assert "$250.00" in look(client, boss, type(wallet))
    assert wallet.stripe_subscription in look(client, boss, wallet)


def test_a_credit_line_is_set_also_while_stripe_is_away(
    clock: Clock, client: Client, boss: User
) -> None:
    wallet = wallets.of(make_organization(credit_nanos=0))
    stripe.fake().fail(Fault.BEFORE_SEND, "*", times=20)

    (said,) = press(client, boss, wallet, "set_line", amount="5")

    wallet.refresh_from_db()
    assert "subscribed later" in said
    assert wallet.line_nanos == 5 * NANOS


@pytest.mark.parametrize("amount", ["-1", "100000.01", "much"])
def test_a_line_that_is_not_right_is_not_set(
    clock: Clock, client: Client, boss: User, amount: str
) -> None:
    wallet = wallets.of(make_organization(credit_nanos=0))

    assert press(client, boss, wallet, "set_line", amount=amount)

    wallet.refresh_from_db()
    assert wallet.line_nanos == 0


def test_a_blocked_month_is_seen_retried_and_accepted(
    tenant: Organization, version: ModelVersion, clock: Clock, client: Client, boss: User
) -> None:
    world.use(tenant, version, START, rows=50_000)
    inject(tenant, 40_000)
    period = world.close_month(clock, tenant)
    assert "Stripe counts 1.04, the ledger 1.00 usd." in look(client, boss, BillingPeriod)

    (said,) = press(client, boss, period, "retry")
    assert "Blocked" in look(client, boss, period)
    assert said == "Blocked: Stripe counts 1.04, the ledger 1.00 usd."

    (said,) = press(client, boss, period, "accept")

    assert said == "The month is reconciled now."
    assert Invoice.objects.get().total_minor == 100
    entry = AuditEntry.objects.get(action="billing_period.accepted")
    assert (entry.actor, entry.reason) == (boss, "A good one")


def test_a_month_is_closed_by_hand(
    tenant: Organization, version: ModelVersion, clock: Clock, client: Client, boss: User
) -> None:
    world.use(tenant, version, START, rows=50_000)
    clock.wait(hours=2)
    world.report(clock)
    period = BillingPeriod.objects.get()
    assert press(client, boss, period, "run_now") == ["Nothing can be done yet. The month is open."]
    clock.go_to(START.replace(day=1, month=2, hour=0, minute=10))

    (said,) = press(client, boss, period, "run_now")

    period.refresh_from_db()
    assert said == f"The month is {period.state} now."
    assert period.state == BillingPeriod.State.RECONCILED


def test_buttons_are_offered_only_where_they_change_something(
    tenant: Organization, version: ModelVersion, clock: Clock, client: Client, boss: User
) -> None:
    world.use(tenant, version, START, rows=50_000)
    period = world.close_month(clock, tenant)

    text = look(client, boss, period)

    for deed in ("run-now", "retry", "accept"):
        assert f"/{deed}" not in text


def test_invoices_are_read_printed_and_corrected(
    tenant: Organization, version: ModelVersion, clock: Clock, client: Client, boss: User
) -> None:
    world.use(tenant, version, START, rows=50_000)
    world.close_month(clock, tenant)
    invoice = Invoice.objects.get()
    assert "INV-2026-000001" in look(client, boss, Invoice)
    assert "$1.00" in look(client, boss, invoice)
    pdf = client.get(reverse("admin:billing_invoice_pdf_chinese", args=[invoice.pk]))
    assert pdf.content.startswith(b"%PDF")

    assert press(client, boss, invoice, "credit_note", amount="0.255")
    assert press(client, boss, invoice, "credit_note", amount="1.01")
    (said,) = press(client, boss, invoice, "credit_note", amount="0.25")
    deliver_all()

    invoice.refresh_from_db()
    assert "credit note is made" in said
    assert invoice.credited_minor == 25
    assert press(client, boss, invoice, "ask_stripe") == ["The invoice is finalised."]


def test_reports_are_shown_and_sent_again(
    tenant: Organization, version: ModelVersion, clock: Clock, client: Client, boss: User
) -> None:
    world.use(tenant, version, START, rows=50_000)
    clock.wait(hours=2)
    meters.cut(clock.now)
    MeterReport.objects.update(state=MeterReport.State.REJECTED, last_error="No such customer")
    report = MeterReport.objects.get()
    assert "No such customer" in look(client, boss, MeterReport)
    assert report.identifier in look(client, boss, report)

    press(client, boss, report, "send_again")

    report.refresh_from_db()
    assert report.state == MeterReport.State.UNKNOWN
    assert AuditEntry.objects.get(action="meter_report.retried").actor == boss


@pytest.mark.parametrize(("deed", "state"), [("is_counted", "ok"), ("count_now", "pending")])
def test_a_report_that_nothing_explains_is_decided_by_hand(
    tenant: Organization,
    version: ModelVersion,
    clock: Clock,
    client: Client,
    boss: User,
    deed: str,
    state: str,
) -> None:
    world.use(tenant, version, START, rows=50_000)
    clock.wait(hours=2)
    meters.cut(clock.now)
    MeterReport.objects.update(state=MeterReport.State.REJECTED)
    report = MeterReport.objects.get()

    press(client, boss, report, deed)

    report.refresh_from_db()
    assert report.state == state
    assert f"/{deed}" not in look(client, boss, report)


def test_who_may_only_look_cannot_act(tenant: Organization, clock: Clock, client: Client) -> None:
    watcher = make_user("watcher@example.com", is_staff=True)
    client.force_login(watcher)
    wallet = wallets.of(tenant)

    answer = client.post(
        reverse("admin:billing_wallet_set_line", args=[wallet.pk]),
        {"submission": uuid.uuid4(), "reason": "x", "amount": "1"},
    )

    assert answer.status_code == 403
    wallet.refresh_from_db()
    assert wallet.line_nanos == world.LINE
