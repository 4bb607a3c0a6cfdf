"""The catalogue and the frame in a browser."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests import factories
from tests.browser.conftest import NARROW, WIDE, Open, overflows, violations

pytestmark = pytest.mark.browser
# Every pair of theme, language and width, in as few runs as that takes.
LOOKS = [
    pytest.param("light", "en-US", WIDE, id="light-en-wide"),
    pytest.param("light", "zh-CN", NARROW, id="light-zh-narrow"),
    pytest.param("dark", "en-US", NARROW, id="dark-en-narrow"),
    pytest.param("dark", "zh-CN", WIDE, id="dark-zh-wide"),
]
LONG = "A rather long line about what this model was made for, so that cards have to wrap it."


@pytest.mark.parametrize(("scheme", "locale", "size"), LOOKS)
def test_pages_have_no_violation_and_fit_the_screen(
    open_page: Open, scheme: Any, locale: str, size: Any
) -> None:
    user = factories.make_user()
    factories.make_organization(owner=user)
    version = factories.make_version(
        examples=[{"label": "7", "input": {"image": factories.image(7)}}]
    )
    version.model.summary_en = LONG
    version.model.save()
    path = f"/models/{version.model.path}"
    page = open_page("/", color_scheme=scheme, locale=locale, viewport=size, user=user)
    found = {}

    for address in (
        "/",
        "/models",
        "/models?q=nothing-like-it",
        path,
        f"{path}?tab=api",
        f"{path}?tab=readme",
        f"{path}?tab=versions",
        "/models/nobody/nothing",
    ):
        page.goto(address)
        found[address] = violations(page) + ([("sideways", [])] if overflows(page) else [])

    assert {address: items for address, items in found.items() if items} == {}


def test_searching_as_one_types_narrows_the_list_and_the_address(open_page: Open) -> None:
    factories.make_version(name="digits-a")
    other = factories.make_version(name="weather").model
    other.summary_zh = "预报天气"
    other.search_text = " weather 天气 "
    other.save()
    page = open_page("/models")

    page.get_by_role("searchbox").press_sequentially("天气")

    expect(page.get_by_text("1 model", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="weather")).to_be_visible()
    expect(page.get_by_role("link", name="digits-a")).to_have_count(0)
    expect(page).to_have_url(re.compile("q=%E5%A4%A9%E6%B0%94"))


def test_the_catalogue_works_without_scripts(open_page: Open) -> None:
    factories.make_version(name="digits-a")
    page = open_page("/models", java_script_enabled=False)

    page.get_by_role("searchbox").fill("hand")
    page.get_by_role("button", name="Search").click()

    expect(page.get_by_role("link", name="digits-a")).to_be_visible()


def test_the_theme_is_switched_and_remembered(open_page: Open) -> None:
    page = open_page("/models", color_scheme="light")
    switch = page.get_by_role("button", name="Theme: as the system")

    switch.click()
    page.get_by_role("button", name="Theme: light").click()

    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()


def test_the_language_is_switched_on_the_same_page(open_page: Open) -> None:
    page = open_page("/models?q=digits")

    page.get_by_role("button", name="中文").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("模型")
    expect(page).to_have_url(re.compile(r"/models\?q=digits$"))


def test_the_first_stop_of_the_keyboard_leads_past_the_header(open_page: Open) -> None:
    page = open_page("/models")

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    assert page.evaluate("document.activeElement.id") == "main"


def test_on_a_telephone_the_menu_holds_what_the_header_cannot(open_page: Open) -> None:
    page = open_page("/", viewport=NARROW)

    page.locator("header details > summary").click()
    page.locator("header details").get_by_role("link", name="Models").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("Models")


def test_a_code_block_is_copied(open_page: Open) -> None:
    model = factories.make_version().model
    page = open_page(
        f"/models/{model.path}?tab=api", permissions=["clipboard-read", "clipboard-write"]
    )

    page.locator("#api-curl + button").click()

    expect(page.locator("#announcer")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("curl http")
