from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from accounts.models import AuditEntry, Organization, User
from billing import (
    budgets,
    holds,
    ledger,
    months,
    periods,
    wallets,
)
from billing.models import BillingPeriod, Invoice, MeterBucket
from billing.money import NANOS
from billing.stripe import client
from catalog.models import ModelVersion
from tests.billing import calls
from tests.billing import postpaid_world as world
from tests.billing.postpaid_world import START, Clock

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]

State = BillingPeriod.State

CENT = NANOS // 100

FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def tenant(clock: Clock) -> Organization:
    return world.make_postpaid(slug="acme")


@pytest.fixture
def operator(tenant: Organization) -> User:
    return User.objects.get(email="operator@example.com")


def test_a_month_is_closed_billed_and_paid(
    tenant: Organization, version: ModelVersion, clock: Clock
) -> None:
    """Invariant 23: what Stripe bills is what the ledger says, and paying frees the line."""
    world.use(tenant, version, START + timedelta(hours=1), rows=61_728)

    period = world.close_month(clock, tenant)

    invoice = Invoice.objects.get()
    assert (period.state, period.blocked) == (State.RECONCILED, "")
    # 1.23456 dollars: the part of a cent is carried.
    assert invoice.total_minor == 123
    assert invoice.carried_out_nanos == 456 * NANOS // 100_000
    assert invoice.state == Invoice.State.PAID
    theirs = client.gateway().retrieve_invoice(invoice.stripe_invoice)
    assert (theirs.status, theirs.total) == ("paid", 123)
    assert wallets.of(tenant).owed_nanos == invoice.carried_out_nanos
    assert budgets.wallet(tenant).available == world.LINE - invoice.carried_out_nanos
    assert ledger.balance_of(ledger.FEES) > 0
    assert ledger.balance_of(ledger.CLEARING) == 123 * CENT - ledger.balance_of(ledger.FEES)


def test_less_than_a_coin_is_carried_until_it_is_one(
    tenant: Organization, version: ModelVersion, clock: Clock
) -> None:
    """Regression 16: lago-api#4642, ledger and invoices differ by less than a cent for ever."""
    totals = []
    for _ in range(4):
        # 0.6 of a cent beyond a dollar, each month: Stripe alone would round up each time.
        world.use(tenant, version, clock.now + timedelta(hours=1), rows=50_300)
        world.close_month(clock, tenant)
        totals.append(Invoice.objects.latest("id").total_minor)
        clock.wait(days=3)

    assert totals == [100, 101, 100, 101]
    assert wallets.of(tenant).owed_nanos == 4 * 50_300 * 20_000 - 402 * CENT
    assert Invoice.objects.latest("id").carried_out_nanos == wallets.of(tenant).owed_nanos


def test_a_month_without_anything_to_pay_takes_no_number(
    tenant: Organization, version: ModelVersion, clock: Clock
) -> None:
    world.use(tenant, version, START + timedelta(hours=1), rows=1)

    period = world.close_month(clock, tenant)

    assert (period.state, period.blocked) == (State.RECONCILED, "")
    assert not Invoice.objects.exists()
    clock.wait(days=1)
    world.use(tenant, version, clock.now, rows=499)
    world.close_month(clock, tenant)
    # What was left then is billed now: 0.00002 + 0.00998.
    invoice = Invoice.objects.get()
    assert (invoice.total_minor, invoice.carried_in_nanos) == (1, 20_000)


BOUNDARIES = [
    (datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC), "2026-01"),
    (datetime(2026, 2, 1, tzinfo=UTC), "2026-02"),
    # The same instants, as they are written elsewhere.
    (datetime.fromisoformat("2026-02-01T13:59:59.999999+14:00"), "2026-01"),
    (datetime.fromisoformat("2026-02-01T14:00:00+14:00"), "2026-02"),
    (datetime.fromisoformat("2026-01-31T09:59:59.999999-14:00"), "2026-01"),
    (datetime.fromisoformat("2026-01-31T10:00:00-14:00"), "2026-02"),
]


