"""The client of the Open Inference Protocol that people use, tritonclient, against the site."""

from __future__ import annotations

import base64
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

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
def client(site: Site, headers: Headers) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{site.port}") as client:
        client.register_plugin(lambda request: request.headers.update(headers))
        yield client


@pytest.fixture
def version(site: Site) -> ModelVersion:
    return factories.make_version()


def name_of(version: ModelVersion) -> str:
    return version.model.path.replace("/", ".")


def digits(*wanted: int) -> Any:
    return np.array([factories.image(digit) for digit in wanted], np.float32)


def tensor(array: Any, datatype: str = "FP32", *, is_binary: bool = True) -> triton.InferInput:
    one = triton.InferInput("image", list(array.shape), datatype)
    one.set_data_from_numpy(array, binary_data=is_binary)
    return one


def test_the_server_and_a_model_say_what_they_are(
    client: triton.InferenceServerClient, version: ModelVersion
) -> None:
    name = name_of(version)

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    assert client.is_model_ready(name, "1")
    assert not client.is_model_ready(name, "9")
    assert not client.is_model_ready("no.such")
    about = client.get_server_metadata()
    assert (about["name"], about["extensions"][0]) == ("mercato", "binary_tensor_data")
    wanted = {
        "name": name,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 28, 28]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
    }
    assert client.get_model_metadata(name) == wanted
    assert client.get_model_metadata(name, "1") == wanted


def test_inference_takes_and_gives_both_forms(
    client: triton.InferenceServerClient, version: ModelVersion
) -> None:
    for goes_in, comes_out in itertools.product((True, False), repeat=2):
        result = client.infer(
            name_of(version),
            [tensor(digits(1, 9, 4), is_binary=goes_in)],
            outputs=[triton.InferRequestedOutput("probabilities", binary_data=comes_out)],
            request_id="my-7",
        )

        found = result.as_numpy("probabilities")
        assert (found.dtype, found.shape) == (np.float32, (3, 10))
        assert found.argmax(axis=1).tolist() == [1, 9, 4]
        answer = result.get_response()
        assert (answer["id"], answer["model_version"]) == ("my-7", "1")
        assert answer["parameters"]["amount"] == "0.00006"
        assert ("data" in answer["outputs"][0]) is not comes_out

    # If none is named, all outputs come as binary data.
    result = client.infer(name_of(version), [tensor(digits(5))], model_version="1")
    assert result.as_numpy("probabilities").argmax() == 5
    assert result.get_response()["outputs"][0]["parameters"] == {"binary_data_size": 40}
    assert {hold.captured_nanos for hold in Hold.objects.all()} == {
        factories.ROW_NANOS,
        3 * factories.ROW_NANOS,
    }
    waiting = [client.async_infer(name_of(version), [tensor(digits(one))]) for one in (2, 7)]
    assert [one.get_result().as_numpy("probabilities").argmax() for one in waiting] == [2, 7]


def test_classes_may_come_out_and_image_files_may_go_in(
    client: triton.InferenceServerClient, version: ModelVersion
) -> None:
    for is_binary in (True, False):
        asked = triton.InferRequestedOutput("probabilities", is_binary, class_count=2)
        result = client.infer(name_of(version), [tensor(digits(3, 8))], outputs=[asked])

        found = result.as_numpy("probabilities").astype(str)
        assert found.shape == (2, 2)
        assert [text.rpartition(":")[2] for text in found[:, 0]] == ["3", "8"]

    file = io.BytesIO()
    Image.fromarray((np.array(factories.image(6)) * 255).astype(np.uint8)).save(file, "PNG")
    as_file = np.array([file.getvalue()] * 2, dtype=np.object_)
    as_text = np.array([base64.b64encode(file.getvalue())], dtype=np.object_)
    for given in (tensor(as_file, "BYTES"), tensor(as_text, "BYTES", is_binary=False)):
        result = client.infer(name_of(version), [given])

        assert set(result.as_numpy("probabilities").argmax(axis=1)) == {6}


def test_errors_can_be_read_where_the_client_shows_them(
    client: triton.InferenceServerClient, version: ModelVersion
) -> None:
    name = name_of(version)
    wrong = tensor(np.zeros((1, 3, 3), np.float32))

    with pytest.raises(InferenceServerException) as caught:
        client.infer(name, [wrong], headers={"X-Request-Id": "request-77"})
    assert str(caught.value) == (
        "[400] `image` has shape [1, 3, 3]; expected [rows, 28, 28]. "
        "(invalid_shape, inputs.image, request-77)"
    )
    with pytest.raises(InferenceServerException, match=r"\[400\] .*takes FP32.*invalid_type"):
        client.infer(name, [tensor(np.zeros((1, 28, 28)), "FP64")])
    with pytest.raises(InferenceServerException, match=r"\[404\] .*model_not_found"):
        client.infer("no.such", [wrong])
    with pytest.raises(InferenceServerException, match=r"\[404\] .*model_not_found"):
        client.get_model_metadata("no.such")
    with pytest.raises(InferenceServerException, match=r"\[415\] .*compression"):
        client.infer(name, [wrong], request_compression_algorithm="gzip")
    with pytest.raises(InferenceServerException, match=r"\[400\] .*sequence_id"):
        client.infer(name, [wrong], sequence_id=5)
    client.unregister_plugin()
    with pytest.raises(InferenceServerException, match=r"\[401\] .*invalid_api_key"):
        client.infer(name, [wrong])
    assert not Hold.objects.exists()


