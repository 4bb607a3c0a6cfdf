"""Limits on the pages of keys and in the operator console."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from accounts import limits
from accounts.limits import Unit
from accounts.models import ApiKey, AuditEntry, Membership, Organization, User
from inference import limits as counting
from inference.models import LimiterOutage
from tests.factories import make_key, make_organization, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner() -> User:
    return make_user()


@pytest.fixture
def organization(owner: User) -> Organization:
    return make_organization(owner=owner)


@pytest.fixture
def key(organization: Organization) -> ApiKey:
    return make_key(organization)[0]


@pytest.fixture
def signed_in(client: Client, owner: User) -> Client:
    client.force_login(owner)
    return client


def test_a_keys_page_shows_its_limits_with_their_use(
    signed_in: Client, organization: Organization, key: ApiKey
) -> None:
    limits.set_of_key(key, {Unit.REQUESTS: 60})
    limits.set_of_organization(organization, {Unit.ROWS: 900}, actor=None, reason="test")
    counting.count(limits.of(organization, key))

    for address in ("", "/limits", "/limits/live"):
        text = signed_in.get(f"/console/keys/{key.pk}{address}").content.decode()
        assert "1 of 60" in text
        assert "0 of 900" in text
    assert "0 of 900" in signed_in.get("/console/keys").content.decode()


def test_limits_of_a_key_are_set_and_taken_away(signed_in: Client, key: ApiKey) -> None:
    address = f"/console/keys/{key.pk}/limits/set"

    answer = signed_in.post(address, {"requests_per_minute": "60", "concurrent_requests": "4"})

    assert answer["Location"] == f"/console/keys/{key.pk}"
    key.refresh_from_db()
    assert (key.requests_per_minute, key.rows_per_minute, key.concurrent_requests) == (60, None, 4)
    signed_in.post(address, {"requests_per_minute": "", "concurrent_requests": "4"})
    key.refresh_from_db()
    assert (key.requests_per_minute, key.concurrent_requests) == (None, 4)


@pytest.mark.parametrize("value", ["0", "-1", "much", "1.5", "9999999999"])
def test_a_wrong_limit_is_shown_at_its_field(
    signed_in: Client, key: ApiKey, organization: Organization, value: str
) -> None:
    limits.set_of_organization(organization, {Unit.ROWS: 10}, actor=None, reason="test")

    answer = signed_in.post(f"/console/keys/{key.pk}/limits/set", {"rows_per_minute": value})

    assert answer.status_code == 422
    assert "field-error" in answer.content.decode()
    key.refresh_from_db()
    assert key.rows_per_minute is None


def test_a_new_key_with_a_limit_above_the_organizations_is_not_made(
    signed_in: Client, organization: Organization
) -> None:
    limits.set_of_organization(organization, {Unit.ROWS: 10}, actor=None, reason="test")
    fields: dict[str, Any] = {"name": "ci", "scopes": ["predict"]}

    refused = signed_in.post("/console/keys/new", fields | {"rows_per_minute": "11"})

    assert refused.status_code == 422
    assert not ApiKey.objects.exists()
    signed_in.post("/console/keys/new", fields | {"rows_per_minute": "10"})
    assert ApiKey.objects.get().rows_per_minute == 10


def test_others_and_viewers_change_nothing(
    signed_in: Client, organization: Organization, key: ApiKey
) -> None:
    others, _ = make_key(make_organization())
    for address in ("limits", "limits/live"):
        assert signed_in.get(f"/console/keys/{others.pk}/{address}").status_code == 404
    assert signed_in.post(f"/console/keys/{others.pk}/limits/set").status_code == 404
    viewer = make_user()
    Membership.objects.create(organization=organization, user=viewer, role=Membership.Role.VIEWER)
    signed_in.force_login(viewer)

    assert signed_in.post(f"/console/keys/{key.pk}/limits/set").status_code == 403
    assert "Set the limits" not in signed_in.get(f"/console/keys/{key.pk}/limits").content.decode()


def test_an_operator_sets_an_organizations_limit_for_a_reason(
    admin_client: Client, organization: Organization
) -> None:
    address = f"/admin/accounts/organization/{organization.pk}/set-rate-limit/"
    form = {"unit": "requests", "quota": "300", "submission": str(uuid4())}

    admin_client.post(address, form)
    assert not Organization.objects.filter(requests_per_minute=300).exists(), "it has no reason"
    admin_client.post(address, form | {"reason": "abuse"})

    assert Organization.objects.get(requests_per_minute=300) == organization
    entry = AuditEntry.objects.get(action="rate_limit.set")
    assert (entry.reason, entry.details) == ("abuse", {"requests_per_minute": 300})


def test_operators_see_when_limits_were_not_counted(admin_client: Client) -> None:
    now = timezone.now()
    LimiterOutage.objects.create(
        process="gateway:7", error="ConnectionError", started_at=now, seen_at=now, uncounted=4711
    )

    assert "4711" in admin_client.get("/admin/").content.decode()
    text = admin_client.get("/admin/inference/limiteroutage/").content.decode()
    assert "gateway:7" in text
    assert "Goes on" in text
