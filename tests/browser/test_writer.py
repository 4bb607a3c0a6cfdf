"""The Playground of a model that writes: the text appears while it is written, and is paid for."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from billing.models import Hold
from tests import factories
from tests.browser.conftest import Open, violations
from tests.inference.writers import cost, make_writer
from tests.live import Site

pytestmark = pytest.mark.browser


def test_a_text_is_written_and_its_receipt_linked(open_page: Open, site: Site) -> None:
    user = factories.make_user()
    factories.make_organization(owner=user)
    page = open_page(f"/models/{make_writer().model.path}", user=user)

    page.get_by_label("Prompt").last.fill("Once")
    page.get_by_label("Most characters").fill("120")
    page.get_by_role("button", name="Write").click()

    expect(page.locator("#run-state")).to_contain_text("Succeeded in")
    expect(page.locator("#written")).to_contain_text("4 characters read, 120 written")
    hold = Hold.objects.get()
    assert (hold.source, hold.captured_nanos) == ("web", cost("Once", 120))
    expect(page.locator("#written a")).to_have_attribute("href", f"/console/usage/{hold.pk}")
    text = page.locator("#output p").text_content()
    assert text is not None
    assert text.startswith("Once")
    assert len(text) == 124
    assert violations(page) == []


def test_stop_hangs_up_and_pays_what_was_written(open_page: Open, site: Site) -> None:
    user = factories.make_user()
    factories.make_organization(owner=user)
    page = open_page(f"/models/{make_writer(context=2_000_000, hidden=256).model.path}", user=user)

    page.evaluate("document.getElementById('max-tokens').max = 1000000")
    page.get_by_label("Most characters").fill("1000000")
    page.get_by_role("button", name="Write").click()
    expect(page.locator("#output p")).to_be_visible()
    page.get_by_role("button", name="Stop").click()

    expect(page.locator("#run-state")).to_have_text("Stopped")
    ended = Hold.objects.exclude(state="authorised")
    site.wait_until(ended.exists, seconds=30)
    hold = ended.get()
    assert (hold.state, hold.failure) == ("captured", "canceled")
    assert hold.captured_nanos is not None
    assert 0 < hold.captured_nanos < hold.reserved_nanos


def test_a_text_is_written_in_the_background(open_page: Open, site: Site) -> None:
    user = factories.make_user()
    factories.make_organization(owner=user)
    page = open_page(f"/models/{make_writer().model.path}", user=user)

    page.get_by_label("Prompt").last.fill("Once")
    page.get_by_label("Most characters").fill("120")
    page.get_by_label("Run in background").check()
    page.get_by_role("button", name="Write").click()

    expect(page.locator("#run-state")).to_contain_text("Succeeded in")
    expect(page.locator("#written")).to_contain_text("4 characters read, 120 written")
    hold = Hold.objects.get()
    assert (hold.source, hold.captured_nanos) == ("web", cost("Once", 120))
    text = page.locator("#output p").text_content()
    assert text is not None
    assert text.startswith("Once")
    assert len(text) == 124
    assert violations(page) == []
    page.get_by_role("link", name="Open the prediction's page").click()
    expect(page.locator("main")).to_contain_text("completion")


def test_a_text_in_the_background_is_canceled(open_page: Open, site: Site) -> None:
    user = factories.make_user()
    factories.make_organization(owner=user)
    page = open_page(f"/models/{make_writer(context=2_000_000, hidden=256).model.path}", user=user)

    page.evaluate("document.getElementById('max-tokens').max = 1000000")
    page.get_by_label("Most characters").fill("1000000")
    page.get_by_label("Run in background").check()
    page.get_by_role("button", name="Write").click()
    expect(page.locator("#run-state")).to_have_text("The model runs.")
    page.get_by_role("button", name="Cancel").click()

    expect(page.locator("#run-state")).to_have_text("Canceled")
    expect(page.locator("#output")).to_contain_text("It was canceled.")
    hold = Hold.objects.get()
    assert hold.failure == "canceled"
    assert (hold.captured_nanos or 0) < hold.reserved_nanos