def test_other_clients_get_the_errors_of_all_paths(
    site: Site, headers: Headers, version: ModelVersion
) -> None:
    path = f"/v2/models/{name_of(version)}/infer"

    plain = site.client.post(path, content=b"{}", headers=headers)
    asked = site.client.post(path, content=b"{}", headers=headers | {"Mercato-Errors": "text"})
    missing = site.client.get("/v2/nothing", headers=headers)

    assert plain.status_code == asked.status_code == 400
    error = plain.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_type", "inputs")
    assert error["request_id"] == plain.headers["X-Request-Id"]
    assert asked.json()["error"].startswith("`inputs` must be a list")
    assert missing.json()["error"]["code"] == "not_found"


def body(head: dict[str, Any], data: bytes = b"") -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + data, {"Inference-Header-Content-Length": str(len(text))} if data else {}


ONE: dict[str, Any] = {"name": "image", "shape": [1, 28, 28], "datatype": "FP32"}
BINARY = ONE | {"parameters": {"binary_data_size": 3136}}
JSON = ONE | {"data": [0] * 784}
CASES: dict[str, tuple[tuple[bytes, dict[str, str]], str]] = {
    "empty": ((b"", {}), "invalid_json"),
    "length is text": ((b"{}", {"Inference-Header-Content-Length": "x"}), "invalid_request"),
    "length beyond the body": (
        (b"{}", {"Inference-Header-Content-Length": "3"}),
        "invalid_request",
    ),
    "length negative": ((b"{}", {"Inference-Header-Content-Length": "-1"}), "invalid_request"),
    "length cuts the JSON": ((b"{}", {"Inference-Header-Content-Length": "1"}), "invalid_json"),
    "no inputs": (body({}), "invalid_type"),
    "other field": (body({"inputs": [JSON], "seed": 1}), "unknown_field"),
    "shared memory": (
        body({"inputs": [ONE | {"parameters": {"shared_memory_region": "x"}}]}),
        "unknown_field",
    ),
    "no data": (body({"inputs": [ONE]}), "invalid_request"),
    "both": (body({"inputs": [BINARY | {"data": []}]}, bytes(3136)), "invalid_request"),
    "binary data cut off": (body({"inputs": [BINARY]}, bytes(3135)), "invalid_binary_data"),
    "binary data left": (body({"inputs": [BINARY]}, bytes(3137)), "invalid_binary_data"),
    "size does not fit the shape": (
        body({"inputs": [ONE | {"parameters": {"binary_data_size": 4}}]}, bytes(4)),
        "invalid_binary_data",
    ),
    "size is true": (
        body({"inputs": [ONE | {"parameters": {"binary_data_size": True}}]}, bytes(1)),
        "invalid_type",
    ),
    "shape of text": (body({"inputs": [JSON | {"shape": ["1"]}]}), "invalid_shape"),
    "huge shape": (body({"inputs": [JSON | {"shape": [2**40, 28, 28]}]}), "invalid_shape"),
    "without rows": (body({"inputs": [JSON | {"shape": [28, 28]}]}), "invalid_shape"),
    "no row": (body({"inputs": [JSON | {"shape": [0, 28, 28], "data": []}]}), "invalid_shape"),
    "shape and data differ": (
        body({"inputs": [JSON | {"shape": [2, 28, 28]}]}),
        "invalid_shape",
    ),
    "too many rows": (
        body({"inputs": [JSON | {"shape": [1025, 28, 28], "data": [0] * 784}]}),
        "invalid_shape",
    ),
    "other datatype": (body({"inputs": [JSON | {"datatype": "FP64"}]}), "invalid_type"),
    "no such datatype": (body({"inputs": [JSON | {"datatype": "X" * 999}]}), "invalid_type"),
    "text for numbers": (body({"inputs": [JSON | {"data": ["a"] * 784}]}), "invalid_type"),
    "out of range": (body({"inputs": [JSON | {"data": [2] * 784}]}), "out_of_range"),
    "NaN": (
        body({"inputs": [BINARY]}, np.full(784, np.nan, np.float32).tobytes()),
        "non_finite_number",
    ),
    "given twice": (body({"inputs": [JSON, JSON]}), "invalid_type"),
    "other input": (body({"inputs": [JSON | {"name": "picture"}]}), "unknown_input"),
    "other output": (body({"inputs": [JSON], "outputs": [{"name": "y"}]}), "unknown_output"),
    "BYTES cut off": (
        body(
            {
                "inputs": [
                    ONE | {"datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}}
                ]
            },
            b"\xff\xff\xff\xff0",
        ),
        "invalid_binary_data",
    ),
    "BYTES of no image": (
        body({"inputs": [ONE | {"datatype": "BYTES", "shape": [1], "data": ["AAAA"]}]}),
        "invalid_image",
    ),
}


def test_each_bad_request_has_its_own_error_and_costs_nothing(
    site: Site, headers: Headers, version: ModelVersion
) -> None:
    path = f"/v2/models/{name_of(version)}/infer"
    wrong = []
    for name, ((content, more), code) in CASES.items():
        response = site.client.post(path, content=content, headers=headers | more)
        found = (response.status_code, response.json()["error"]["code"])
        if found != (400, code):
            wrong.append((name, found, response.json()["error"]["message"]))

    assert wrong == []
    assert not Hold.objects.exists()


def test_a_repeated_request_is_answered_from_what_was_stored(
    site: Site, headers: Headers, version: ModelVersion
) -> None:
    path = f"/v2/models/{name_of(version)}/infer"
    content, more = body(
        {"inputs": [BINARY], "parameters": {"binary_data_output": True}}, digits(4).tobytes()
    )
    again = headers | more | {"Idempotency-Key": "once"}

    first = site.client.post(path, content=content, headers=again)
    second = site.client.post(path, content=content, headers=again)

    assert first.status_code == 200, first.text + site.log_tail()
    assert second.content == first.content
    assert second.headers["Idempotent-Replayed"] == "true"
    assert Hold.objects.count() == 1
