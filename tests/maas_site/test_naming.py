"""The console speaks the operator's language: its columns, fields, filters, models and states."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from babel.messages.mofile import read_mo
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.management import call_command
from django.db.models import Field, Model
from django.test import Client
from django.urls import reverse
from django.utils.translation import gettext, override

from accounts import naming
from accounts.models import User
from billing.models import Hold
from catalog.models import MLModel
from catalog.search import search_text
from tests.maas_site.rows import make_everything, make_organization, make_version

APPS = ("accounts", "catalog", "billing", "inference", "training")
MODELS: list[type[Model]] = [
    model for model in admin.site._registry if model._meta.app_label in APPS
]
COMPILED = Path(__file__).resolve().parents[2] / "locale/zh_Hans/LC_MESSAGES/django.mo"
CHINESE = re.compile("[\u4e00-\u9fff]")
# What a Chinese page says in Latin letters too.
SAME = {"SHA-256", "SKU", "Webhook", "GPU"}
_HEADER = re.compile(r'<th [^>]*scope="col"[^>]*>(.*?)</th>', re.DOTALL)
_LABEL = re.compile(r"<label[^>]*>(.*?)</label>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")


def _admins() -> Iterator[Any]:
    for page in admin.site._registry.values():
        yield page
        yield from page.inlines


def _label_of(model: type[Model]) -> str:
    return model._meta.label


def _shown_models() -> set[type[Model]]:
    return {page.model for page in _admins() if page.model._meta.app_label in APPS}


def _texts_of(field: Field[Any, Any]) -> Iterator[str]:
    yield str(field.verbose_name)
    yield from (str(label) for _value, label in field.flatchoices)


def _fields(model: type[Model]) -> Iterator[Field[Any, Any]]:
    return (field for field in model._meta.fields if not _is_djangos(field))


def _is_djangos(field: Field[Any, Any]) -> bool:
    return field.name in {"password", "last_login", "is_superuser"}


def _badges() -> Iterator[str]:
    for page in _admins():
        kind = page if isinstance(page, type) else type(page)
        for name in dir(kind):
            colors = getattr(getattr(kind, name, None), "label", None)
            if isinstance(colors, dict):
                yield from (naming.badge(value).text for value in colors)


def _all_texts() -> set[str]:
    """Return every label of the console, in English."""
    with override("en"):
        found = set(_badges())
        for app in APPS:
            for model in apps.get_app_config(app).get_models():
                found |= {str(model._meta.verbose_name), str(model._meta.verbose_name_plural)}
        for model in _shown_models():
            for field in _fields(model):
                found |= set(_texts_of(field))
    return found


def test_translators_get_every_label_and_nothing_else() -> None:
    listed = [text for app in APPS for text in import_module(f"{app}.wording").TEXTS]

    assert sorted(_all_texts() - set(listed)) == []
    assert sorted(set(listed) - _all_texts()) == []
    assert len(listed) == len(set(listed))


def test_every_label_has_a_chinese_translation() -> None:
    with COMPILED.open("rb") as file:
        compiled = {str(message.id): message.string for message in read_mo(file)}

    with override("en"):
        names = {str(apps.get_app_config(app).verbose_name) for app in APPS}
    assert sorted(text for text in _all_texts() | names if not compiled.get(text)) == []


@pytest.fixture
def operator(client: Client, db: None) -> User:
    user = User.objects.create_superuser("operator@example.com")
    client.force_login(user)
    return user


def _page(client: Client, address: str, language: str = "zh-hans") -> str:
    answer = client.get(address, headers={"accept-language": language})
    assert answer.status_code == 200, address
    return answer.content.decode()


def _plain(found: list[str]) -> set[str]:
    """Return the texts in pieces of HTML."""
    texts = {" ".join(_TAG.sub(" ", piece).split()) for piece in found}
    return texts - {""}


@pytest.mark.parametrize("model", MODELS, ids=_label_of)
def test_a_chinese_page_has_no_english_header(
    model: type[Model], client: Client, operator: User
) -> None:
    make_everything()
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    texts = _plain(_HEADER.findall(_page(client, reverse(f"{name}_changelist"))))
    for row in model._default_manager.all()[:1]:
        page = _page(client, reverse(f"{name}_change", args=[quote(row.pk)]))
        texts |= _plain(_HEADER.findall(page)) | _plain(_LABEL.findall(page))

    assert sorted(text for text in texts - SAME if not CHINESE.search(text)) == []


def test_a_chinese_page_says_where_it_is_and_what_state_a_row_has(
    client: Client, operator: User
) -> None:
    make_everything()
    hold = Hold.objects.filter(state=Hold.State.CAPTURED)[0]

    listed = _page(client, "/admin/billing/hold/?state__exact=captured")
    detail = _page(client, f"/admin/billing/hold/{hold.pk}/change/")

    with override("zh-hans"):
        words = [gettext("Billing"), gettext("holds"), gettext("Captured")]
    assert all(CHINESE.search(word) for word in words)
    for page in (listed, detail):
        assert [word for word in words if word not in page] == []
        assert "Captured" not in page
    assert re.search(rf"bg-green-100[^<]*>\s*{words[2]}\s*<", listed)


def test_english_labels_are_written_as_people_write_them(client: Client, operator: User) -> None:
    make_everything()

    holds = _page(client, "/admin/billing/hold/", "en")
    models = _page(client, "/admin/catalog/mlmodel/", "en")
    aliases = _page(client, "/admin/inference/versionalias/", "en")

    assert re.search(r"\sAPI\s", holds)
    assert not re.search(r"\sApi\s", holds)
    assert "TensorFlow" in models
    assert "Ml models" not in models
    assert "aliass" not in aliases


@pytest.mark.django_db
def test_migrations_do_not_see_the_labels() -> None:
    with override("zh-hans"):
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db
def test_what_is_searched_does_not_depend_on_a_language() -> None:
    model: MLModel = make_version(make_organization()).model
    english = search_text(model)

    with override("zh-hans"):
        assert search_text(model) == english
