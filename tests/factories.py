"""Rows for tests. A test names only what it is about."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.contrib.auth.hashers import PBKDF2PasswordHasher

from accounts import keys, organizations
from accounts.models import ApiKey, Organization, User
from billing import credit
from billing.money import NANOS
from catalog import artifacts, prices, search
from catalog.models import Artifact, MLModel, ModelVersion

_numbers = itertools.count(1)
ROW_NANOS = 20_000
DIGIT_SIGNATURE: dict[str, Any] = {
    "inputs": [
        {
            "name": "image",
            "datatype": "float32",
            "shape": [28, 28],
            "kind": "image",
            "low": 0,
            "high": 1,
        }
    ],
    "outputs": [
        {
            "name": "probabilities",
            "datatype": "float32",
            "shape": [10],
            "labels": list("0123456789"),
        }
    ],
}


def make_user(email: str = "", *, password: str = "correct horse battery", **fields: Any) -> User:
    """Make a user who has confirmed the address."""
    user = User.objects.create_user(email or f"user{next(_numbers)}@example.com", **fields)
    # A hash the site accepts and that is quick to make: the slow one is Django's to test.
    user.password = PBKDF2PasswordHasher().encode(password, "salt", iterations=1)
    user.save(update_fields=["password"])
    user.emailaddress_set.create(email=user.email, verified=True, primary=True)  # type: ignore[attr-defined]
    return user


def make_organization(
    *, credit_nanos: int = 5 * NANOS, owner: User | None = None, slug: str = ""
) -> Organization:
    """Make an organization with credit."""
    slug = slug or f"org{next(_numbers)}"
    made = organizations.create(slug, slug.title(), owner=owner)
    if credit_nanos:
        credit.grant(made, credit_nanos, external_ref=f"test:{made.pk}", reason="test")
    return made


def make_key(organization: Organization, **fields: Any) -> tuple[ApiKey, str]:
    """Make a key; returns it and its secret."""
    return keys.issue(organization, fields.pop("name", "test"), **fields)


def make_version(
    *,
    owner: Organization | None = None,
    name: str = "",
    row_nanos: int = ROW_NANOS,
    is_public: bool = True,
    **fields: Any,
) -> ModelVersion:
    """Make a published digit model with a small real ONNX file and a price per row."""
    model = MLModel.objects.create(
        owner=owner or make_organization(credit_nanos=0),
        name=name or f"digits{next(_numbers)}",
        title_en="Digits",
        title_zh="手写数字识别",
        summary_en="Reads a handwritten digit.",
        summary_zh="识别一个手写数字。",
        card_en="# Digits\n\nA test model.",
        card_zh="# 数字\n\n测试模型。",
        task="image-classification",
        framework="tensorflow",
        is_public=is_public,
    )
    fields.setdefault("signature", DIGIT_SIGNATURE)
    version = ModelVersion.objects.create(
        model=model,
        number=1,
        status=ModelVersion.Status.PUBLISHED,
        parameters=7850,
        metrics={"accuracy": "0.981", "rows": 360},
        measurements={"onnx": {"1": {"p50_us": 90, "rows_per_second": 11000}}},
        **fields,
    )
    write_onnx(version)
    model.current_version = version
    model.search_text = search.search_text(model)
    model.save()
    prices.add(model=model, components={"row": (row_nanos, 1)})
    return version


def write_onnx(version: ModelVersion) -> Artifact:
    """Write softmax(flatten(image) · W) as ONNX, where W picks the brightest band of rows."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((784, 10), np.float32)
    for digit in range(10):
        weights[digit * 78 : digit * 78 + 78, digit] = 0.1
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 28, 28])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 10])],
        [numpy_helper.from_array(weights, "weights")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder = Path(str(version.model_id)) / str(version.number)
    (settings.ARTIFACTS / folder).mkdir(parents=True, exist_ok=True)
    path = settings.ARTIFACTS / folder / "model.onnx"
    path.write_bytes(made.SerializeToString())
    onnx.checker.check_model(made)
    return Artifact.objects.create(
        version=version,
        kind=Artifact.Kind.ONNX,
        path=str(folder / "model.onnx"),
        sha256=artifacts.sha256(path),
        size_bytes=path.stat().st_size,
    )


def image(digit: int = 3) -> list[list[float]]:
    """Return an image that the model of `make_version` reads as `digit`."""
    pixels = np.zeros(784, np.float32)
    pixels[digit * 78 : digit * 78 + 78] = 1
    rows: list[list[float]] = pixels.reshape(28, 28).tolist()
    return rows


def body(version: ModelVersion, digit: int = 3) -> bytes:
    """Return the body of POST /v1/predictions."""
    return json.dumps({"model": version.model.path, "input": {"image": image(digit)}}).encode()
