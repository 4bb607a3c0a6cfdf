"""Prices through the API: history for all, proposals for publishers."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import Organization, User
from billing.models import UsageEvent
from catalog.models import ModelVersion, PriceChange, PriceVersion
from tests import factories
from tests.billing.test_price_changes import use
from tests.training.conftest import keyed

pytestmark = pytest.mark.usefixtures("books")


@pytest.fixture
def maker(db: None) -> User:
    return factories.make_user("maker@example.com")


@pytest.fixture
def publisher(maker: User) -> Organization:
    return factories.make_organization(owner=maker)


@pytest.fixture
def version(publisher: Organization) -> ModelVersion:
    return factories.make_version(owner=publisher)


@pytest.fixture
def client(publisher: Organization, maker: User) -> APIClient:
    return keyed(publisher, created_by=maker)


@pytest.fixture
def path(version: ModelVersion) -> str:
    return f"/v1/models/{version.model.path}/prices"


def body(amount: str, **fields: Any) -> dict[str, Any]:
    return {"components": [{"dimension": "row", "amount": amount}], **fields}


def test_a_publisher_lowers_a_price(
    client: APIClient, path: str, version: ModelVersion, maker: User
) -> None:
    answer = client.post(path, body("0.00001", reason="Sale", minimum="0.000002"), format="json")

    assert answer.status_code == 201
    change = answer.json()
    assert (change["object"], change["status"]) == ("price_change", "approved")
    assert change["price"]["components"] == [
        {"dimension": "row", "from": 0, "amount": "0.00001", "per": 1}
    ]
    assert change["price"]["minimum"] == "0.000002"
    assert PriceChange.objects.get().proposed_by == maker
    listed = client.get(path).json()["data"]
    assert [each["version"] for each in listed] == [
        each.pk for each in PriceVersion.objects.filter(model=version.model).order_by("-pk")
    ]


def test_a_dearer_price_waits_and_says_what_it_would_have_cost(
    client: APIClient, path: str, version: ModelVersion
) -> None:
    use(factories.make_organization(), version, rows=10)

    change = client.post(path, body("0.00004"), format="json").json()

    assert (change["status"], change["price"]) == ("proposed", None)
    preview = change["preview"]
    assert (preview["calls"], preview["tenants"]) == (1, 1)
    assert (preview["old"], preview["new"]) == ("0.0002", "0.0004")
    assert preview["complete"] is True
    (listed,) = client.get(f"{path}/changes").json()["data"]
    assert listed["id"] == change["id"]
    assert UsageEvent.objects.get().cost_nanos == 200_000


def test_a_preview_asks_for_nothing(client: APIClient, path: str, version: ModelVersion) -> None:
    use(factories.make_organization(), version, rows=10)

    change = client.post(path, body("0.00001", preview_only=True), format="json").json()

    assert (change["id"], change["status"]) == (None, None)
    assert change["preview"]["new"] == "0.0001"
    assert not PriceChange.objects.exists()


def test_tiers_are_sent_as_components(client: APIClient, path: str) -> None:
    tiers = [
        {"dimension": "row", "amount": "0.00001", "from": 1000},
        {"dimension": "row", "amount": "0.02", "per": 1000},
    ]

    change = client.post(path, {"components": tiers}, format="json").json()

    assert change["components"] == [
        {"dimension": "row", "from": 0, "amount": "0.02", "per": 1000},
        {"dimension": "row", "from": 1000, "amount": "0.00001", "per": 1},
    ]


def test_only_the_publisher_asks_for_a_price(path: str, version: ModelVersion) -> None:
    stranger = keyed(factories.make_organization())

    answer = stranger.post(path, body("0.00001"), format="json")

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")
    assert stranger.get(f"{path}/changes").status_code == 403
    assert stranger.get(path).status_code == 200


def test_a_private_model_of_others_is_not_there(publisher: Organization) -> None:
    hidden = factories.make_version(owner=publisher, is_public=False)
    stranger = keyed(factories.make_organization())

    for answer in (
        stranger.get(f"/v1/models/{hidden.model.path}/prices"),
        stranger.post(f"/v1/models/{hidden.model.path}/prices", body("0.1"), format="json"),
    ):
        assert answer.status_code == 404


def test_a_key_that_may_only_read_asks_for_no_price(publisher: Organization, path: str) -> None:
    reader = keyed(publisher, scopes=["read"])

    assert reader.post(path, body("0.1"), format="json").status_code == 403
    assert reader.get(path).status_code == 200


def test_the_same_key_asks_once(client: APIClient, path: str) -> None:
    for _ in range(2):
        client.post(path, body("0.00001"), format="json", headers={"Idempotency-Key": "one"})

    assert PriceChange.objects.count() == 1


@pytest.mark.parametrize(
    ("wrong", "code", "param"),
    [
        ({}, "invalid_request", "components"),
        ({"components": []}, "invalid_request", "components"),
        ({"components": [1]}, "invalid_request", "components"),
        ({"components": [{"dimension": "row", "amount": 1}]}, "invalid_request", "components"),
        ({"components": [{"dimension": "row", "amount": "-1"}]}, "invalid_request", "components"),
        ({"components": [{"dimension": "row"}]}, "invalid_request", "components"),
        (
            {"components": [{"dimension": "row", "amount": "1", "per": 0}]},
            "invalid_request",
            "per",
        ),
        ({"components": [{"dimension": "gold", "amount": "1"}]}, "invalid_price", "components"),
        (
            {"components": [{"dimension": "row", "amount": "1", "from": 5}]},
            "invalid_price",
            "components",
        ),
        (body("1", minimum="x"), "invalid_request", "minimum"),
        (body("1", effective_from="tomorrow"), "invalid_request", "effective_from"),
        (body("1", effective_from="2026-12-01T00:00:00"), "invalid_request", "effective_from"),
        (body("1", gold=1), "unknown_field", "gold"),
    ],
)
def test_what_is_wrong_is_named(
    client: APIClient, path: str, wrong: Any, code: str, param: str
) -> None:
    answer = client.post(path, wrong, format="json")

    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
    assert not PriceChange.objects.exists()
