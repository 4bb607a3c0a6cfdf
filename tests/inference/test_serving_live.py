"""The REST form of TensorFlow Serving, and bodies that are the input itself."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from billing.models import Hold
from catalog.models import ModelVersion
from tests import factories
from tests.live import Site

Headers = dict[str, str]


@pytest.fixture
def headers(site: Site) -> Headers:
    _, secret = factories.make_key(factories.make_organization())
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def version(site: Site) -> ModelVersion:
    return factories.make_version()


def digits(*wanted: int) -> Any:
    return np.array([factories.image(digit) for digit in wanted], np.float32)


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def picture(digit: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    pixels = (np.array(factories.image(digit)) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def code_of(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


def test_rows_and_columns_are_answered_in_the_form_they_came_in(
    site: Site, headers: Headers, version: ModelVersion
) -> None:
    path = f"/v1/models/{version.model.path}/versions/1:predict"
    b64 = {"b64": base64.b64encode(picture(4)).decode()}
    images = [factories.image(1), factories.image(9)]
    bodies: list[tuple[dict[str, Any], list[int]]] = [
        ({"instances": images}, [1, 9]),
        ({"instances": [{"image": image} for image in images]}, [1, 9]),
        ({"instances": [b64]}, [4]),
        ({"instances": [{"image": b64}, {"image": b64}]}, [4, 4]),
        ({"inputs": images, "signature_name": "serving_default"}, [1, 9]),
        ({"inputs": {"image": images}}, [1, 9]),
        ({"inputs": {"image": [b64]}}, [4]),
    ]
    for body, wanted in bodies:
        response = site.client.post(path, json=body, headers=headers)

        assert response.status_code == 200, response.text + site.log_tail()
        (field, rows), *others = response.json().items()
        assert not others
        assert field == ("predictions" if "instances" in body else "outputs")
        assert [row.index(max(row)) for row in rows] == wanted


def test_what_tensorflow_serving_refuses_is_refused(
    site: Site, headers: Headers, version: ModelVersion
) -> None:
    path = f"/v1/models/{version.model.path}:predict"
    cases: list[tuple[dict[str, Any], tuple[int, str, str | None]]] = [
        ({}, (400, "invalid_request", "instances")),
        ({"instances": [1], "inputs": [1]}, (400, "invalid_request", "inputs")),
        ({"inputs": {"picture": []}}, (400, "unknown_input", "inputs.picture")),
        ({"inputs": {}}, (400, "missing_input", "inputs.image")),
        ({"inputs": {"image": []}}, (400, "invalid_type", "inputs.image")),
        ({"inputs": 7}, (400, "invalid_type", "inputs.image")),
        ({"inputs": [{"b64": "###"}]}, (400, "invalid_image", "inputs.image")),
        ({"inputs": [{"b64": 7}]}, (400, "invalid_type", "inputs.image")),
        ({"instances": [{"b64": "AAAA"}]}, (400, "invalid_image", "instances")),
        ({"instances": [1], "signature_name": "x"}, (400, "invalid_request", "signature_name")),
    ]
    for body, wanted in cases:
        assert code_of(site.client.post(path, json=body, headers=headers)) == wanted, body

    packed = {"Content-Encoding": "gzip"}
    response = site.client.post(path, content=b"{}", headers=headers | packed)
    assert code_of(response) == (415, "unsupported_media_type", "Content-Encoding")


def test_a_repeated_columnar_request_is_answered_in_columns(
    site: Site, headers: Headers, version: ModelVersion
) -> None:
    path = f"/v1/models/{version.model.path}:predict"
    again = headers | {"Idempotency-Key": "once"}

    answers = [
        site.client.post(path, json={"inputs": [factories.image(2)]}, headers=again)
        for _ in range(2)
    ]

    assert answers[0].status_code == 200, answers[0].text
    assert answers[1].json() == answers[0].json()
    assert answers[1].headers["Idempotent-Replayed"] == "true"


def test_a_body_may_be_the_input_itself(
    site: Site, headers: Headers, version: ModelVersion
) -> None:
    url = f"/v1/predictions?model={version.model.path}"
    bodies = {
        "application/x-npy": saved(digits(7)[0]),
        "application/octet-stream": digits(7).tobytes(),
        "image/png": picture(7),
        "image/jpeg": picture(7, "JPEG"),
    }
    for kind, content in bodies.items():
        response = site.client.post(url, content=content, headers=headers | {"Content-Type": kind})

        assert response.status_code == 200, response.text + site.log_tail()
        assert response.json()["output"]["label"] == "7", kind
        assert response.headers["Mercato-Cost"] == "0.00002"
    several = site.client.post(
        f"{url}:1",
        content=saved(digits(3, 8)),
        headers=headers | {"Content-Type": "application/x-npy"},
    )
    assert [row["label"] for row in several.json()["output"]] == ["3", "8"]


def test_a_body_that_is_not_the_input_is_refused_and_costs_nothing(
    site: Site, headers: Headers, version: ModelVersion
) -> None:
    path = version.model.path
    npy, raw, png = "application/x-npy", "application/octet-stream", "image/png"
    good = saved(digits(7))
    cases: list[tuple[str, str, bytes, tuple[int, str, str | None]]] = [
        ("", npy, good, (400, "invalid_request", "model")),
        (f"?model={path}&model={path}", npy, good, (400, "invalid_request", "model")),
        (f"?model={path}&rows=2", npy, good, (400, "unknown_field", "rows")),
        ("?model=no/such", npy, good, (404, "model_not_found", "model")),
        ("?model=%00%ff", npy, good, (404, "model_not_found", "model")),
        (f"?model={path}", npy, b"", (400, "invalid_npy", "input.image")),
        (f"?model={path}", npy, good[:-1], (400, "invalid_npy", "input.image")),
        (f"?model={path}", npy, saved(digits(7) * 2), (400, "out_of_range", "input.image")),
        (f"?model={path}", npy, saved(np.zeros((1025, 28))), (400, "invalid_shape", "input.image")),
        (f"?model={path}", raw, bytes(5), (400, "invalid_binary_data", "input.image")),
        (f"?model={path}", png, b"GIF89a", (400, "invalid_image", "input.image")),
        (f"?model={path}", "image/gif", b"GIF89a", (415, "unsupported_media_type", None)),
        (f"?model={path}", npy, bytes(1_048_577), (413, "payload_too_large", None)),
    ]
    wrong = []
    for query, kind, content, wanted in cases:
        response = site.client.post(
            f"/v1/predictions{query}", content=content, headers=headers | {"Content-Type": kind}
        )
        if code_of(response) != wanted:
            wrong.append((query, kind, code_of(response)))

    assert wrong == []
    assert not Hold.objects.exists()
