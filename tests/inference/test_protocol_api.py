"""What the other protocols' GETs say of models, and who is told."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import Organization
from catalog.models import ModelVersion
from inference.faces import plain_errors
from inference.models import Worker
from tests import factories


@pytest.fixture
def get(organization: Organization) -> Any:
    _, secret = factories.make_key(organization)
    return Client(headers={"Authorization": f"Bearer {secret}"}).get


def test_tensorflow_serving_is_told_status_and_signature(get: Any) -> None:
    version = factories.make_version()
    path = f"/v1/models/{version.model.path}"

    status = get(f"{path}/versions/1").json()
    about = get(f"{path}/metadata").json()

    assert [(one["version"], one["state"]) for one in status["model_version_status"]] == [
        ("1", "AVAILABLE")
    ]
    assert about["model_spec"] == {
        "name": version.model.path,
        "signature_name": "",
        "version": "1",
    }
    signature = about["metadata"]["signature_def"]["signature_def"]["serving_default"]
    image = signature["inputs"]["image"]
    assert image["dtype"] == "DT_FLOAT"
    assert [one["size"] for one in image["tensor_shape"]["dim"]] == ["-1", "28", "28"]
    assert get(f"{path}/versions/1/metadata").json() == about


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/{}/versions/{}",
        "/v1/models/{}/versions/{}/metadata",
        "/v2/models/{}/versions/{}",
        "/v2/models/{}/versions/{}/ready",
    ],
)
def test_what_cannot_be_called_does_not_exist(get: Any, path: str) -> None:
    mine = factories.make_version()
    factories.make_version(name="draft")
    draft = ModelVersion.objects.create(
        model=mine.model, number=2, status=ModelVersion.Status.DRAFT, signature=mine.signature
    )
    hidden = factories.make_version(is_public=False)
    separator = "." if path.startswith("/v2") else "/"

    for version, number in ((draft, 2), (mine, 9), (mine, 10**30), (hidden, 1)):
        response = get(path.format(version.model.path.replace("/", separator), number))

        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


def test_a_model_has_the_versions_that_are_published(get: Any) -> None:
    version = factories.make_version()
    for number, status in ((2, "published"), (3, "draft")):
        ModelVersion.objects.create(
            model=version.model, number=number, status=status, signature=version.signature
        )
    path = f"/v2/models/{version.model.path.replace('/', '.')}"

    assert get(path).json()["versions"] == ["1", "2"]
    assert get(f"{path}/versions/2").json()["versions"] == ["1", "2"]


def test_a_model_is_ready_while_a_worker_lives(get: Any) -> None:
    version = factories.make_version()
    path = f"/v2/models/{version.model.path.replace('/', '.')}/ready"

    without = get(path)
    now = timezone.now()
    Worker.objects.create(name="w", kind="predict", pool="cpu", pid=1, started_at=now, seen_at=now)
    with_one = get(path)

    assert (without.status_code, without.json()["error"]["code"]) == (503, "no_worker")
    assert without.headers["Retry-After"] == "5"
    assert with_one.json() == {"name": version.model.path.replace("/", "."), "ready": True}


@pytest.mark.parametrize("path", ["/v2", "/v2/models/a.b", "/v2/models/a.b/ready"])
def test_without_a_key_nothing_is_said(db: None, path: str) -> None:
    response = Client().get(path)

    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")


def test_health_needs_no_key(db: None) -> None:
    assert Client().get("/v2/health/live").json() == {"live": True}
    response = Client().get("/v2/health/ready")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "overloaded")
    assert "predict_worker" in response.json()["error"]["message"]


def test_an_error_as_text_has_all_that_it_says_as_an_object() -> None:
    body = b'{"error":{"code":"c","message":"It is so.","param":null,"request_id":"r"}}'

    assert plain_errors.as_text(body) == b'{"error":"It is so. (c, r)"}'
    for other in (b"", b"<html>", b"[]", b'{"error": "text"}'):
        assert plain_errors.as_text(other) == other
