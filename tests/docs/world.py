"""What the examples of the documents speak of: files, models, and who calls them."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from PIL import Image

from accounts.keys import SCOPES
from accounts.models import ApiKey, Organization
from catalog import prices
from catalog.models import ModelVersion
from maas_site import first_run
from tests import factories
from tests.inference.embedders import make_embedder
from tests.inference.writers import make_writer
from tests.live import Site

LINE: dict[str, Any] = {
    "inputs": [{"name": "x", "datatype": "float32", "shape": [1], "kind": "number"}],
    "outputs": [{"name": "y", "datatype": "float32", "shape": [1]}],
}
# The key that the examples of caps and limits name.
KEY_ID = 3


class World:
    """A reader: somebody with a key, in a folder with the files that the examples send.

    Attributes:
        variables: What the reader's shell knows. `ID` and `HOLD` are those of the last answer.
    """

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder
        prices.add(sku="training.cpu", components=first_run.TRAINING_PRICE)
        owner = factories.make_organization(credit_nanos=0, slug="mercato")
        factories.make_version(owner=owner, name="mnist-cnn")
        make_line(owner, "linear-regression")
        make_writer(owner, name="docs-gru")
        make_embedder(owner, name="all-minilm-l6-v2")
        self.organization = factories.make_organization(slug="reader")
        secret = _secret_of_the_key_that_is_named(self.organization)
        self.variables = {"URL": site.url, "KEY": secret}
        _write_files(folder, secret)

    def learn(self, answer: dict[str, Any]) -> None:
        """Note what a reader would copy from an answer."""
        if isinstance(found := answer.get("id"), str):
            self.variables["ID"] = found
        if hold := (answer.get("cost") or {}).get("hold"):
            self.variables["HOLD"] = hold


def secret_of(organization: Organization) -> str:
    """Return the secret of a new key that may do everything."""
    return _make_key(organization)[1]


def _make_key(organization: Organization) -> tuple[ApiKey, str]:
    return factories.make_key(organization, name="laptop", scopes=list(SCOPES))


def _secret_of_the_key_that_is_named(organization: Organization) -> str:
    """Return the secret of the key with the examples' number."""
    key, secret = _make_key(organization)
    while key.pk < KEY_ID:
        key, secret = _make_key(organization)
    ApiKey.objects.filter(pk=key.pk).update(id=KEY_ID)
    return secret


def make_line(owner: Organization, name: str) -> ModelVersion:
    """Make a model y = 3x + 2."""
    version = factories.make_version(owner=owner, name=name, signature=LINE)
    artifact = version.artifacts.get()
    data = _line_onnx()
    (settings.ARTIFACTS / artifact.path).write_bytes(data)
    artifact.sha256, artifact.size_bytes = hashlib.sha256(data).hexdigest(), len(data)
    artifact.save()
    return version


def _line_onnx() -> bytes:
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
    data: bytes = made.SerializeToString()
    return data


def _write_files(folder: Path, secret: str) -> None:
    pixels = np.array(factories.image(7), np.float32)
    np.save(folder / "seven.npy", pixels)
    picture = io.BytesIO()
    Image.fromarray((pixels * 255).astype(np.uint8)).save(picture, "PNG")
    (folder / "seven.png").write_bytes(picture.getvalue())
    (folder / "rows.csv").write_text("id,x\na,1.5\nb,2.0\n", encoding="utf-8")
    (folder / "var").mkdir()
    text = first_run.text(first_run.Credentials("boss@example.com", "…", secret))
    (folder / "var" / "first-run.txt").write_text(text, encoding="utf-8")