@pytest.mark.parametrize(("moment", "month"), BOUNDARIES)
def test_a_call_at_the_turn_of_a_month_is_in_one_invoice(
    tenant: Organization, version: ModelVersion, clock: Clock, moment: datetime, month: str
) -> None:
    """Invariant 24: the last microsecond and the first one are each in one month, whatever zone."""
    clock.go_to(FEBRUARY - timedelta(seconds=1))
    world.use(tenant, version, moment, rows=1_000)
    world.end_month(clock)
    clock.go_to(datetime(2026, 2, 20, tzinfo=UTC))
    world.end_month(clock)

    (bucket,) = MeterBucket.objects.all()
    assert f"{months.of(bucket.hour):%Y-%m}" == month
    invoices = {f"{each.period.month:%Y-%m}": each.total_minor for each in Invoice.objects.all()}
    assert invoices == {month: 2}


def test_the_29th_of_february_is_in_february(clock: Clock) -> None:
    """Invariant 24: Feb 29 is the last day of its month."""
    last = datetime(2028, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC)

    assert months.of(last).isoformat() == "2028-02-01"
    assert months.end(months.of(last)) == last + timedelta(microseconds=1)
    assert months.of(last + timedelta(microseconds=1)).isoformat() == "2028-03-01"
    assert months.following(months.of(datetime(2026, 12, 31, tzinfo=UTC))).year == 2027


def test_a_run_that_is_open_at_the_turn_is_waited_for(
    tenant: Organization, version: ModelVersion, clock: Clock
) -> None:
    clock.go_to(FEBRUARY - timedelta(seconds=30))
    reservation = calls.reserve(tenant, version, rows=1_000, at=clock.now)
    world.add_bucket(tenant, clock.now.replace(minute=0, second=0), 0)
    BillingPeriod.objects.create(organization=tenant, month=months.of(clock.now))
    clock.go_to(FEBRUARY + timedelta(minutes=2))
    periods.close_due(clock.now)
    assert BillingPeriod.objects.get().state == State.DRAINING

    holds.void(reservation.hold_id, "model_error")
    world.use(tenant, version, FEBRUARY - timedelta(seconds=1), rows=1_000)
    periods.close_due(clock.now)

    assert BillingPeriod.objects.get().state in {State.SETTLED, State.METERED}


def test_a_run_that_never_ends_holds_a_month_for_twenty_minutes_only(
    tenant: Organization, version: ModelVersion, clock: Clock
) -> None:
    world.use(tenant, version, START, rows=1_000)
    clock.go_to(FEBRUARY - timedelta(seconds=30))
    world.report(clock)
    calls.reserve(tenant, version, rows=1_000, at=clock.now)

    clock.go_to(FEBRUARY + timedelta(minutes=19))
    periods.close_due(clock.now)
    assert BillingPeriod.objects.get().state == State.DRAINING

    clock.go_to(FEBRUARY + timedelta(minutes=20))
    periods.close_due(clock.now)
    assert BillingPeriod.objects.get().state != State.DRAINING


def test_late_usage_is_billed_with_the_next_month_and_named(
    tenant: Organization, version: ModelVersion, clock: Clock
) -> None:
    """Regression 37: killbill#1856: usage settled after its month is billed once, and says so."""
    world.use(tenant, version, START, rows=5_000)
    world.close_month(clock, tenant)
    late = FEBRUARY - timedelta(hours=1)
    world.use(tenant, version, late, rows=10_000)

    clock.go_to(datetime(2026, 2, 20, tzinfo=UTC))
    world.close_month(clock, tenant)

    january, february = Invoice.objects.order_by("id")
    assert (january.total_minor, february.total_minor) == (10, 20)
    kinds = {(line["kind"], line["model"]): line["exact"] for line in february.frozen["lines"]}
    assert kinds == {("late", "2026-01"): "0.2"}


