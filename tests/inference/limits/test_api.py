"""GET, PUT and DELETE /v1/limits, trainings per minute, and reads."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import Client

from accounts import keys, limits
from accounts.errors import InvalidRequestError
from accounts.limits import Unit
from accounts.models import ApiKey, AuditEntry, Organization
from catalog import prices
from tests import factories
from tests.training.conftest import COMPUTE_PRICE
from training import doorbell

PATH = "/v1/limits"


@pytest.fixture
def key(organization: Organization) -> ApiKey:
    return factories.make_key(organization, name="laptop")[0]


@pytest.fixture
def client(organization: Organization) -> Client:
    _, secret = factories.make_key(organization, scopes=["read", "train", "billing"])
    return Client(headers={"Authorization": f"Bearer {secret}"})


def put(client: Client, **body: Any) -> Any:
    return client.put(PATH, body, content_type="application/json")


def test_without_limits_there_is_nothing_to_list(client: Client) -> None:
    assert client.get(PATH).json()["data"] == []
    assert "RateLimit" not in client.get(PATH).headers


def test_a_limit_of_a_key_is_set_listed_and_removed(
    client: Client, key: ApiKey, organization: Organization
) -> None:
    limits.set_of_organization(organization, {Unit.ROWS: 500}, actor=None, reason="test")

    answer = put(client, key=key.pk, unit="requests", limit=60)

    assert answer.json() == {
        "object": "limit",
        "name": "key-requests",
        "key": {"id": key.pk, "name": "laptop"},
        "unit": "requests",
        "limit": 60,
        "window_seconds": 60,
        "used": 0,
        "left": 60,
        "opens_in": None,
    }
    listed = client.get(f"{PATH}?key={key.pk}").json()["data"]
    assert [each["name"] for each in listed] == ["key-requests", "organization-rows"]
    assert client.delete(f"{PATH}?key={key.pk}&unit=requests").status_code == 204
    assert client.delete(f"{PATH}?key={key.pk}&unit=requests").status_code == 204
    listed = client.get(f"{PATH}?key={key.pk}").json()["data"]
    assert [each["name"] for each in listed] == ["organization-rows"]
    actions = AuditEntry.objects.filter(action="rate_limit.set").order_by("pk")
    assert [each.details for each in actions] == [
        {"rows_per_minute": 500},
        {"requests_per_minute": 60},
        {"requests_per_minute": None},
    ]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"unit": "requests", "limit": 1}, "invalid_request", "key"),
        ({"key": True, "unit": "requests", "limit": 1}, "invalid_request", "key"),
        ({"key": 2**60, "unit": "requests", "limit": 1}, "invalid_request", "key"),
        ({"key": "mine", "unit": "requests", "limit": 1}, "invalid_request", "key"),
        ({"unit": "tokens", "limit": 1}, "invalid_request", "unit"),
        ({"unit": "requests"}, "invalid_request", "limit"),
        ({"unit": "requests", "limit": 0}, "invalid_request", "limit"),
        ({"unit": "requests", "limit": 1.5}, "invalid_request", "limit"),
        ({"unit": "requests", "limit": 10**9 + 1}, "invalid_request", "limit"),
        ({"unit": "requests", "limit": 1, "burst": 5}, "unknown_field", "burst"),
    ],
)
def test_a_bad_limit_is_named(client: Client, body: dict[str, Any], code: str, param: str) -> None:
    error = put(client, **body)

    assert (error.status_code, error.json()["error"]["code"]) == (400, code)
    assert error.json()["error"]["param"] == param


def test_a_key_stays_below_its_organization(
    client: Client, key: ApiKey, organization: Organization
) -> None:
    limits.set_of_organization(organization, {Unit.REQUESTS: 100}, actor=None, reason="test")

    assert put(client, key=key.pk, unit="requests", limit=101).status_code == 400
    assert put(client, key=key.pk, unit="requests", limit=100).status_code == 200


def test_another_tenants_key_and_a_key_without_the_scope_set_nothing(
    client: Client, organization: Organization
) -> None:
    others, _ = factories.make_key(factories.make_organization())
    _, reader = factories.make_key(organization)

    assert put(client, key=others.pk, unit="rows", limit=5).status_code == 404
    assert client.get(f"{PATH}?key={others.pk}").status_code == 404
    mine = Client(headers={"Authorization": f"Bearer {reader}"})
    assert put(mine, key=others.pk, unit="rows", limit=5).status_code == 403
    others.refresh_from_db()
    assert others.rows_per_minute is None


def test_the_sites_limit_binds_who_has_none_and_an_operator_may_set_another(
    organization: Organization, key: ApiKey, settings: Any
) -> None:
    settings.ORGANIZATION_LIMITS = settings.ORGANIZATION_LIMITS | {"requests": 50}
    assert [each.quota for each in limits.of(organization, key)] == [50]

    limits.set_of_organization(organization, {Unit.REQUESTS: 80}, actor=None, reason="pays more")

    assert [(each.name, each.quota) for each in limits.of(organization, key)] == [
        ("organization-requests", 80)
    ]
    with pytest.raises(InvalidRequestError):
        limits.set_of_organization(organization, {Unit.REQUESTS: 0}, actor=None, reason="no")


def test_trainings_count_as_requests(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell, "ring", lambda pool: True)
    prices.add(sku="training.cpu", components=COMPUTE_PRICE)
    key, secret = factories.make_key(organization)
    limits.set_of_key(key, {Unit.REQUESTS: 2, Unit.CONCURRENCY: 1})
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    body = {"recipe": "linear-regression", "hyperparameters": {"epochs": 2}}

    answers = [
        client.post("/v1/trainings", body, content_type="application/json") for _ in range(3)
    ]

    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert answers[1]["RateLimit"].startswith('"key-requests";r=0;t=')
    assert "wallet" in answers[1]["Mercato-Budget"]
    assert answers[2].json()["error"]["code"] == "rate_limited"
    assert int(answers[2]["Retry-After"]) > 1


def test_a_key_that_reads_without_end_is_slowed_down(client: Client, settings: Any) -> None:
    settings.READS_PER_MINUTE = 3

    answers = [client.get("/v1/balance") for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert "reads-requests" in answers[3].json()["error"]["message"]


def test_a_changed_limit_reaches_a_process_that_knows_the_key(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, secret = factories.make_key(organization)
    assert keys.authenticate(secret).limits == ()
    limits.set_of_key(key, {Unit.ROWS: 7})

    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + keys.CACHE_SECONDS + 0.1)

    assert [each.quota for each in keys.authenticate(secret).limits] == [7]
