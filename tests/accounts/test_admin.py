from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from accounts import keys
from accounts.models import ApiKey, AuditEntry, User
from tests.maas_site.rows import make_organization

pytestmark = pytest.mark.django_db
SUBMISSION = "018f2f5e-0000-7000-8000-000000000000"


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


@pytest.fixture
def key() -> ApiKey:
    return keys.issue(make_organization(), "laptop")[0]


def test_a_key_is_revoked_for_a_reason(client: Client, operator: User, key: ApiKey) -> None:
    address = reverse("admin:accounts_apikey_revoke", args=[key.pk])

    answer = client.post(address, {"reason": "Leaked", "submission": SUBMISSION})

    assert answer.status_code == 302
    key.refresh_from_db()
    assert key.revoked_at is not None
    entry = AuditEntry.objects.get(action="key.revoked")
    assert (entry.actor, entry.reason) == (operator, "Leaked")


def test_a_key_is_not_revoked_by_opening_the_form(
    client: Client, operator: User, key: ApiKey
) -> None:
    client.get(reverse("admin:accounts_apikey_revoke", args=[key.pk]))

    key.refresh_from_db()
    assert key.revoked_at is None


def test_a_key_s_hash_is_not_shown(client: Client, operator: User, key: ApiKey) -> None:
    for address in ("/admin/accounts/apikey/", f"/admin/accounts/apikey/{key.pk}/change/"):
        assert key.digest not in client.get(address).content.decode()


def test_changing_a_person_is_written_down(client: Client, operator: User) -> None:
    person = User.objects.create_user("person@example.com")
    form = {
        "email": person.email,
        "name": "Ada",
        "memberships-TOTAL_FORMS": "0",
        "memberships-INITIAL_FORMS": "0",
    }

    answer = client.post(f"/admin/accounts/user/{person.pk}/change/", form)

    assert answer.status_code == 302
    person.refresh_from_db()
    assert (person.name, person.is_active) == ("Ada", False)
    entry = AuditEntry.objects.get(action="user.changed")
    assert entry.actor == operator
    assert set(entry.details["fields"]) == {"name", "is_active"}


def test_staff_cannot_raise_their_own_rights(client: Client) -> None:
    staff = User.objects.create_user("staff@example.com", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(content_type__app_label="accounts"))
    client.force_login(staff)
    person = User.objects.create_user("person@example.com")
    form = {
        "email": person.email,
        "is_active": "on",
        "is_staff": "on",
        "is_superuser": "on",
        "memberships-TOTAL_FORMS": "0",
        "memberships-INITIAL_FORMS": "0",
    }

    own = client.post(f"/admin/accounts/user/{staff.pk}/change/", form)
    other = client.post(f"/admin/accounts/user/{person.pk}/change/", form)

    assert own.status_code == 403
    assert other.status_code == 302
    person.refresh_from_db()
    assert not person.is_staff
    assert not person.is_superuser


def test_staff_cannot_set_the_password_of_an_operator(client: Client, operator: User) -> None:
    staff = User.objects.create_user("staff@example.com", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(content_type__app_label="accounts"))
    client.force_login(staff)
    form = {"password1": "a-new-pass-word", "password2": "a-new-pass-word"}

    answer = client.post(f"/admin/accounts/user/{operator.pk}/password/", form)

    assert answer.status_code == 403
    operator.refresh_from_db()
    assert not operator.check_password("a-new-pass-word")


def test_a_password_set_by_an_operator_is_written_down(client: Client, operator: User) -> None:
    person = User.objects.create_user("person@example.com")
    form = {
        "password1": "a-new-pass-word",
        "password2": "a-new-pass-word",
        "usable_password": "true",
    }

    answer = client.post(f"/admin/accounts/user/{person.pk}/password/", form)

    assert answer.status_code == 302
    person.refresh_from_db()
    assert person.check_password("a-new-pass-word")
    assert AuditEntry.objects.get(action="user.password_set").object_label == f"user {person}"