def test_a_draft_that_differs_is_not_made_final(
    tenant: Organization, version: ModelVersion, clock: Clock, operator: User
) -> None:
    """Invariant 23: a difference of more than rounding stops the close, and a person decides."""
    world.use(tenant, version, START, rows=50_000)
    inject(tenant, 40_000)

    period = world.close_month(clock, tenant)

    assert period.state == State.METERED
    assert "1.04" in period.blocked
    assert "1.00" in period.blocked
    draft = client.gateway().retrieve_invoice(period.stripe_invoice)
    assert (draft.status, draft.auto_advance) == ("draft", False)
    # Stripe's hour for drafts passes, and nothing is billed.
    clock.wait(hours=3)
    world.turn_the_wheel(clock)
    assert client.gateway().retrieve_invoice(draft.id).status == "draft"
    assert not Invoice.objects.exists()

    periods.retry(period, actor=operator, reason="look again")
    world.turn_the_wheel(clock)
    period.refresh_from_db()
    assert "1.04" in period.blocked

    inject(tenant, -40_000, name="undo")
    periods.retry(period, actor=operator, reason="corrected at Stripe")
    world.turn_the_wheel(clock)
    period.refresh_from_db()
    assert (period.state, period.blocked) == (State.RECONCILED, "")
    assert Invoice.objects.get().total_minor == 100
    assert AuditEntry.objects.filter(action="billing_period.retried").count() == 2


def inject(tenant: Organization, micros: int, name: str = "somebody") -> None:
    """Count something at Stripe that is not in the ledger."""
    client.gateway().report_usage(
        event_name="mercato_spend_usd",
        customer=wallets.of(tenant).stripe_customer,
        value=micros,
        at=START,
        identifier=name,
    )


def test_an_operator_may_bill_what_the_ledger_says(
    tenant: Organization, version: ModelVersion, clock: Clock, operator: User
) -> None:
    world.use(tenant, version, START, rows=50_000)
    inject(tenant, 40_000)
    period = world.close_month(clock, tenant)

    periods.accept(period, actor=operator, reason="known at Stripe")

    invoice = Invoice.objects.get()
    assert invoice.total_minor == 100
    theirs = client.gateway().retrieve_invoice(invoice.stripe_invoice)
    assert (theirs.status, theirs.total) == ("paid", 100)
    entry = AuditEntry.objects.get(action="billing_period.accepted")
    assert (entry.actor, entry.reason) == (operator, "known at Stripe")


def test_a_month_that_stripe_closed_itself_is_compared_afterwards(
    tenant: Organization, version: ModelVersion, clock: Clock
) -> None:
    world.use(tenant, version, START, rows=50_300)
    world.report(clock)
    clock.go_to(START + timedelta(hours=2))
    world.report(clock)
    # The site is down over the turn of the month.
    clock.go_to(FEBRUARY + timedelta(days=2))

    world.turn_the_wheel(clock)

    period = BillingPeriod.objects.get(month=months.of(START))
    invoice = Invoice.objects.get()
    assert (period.state, period.blocked) == (State.RECONCILED, "")
    # 1.006: Stripe has rounded up, the customer has 0.4 of a cent to his credit.
    assert (invoice.total_minor, invoice.state) == (101, Invoice.State.PAID)
    assert invoice.carried_out_nanos == -4 * NANOS // 1000
    wallet = wallets.of(tenant)
    assert (wallet.owed_nanos, wallet.paid_nanos) == (0, 4 * NANOS // 1000)


def test_stripes_final_amount_can_be_accepted_and_the_rest_is_carried(
    tenant: Organization, version: ModelVersion, clock: Clock, operator: User
) -> None:
    world.use(tenant, version, START, rows=50_000)
    clock.go_to(START + timedelta(hours=2))
    world.report(clock)
    world.use(tenant, version, START + timedelta(hours=3), rows=50_000)
    # Down before the second hour could be reported; Stripe bills what it has.
    clock.go_to(FEBRUARY + timedelta(days=2))
    world.turn_the_wheel(clock)
    period = BillingPeriod.objects.get(month=months.of(START))
    assert "1.00" in period.blocked
    assert period.state == State.METERED

    periods.accept(period, actor=operator, reason="bill the rest in February")

    invoice = Invoice.objects.get()
    assert (invoice.total_minor, invoice.carried_out_nanos) == (100, NANOS)
    clock.wait(days=1)
    world.use(tenant, version, clock.now, rows=500)
    world.close_month(clock, tenant)
    assert Invoice.objects.latest("id").total_minor == 101
    assert wallets.of(tenant).owed_nanos == 0
