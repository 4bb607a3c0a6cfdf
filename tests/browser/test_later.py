"""The Playground's runs in the background: accepted, followed, canceled."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from accounts.models import User
from billing.models import Hold
from billing.money import parse
from catalog.models import ModelVersion
from inference.models import Prediction
from tests import factories
from tests.browser.conftest import NARROW, Open, overflows, violations
from tests.live import Site

pytestmark = pytest.mark.browser
EXAMPLES = [{"label": "7", "input": {"image": factories.image(7)}}]


@pytest.fixture
def user(site: Site) -> User:
    found = factories.make_user()
    factories.make_organization(owner=found, credit_nanos=parse("5"))
    return found


@pytest.fixture
def version(site: Site) -> ModelVersion:
    return factories.make_version(examples=EXAMPLES)


def run_later(page: Page) -> None:
    page.get_by_role("button", name="Example 7").click()
    page.get_by_label("Run in background").check()
    page.get_by_role("button", name="Run").click()


def test_it_waits_runs_and_shows_its_answer_and_receipt(
    open_page: Open, site: Site, user: User, version: ModelVersion
) -> None:
    site.kill("predict")
    page = open_page(f"/models/{version.model.path}", user=user)

    run_later(page)

    expect(page.locator("#run-state")).to_have_text(
        "It waits for its turn; its money is set aside."
    )
    expect(page.locator("#output [aria-current=step]")).to_have_text("Waiting")
    expect(page.locator("#receipt")).to_be_hidden()
    # The next one may be run already.
    expect(page.get_by_role("button", name="Run", exact=False).first).to_be_enabled()
    assert violations(page) == []
    prediction = Prediction.objects.get()
    assert (prediction.is_async, prediction.status) == (True, "queued")
    assert Hold.objects.get().source == "web"

    site.start()

    expect(page.locator("#run-state")).to_contain_text("Succeeded in")
    expect(page.locator("#output .answer-value")).to_have_text("7")
    expect(page.locator("#receipt")).to_contain_text("$4.99998")
    expect(page.locator("#later-cancel")).to_be_hidden()
    assert violations(page) == []
    page.locator("#later-link").click()
    page.wait_for_url(f"**/console/predictions/{prediction.pk}")
    expect(page.get_by_text("Succeeded").first).to_be_visible()


def test_it_is_canceled_and_costs_nothing(
    open_page: Open, site: Site, user: User, version: ModelVersion
) -> None:
    site.kill("predict")
    page = open_page(f"/models/{version.model.path}", user=user, viewport=NARROW)
    run_later(page)
    expect(page.locator("#output [aria-current=step]")).to_have_text("Waiting")
    assert not overflows(page)

    page.locator("#later-cancel").click()

    expect(page.get_by_role("alert").filter(has_text="Nothing was charged")).to_be_visible()
    expect(page.locator("#run-state")).to_have_text("Canceled")
    assert Prediction.objects.get().status == "canceled"
    assert Hold.objects.get().state == "voided"
    assert violations(page) == []


def test_what_is_refused_is_said_and_nothing_is_stored(
    open_page: Open, user: User, version: ModelVersion
) -> None:
    poor = factories.make_user()
    factories.make_organization(owner=poor, credit_nanos=0)
    page = open_page(f"/models/{version.model.path}", user=poor)

    run_later(page)

    expect(page.locator("#output").get_by_role("alert")).to_contain_text("insufficient_credit")
    expect(page.locator("#later")).to_be_hidden()
    assert not Prediction.objects.exists()


def test_a_lost_connection_is_said_and_found_again(
    open_page: Open, site: Site, user: User, version: ModelVersion
) -> None:
    site.kill("predict")
    page = open_page(f"/models/{version.model.path}", user=user)
    page.route("**/events", lambda route: route.fulfill(status=503))

    run_later(page)

    expect(page.locator("#run-state")).to_contain_text("The connection is lost")
    page.unroute("**/events")
    expect(page.locator("#run-state")).to_contain_text("It waits for its turn")
    site.start()
    expect(page.locator("#output .answer-value")).to_have_text("7")


def test_the_code_sends_the_same_header(open_page: Open, version: ModelVersion) -> None:
    page = open_page(f"/models/{version.model.path}")
    curl, python = page.locator("#code-curl"), page.locator("#code-python")
    expect(curl).to_contain_text("/v1/predictions")
    assert "Prefer" not in curl.text_content() + python.text_content()  # type: ignore[operator]

    page.get_by_label("Run in background").check()

    expect(curl).to_contain_text('-H "Prefer: respond-async"')
    expect(python).to_contain_text('"Prefer": "respond-async"')
    page.get_by_label("Run in background").uncheck()
    expect(curl).not_to_contain_text("Prefer")
