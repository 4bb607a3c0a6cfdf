"""Reports whose fate Stripe's sums do not tell any more: none keeps its month open for ever."""

from __future__ import annotations

from datetime import timedelta

import pytest

from accounts.errors import ConflictError
from accounts.models import AuditEntry, Organization, User
from billing import meter_sender, meters, months
from billing.models import BillingPeriod, MeterReport
from billing.stripe import client
from billing.stripe.fake.transport import Fault
from tests.billing import postpaid_world as world
from tests.billing.postpaid_world import Clock
from tests.billing.test_meters import EVENTS, HOUR, at_stripe, send_one, send_unclear
from tests.factories import make_user

pytestmark = pytest.mark.django_db
State = MeterReport.State


@pytest.fixture
def tenant(clock: Clock) -> Organization:
    return world.make_postpaid(slug="acme")


@pytest.fixture
def boss(db: None) -> User:
    return make_user("boss@example.com")


@pytest.fixture
def unclear(tenant: Organization, clock: Clock) -> MeterReport:
    report = send_unclear(tenant, clock)
    assert report.state == State.REJECTED
    return report


def test_what_stripe_has_not_counted_and_is_too_old_counts_now(
    tenant: Organization, clock: Clock
) -> None:
    client.fake().fail(Fault.BEFORE_SEND, EVENTS)
    report = send_one(tenant, clock)
    clock.wait(days=31)

    meter_sender.send(clock.now)

    report.refresh_from_db()
    assert (report.state, report.counted_at) == (State.OK, clock.now.replace(microsecond=0))
    assert at_stripe(tenant, HOUR) == 0
    assert at_stripe(tenant, months.hour_of(clock.now)) == 7
    assert not meters.counted_in(BillingPeriod.objects.get(month=months.of(HOUR))).exists()


def test_an_operator_says_that_a_report_is_counted(unclear: MeterReport, boss: User) -> None:
    before = len(client.fake().calls(EVENTS))

    meter_sender.decide(unclear, is_counted=True, actor=boss, reason="Stripe shows it")

    unclear.refresh_from_db()
    assert unclear.state == State.OK
    assert len(client.fake().calls(EVENTS)) == before
    assert AuditEntry.objects.get(action="meter_report.counted").reason == "Stripe shows it"


def test_an_operator_lets_a_report_count_now(
    unclear: MeterReport, tenant: Organization, boss: User, clock: Clock
) -> None:
    meter_sender.decide(unclear, is_counted=False, actor=boss, reason="Stripe has lost it")
    meter_sender.send(clock.now)

    unclear.refresh_from_db()
    assert unclear.state == State.OK
    assert at_stripe(tenant, HOUR) == 3
    assert at_stripe(tenant, months.hour_of(unclear.counted_at)) == 7
    assert AuditEntry.objects.get(action="meter_report.moved").actor == boss


@pytest.mark.parametrize("is_counted", [True, False])
def test_a_report_is_decided_once(unclear: MeterReport, boss: User, is_counted: bool) -> None:
    meter_sender.decide(unclear, is_counted=is_counted, actor=boss, reason="First")

    with pytest.raises(ConflictError):
        meter_sender.decide(unclear, is_counted=not is_counted, actor=boss, reason="Second")

    assert AuditEntry.objects.filter(action__startswith="meter_report.").count() == 1


def test_what_counts_now_is_in_the_running_months_sum(
    unclear: MeterReport, boss: User, clock: Clock
) -> None:
    clock.wait(days=40)

    meter_sender.decide(unclear, is_counted=False, actor=boss, reason="Stripe has lost it")

    unclear.refresh_from_db()
    assert clock.now - unclear.counted_at < timedelta(minutes=1)
    running = BillingPeriod.objects.get(month=months.of(clock.now))
    assert meters.micros(meters.counted_in(running)) == 7
