from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets, quote
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import User
from tests.maas_site.rows import make_everything

pytestmark = pytest.mark.django_db

MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)
# What an operator may fill in or edit; everything else only the site's own code writes.
FORMS = {"accounts.User", "auth.Group"}
ADDABLE = FORMS | {
    "billing.Adjustment",
    "billing.ChargeRefundRun",
    "billing.RedeemCode",
    "billing.ShareVersion",
    "catalog.PriceVersion",
}


def url_of(model: type[Model], page: str, *args: Any) -> str:
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
    return reverse(name, args=[quote(each) for each in args])


def label_of(model: type[Model]) -> str:
    return model._meta.label


@pytest.fixture
def operator(client: Client) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


@pytest.mark.parametrize("model", MODELS, ids=label_of)
def test_a_list_answers_with_a_flat_number_of_queries(
    model: type[Model], client: Client, operator: User
) -> None:
    make_everything()
    client.get(url_of(model, "changelist"))
    with CaptureQueriesContext(
        connection,
    ) as few:
        assert client.get(url_of(model, "changelist")).status_code == 200
    for _ in range(3):
        make_everything()

    with CaptureQueriesContext(connection) as many:
        assert client.get(url_of(model, "changelist")).status_code == 200

    assert len(many) <= len(few)
    assert len(many) <= 14


@pytest.mark.parametrize("model", MODELS, ids=label_of)
def test_every_row_has_a_page_with_amounts_as_people_write_them(
    model: type[Model], client: Client, operator: User
) -> None:
    make_everything()

    rows = list(model._default_manager.all()[:2])
    assert rows, "nothing of it was made"
    for row in rows:
        answer = client.get(url_of(model, "change", row.pk))
        assert answer.status_code == 200
        forms = [answer.context["adminform"], *answer.context["inline_admin_formsets"]]
        fields = [name for form in forms for name in flatten_fieldsets(form.fieldsets)]
        assert [name for name in fields if name.endswith(("_nanos", "_minor"))] == []


@pytest.mark.parametrize("model", MODELS, ids=label_of)
def test_nothing_is_deleted(model: type[Model], client: Client, operator: User) -> None:
    make_everything()
    before = model._default_manager.count()

    for row in model._default_manager.all()[:1]:
        answer = client.post(url_of(model, "delete", row.pk), {"post": "yes"})
        assert answer.status_code == 403
    chosen = {
        "action": "delete_selected",
        "_selected_action": [row.pk for row in model._default_manager.all()[:1]],
    }
    client.post(url_of(model, "changelist"), chosen)

    assert model._default_manager.count() == before


@pytest.mark.parametrize(
    "model", [model for model in MODELS if label_of(model) not in FORMS], ids=label_of
)
def test_what_was_recorded_cannot_be_changed(
    model: type[Model], client: Client, operator: User
) -> None:
    make_everything()

    for row in model._default_manager.all()[:1]:
        answer = client.post(url_of(model, "change", row.pk), {"amount_nanos": "1"})
        assert answer.status_code == 403
    if label_of(model) not in ADDABLE:
        assert client.get(url_of(model, "add")).status_code == 403
        assert client.post(url_of(model, "add"), {}).status_code == 403


def all_addresses() -> list[str]:
    found = [reverse("admin:index"), reverse("admin:password_change"), reverse("admin:jsi18n")]
    for model in MODELS:
        for pattern in admin.site._registry[model].get_urls():
            name = pattern.name
            if name is not None:
                groups = pattern.pattern.regex.groupindex
                found.append(reverse(f"admin:{name}", args=["1"] * len(groups)))
    return found


def test_strangers_are_sent_to_the_sign_in_page(client: Client) -> None:
    for address in all_addresses():
        answer = client.get(address)

        assert answer.status_code == 302, address
        assert answer["Location"].startswith("/admin/login/"), address
    sign_in = client.get("/admin/login/", {"next": "/admin/"})
    assert sign_in["Location"] == "/accounts/login/?next=%2Fadmin%2F"


def test_people_who_are_not_staff_see_no_page_of_the_console(client: Client) -> None:
    client.force_login(User.objects.create_user("tenant@example.com"))

    for address in all_addresses():
        answer = client.get(address, follow=True)

        assert answer.status_code in {403, 404}, address


def test_staff_without_rights_see_neither_money_nor_menu(client: Client) -> None:
    make_everything()
    client.force_login(User.objects.create_user("new@example.com", is_staff=True))

    page = client.get(reverse("admin:index")).content.decode()

    assert "Charged today" not in page
    assert "Ledger accounts" not in page
    for model in MODELS:
        assert client.get(url_of(model, "changelist")).status_code == 403


def test_the_front_page_shows_what_happens(client: Client, operator: User) -> None:
    make_everything()

    page = client.get(reverse("admin:index")).content.decode()

    assert "$0.00002" in page
    assert "None of: job" in page
    assert re.search(r"mnist-mlp, lab-\d+", page)


def test_the_front_page_opens_while_redis_is_away(
    client: Client, operator: User, settings: Any, tmp_path: Any
) -> None:
    from inference import connections

    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    connections.redis_client.cache_clear()

    answer = client.get(reverse("admin:index"))
    connections.redis_client.cache_clear()

    assert answer.status_code == 200
    assert "cannot be seen" in answer.content.decode()


def test_names_of_tenants_are_shown_as_text(client: Client, operator: User) -> None:
    make_everything()
    from accounts.models import Organization

    Organization.objects.update(name="<script>alert(1)</script>")

    page = client.get("/admin/accounts/organization/").content.decode()

    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
