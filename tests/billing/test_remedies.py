"""What one click puts right, check by check; and what a person must do where no click can."""

# ruff: noqa: S608  (tests corrupt rows with SQL of their own)
from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape

from accounts.errors import ConflictError
from accounts.models import AuditEntry, Organization, User
from billing import advice, invariants, ledger, meters, payouts, remedies, settlement, triggers
from billing.checks import lateness, stripe_books, stripe_facts
from billing.models import (
    Dispute,
    Finding,
    Hold,
    Invoice,
    MeterReport,
    Payout,
    StripeEvent,
    TopUp,
    UsageEvent,
    Wallet,
)
from billing.money import NANOS
from billing.stripe import client as stripe
from billing.stripe.fake import FakeStripe
from catalog import prices
from catalog.models import ModelVersion
from tests.billing import prepaid, publishing
from tests.billing.calls import succeed
from tests.billing.invoice_disputing import charge_of, paid_by_card
from tests.billing.reconciling import corrupt, fill, found
from tests.billing.stripe_world import deliver_all
from tests.factories import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("fake_stripe")]
State = Finding.State
DOCS = Path(__file__).resolve().parents[2] / "docs/reconciliation.md"
UNSETTLED = "SELECT id FROM billing_hold WHERE settlement_id IS NULL AND state = 'captured'"


@pytest.fixture
def operator() -> User:
    return make_user("boss@example.com", is_staff=True, is_superuser=True)


