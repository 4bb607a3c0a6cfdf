"""A publisher raises a price, an operator approves it, and the model's page says so."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from accounts.models import User
from billing import settlement
from catalog.models import PriceChange
from tests import factories
from tests.billing import calls
from tests.browser.conftest import NARROW, Open, overflows, violations
from tests.live import Site

pytestmark = pytest.mark.browser


@pytest.fixture
def maker(site: Site) -> User:
    """A publisher whose model somebody else has used."""
    made = factories.make_user("maker@example.com")
    version = factories.make_version(
        owner=factories.make_organization(owner=made, slug="makers"), name="digits"
    )
    tenant = factories.make_organization()
    calls.succeed(tenant, version, rows=250, at=timezone.now() - timedelta(hours=2))
    settlement.settle()
    return made


def test_a_price_goes_from_the_form_to_the_model_s_page(open_page: Open, maker: User) -> None:
    page = open_page("/console/prices", user=maker)
    page.get_by_role("link", name="digits").click()
    page.get_by_label("Amount in USD").first.fill("0.00004")
    page.get_by_label("Reason").fill("Power costs more")

    page.get_by_role("button", name="Show last month at this price").click()
    preview = page.get_by_role("row", name="Tenant 1")
    expect(preview).to_contain_text("$0.005")
    expect(preview).to_contain_text("$0.01")
    assert violations(page) == []
    page.get_by_role("button", name="Propose this price").click()
    expect(page.get_by_text("It applies when an operator has approved it.")).to_be_visible()

    operator = User.objects.create_superuser("operator@example.com")
    change = PriceChange.objects.get()
    console = open_page(f"/admin/catalog/pricechange/{change.pk}/change/", user=operator)
    expect(console.get_by_text("It becomes higher for 1 tenant")).to_be_visible()
    console.get_by_role("link", name="Approve").click()
    console.get_by_label("Reason").fill("Agreed")
    console.get_by_role("button", name="Approve this price").click()
    expect(console.get_by_text("The price applies from")).to_be_visible()

    model = open_page("/models/makers/digits?tab=readme")
    expect(model.get_by_text("this model costs $0.00004 / row")).to_be_visible()
    assert violations(model) == []


def test_the_price_page_fits_a_telephone(open_page: Open, maker: User) -> None:
    page = open_page("/console/prices/digits", user=maker, viewport=NARROW)

    assert not overflows(page)
    assert violations(page) == []
