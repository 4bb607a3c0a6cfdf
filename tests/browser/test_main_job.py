"""From nothing to a paid prediction: sign up, draw, run, make a key, call, see the cost leave."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from accounts.models import Organization, User
from billing import budgets
from billing.money import NANOS
from tests import factories
from tests.browser.conftest import violations
from tests.live import Site

pytestmark = pytest.mark.browser
Open = Callable[..., Page]
PASSWORD = "a long pass phrase 7"


def sign_up(page: Page, email: str) -> None:
    page.fill("input[name=email]", email)
    page.fill("input[name=password1]", PASSWORD)
    page.press("input[name=password1]", "Enter")
    page.wait_for_url("**/confirm-email/")
    assert violations(page) == []


def confirm(page: Page, email: str) -> None:
    """Read the mail in the outbox and follow its link."""
    page.goto("/dev/mail")
    expect(page.locator("body")).to_contain_text(email)
    found = re.search(r"/accounts/confirm-email/[^/\s\"<]+/", page.content())
    assert found is not None
    page.goto(found.group())
    page.locator("main form button").click()
    page.wait_for_url("**/console")


def draw_a_three(page: Page) -> None:
    """Draw what the test's model reads as a 3: ink in the upper middle."""
    box = page.locator("canvas").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.35)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.35, steps=8)
    page.mouse.up()


def make_key(page: Page) -> str:
    page.goto("/console/keys")
    page.fill("input[name=name]", "laptop")
    page.press("input[name=name]", "Enter")
    secret = page.get_by_text(re.compile(r"^mk_live_[0-9A-Za-z]{49}$")).first
    expect(secret).to_be_visible()
    assert violations(page) == []
    return str(secret.inner_text()).strip()


def test_a_newcomer_signs_up_tries_a_model_and_calls_it(open_page: Open, site: Site) -> None:
    version = factories.make_version()
    page = open_page("/accounts/signup/")

    sign_up(page, "ada@example.com")
    confirm(page, "ada@example.com")
    organization = Organization.objects.get(memberships__user__email="ada@example.com")
    assert budgets.wallet(organization).available == 5 * NANOS

    page.goto(f"/models/{version.model.path}")
    draw_a_three(page)
    page.get_by_role("button", name=re.compile("^Run")).click()
    expect(page.get_by_text("$4.99998", exact=True).first).to_be_visible()

    secret = make_key(page)
    response = site.predict(secret, factories.body(version, digit=3))
    assert response.json()["output"]["label"] == "3"
    assert response.headers["Mercato-Cost"] == "0.00002"

    site.settle()
    page.goto("/console/balance")
    expect(page.get_by_text("$4.99996").first).to_be_visible()
    page.goto("/console/usage")
    rows = page.locator("table tbody tr", has_text=version.path)
    expect(rows).to_have_count(2)
    assert violations(page) == []


def test_a_secret_is_never_shown_again_and_a_revoked_key_is_dead(
    open_page: Open, site: Site
) -> None:
    user = factories.make_user()
    factories.make_organization(owner=user)
    version = factories.make_version()
    page = open_page("/console/keys", user=user)
    secret = make_key(page)
    assert site.predict(secret, factories.body(version)).status_code == 200

    page.goto("/console/keys")
    assert secret not in page.content()

    revoke(page)
    body = factories.body(version)
    site.wait_until(lambda: site.predict(secret, body).status_code == 401, seconds=6)


def revoke(page: Page) -> None:
    page.get_by_role("link", name="Revoke").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke the key").click()
    expect(page.get_by_text("Revoked and expired")).to_be_visible()


def test_a_stranger_sees_no_console(open_page: Open) -> None:
    page = open_page("/console/usage")

    assert urlsplit(page.url).path == "/accounts/login/"
    assert not User.objects.exists()
    assert violations(page) == []
