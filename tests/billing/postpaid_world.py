"""Steps that tests of credit lines share: a clock for the site and for Stripe, and months."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from accounts.models import Organization, User
from billing import meter_sender, meters, months, periods, postpaid, settlement, wallets
from billing.models import BillingPeriod, MeterBucket
from billing.money import NANOS
from billing.stripe import client
from catalog.models import ModelVersion
from tests.billing import calls
from tests.billing.stripe_world import deliver_all
from tests.factories import make_organization, make_user

START = datetime(2026, 1, 10, 9, 30, tzinfo=UTC)
LINE = 100 * NANOS


class Clock:
    """Says what time it is, here and at Stripe."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        client.fake().people.stop_the_clock(START)
        monkeypatch.setattr(timezone, "now", lambda: self.now)

    def go_to(self, moment: datetime) -> None:
        """Let time pass until a moment."""
        client.fake().people.wait(int((moment - self.now).total_seconds()))
        self.now = moment

    def wait(self, **length: int) -> None:
        """Let time pass."""
        self.go_to(self.now + timedelta(**length))


def make_postpaid(
    *, line: int = LINE, credit_nanos: int = 0, card: bool = True, slug: str = ""
) -> Organization:
    """Make an organization with a credit line and, if it is to pay, a card."""
    organization = make_organization(
        credit_nanos=credit_nanos, slug=slug, owner=make_user(f"{slug or 'owner'}-pays@example.com")
    )
    set_line(organization, line)
    if card:
        client.fake().people.save_card(wallets.of(organization).stripe_customer)
        prefer_card(organization)
    return organization


def prefer_card(organization: Organization) -> None:
    """Let invoices be paid with the newest card."""
    people, customer = client.fake().people, wallets.of(organization).stripe_customer
    people.prefer_card(customer, people.cards(customer)[0]["id"])


def set_line(organization: Organization, line: int) -> None:
    """Give a credit line as an operator does."""
    operator = User.objects.filter(email="operator@example.com").first() or make_user(
        "operator@example.com"
    )
    postpaid.set_line(organization, line, actor=operator, reason="a test")


def use(
    organization: Organization, version: ModelVersion, at: datetime, *, rows: int = 1, n: int = 1
) -> None:
    """Make calls that are charged and settled."""
    for _ in range(n):
        calls.succeed(organization, version, rows=rows, at=at)
    settlement.settle()


def add_bucket(organization: Organization, hour: datetime, nanos: int) -> MeterBucket:
    """Make a meter without the calls behind it: for tests of cutting alone."""
    return MeterBucket.objects.create(organization=organization, hour=hour, nanos=nanos)


def report(clock: Clock) -> None:
    """Cut and send what is due."""
    meters.cut(clock.now)
    meter_sender.send(clock.now)


def close_month(clock: Clock, organization: Organization) -> BillingPeriod:
    """Let the running month end, and do what beat does until it is closed or blocked."""
    month = months.of(clock.now)
    end_month(clock)
    return BillingPeriod.objects.get(organization=organization, month=month)


def end_month(clock: Clock) -> None:
    """Let the running month end, and do what beat does in the quarter of an hour after it."""
    report(clock)
    clock.go_to(months.end(months.of(clock.now)) + timedelta(minutes=2))
    turn_the_wheel(clock)


def turn_the_wheel(clock: Clock) -> None:
    """Do what beat does, for a quarter of an hour."""
    for _ in range(3):
        report(clock)
        periods.close_due(clock.now)
        deliver_all()
        clock.wait(minutes=6)
