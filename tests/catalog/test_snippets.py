"""The calls that pages print."""

from __future__ import annotations

import ast
import base64
import io
import json
import shlex

import pytest
from PIL import Image

from catalog import playground, snippets
from tests import factories

pytestmark = pytest.mark.django_db
URL = "http://127.0.0.1:8000"
NUMBER = {
    "inputs": [{"name": "x", "datatype": "float32", "shape": [1], "kind": "number"}],
    "outputs": [{"name": "y", "datatype": "float32", "shape": [1]}],
}


def test_curl_sends_a_body_of_valid_json() -> None:
    version = factories.make_version(
        signature=NUMBER, examples=[{"label": "x = 4", "input": {"x": [4.0]}}]
    )

    words = shlex.split(snippets.of(version, URL).curl.replace("\\\n", ""))

    assert words[1] == f"{URL}/v1/predictions"
    assert json.loads(words[-1]) == {"model": version.model.path, "input": {"x": [4.0]}}


def test_the_python_calls_are_valid_python() -> None:
    found = snippets.of(factories.make_version(), "https://models.example.com")

    ast.parse(found.python)
    ast.parse(found.tritonclient)
    assert 'InferenceServerClient("models.example.com", ssl=True)' in found.tritonclient
    assert 'InferInput("image", list(array.shape), "FP32")' in found.tritonclient


def test_a_bare_array_can_only_be_sent_to_a_model_with_one_input() -> None:
    one = factories.make_version(signature=NUMBER)
    two = factories.make_version(
        signature=NUMBER
        | {"inputs": [*NUMBER["inputs"], {"name": "z", "datatype": "int64", "shape": []}]}
    )

    assert "numpy.zeros((1,), 'float32')" in snippets.of(one, URL).npy
    assert f'"{URL}/v1/predictions?model={one.model.path}"' in snippets.of(one, URL).npy
    assert snippets.of(two, URL).npy == ""
    assert 'np.zeros((1,), "int64")' in snippets.of(two, URL).tritonclient


def test_an_image_is_written_as_a_png_without_loss() -> None:
    pixels = [[(x + y) % 256 / 255 for x in range(28)] for y in range(28)]

    url = snippets.data_url(pixels)

    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert image.size == (28, 28)
    assert image.tobytes() == bytes((x + y) % 256 for y in range(28) for x in range(28))


def test_the_playground_names_the_version_only_if_it_is_not_the_current_one() -> None:
    version = factories.make_version()
    model = version.model

    current = playground.setup(version, URL)
    model.current_version = None
    other = playground.setup(version, URL)

    assert f'"{model.path}"' in current["code"]["curl"]
    assert f'"{version.path}"' in other["code"]["curl"]


@pytest.mark.parametrize(
    ("kinds", "kind"),
    [
        (["image"], "image"),
        (["number"], "number"),
        (["number", "number"], "number"),
        (["image", "number"], "tensor"),
        (["tensor"], "tensor"),
    ],
)
def test_the_form_fits_the_inputs(kinds: list[str], kind: str) -> None:
    inputs = [{"name": f"i{n}", "shape": [28, 28], "kind": k} for n, k in enumerate(kinds)]
    version = factories.make_version()
    version.signature = {"inputs": inputs, "outputs": []}

    assert playground.kind(version) == kind