@pytest.fixture
def world(organization: Organization, version: ModelVersion, operator: User) -> Organization:
    """An organization whose books have a little of everything."""
    fill(organization, version, operator)
    Wallet.objects.filter(line_nanos__gt=0).update(stripe_subscription="sub_1")
    return organization


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is new be compared at once."""
    for module in (stripe_facts, stripe_books):
        monkeypatch.setattr(module, "GRACE", timedelta(0))
    monkeypatch.setattr(stripe_facts, "STUCK", timedelta(0))


def press(operator: User, *checks: str) -> None:
    """Correct every finding that can be corrected, or those of some checks."""
    for finding in Finding.objects.filter(state=State.OPEN):
        if remedies.is_correctable(finding) and (not checks or finding.check_name in checks):
            remedies.correct(finding, actor=operator, reason="Both must agree")
    assert AuditEntry.objects.filter(action="finding.corrected", actor=operator).exists()


BREAKS = {
    "metered too much": (
        "UPDATE billing_meterbucket SET nanos = nanos + 1000",
        "meters_are_the_ledger",
    ),
    "metered too little": (
        "UPDATE billing_meterbucket SET nanos = nanos - 1000",
        "meters_are_the_ledger",
    ),
    "meter lost": ("DELETE FROM billing_meterbucket", "meters_are_the_ledger"),
    "earned less": ("UPDATE billing_earning SET amount_nanos = 1", "earnings_are_shares"),
    "earning lost": ("DELETE FROM billing_earning", "earnings_are_shares"),
    "usage lost": (
        f"DELETE FROM billing_usageevent WHERE hold_id IN ({UNSETTLED})",
        "usage_is_captured_holds",
    ),
    "run left open": (
        "UPDATE billing_hold SET expires_at = '2026-01-01 00:00:00+00:00' "
        "WHERE state = 'authorised'",
        "holds_have_ended",
    ),
    "run not settled": (
        "UPDATE billing_hold SET finished_at = '2026-01-01 00:00:00+00:00' "
        "WHERE state = 'captured' AND settlement_id IS NULL",
        "ends_are_settled",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_one_click_puts_it_right(world: Organization, operator: User, name: str) -> None:
    sql, check = BREAKS[name]
    corrupt(sql)
    assert check in found()

    press(operator)

    assert found() == {}
    settlement.settle()
    assert invariants.violations() == []


def test_what_was_used_is_worked_out_from_the_charge(
    organization: Organization, version: ModelVersion, operator: User
) -> None:
    hold_id = succeed(organization, version, rows=7)
    before = UsageEvent.objects.values("rows", "cost_nanos", "publisher_nanos", "outcome").get()
    corrupt(f"DELETE FROM billing_usageevent WHERE hold_id IN ({UNSETTLED})")
    found()

    press(operator)

    assert UsageEvent.objects.values(*before).get(pk=hold_id) == before
    assert settlement.settle() == 1


def test_what_cannot_be_worked_out_is_not_guessed(
    organization: Organization, version: ModelVersion, operator: User
) -> None:
    """With a minimum charge one row costs what two do."""
    prices.add(model=version.model, components={"row": [(0, 5, 1)]}, min_charge_nanos=500)
    succeed(organization, version, rows=2)
    corrupt(f"DELETE FROM billing_usageevent WHERE hold_id IN ({UNSETTLED})")
    found()

    with pytest.raises(ConflictError, match="cannot be worked out"):
        press(operator)

    assert Finding.objects.get().state == State.OPEN


def test_guards_are_put_back(world: Organization, operator: User) -> None:
    with connection.cursor() as cursor:
        triggers.drop(connection, cursor)
    assert found().keys() == {"guards_are_in_place"}
    first = Finding.objects.filter(state=State.OPEN).first()
    assert first is not None

    remedies.correct(first, actor=operator, reason="Dropped by a restore")

    assert found() == {}


def test_meters_and_reports_that_nobody_has_sent_are_put_right(
    world: Organization, operator: User
) -> None:
    assert meters.cut(timezone.now() + timedelta(hours=2)) == 1
    corrupt("UPDATE billing_meterreport SET value = value + 1")
    corrupt("UPDATE billing_meterbucket SET cut_nanos = 0")
    assert found().keys() == {"reports_are_their_meters", "buckets_are_cut_as_reported"}

    press(operator)

    assert found() == {}


def test_a_report_that_stripe_knows_is_not_changed(world: Organization, operator: User) -> None:
    meters.cut(timezone.now() + timedelta(hours=2))
    MeterReport.objects.update(first_sent_at=timezone.now())
    corrupt("UPDATE billing_meterreport SET value = value + 1")
    found()

    with pytest.raises(ConflictError, match="Stripe knows"):
        press(operator)


def test_a_top_up_says_what_was_given_back(
    fake_stripe: FakeStripe, organization: Organization, operator: User
) -> None:
    top_up = prepaid.bought(fake_stripe, organization)
    fake_stripe.people.refund(top_up.charge, 300)
    deliver_all()
    TopUp.objects.update(clawed_back_nanos=0, refunded_nanos=NANOS)
    assert found().keys() == {"top_ups_are_given_back_as_booked"}

    press(operator)

    top_up.refresh_from_db()
    assert (top_up.clawed_back_nanos, top_up.refunded_nanos) == (3 * NANOS, 0)
    assert found() == {}


def test_a_refused_payout_is_payable_again(operator: User, fake_stripe: FakeStripe) -> None:
    seller, _version = publishing.make_seller()
    publishing.onboard(seller)
    payouts.run()
    payable = publishing.owed(seller)
    Payout.objects.update(state=Payout.State.FAILED)
    assert "payouts_are_booked" in found()

    press(operator)

    payout = Payout.objects.get()
    assert publishing.owed(seller) == payable + payout.amount_nanos
    assert payout.ledger_transaction.reversals.get().actor == operator
    assert "payouts_are_booked" not in found()


def test_what_disputes_have_taken_of_an_invoice_is_booked(
    invoice: Invoice, tenant: Organization, operator: User
) -> None:
    paid_by_card(invoice)
    stripe.fake().people.dispute(charge_of(invoice), 400)
    deliver_all()
    Dispute.objects.update(withdrawn_minor=600)
    assert found().keys() == {"disputed_invoices_are_booked"}

    press(operator)

    assert ledger.balance_of(ledger.RECEIVABLE, tenant) == 6 * NANOS
    assert "disputed_invoices_are_booked" not in found()


def test_an_event_that_never_arrived_is_fetched_and_a_dead_one_handled(
    fake_stripe: FakeStripe, organization: Organization, no_grace: None, operator: User
) -> None:
    prepaid.buy(fake_stripe, organization)
    fake_stripe.post.drop()
    asked = {"events_have_arrived", "payments_are_credited"}
    assert asked <= found().keys()

    press(operator, *asked)
    deliver_all()

    assert prepaid.paid(organization) == prepaid.TEN
    assert found() == {}
    StripeEvent.objects.filter(type="payment_intent.succeeded").update(state="dead")
    assert found().keys() == {"events_have_arrived"}
    press(operator)
    deliver_all()
    assert found() == {}


def test_a_rejected_report_is_sent_again_and_one_that_waits_is_not(
    world: Organization, operator: User
) -> None:
    meters.cut(timezone.now() + timedelta(hours=2))
    MeterReport.objects.update(state="rejected")
    assert found().keys() == {"reports_have_been_sent"}

    press(operator)

    assert MeterReport.objects.get().state == "unknown"
    MeterReport.objects.update(created_at=timezone.now() - timedelta(days=3))
    found()
    with pytest.raises(ConflictError, match="by itself"):
        press(operator)


def test_a_charge_without_usage_is_put_right_before_it_is_settled(
    organization: Organization, version: ModelVersion, operator: User
) -> None:
    succeed(organization, version)
    Hold.objects.update(finished_at=timezone.now() - timedelta(days=1))
    corrupt(f"DELETE FROM billing_usageevent WHERE hold_id IN ({UNSETTLED})")
    found()
    late = Finding.objects.get(check_name="ends_are_settled")

    with pytest.raises(ConflictError, match="has no usage"):
        remedies.correct(late, actor=operator, reason="Too early")


# Advice -------------------------------------------------------------------------------------

CHECKS = [*invariants.CHECKS, *lateness.CHECKS, *stripe_books.STRIPE_CHECKS]
NAMES = {check.__name__ for check in CHECKS}


def test_each_check_has_a_remedy_or_says_what_a_person_must_do() -> None:
    assert set(advice.ADVICE) == NAMES
    assert set(remedies.REMEDIES) <= NAMES
    for name, text in advice.ADVICE.items():
        # What the button does, or what a person must do because there is none.
        assert str(text).startswith("Correct ") == (name in remedies.REMEDIES)


def test_each_check_is_in_the_docs_with_what_to_do() -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    said = {
        name: line.rsplit("|", 2)[1].strip()
        for line in rows
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }

    assert set(said) == NAMES
    assert all(said.values())


def test_the_page_of_a_finding_says_what_to_do(
    world: Organization, operator: User, client: Client
) -> None:
    client.force_login(operator)
    corrupt("UPDATE billing_ledgerbook SET length = length + 1")
    found()
    finding: Any = Finding.objects.filter(check_name="books_are_chained").first()

    address = reverse("admin:billing_finding_change", args=[finding.pk])
    shown = client.get(address).content.decode()

    assert escape(str(advice.ADVICE["books_are_chained"])) in shown
    assert not remedies.is_correctable(finding)
