"""Stored predictions in the API: one's own, filtered, a page at a time, canceled."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import Organization
from inference.asynchronous import running
from inference.models import Prediction
from tests import factories
from tests.inference.asynchronous.conftest import Accept

PATH = "/v1/predictions"


def client_of(organization: Organization, **fields: Any) -> APIClient:
    _, secret = factories.make_key(organization, **fields)
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")


@pytest.fixture
def api(organization: Organization) -> APIClient:
    return client_of(organization)


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.json()
    return [one["id"] for one in answer.json()["data"]]


def test_the_list_is_newest_first_and_without_inputs(accept: Accept, api: APIClient) -> None:
    rows = [str(accept().pk) for _ in range(3)]

    first = api.get(f"{PATH}?limit=2")
    rest = api.get(f"{PATH}?limit=2&cursor={first.json()['next_cursor']}")

    assert ids(first) + ids(rest) == rows[::-1]
    assert first.json()["has_more"]
    assert "input" not in first.json()["data"][0]


def test_the_list_is_filtered_by_status_and_model(accept: Accept, api: APIClient) -> None:
    other = factories.make_version()
    done = str(accept().pk)
    running.run_next("w1")
    waiting = str(accept(version=other).pk)

    assert ids(api.get(f"{PATH}?status=queued")) == [waiting]
    assert ids(api.get(f"{PATH}?status=succeeded")) == [done]
    assert ids(api.get(f"{PATH}?model={other.model.path}")) == [waiting]
    assert ids(api.get(f"{PATH}?model={other.path}")) == [waiting]
    assert ids(api.get(f"{PATH}?model={other.model.path}:7")) == []
    assert ids(api.get(f"{PATH}?model=x/y:z")) == []


@pytest.mark.parametrize("query", ["status=lost", "colour=red", "limit=0", "cursor=%00"])
def test_what_a_list_does_not_know_is_refused(api: APIClient, query: str) -> None:
    assert api.get(f"{PATH}?{query}").status_code == 400


def test_the_list_takes_as_many_queries_for_one_as_for_nine(
    accept: Accept, api: APIClient, django_assert_max_num_queries: Any
) -> None:
    for _ in range(9):
        accept()
    with django_assert_max_num_queries(6):
        assert len(ids(api.get(PATH))) == 9


def test_another_tenants_prediction_does_not_exist(accept: Accept) -> None:
    prediction = accept()
    stranger = client_of(factories.make_organization())

    answers = [
        stranger.get(f"{PATH}/{prediction.pk}"),
        stranger.get(f"{PATH}/{prediction.pk}/events"),
        stranger.post(f"{PATH}/{prediction.pk}/cancel", {}, format="json"),
    ]

    assert {one.status_code for one in answers} == {404}
    assert ids(stranger.get(PATH)) == []
    assert Prediction.objects.get().status == "queued"


def test_canceling_twice_is_fine(accept: Accept, api: APIClient) -> None:
    prediction = accept()

    answers = [api.post(f"{PATH}/{prediction.pk}/cancel", {}, format="json") for _ in range(2)]

    assert [one.status_code for one in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["status"] == "canceled"


def test_what_has_ended_is_not_canceled(accept: Accept, api: APIClient) -> None:
    prediction = accept()
    running.run_next("w1")

    answer = api.post(f"{PATH}/{prediction.pk}/cancel", {}, format="json")

    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")


def test_a_synchronous_run_is_not_canceled(accept: Accept, api: APIClient) -> None:
    prediction = accept()
    Prediction.objects.update(is_async=False, status="processing", turn=None)

    answer = api.post(f"{PATH}/{prediction.pk}/cancel", {}, format="json")

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_cancelable")


def test_a_cancel_takes_no_fields(accept: Accept, api: APIClient) -> None:
    answer = api.post(f"{PATH}/{accept().pk}/cancel", {"why": "x"}, format="json")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "why")


def test_a_key_needs_the_scope(accept: Accept, organization: Organization) -> None:
    prediction = accept()
    reader = client_of(organization, scopes=["read"])
    runner = client_of(organization, scopes=["predict"])

    assert reader.get(f"{PATH}/{prediction.pk}").status_code == 200
    assert runner.get(f"{PATH}/{prediction.pk}").status_code == 403
    denied = reader.post(f"{PATH}/{prediction.pk}/cancel", {}, format="json")
    assert denied.status_code == 403
