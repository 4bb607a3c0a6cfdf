"""Every bad input has its own clear error, is never HTML, and costs nothing."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from accounts import keys
from accounts.models import ApiKey
from billing.models import Hold
from tests import factories
from tests.live import Site


def png(width: int = 28, height: int = 28, *, paper: int = 0, ink: int = 255) -> str:
    """Return an image with a bright band where the test model sees a 3, as a data URL."""
    picture = Image.new("L", (width, height), paper)
    for row in range(height * 234 // 784, height * 312 // 784):
        for column in range(width):
            picture.putpixel((column, row), ink)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


IMAGE = factories.image()
CASES: dict[str, tuple[str, int, str, str | None]] = {
    "not JSON": ("{", 400, "invalid_json", None),
    "not an object": ("[1]", 400, "invalid_json", None),
    "not UTF-8": ("\udcff", 400, "invalid_json", None),
    "deep": (f'{{"model": MODEL, "input": {nested(5000)}}}', 400, "invalid_json", None),
    "unknown field": ('{"model": MODEL, "input": {}, "seed": 1}', 400, "unknown_field", "seed"),
    "no model": ('{"input": {}}', 400, "invalid_request", "model"),
    "model is a number": ('{"model": 7, "input": {}}', 400, "invalid_request", "model"),
    "no input": ('{"model": MODEL}', 400, "invalid_request", "input"),
    "unknown model": ('{"model": "no/such", "input": {}}', 404, "model_not_found", "model"),
    "odd model": ('{"model": "a\\u0000b", "input": {}}', 404, "model_not_found", "model"),
    "unknown version": ('{"model": "NAME:99", "input": {}}', 404, "model_not_found", "model"),
    "input is a list": ('{"model": MODEL, "input": [1]}', 400, "invalid_type", "input"),
    "missing input": ('{"model": MODEL, "input": {}}', 400, "missing_input", "input.image"),
    "other input": (
        '{"model": MODEL, "input": {"picture": 1}}',
        400,
        "unknown_input",
        "input.picture",
    ),
    "wrong shape": (
        '{"model": MODEL, "input": {"image": [[0, 1]]}}',
        400,
        "invalid_shape",
        "input.image",
    ),
    "ragged": (
        '{"model": MODEL, "input": {"image": [[0, 1], [0]]}}',
        400,
        "invalid_shape",
        "input.image",
    ),
    "text": (
        '{"model": MODEL, "input": {"image": [["a"]]}}',
        400,
        "invalid_type",
        "input.image",
    ),
    "digits as text": (
        '{"model": MODEL, "input": {"image": [["1"]]}}',
        400,
        "invalid_type",
        "input.image",
    ),
    "true": ('{"model": MODEL, "input": {"image": [[true]]}}', 400, "invalid_type", "input.image"),
    "null": ('{"model": MODEL, "input": {"image": null}}', 400, "invalid_type", "input.image"),
    "NaN": ('{"model": MODEL, "input": {"image": [[NaN]]}}', 400, "non_finite_number", None),
    "too big": ('{"model": MODEL, "input": {"image": 1e999}}', 400, "invalid_json", None),
    "out of range": (
        '{"model": MODEL, "input": {"image": [[255]]}}',
        400,
        "out_of_range",
        "input.image",
    ),
    "no rows": ('{"model": MODEL, "input": {"image": []}}', 400, "invalid_shape", "input.image"),
    "not an image": (
        '{"model": MODEL, "input": {"image": "hello"}}',
        400,
        "invalid_image",
        "input.image",
    ),
    "broken base64": (
        '{"model": MODEL, "input": {"image": "data:image/png;base64,###"}}',
        400,
        "invalid_image",
        "input.image",
    ),
    "broken PNG": (
        '{"model": MODEL, "input": {"image": "data:image/png;base64,iVBORw0KGgo="}}',
        400,
        "invalid_image",
        "input.image",
    ),
}


@pytest.fixture
def caller(site: Site) -> tuple[ApiKey, str]:
    return factories.make_key(factories.make_organization())


def post(site: Site, secret: str, body: str | bytes, **headers: str) -> Any:
    raw = body if isinstance(body, bytes) else body.encode("utf-8", "surrogateescape")
    return site.predict(secret, raw, **headers)


def test_each_bad_body_has_its_own_error_and_costs_nothing(
    site: Site, caller: tuple[ApiKey, str]
) -> None:
    version = factories.make_version()
    wrong = []
    for name, (text, status, code, param) in CASES.items():
        body = text.replace("MODEL", f'"{version.model.path}"').replace("NAME", version.model.path)
        response = post(site, caller[1], body)
        error = response.json()["error"]
        found = (response.status_code, error["code"], error["param"])
        if found != (status, code, param):
            wrong.append((name, found))
        assert error["request_id"] == response.headers["X-Request-Id"]
        assert "Mercato-Cost" not in response.headers

    assert wrong == []
    assert not Hold.objects.exists()


def test_a_huge_body_is_refused(site: Site, caller: tuple[ApiKey, str]) -> None:
    response = post(site, caller[1], b"[" + b"0," * 600_000 + b"0]")

    assert response.status_code == 413
    assert response.json()["error"]["code"] == "payload_too_large"


def test_too_many_rows_are_refused(site: Site, caller: tuple[ApiKey, str]) -> None:
    signature = {
        "inputs": [{"name": "x", "datatype": "float32", "shape": [1], "kind": "number"}],
        "outputs": [{"name": "y", "datatype": "float32", "shape": [1]}],
    }
    version = factories.make_version(signature=signature)

    response = post(
        site,
        caller[1],
        json.dumps({"model": version.model.path, "input": {"x": [0] * 1025}}),
    )

    assert (response.status_code, response.json()["error"]["code"]) == (413, "too_many_rows")


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer nonsense", "Basic bWs6", "Bearer mk_live_" + "a" * 49],
)
def test_without_a_key_that_exists_nothing_runs(site: Site, authorization: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}

    response = site.client.post("/v1/predictions", content=b"{}", headers=headers)

    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_a_revoked_key_is_refused_by_every_process_within_five_seconds(
    site: Site, caller: tuple[ApiKey, str]
) -> None:
    version = factories.make_version()
    key, secret = caller
    body = factories.body(version)
    assert {post(site, secret, body).status_code for _ in range(8)} == {200}

    keys.revoke(key, actor=None)

    site.wait_until(
        lambda: {post(site, secret, body).status_code for _ in range(8)} == {401},
        seconds=keys.CACHE_SECONDS + 1,
    )


def test_a_key_without_the_scope_may_not_predict(site: Site) -> None:
    _, secret = factories.make_key(factories.make_organization(), scopes=["read"])
    version = factories.make_version()

    response = post(site, secret, factories.body(version))

    assert (response.status_code, response.json()["error"]["code"]) == (403, "permission_denied")


def test_a_private_model_of_somebody_else_does_not_exist(
    site: Site, caller: tuple[ApiKey, str]
) -> None:
    version = factories.make_version(is_public=False)
    _, own_secret = factories.make_key(factories.make_organization(slug="late"), name="own")

    other = post(site, caller[1], factories.body(version))
    missing = post(site, caller[1], '{"model": "no/such", "input": {}}')

    assert (other.status_code, other.json()["error"]["code"]) == (404, "model_not_found")
    assert missing.status_code == 404
    assert own_secret


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/predictions/nothing", 404, "not_found"),
        ("PUT", "/v1/predictions", 405, "method_not_allowed"),
        ("DELETE", "/v1/balance", 405, "method_not_allowed"),
        ("POST", "/v1/models/x:predict", 404, "not_found"),
    ],
)
def test_no_path_of_the_api_answers_with_html(
    site: Site, caller: tuple[ApiKey, str], method: str, path: str, status: int, code: str
) -> None:
    response = site.client.request(
        method, path, headers={"Authorization": f"Bearer {caller[1]}"}, content=b"{}"
    )

    assert response.headers["Content-Type"] == "application/json"
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_an_image_may_be_a_data_url_a_file_or_numbers(
    site: Site, caller: tuple[ApiKey, str]
) -> None:
    version = factories.make_version()
    path = version.model.path
    light = png(paper=255, ink=0)  # dark ink on bright paper is turned round
    raw = base64.b64decode(png(56, 56).partition(",")[2])

    answers = [
        post(site, caller[1], json.dumps({"model": path, "input": {"image": png()}})),
        post(site, caller[1], json.dumps({"model": path, "input": {"image": light}})),
        post(site, caller[1], json.dumps({"model": path, "input": {"image": IMAGE}})),
        site.client.post(
            "/v1/predictions",
            data={"model": path},
            files={"image": ("3.png", raw, "image/png")},
            headers={"Authorization": f"Bearer {caller[1]}"},
        ),
    ]

    assert [one.status_code for one in answers] == [200] * 4, [one.text for one in answers]
    assert [one.json()["output"]["label"] for one in answers] == ["3"] * 4


def test_several_rows_are_answered_with_a_list_and_charged_by_row(
    site: Site, caller: tuple[ApiKey, str]
) -> None:
    version = factories.make_version()
    rows = [factories.image(1), factories.image(5), factories.image(8)]

    response = post(
        site, caller[1], json.dumps({"model": version.model.path, "input": {"image": rows}})
    )

    assert [row["label"] for row in response.json()["output"]] == ["1", "5", "8"]
    assert response.headers["Mercato-Cost"] == "0.00006"
