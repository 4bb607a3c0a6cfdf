"""The pages of keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import ApiKey, Organization
from billing import budgets
from billing.models import SpendLimit
from tests.factories import make_key, make_organization

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("books")]


def make_key_by_form(client: Client, **fields: Any) -> Any:
    return client.post("/console/keys/new", {"name": "ci", "scopes": ["predict"], **fields})


def test_a_new_key_shows_its_secret_once_and_nowhere_again(
    client: Client, page: Callable[[str], str]
) -> None:
    answer = make_key_by_form(client)

    key = ApiKey.objects.get()
    secret = answer.context["secret"]
    assert secret in answer.content.decode()
    assert answer.headers["Cache-Control"].startswith("max-age=0, no-cache, no-store")
    assert key.scopes == ["predict"]
    for address in ["/console/keys", f"/console/keys/{key.pk}"]:
        assert secret not in page(address)
        assert f"…{key.last4}" in page(address)


def test_a_key_is_made_with_its_monthly_limit_and_expiry(
    client: Client, page: Callable[[str], str]
) -> None:
    make_key_by_form(client, monthly_limit="2.50", expires="30")

    key = ApiKey.objects.get()
    limit = SpendLimit.objects.get(api_key=key)
    assert (limit.window, limit.amount) == ("month", 2_500_000_000)
    assert key.expires_at is not None
    assert timedelta(days=29) < key.expires_at - timezone.now() <= timedelta(days=30)
    assert "/ $2.50" in page("/console/keys")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"monthly_limit": "much"},
        {"monthly_limit": "-1"},
        {"monthly_limit": "0.0000000001"},
    ],
)
def test_a_key_with_a_wrong_field_is_not_made(
    client: Client, page: Callable[[str], str], fields: dict[str, Any]
) -> None:
    answer = make_key_by_form(client, **fields)

    assert answer.status_code == 422
    assert "field-error" in answer.content.decode()
    assert not ApiKey.objects.exists()


def test_a_key_is_revoked_on_its_own_page_without_javascript(
    client: Client, page: Callable[[str], str], organization: Organization
) -> None:
    key, _secret = make_key(organization)
    assert f'action="/console/keys/{key.pk}/revoke"' in page(f"/console/keys/{key.pk}")

    answer = client.post(f"/console/keys/{key.pk}/revoke")

    assert answer.headers["Location"] == "/console/keys"
    key.refresh_from_db()
    assert not key.is_usable


def test_another_tenants_key_does_not_exist(client: Client, page: Callable[[str], str]) -> None:
    key, _secret = make_key(make_organization())

    assert client.get(f"/console/keys/{key.pk}").status_code == 404
    assert client.post(f"/console/keys/{key.pk}/revoke").status_code == 404
    assert key.name not in page("/console/keys")
    key.refresh_from_db()
    assert key.is_usable


def test_a_viewer_looks_but_makes_and_revokes_nothing(
    viewer: Client, organization: Organization
) -> None:
    key, _secret = make_key(organization)

    assert viewer.get("/console/keys").status_code == 200
    assert make_key_by_form(viewer).status_code == 403
    assert viewer.post(f"/console/keys/{key.pk}/revoke").status_code == 403
    assert viewer.post("/console/balance/limit", {"amount": "1"}).status_code == 403
    assert ApiKey.objects.usable().count() == 1


def test_the_list_of_keys_takes_as_many_queries_for_one_as_for_ten(
    client: Client, page: Callable[[str], str], organization: Organization, count_queries: Any
) -> None:
    make_key(organization)
    for_one = count_queries(lambda: page("/console/keys"))
    for _ in range(9):
        key, _secret = make_key(organization)
        budgets.set_limit(organization, "month", 1, api_key=key)

    assert count_queries(lambda: page("/console/keys")) == for_one <= 12
