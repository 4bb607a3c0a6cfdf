"""GET /v1/keys: what an organization's keys are, may and have done, and no secret."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import keys, limits
from accounts.models import Organization
from billing import budgets
from billing.money import NANOS
from tests import factories

PATH = "/v1/keys"


@pytest.fixture
def secret(organization: Organization) -> str:
    return factories.make_key(organization, name="reader", scopes=["read"])[1]


@pytest.fixture
def api(secret: str) -> APIClient:
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")


def test_a_key_is_shown_with_what_it_may_and_without_its_secret(
    api: APIClient, organization: Organization, secret: str
) -> None:
    ends = datetime(2031, 5, 1, tzinfo=UTC)
    key, other = keys.issue(organization, "nightly", scopes=["predict"], expires_at=ends)
    budgets.set_limit(organization, "month", 5 * NANOS, api_key=key)
    budgets.set_limit(organization, "day", 1000, unit="calls", api_key=key)
    limits.set_of_key(key, {limits.Unit.ROWS: 60})

    answer = api.get(PATH)

    shown, reader = answer.json()["data"]
    assert shown == {
        "id": key.pk,
        "object": "api_key",
        "name": "nightly",
        "prefix": other[:12],
        "last4": other[-4:],
        "scopes": ["predict"],
        "status": "active",
        "caps": [
            {"window": "month", "unit": "money", "limit": "5"},
            {"window": "day", "unit": "calls", "limit": "1000"},
        ],
        "limits": {"rows": 60},
        "created_at": shown["created_at"],
        "last_used_at": None,
        "expires_at": "2031-05-01T00:00:00+00:00",
        "revoked_at": None,
    }
    assert reader["name"] == "reader"
    assert reader["last_used_at"] is not None
    text = answer.content.decode()
    for hidden in (secret, other, key.digest, keys.digest(secret)):
        assert hidden not in text


def test_keys_that_are_not_accepted_say_why(api: APIClient, organization: Organization) -> None:
    keys.issue(organization, "old", expires_at=timezone.now() - timedelta(days=1))
    gone, _ = keys.issue(organization, "gone")
    keys.revoke(gone, actor=None)

    found = {one["name"]: one["status"] for one in api.get(PATH).json()["data"]}

    assert found == {"reader": "active", "old": "expired", "gone": "revoked"}


def test_keys_of_others_are_not_listed_and_reading_needs_its_scope(
    api: APIClient, organization: Organization
) -> None:
    factories.make_key(factories.make_organization(), name="theirs")
    _, runner = factories.make_key(organization, name="runner", scopes=["predict"])

    assert [one["name"] for one in api.get(PATH).json()["data"]] == ["runner", "reader"]
    assert APIClient(HTTP_AUTHORIZATION=f"Bearer {runner}").get(PATH).status_code == 403
    assert APIClient().get(PATH).status_code == 401


def test_keys_are_read_in_pages_with_as_many_queries_for_one_as_for_many(
    api: APIClient,
    organization: Organization,
    count_queries: Callable[[Callable[[], object]], int],
) -> None:
    def read(cursor: str = "") -> Any:
        return api.get(f"{PATH}?limit=4&cursor={cursor}").json()

    read()
    few = count_queries(read)
    for number in range(5):
        key, _ = factories.make_key(organization, name=f"key {number}")
        budgets.set_limit(organization, "month", NANOS, api_key=key)

    assert count_queries(read) == few
    first = read()
    rest = read(first["next_cursor"])
    assert [len(first["data"]), len(rest["data"]), rest["has_more"]] == [4, 2, False]
