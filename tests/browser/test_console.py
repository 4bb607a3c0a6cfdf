"""Signing up and the console in a browser."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from accounts.models import ApiKey, User
from billing import settlement
from catalog import prices
from tests import factories
from tests.billing.calls import fail, reserve, succeed
from tests.browser.conftest import Open, overflows, violations
from tests.browser.test_catalogue import LOOKS
from tests.live import Site
from tests.maas_site.rows import make_job

pytestmark = pytest.mark.browser
PASSWORD = "a long sentence to remember"


@pytest.fixture
def user(transactional_db: None) -> User:
    """The owner of an organization with everything the console can show."""
    person = factories.make_user()
    organization = factories.make_organization(owner=person)
    version = factories.make_version()
    key, _secret = factories.make_key(organization, name="production")
    succeed(organization, version, key=key, rows=3)
    fail(organization, version)
    settlement.settle()
    reserve(organization, version)
    prices.add(sku="training.cpu", components={"compute_ms": (50_000, 1000)})
    job = make_job(organization)
    job.curve = [
        {"epoch": epoch, "loss": 1 / epoch, "val_loss": 1.1 / epoch, "val_accuracy": 0.9}
        for epoch in range(1, 6)
    ]
    job.state = job.State.SUCCEEDED
    job.metrics = {"accuracy": "0.9", "rows": 10, "loss": "0.1", "confusion": [[1] * 10] * 10}
    job.save()
    return person


def wrong(page: Page, addresses: list[str]) -> dict[str, Any]:
    """Return what axe finds, and which pages scroll sideways."""
    found = {}
    for address in addresses:
        page.goto(address)
        found[address] = violations(page) + ([("sideways", [])] if overflows(page) else [])
    return {address: items for address, items in found.items() if items}


@pytest.mark.parametrize(("scheme", "locale", "size"), LOOKS)
def test_console_pages_have_no_violation_and_fit_the_screen(
    open_page: Open, user: User, scheme: Any, locale: str, size: Any
) -> None:
    organization = user.memberships.get().organization
    hold, job, key = organization.holds.first(), organization.jobs.get(), organization.keys.get()
    assert hold is not None
    page = open_page("/", color_scheme=scheme, locale=locale, viewport=size, user=user)

    assert not wrong(
        page,
        [
            "/console",
            "/console/keys",
            f"/console/keys/{key.pk}",
            "/console/usage",
            "/console/earnings",
            "/console/usage?model=nobody/nothing",
            f"/console/usage/{hold.pk}",
            "/console/balance",
            "/console/trainings",
            "/console/trainings/new",
            f"/console/trainings/{job.pk}",
        ],
    )


@pytest.mark.parametrize(("scheme", "locale", "size"), LOOKS)
def test_a_new_tenants_and_a_visitors_pages_have_no_violation(
    open_page: Open, scheme: Any, locale: str, size: Any
) -> None:
    person = factories.make_user()
    factories.make_organization(owner=person, credit_nanos=0)
    look = {"color_scheme": scheme, "locale": locale, "viewport": size}
    console = open_page("/", user=person, **look)
    visitor = open_page("/", **look)

    names = ["", "/keys", "/usage", "/balance", "/trainings", "/earnings"]
    assert not wrong(console, [f"/console{name}" for name in names])
    names = ["login/", "signup/", "password/reset/", "confirm-email/", "confirm-email/x/"]
    assert not wrong(visitor, [f"/accounts/{name}" for name in names] + ["/dev/mail"])


def test_a_person_signs_up_confirms_and_makes_a_key_that_is_shown_once(open_page: Open) -> None:
    address = f"ada{time.time_ns()}@example.com"
    page = open_page("/accounts/signup/")
    page.get_by_label("E-mail").fill(address)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    page.get_by_role("link", name="Read the mail here").click()
    mail = page.get_by_role("article").filter(has_text=address)
    mail.get_by_role("link", name=re.compile("confirm-email")).click()
    page.get_by_role("button", name="Yes, confirm it").click()

    expect(page).to_have_url(re.compile("/console$"))
    expect(page.get_by_text("$5.00 of credit is yours to try")).to_be_visible()
    page.get_by_role("link", name="Make a key").click()
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Make the key").click()

    secret = page.locator("#secret").inner_text()
    assert re.fullmatch(r"mk_live_\w{49}", secret.strip())
    # A reload must not make another key.
    page.reload()
    expect(page.get_by_role("heading", name="API keys")).to_be_visible()
    assert ApiKey.objects.count() == 1
    assert secret.strip() not in page.content()


def test_revoking_asks_first_and_escape_goes_back(open_page: Open, user: User) -> None:
    page = open_page("/console/keys", user=user)
    revoke = page.get_by_role("link", name="Revoke")

    revoke.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(revoke).to_be_focused()
    assert ApiKey.objects.usable().count() == 1

    revoke.click()
    page.get_by_role("button", name="Revoke the key").click()
    expect(page.get_by_text("No keys yet")).to_be_visible()
    assert not ApiKey.objects.usable().exists()


def test_the_price_of_a_training_follows_the_choices(open_page: Open, user: User) -> None:
    page = open_page("/console/trainings/new?recipe=mnist-mlp", user=user)
    price = page.locator("#estimate")
    before = price.inner_text()

    page.get_by_label("Epochs").fill("150")

    expect(price).not_to_have_text(before)
    page.get_by_label("Epochs").fill("0")
    expect(price).to_contain_text("Epochs:")


@pytest.mark.timeout(180)
def test_a_training_is_watched_to_its_end_and_published(
    open_page: Open, site: Site, user: User
) -> None:
    site.start_jobs()
    page = open_page("/console/trainings/new?recipe=linear-regression", user=user)
    page.get_by_label("Epochs").fill("3")
    page.get_by_role("button", name="Start the training").click()

    # Nothing is reloaded by hand: events say when to look.
    expect(page.get_by_text("Publish it as a model")).to_be_visible(timeout=120_000)
    expect(page.locator(".chart canvas")).to_be_visible()
    page.get_by_label("Name").fill("my-line")
    page.get_by_role("button", name="Publish").click()

    expect(page).to_have_url(re.compile("/models/[^/]+/my-line$"))
