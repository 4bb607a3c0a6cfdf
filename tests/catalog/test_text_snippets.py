"""The calls that pages of text models print."""

from __future__ import annotations

import ast
import json
import shlex

import pytest
from django.test import Client

from catalog import snippets
from catalog.models import ModelVersion
from tests.inference.embedders import make_embedder
from tests.inference.writers import make_writer

pytestmark = pytest.mark.django_db
URL = "http://127.0.0.1:8000"


@pytest.fixture(params=["writer", "embedder"])
def version(request: pytest.FixtureRequest) -> ModelVersion:
    """A model of each kind."""
    made = make_writer() if request.param == "writer" else make_embedder()
    made.model.refresh_from_db()
    return made


def test_they_use_the_paths_of_openai(version: ModelVersion) -> None:
    found = snippets.of(version, URL)
    words = shlex.split(found.curl.replace("\\\n", ""))
    path = "completions" if version.model.task == "text-generation" else "embeddings"

    assert words[1] == f"{URL}/v1/{path}"
    assert json.loads(words[-1])["model"] == version.model.path
    ast.parse(found.python)
    assert f'base_url="{URL}/v1"' in found.python
    assert json.loads(found.response)["model"] == version.path
    assert found.tf_serving == ""


@pytest.mark.parametrize("tab", ["playground", "api", "readme", "versions"])
def test_all_parts_of_the_page_are_there(version: ModelVersion, tab: str, client: Client) -> None:
    page = client.get(f"/models/{version.model.path}", {"tab": tab}).content.decode()

    assert "input token" in page
    assert "TensorFlow Serving" not in page
    is_writer = version.model.task == "text-generation"
    assert ("js/writer.js" in page) is (is_writer and tab == "playground")
