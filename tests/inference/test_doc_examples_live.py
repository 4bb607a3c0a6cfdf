"""The examples of docs/api.md do what they say, against a running site."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings
from PIL import Image

from billing.models import Hold
from catalog.models import ModelVersion
from tests import factories
from tests.live import ROOT, Site

SECTIONS = ("Run a model", "Open Inference Protocol", "Find a model")
# Fails on every status that is not a success, and shows the answer.
CURL = 'set -eu; curl() { command curl -sS --fail-with-body "$@"; }\n'
LINE: dict[str, Any] = {
    "inputs": [{"name": "x", "datatype": "float32", "shape": [1], "kind": "number"}],
    "outputs": [{"name": "y", "datatype": "float32", "shape": [1]}],
}


def blocks(heading: str) -> list[tuple[str, str]]:
    """Return the examples below a heading: language and text."""
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    section = re.split(rf"^## {heading}$", text, maxsplit=1, flags=re.MULTILINE)[1]
    section = re.split(r"^## ", section, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^```(\w*)\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    return [(language, block) for language, block in found if language != "json"]


def write_line(version: ModelVersion) -> None:
    """Put y = 3x + 2 in the place of the version's file."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "w"], ["scaled"]),
            helper.make_node("Add", ["scaled", "b"], ["y"]),
        ],
        "line",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [
            numpy_helper.from_array(np.array([value], np.float32), name)
            for name, value in (("w", 3.0), ("b", 2.0))
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(made)
    artifact = version.artifacts.get()
    data = made.SerializeToString()
    (settings.ARTIFACTS / artifact.path).write_bytes(data)
    artifact.sha256, artifact.size_bytes = hashlib.sha256(data).hexdigest(), len(data)
    artifact.save()


@pytest.fixture
def folder(site: Site, tmp_path: Path) -> Path:
    """A folder with the files that the examples send, and the models that they call."""
    owner = factories.make_organization(credit_nanos=0, slug="mercato")
    factories.make_version(owner=owner, name="mnist-cnn")
    write_line(factories.make_version(owner=owner, name="linear-regression", signature=LINE))
    pixels = np.array(factories.image(7), np.float32)
    np.save(tmp_path / "seven.npy", pixels)
    file = io.BytesIO()
    Image.fromarray((pixels * 255).astype(np.uint8)).save(file, "PNG")
    (tmp_path / "seven.png").write_bytes(file.getvalue())
    return tmp_path


def test_the_examples_work_as_printed(site: Site, folder: Path) -> None:
    _, secret = factories.make_key(factories.make_organization())
    environment = os.environ | {"URL": site.url, "KEY": secret}
    answers: list[str] = []
    for language, block in [example for section in SECTIONS for example in blocks(section)]:
        python = [sys.executable, "-c", block]
        command = python if language == "python" else ["bash", "-c", CURL + block]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}\n{site.log_tail()}"
        answers.append(done.stdout)

    printed = "\n".join(answers)
    assert printed.count('"label":"7"') == 3
    assert '"output":{"y":[8.0]}' in printed
    assert '{"predictions":[[5.0],[8.0],[11.0]]}{"outputs":[[5.0],[8.0]]}' in printed.replace(
        "\n", ""
    )
    assert '"data":[5.0,8.0]' in printed
    assert "0.00002\n" in printed
    assert Hold.objects.filter(state=Hold.State.CAPTURED).count() == 9
