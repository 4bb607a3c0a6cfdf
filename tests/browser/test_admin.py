"""The operator console in a browser."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from accounts.models import User
from billing import budgets
from tests import factories
from tests.browser.conftest import AXE, NARROW, WIDE, Open
from tests.maas_site.rows import make_everything

pytestmark = pytest.mark.browser
# The frame around the content is unfold's.
WCAG = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]


def test_an_operator_grants_credit_and_a_double_click_grants_it_once(open_page: Open) -> None:
    organization = factories.make_organization()
    before = budgets.wallet(organization).available
    page = open_page("/admin/", user=User.objects.create_superuser("operator@example.com"))

    page.get_by_role("link", name="Organizations").click()
    page.get_by_role("link", name=organization.slug).click()
    page.get_by_role("link", name="Grant credit").click()
    page.get_by_label("Amount").fill("2.50")
    page.get_by_label("Reason").fill("Goodwill")
    page.get_by_role("button", name="Grant credit").dblclick()

    expect(page.get_by_text("$2.50 granted.")).to_be_visible()
    assert budgets.wallet(organization).available == before + 2_500_000_000


@pytest.mark.parametrize(
    ("scheme", "locale", "size"), [("light", "en-US", WIDE), ("dark", "zh-CN", NARROW)]
)
def test_pages_of_the_console_open_in_every_look(
    open_page: Open, scheme: Any, locale: str, size: Any
) -> None:
    make_everything(is_booked=True)
    organization = factories.make_organization()
    operator = User.objects.create_superuser("operator@example.com")
    page = open_page("/admin/", user=operator, color_scheme=scheme, locale=locale, viewport=size)

    form = f"/admin/accounts/organization/{organization.pk}/grant-credit/"
    found = {}
    for address in ("/admin/", form):
        page.goto(address)
        page.evaluate(AXE)
        report = page.evaluate(
            "tags => axe.run('#content', {runOnly: {type: 'tag', values: tags}})", WCAG
        )
        found[address] = [(item["id"], item["nodes"][0]["html"]) for item in report["violations"]]

    assert {address: items for address, items in found.items() if items} == {}
