"""The catalogue and the model page, through the browser's door."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from catalog.models import ModelVersion
from tests import factories

pytestmark = pytest.mark.django_db
CHINESE = {"accept-language": "zh-Hans"}


def test_the_front_page_shows_models_and_a_call_to_this_host(client: Client) -> None:
    version = factories.make_version()

    page = client.get("/").content.decode()

    assert version.model.name in page
    assert "/v1/predictions" in page
    assert page.count("<h1") == 1


def test_the_front_page_of_an_empty_site_says_what_will_come(client: Client) -> None:
    assert "No model is published yet" in client.get("/").content.decode()


@pytest.mark.parametrize("query", ["Handwritten", "手写数字", "数字", "image-class", "digits-b"])
def test_the_search_finds_a_model_in_either_language(client: Client, query: str) -> None:
    factories.make_version(name="digits-b")

    page = client.get("/models", {"q": query}).content.decode()

    assert "digits-b" in page
    assert "1 model" in page


def test_the_search_without_a_hit_says_so_and_offers_all_models(client: Client) -> None:
    factories.make_version(name="digits-b")

    page = client.get("/models", {"q": "weather"}).content.decode()

    assert "No model matches" in page
    assert "digits-b" not in page


def test_filters_narrow_the_catalogue_and_count_what_they_lead_to(client: Client) -> None:
    factories.make_version(name="kept")
    other = factories.make_version(name="other").model
    other.framework = "pytorch"
    other.save()

    page = client.get("/models", {"framework": "tensorflow"})

    assert [entry.model.name for entry in page.context["entries"]] == ["kept"]
    assert {choice.value: choice.count for choice in page.context["frameworks"]} == {
        "tensorflow": 1,
        "pytorch": 1,
    }


def test_htmx_gets_only_the_part_that_changes(client: Client) -> None:
    response = client.get("/models", HTTP_HX_REQUEST="true")

    assert "<html" not in response.content.decode()
    assert "HX-Request" in response["Vary"]


def test_the_catalogue_asks_the_database_as_often_for_many_models(client: Client) -> None:
    factories.make_version()
    with CaptureQueriesContext(
        connection,
    ) as one:
        client.get("/models")
    for _ in range(4):
        factories.make_version()

    with CaptureQueriesContext(connection) as many:
        client.get("/models")

    assert len(many) == len(one)
    assert len(many) <= 12


def test_a_private_model_is_found_by_its_owner_alone(client: Client) -> None:
    user = factories.make_user()
    owner = factories.make_organization(owner=user)
    model = factories.make_version(owner=owner, name="secret", is_public=False).model

    assert client.get(f"/models/{model.path}").status_code == 404
    assert "secret" not in client.get("/models").content.decode()
    client.force_login(user)
    assert client.get(f"/models/{model.path}").status_code == 200


def test_what_was_measured_on_each_runtime_is_shown(client: Client) -> None:
    version = factories.make_version()
    version.measurements = {
        "onnx": {"1": {"p50_us": 120}, "64": {"rows_per_second": 41_000}},
        "tensorflow": {"1": {"p50_us": 2_600}, "64": {"rows_per_second": 27_000}},
        "parity": {"rows": 64, "onnx": "3.58e-07", "tensorflow": "1.19e-07"},
        "runtime": "onnx",
    }
    version.save()

    page = client.get(f"/models/{version.model.path}?tab=readme").content.decode()

    panel = page.partition("Speed on this site")[2]
    onnx, tensorflow = panel.partition("2.6 ms")[::2]
    for text in ("serves", "0.12 ms", "41,000 rows/s", "3.58e-07"):
        assert text in onnx
    assert "27,000 rows/s" in tensorflow


@pytest.mark.parametrize("tab", ["", "playground", "api", "readme", "versions", "nonsense"])
def test_each_part_of_a_model_page_has_one_heading_of_the_first_level(
    client: Client, tab: str
) -> None:
    model = factories.make_version().model

    page = client.get(f"/models/{model.path}", {"tab": tab}).content.decode()

    assert page.count("<h1") == 1
    assert "$0.00002 / row" in page


def test_the_model_page_speaks_chinese(client: Client) -> None:
    model = factories.make_version().model

    page = client.get(f"/models/{model.path}?tab=readme", headers=CHINESE).content.decode()

    assert '<html lang="zh-Hans"' in page
    assert "测试模型" in page
    assert "A test model" not in page


def test_an_older_version_can_be_tried_and_a_missing_one_is_not_found(client: Client) -> None:
    version = factories.make_version()
    model = version.model
    newer = ModelVersion.objects.create(
        model=model, number=2, status="published", signature=version.signature
    )
    model.current_version = newer
    model.save()

    page = client.get(f"/models/{model.path}?version=1")

    assert page.context["version"].number == 1
    assert f"{model.path}:1" in page.content.decode()
    assert client.get(f"/models/{model.path}").context["version"].number == 2
    assert client.get(f"/models/{model.path}?version=3").status_code == 404


def test_a_draft_is_shown_to_its_owner_alone(client: Client) -> None:
    user = factories.make_user()
    version = factories.make_version(owner=factories.make_organization(owner=user))
    path = version.model.path
    ModelVersion.objects.create(
        model=version.model, number=2, status="draft", signature=version.signature
    )

    assert client.get(f"/models/{path}?version=2").status_code == 404
    client.force_login(user)
    assert client.get(f"/models/{path}?version=2").status_code == 200


def test_the_playground_says_its_price_and_asks_a_visitor_to_sign_in(client: Client) -> None:
    model = factories.make_version().model

    page = client.get(f"/models/{model.path}").content.decode()

    assert "This run costs" in page
    assert "Sign in to run" in page
    assert f"next=/models/{model.path}" in page


def test_the_header_shows_the_balance_of_the_person(client: Client) -> None:
    user = factories.make_user()
    factories.make_organization(owner=user)
    client.force_login(user)

    assert '<b data-balance="5000000000">$5.00</b>' in client.get("/").content.decode()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_of_the_cookie_is_on_the_page_before_any_script(
    client: Client, theme: str
) -> None:
    client.cookies["theme"] = theme

    assert f'data-theme="{theme}"' in client.get("/").content.decode()


def test_a_made_up_theme_is_ignored(client: Client) -> None:
    client.cookies["theme"] = "x onload=alert(1)"

    assert "alert" not in client.get("/").content.decode()


def test_the_language_is_switched_and_kept(client: Client) -> None:
    answer = client.post("/language", {"language": "zh-hans", "next": "/models?q=a"})

    assert answer["Location"] == "/models?q=a"
    assert "搜索" in client.get("/models").content.decode()


def test_an_unknown_address_is_a_page_with_a_way_back_and_a_request_id(client: Client) -> None:
    answer = client.get("/models/nobody/nothing")

    page = answer.content.decode()
    assert answer.status_code == 404
    assert answer["X-Request-Id"] in page
    assert "Browse models" in page


def test_no_page_has_a_style_or_a_script_in_its_text(client: Client) -> None:
    path = factories.make_version().model.path

    for address in (
        "/",
        "/models",
        *(f"/models/{path}?tab={tab}" for tab in ("", "api", "readme")),
    ):
        page = client.get(address).content.decode()
        assert " style=" not in page
        assert " onclick=" not in page
        assert "<script>" not in page
