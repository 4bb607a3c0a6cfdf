"""Pages that follow what happens elsewhere: with events, and when these are refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Route, expect

from accounts.models import User
from inference.asynchronous import endings, events
from inference.models import Prediction
from tests import factories
from tests.browser.conftest import Open
from tests.inference.asynchronous.conftest import accept_call, call_of
from tests.inference.batch_files.conftest import jsonl
from tests.live import Site

pytestmark = pytest.mark.browser


@pytest.fixture
def user(site: Site) -> User:
    return factories.make_user()


@pytest.fixture
def kept(site: Site, user: User) -> Prediction:
    """A prediction that a worker seems to have, on another host, for a long time."""
    organization = factories.make_organization(owner=user)
    site.kill("predict")
    prediction = accept_call(call_of(organization, factories.make_version()))
    mine = Prediction.objects.with_version().filter(pk=prediction.pk)
    mine.update(
        status="starting",
        turn=None,
        attempt=1,
        lease_owner="elsewhere",
        lease_until=timezone.now() + timedelta(hours=1),
    )
    site.start()
    return mine.get()


def go_on(prediction: Prediction) -> None:
    Prediction.objects.filter(pk=prediction.pk).update(status="processing")
    prediction.refresh_from_db(fields=["status"])
    events.tell([prediction])


def test_a_page_shows_what_happens_and_the_end(
    open_page: Open, user: User, kept: Prediction
) -> None:
    page = open_page(f"/console/predictions/{kept.pk}", user=user)
    looks: list[str] = []
    page.on("request", lambda made: looks.append(made.url) if "/live" in made.url else None)
    status = page.get_by_role("status")
    expect(status.filter(has_text="A worker loads the model")).to_be_visible()
    with page.expect_request("**/live"):
        go_on(kept)
    expect(status.filter(has_text="The model runs")).to_be_visible()

    assert endings.cancel(kept)

    expect(page.get_by_text("It was canceled.")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    # A look for each ring, and none besides: the page did not ask without being rung.
    assert len(looks) <= 4


def test_a_page_looks_by_itself_while_events_are_refused_and_opens_them_anew(
    open_page: Open, user: User, kept: Prediction
) -> None:
    page = open_page("/console/predictions", user=user)
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.fulfill(status=503)

    page.route("**/events", refuse)
    page.goto(f"/console/predictions/{kept.pk}")
    Prediction.objects.filter(pk=kept.pk).update(status="processing")

    # Nobody rang.
    expect(page.get_by_text("The model runs")).to_be_visible()
    assert refused
    page.unroute("**/events")
    with page.expect_response(lambda answer: "/events" in answer.url and answer.ok):
        pass
    assert endings.cancel(kept)
    expect(page.get_by_text("It was canceled.")).to_be_visible()


def test_a_batch_file_is_watched_from_its_check_to_its_results(
    open_page: Open, site: Site, user: User
) -> None:
    factories.make_organization(owner=user)
    version = factories.make_version()
    site.kill("predict")
    page = open_page(f"/console/batches/new?model={version.model.path}", user=user)
    page.locator("input[type=file]").set_input_files(
        {
            "name": "rows.jsonl",
            "mimeType": "application/jsonl",
            "buffer": jsonl(40),
        }
    )
    page.locator("main form button.btn-primary").click()
    page.wait_for_url("**/console/batches/*-*")
    expect(page.get_by_text("Checking").first).to_be_visible()

    site.start()
    page.get_by_role("button", name="Start for").click()

    expect(page.locator("[data-status=succeeded]")).to_be_visible()
    expect(page.get_by_role("button", name="Delete")).to_be_visible()
