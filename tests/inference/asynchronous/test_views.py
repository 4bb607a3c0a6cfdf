"""The console's pages of predictions, and the operators'."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from django.test import Client

from accounts.models import AuditEntry, Membership, Organization, User
from inference.asynchronous import running
from inference.models import Prediction
from tests import factories
from tests.inference.asynchronous.conftest import Accept

PATH = "/console/predictions"
Page = Callable[[str], str]


@pytest.fixture
def owner() -> User:
    return factories.make_user()


@pytest.fixture
def organization(owner: User) -> Organization:
    return factories.make_organization(owner=owner)


@pytest.fixture
def page(client: Client, owner: User, organization: Organization) -> Page:
    """Open a page as the owner."""
    client.force_login(owner)

    def read(address: str) -> str:
        answer = client.get(address)
        assert answer.status_code == 200
        return answer.content.decode()

    return read


def test_without_predictions_the_page_says_what_comes_here(page: Page) -> None:
    assert "No stored predictions" in page(PATH)


def test_the_list_shows_and_filters(page: Page, accept: Accept) -> None:
    done = accept()
    running.run_next("w1")
    waiting = accept()

    assert f"{PATH}/{done.pk}" in page(PATH)
    only = page(f"{PATH}?status=queued")
    assert f"{PATH}/{waiting.pk}" in only
    assert f"{PATH}/{done.pk}" not in only
    assert "No prediction fits" in page(f"{PATH}?model=no/such")
    assert "No prediction fits" in page(f"{PATH}?model=%00:x&before=x")


def test_the_list_is_read_in_pages(
    page: Page, accept: Accept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accounts.lists.PAGE_SIZE", 2)
    rows = [accept() for _ in range(3)]

    first = page(PATH)

    assert str(rows[0].pk) not in first
    assert f"before={rows[1].hold_id}" in first
    assert str(rows[0].pk) in page(f"{PATH}?before={rows[1].hold_id}")


def test_a_waiting_prediction_is_live_and_can_be_canceled(
    client: Client, page: Page, accept: Accept
) -> None:
    prediction = accept()
    shown = page(f"{PATH}/{prediction.pk}")
    assert f'data-events="{PATH}/{prediction.pk}/events"' in shown
    assert "data-ended" not in page(f"{PATH}/{prediction.pk}/live")

    answer = client.post(f"{PATH}/{prediction.pk}/cancel")

    assert answer.headers["Location"] == f"{PATH}/{prediction.pk}"
    shown = page(f"{PATH}/{prediction.pk}")
    assert "It was canceled." in shown
    assert "/cancel" not in shown
    assert "data-ended" in page(f"{PATH}/{prediction.pk}/live")


def test_a_finished_prediction_shows_its_output_and_receipt(page: Page, accept: Accept) -> None:
    prediction = accept(digit=7)
    running.run_next("w1")

    shown = page(f"{PATH}/{prediction.pk}")

    assert "&quot;label&quot;: &quot;7&quot;" in shown
    assert f"/console/usage/{prediction.hold_id}" in shown or str(prediction.hold_id) in shown
    assert "data-live" not in shown


def test_another_tenants_prediction_does_not_exist(
    client: Client, page: Page, accept: Accept
) -> None:
    prediction = accept(organization=factories.make_organization())

    assert str(prediction.pk) not in page(PATH)
    for part in ["", "/live", "/events"]:
        assert client.get(f"{PATH}/{prediction.pk}{part}").status_code == 404
    assert client.post(f"{PATH}/{prediction.pk}/cancel").status_code == 404
    assert Prediction.objects.get().status == "queued"


def test_a_viewer_cannot_cancel(client: Client, page: Page, accept: Accept, owner: User) -> None:
    prediction = accept()
    Membership.objects.filter(user=owner).update(role=Membership.Role.VIEWER)

    assert "/cancel" not in page(f"{PATH}/{prediction.pk}")
    assert client.post(f"{PATH}/{prediction.pk}/cancel").status_code == 403


def test_an_operator_cancels_with_a_reason(client: Client, accept: Accept) -> None:
    prediction = accept(value={"image": factories.image(4)})
    client.force_login(User.objects.create_superuser("operator@example.com"))
    address = f"/admin/inference/prediction/{prediction.pk}"

    assert "0.0" not in client.get(f"{address}/change/").content.decode().split("<main")[-1]
    assert client.get(f"{address}/cancel/").status_code == 200
    assert Prediction.objects.get().status == "queued"
    client.post(f"{address}/cancel/", {"reason": "stuck", "submission": str(uuid4())})

    assert Prediction.objects.get().status == "canceled"
    assert AuditEntry.objects.filter(action="prediction.canceled", reason="stuck").exists()
