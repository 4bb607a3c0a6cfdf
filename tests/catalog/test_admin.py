from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import AuditEntry, User
from catalog.models import ModelVersion
from tests.maas_site.rows import make_organization, make_version

pytestmark = pytest.mark.django_db
FORM = {"reason": "Reads sevens as ones", "submission": "018f2f5e-0000-7000-8000-000000000000"}


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


@pytest.mark.parametrize(
    ("deed", "before", "after"),
    [("publish", "draft", "published"), ("withdraw", "published", "withdrawn")],
)
def test_a_version_is_published_and_withdrawn_for_a_reason(
    client: Client, operator: User, deed: str, before: str, after: str
) -> None:
    version = make_version(make_organization(), status=before)
    address = reverse(f"admin:catalog_modelversion_{deed}", args=[version.pk])

    answer = client.post(address, FORM)

    assert answer.status_code == 302
    assert ModelVersion.objects.get(pk=version.pk).status == after
    entry = AuditEntry.objects.get(action=f"version.{after}")
    assert (entry.actor, entry.reason) == (operator, FORM["reason"])
    assert entry.organization == version.model.owner


def test_opening_the_form_withdraws_nothing(client: Client, operator: User) -> None:
    version = make_version(make_organization())

    client.get(reverse("admin:catalog_modelversion_withdraw", args=[version.pk]))

    assert ModelVersion.objects.get(pk=version.pk).status == "published"


@pytest.mark.parametrize(
    ("status", "offered", "useless"),
    [("draft", "publish", "withdraw"), ("published", "withdraw", "publish")],
)
def test_only_the_button_that_changes_something_is_offered(
    client: Client, operator: User, status: str, offered: str, useless: str
) -> None:
    version = make_version(make_organization(), status=status)

    page = client.get(f"/admin/catalog/modelversion/{version.pk}/change/").content.decode()

    assert f"/{version.pk}/{offered}/" in page
    assert f"/{version.pk}/{useless}/" not in page


def test_a_version_s_numbers_are_shown_and_its_matrices_are_not(
    client: Client, operator: User
) -> None:
    version = make_version(make_organization())
    spec = {"name": "image", "datatype": "float32", "shape": [28, 28]}
    version.signature = {"inputs": [spec], "outputs": []}
    version.metrics = {"accuracy": "0.9778", "confusion": [[4711]]}
    version.save()

    page = client.get(f"/admin/catalog/modelversion/{version.pk}/change/").content.decode()

    assert "image: float32 [28, 28]" in page
    assert "accuracy 0.9778" in page
    assert "4711" not in page
