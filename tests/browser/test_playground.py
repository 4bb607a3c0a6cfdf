"""The Playground in a browser: from a drawing to a paid answer."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from accounts.models import User
from billing import budgets
from billing.money import parse
from catalog.models import ModelVersion
from tests import factories
from tests.browser.conftest import NARROW, Open, violations
from tests.live import Site

pytestmark = pytest.mark.browser
EXAMPLES = [
    {"label": str(digit), "input": {"image": factories.image(digit)}} for digit in range(10)
]


def _buyer(credit_nanos: int = parse("5")) -> User:
    user = factories.make_user()
    factories.make_organization(owner=user, credit_nanos=credit_nanos)
    return user


def _model(**fields: Any) -> ModelVersion:
    return factories.make_version(examples=EXAMPLES, **fields)


def _draw(page: Page, *points: tuple[float, float]) -> None:
    box = page.locator("#slate").bounding_box()
    assert box
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=5)
    page.mouse.up()


def _pixels(page: Page) -> list[list[float]]:
    rows: list[list[float]] = json.loads(page.locator("#input-json").input_value())["image"]
    return rows


def test_an_example_is_run_and_its_exact_cost_leaves_the_balance(
    open_page: Open, site: Site
) -> None:
    user = _buyer()
    page = open_page(f"/models/{_model().model.path}", user=user)

    page.get_by_role("button", name="Example 7").click()
    expect(page.get_by_text("This run costs $0.00002")).to_be_visible()
    page.keyboard.press("Control+Enter")

    expect(page.locator("#run-state")).to_contain_text("Succeeded in")
    expect(page.locator("#output .answer-value")).to_have_text("7")
    expect(page.locator("#output .winner")).to_contain_text("(likeliest)")
    expect(page.locator("#output li")).to_have_count(10)
    expect(page.locator("#receipt")).to_contain_text("$4.99998")
    expect(page.locator("[data-balance]")).to_have_text("$4.99")
    assert violations(page) == []
    site.settle()
    wallet = budgets.wallet(user.memberships.get().organization)
    assert wallet.available == parse("5") - parse("0.00002")


def test_the_receipt_leads_to_the_call_in_the_console(open_page: Open) -> None:
    page = open_page(f"/models/{_model().model.path}", user=_buyer())
    page.get_by_role("button", name="Example 3").click()
    page.get_by_role("button", name="Run").click()

    page.locator("#receipt a").click()

    expect(page.get_by_text("$0.00002").first).to_be_visible()


def test_a_drawing_is_cropped_scaled_and_centred_as_the_models_know_it(open_page: Open) -> None:
    page = open_page(f"/models/{_model().model.path}", user=_buyer())

    _draw(page, (0.1, 0.1), (0.1, 0.45))

    expect(page.locator("#clear")).to_be_enabled()
    rows = _pixels(page)
    inked = [y for y, row in enumerate(rows) if max(row) > 0.2]
    assert len(inked) == 20
    columns = [x for row in rows for x, value in enumerate(row) if value > 0.2]
    assert 12 <= sum(columns) / len(columns) <= 15
    assert all(0 <= value <= 1 for row in rows for value in row)


def test_a_small_and_a_large_drawing_of_a_digit_look_the_same_to_the_model(
    open_page: Open,
) -> None:
    seven = [(0.2, 0.2), (0.8, 0.2), (0.45, 0.85)]
    page = open_page(f"/models/{_model().model.path}")
    _draw(page, *seven)
    page.wait_for_timeout(100)
    large = _pixels(page)
    page.get_by_role("button", name="Clear").click()

    _draw(page, *[(0.1 + x / 2, 0.3 + y / 2) for x, y in seven])
    page.wait_for_timeout(100)

    pairs = zip(chain(*large), chain(*_pixels(page)), strict=True)
    assert sum(abs(one - other) for one, other in pairs) / 784 < 0.02


def test_undo_takes_one_stroke_back_and_clear_all_of_them(open_page: Open) -> None:
    page = open_page(f"/models/{_model().model.path}")
    _draw(page, (0.3, 0.2), (0.3, 0.8))
    expect(page.locator("#undo")).to_be_enabled()
    one = _pixels(page)
    _draw(page, (0.7, 0.2), (0.7, 0.8))
    page.wait_for_timeout(100)
    assert _pixels(page) != one

    page.get_by_role("button", name="Undo").click()

    page.wait_for_timeout(100)
    assert _pixels(page) == one
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#slate-hint")).to_be_visible()
    assert max(max(row) for row in _pixels(page)) == 0


def test_form_json_and_code_show_one_input(open_page: Open) -> None:
    version = _model()
    page = open_page(f"/models/{version.model.path}", user=_buyer())
    page.get_by_role("button", name="Example 2").click()
    expect(page.locator("#clear")).to_be_enabled()

    page.get_by_role("button", name="JSON").click()
    page.locator("#input-json").fill(json.dumps({"image": factories.image(5)}))

    page.get_by_role("button", name="curl").click()
    expect(page.locator("#code-curl")).to_contain_text("data:image/png;base64,")
    page.get_by_role("button", name="Python").click()
    expect(page.locator("#code-python")).to_contain_text(version.model.path)
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#output .answer-value")).to_have_text("5")


def test_json_that_does_not_fit_is_refused_before_it_is_sent(open_page: Open) -> None:
    page = open_page(f"/models/{_model().model.path}", user=_buyer())
    page.get_by_role("button", name="JSON").click()

    page.locator("#input-json").fill('{"image": [[1, 2]]}')
    expect(page.locator("#json-error")).to_contain_text("must be 28 × 28 numbers")
    page.locator("#input-json").fill("{")

    expect(page.locator("#json-error")).to_contain_text("This is not JSON")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("alert").filter(has_text="Nothing was charged")).to_be_visible()


def test_a_picture_with_dark_ink_on_paper_is_read(open_page: Open, tmp_path: Any) -> None:
    from PIL import Image, ImageDraw

    photo = Image.new("RGB", (300, 400), (235, 228, 214))
    ImageDraw.Draw(photo).line([(80, 100), (80, 300)], fill=(40, 40, 60), width=24)
    photo.save(tmp_path / "one.jpg")
    page = open_page(f"/models/{_model().model.path}")

    page.locator("#upload").set_input_files(tmp_path / "one.jpg")

    expect(page.locator("#clear")).to_be_enabled()
    rows = _pixels(page)
    assert rows[0][0] == 0
    assert max(max(row) for row in rows) > 0.8


def test_a_visitor_draws_signs_in_and_finds_the_drawing_again(open_page: Open) -> None:
    user = _buyer()
    page = open_page(f"/models/{_model().model.path}")
    _draw(page, (0.5, 0.2), (0.5, 0.8))
    expect(page.locator("#clear")).to_be_enabled()
    drawn = _pixels(page)

    page.get_by_role("button", name="Sign in to run").click()
    page.get_by_label("E-mail").fill(user.email)
    page.get_by_label("Password").first.fill("correct horse battery")
    page.get_by_role("button", name="Sign in").last.click()

    expect(page.locator("#clear")).to_be_enabled()
    assert _pixels(page) == drawn
    expect(page.get_by_role("button", name="Run")).to_be_visible()


def test_without_credit_the_run_is_refused_with_what_to_do(open_page: Open) -> None:
    page = open_page(f"/models/{_model().model.path}", user=_buyer(credit_nanos=0))
    page.get_by_role("button", name="Example 1").click()

    page.get_by_role("button", name="Run").click()

    alert = page.locator("#output").get_by_role("alert")
    expect(alert).to_contain_text("The balance does not cover this run")
    expect(alert).to_contain_text("insufficient_credit")
    expect(alert).to_contain_text("req_")
    expect(alert.get_by_role("link", name="See your balance")).to_be_visible()
    assert violations(page) == []


def test_a_finger_draws_on_a_telephone(open_page: Open) -> None:
    page = open_page(f"/models/{_model().model.path}", viewport=NARROW, has_touch=True)

    page.locator("#slate").tap()

    expect(page.locator("#clear")).to_be_enabled()
    assert max(max(row) for row in _pixels(page)) > 0.5


def test_the_whole_way_goes_by_keyboard(open_page: Open) -> None:
    page = open_page(f"/models/{_model().model.path}", user=_buyer())

    page.get_by_role("button", name="Example 9").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#clear")).to_be_enabled()
    page.get_by_role("button", name="Run").focus()
    page.keyboard.press("Enter")

    expect(page.locator("#output .answer-value")).to_have_text("9")
