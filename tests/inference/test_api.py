"""GET /v1/models, /v1/usage, /v1/balance: what a key may read."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.models import Organization
from tests import factories


@pytest.fixture
def get(organization: Organization) -> Any:
    _, secret = factories.make_key(organization)
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    return client.get


def test_models_are_listed_with_their_price(get: Any) -> None:
    version = factories.make_version()

    answer = get("/v1/models").json()

    assert [item["id"] for item in answer["data"]] == [version.model.path]
    item = answer["data"][0]
    assert item["price"]["components"] == [
        {"dimension": "row", "from": 0, "amount": "0.00002", "per": 1}
    ]
    assert (item["version"]["id"], item["version"]["latency_us"]) == (version.path, 90)
    assert item["version"]["runtimes"] == [
        {
            "name": "onnx",
            "serves": True,
            "p50_us": 90,
            "rows_per_second": None,
            "difference": None,
        }
    ]
    one = get(f"/v1/models/{version.model.path}").json()
    # No worker is known here: nobody says that it must be loaded first.
    assert one.pop("serving") == {"state": "ready", "ready_in_seconds": 0.0}
    assert one == item


def test_models_are_paged(get: Any) -> None:
    paths = [factories.make_version().model.path for _ in range(5)]

    first = get("/v1/models?limit=3").json()
    second = get(f"/v1/models?limit=3&cursor={first['next_cursor']}").json()

    assert [item["id"] for item in first["data"] + second["data"]] == paths
    assert (first["has_more"], second["has_more"], second["next_cursor"]) == (True, False, None)


def test_the_number_of_queries_does_not_grow_with_the_list(
    get: Any, django_assert_max_num_queries: Any
) -> None:
    for _ in range(12):
        factories.make_version()

    with django_assert_max_num_queries(8):
        assert len(get("/v1/models?limit=100").json()["data"]) == 12


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("cursor=!!", "cursor"),
        ("cursor=YWJj", "cursor"),
        ("colour=red", "colour"),
    ],
)
def test_a_bad_parameter_is_named(get: Any, query: str, param: str) -> None:
    response = get(f"/v1/models?{query}")

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_private_model_is_shown_to_its_owner_only(get: Any, organization: Organization) -> None:
    own = factories.make_version(owner=organization, is_public=False)
    other = factories.make_version(is_public=False)

    assert [item["id"] for item in get("/v1/models").json()["data"]] == [own.model.path]
    assert get(f"/v1/models/{other.model.path}").status_code == 404


def test_the_balance_is_written_in_decimal_strings(get: Any) -> None:
    answer = get("/v1/balance").json()

    assert (answer["currency"], answer["available"], answer["held"]) == ("usd", "5", "0")
    assert answer["limits"] == [
        {"window": "month", "unit": "money", "amount": "100", "available": "100"}
    ]


def test_usage_of_nobody_else_is_listed(get: Any) -> None:
    assert get("/v1/usage").json() == {
        "object": "list",
        "data": [],
        "has_more": False,
        "next_cursor": None,
    }


@pytest.mark.parametrize("path", ["/v1/models", "/v1/balance", "/v1/usage"])
def test_without_a_key_nothing_is_read(db: None, path: str) -> None:
    response = Client().get(path)

    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")


def test_the_api_description_names_the_hot_paths(db: None) -> None:
    described = Client().get("/openapi.json").json()

    assert {
        "/v1/predictions",
        "/v1/models",
        "/v1/balance",
        "/v1/usage",
        "/v2",
        "/v2/models/{owner}.{name}/infer",
    } <= set(described["paths"])
    assert all(path.startswith(("/v1/", "/v2")) for path in described["paths"])
