"""Budgets and webhooks in a browser: readable for everybody, on every screen."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from accounts.models import User
from billing import alerts, budgets, settlement
from billing.models import BalanceAlert
from inference.models import WebhookEndpoint
from inference.webhooks import deliveries, endpoints
from inference.webhooks.deliveries import Parcel
from inference.webhooks.sending import Result
from tests import factories
from tests.billing.calls import reserve, succeed
from tests.browser.conftest import Open
from tests.browser.test_catalogue import LOOKS
from tests.browser.test_console import wrong

pytestmark = pytest.mark.browser


@pytest.fixture
def user(transactional_db: None) -> User:
    """The owner of an organization with caps and webhooks in all states."""
    person = factories.make_user()
    organization = factories.make_organization(owner=person)
    version = factories.make_version()
    key, _secret = factories.make_key(organization, name="production")
    budgets.set_limit(organization, "day", 100_000)
    budgets.set_limit(organization, "lifetime", 4, unit="calls", api_key=key)
    succeed(organization, version, key=key, rows=3)
    succeed(organization, version, key=key, rows=2)
    settlement.settle()
    budgets.set_limit(organization, "month", 10**10)
    reserve(organization, version, rows=0)
    alerts.mail_due()
    BalanceAlert.objects.create(
        organization=organization, threshold_nanos=10**9, balance_nanos=5 * 10**8
    )
    endpoint, _ = endpoints.create(organization, "http://127.0.0.1:9999/" + "long" * 60)
    good, bad = endpoints.ping(endpoint), endpoints.ping(endpoint)
    taken = Result(status=200, excerpt="ok", milliseconds=12)
    refused = Result("redirect", 301, "Location: https://elsewhere.example/", 12)
    for delivery, result in ((good, taken), (bad, refused)):
        deliveries.record(Parcel(delivery, ("whsec_1",)), result)
    return person


@pytest.mark.parametrize(("scheme", "locale", "size"), LOOKS)
def test_budgets_and_webhooks_have_no_violation_and_fit_the_screen(
    open_page: Open, user: User, scheme: Any, locale: str, size: Any
) -> None:
    organization = user.memberships.get().organization
    key = organization.keys.get()
    endpoint = WebhookEndpoint.objects.get(organization=organization)
    page = open_page("/", color_scheme=scheme, locale=locale, viewport=size, user=user)
    one = f"/console/webhooks/{endpoint.pk}"

    assert not wrong(
        page,
        [
            "/console/budgets",
            "/console/balance",
            f"/console/keys/{key.pk}",
            "/console/webhooks",
            one,
            *(f"{one}/deliveries/{each.pk}" for each in endpoint.deliveries.all()),
        ],
    )


def test_a_budget_is_set_for_a_key_and_removed(open_page: Open, user: User) -> None:
    page = open_page("/console/budgets", user=user)
    page.get_by_label("For", exact=True).select_option(
        label=str(user.memberships.get().organization.keys.get())
    )
    page.get_by_label("Window").select_option("day")
    page.get_by_label("Counts").select_option("calls")
    page.get_by_label("At most").fill("250")
    page.get_by_role("button", name="Set the budget").click()

    expect(page.get_by_text("2 calls of 250 calls")).to_be_visible()
    page.get_by_role("button", name="Remove key-day-calls").click()
    expect(page.get_by_text("The budget is removed.")).to_be_visible()
    expect(page.get_by_text("2 calls of 250 calls")).to_have_count(0)
