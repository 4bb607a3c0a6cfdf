"""The same images as requests of every form that this site takes."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import load

JSON, NPY, TENSORS = "JSON", ".npy", "V2 binary"


@dataclass(frozen=True)
class Body:
    """What is sent, and where to."""

    path: str
    content_type: str
    data: bytes
    headers: dict[str, str] = field(default_factory=dict)


def random_image() -> list[list[float]]:
    """Return one 28×28 image of three decimals: about 5 KB of JSON."""
    values = random.Random(7)
    return [[round(values.random(), 3) for _ in range(28)] for _ in range(28)]


def as_json(model: str, images: list[Any]) -> Body:
    """Write the JSON of POST /v1/predictions; one image goes without the axis of rows."""
    given = images[0] if len(images) == 1 else images
    data = json.dumps({"model": model, "input": {"image": given}}).encode()
    return Body("/v1/predictions", "application/json", data)


def as_npy(model: str, images: list[Any]) -> Body:
    """Write the images as an `.npy` file."""
    file = io.BytesIO()
    np.save(file, _array(images))
    return Body(f"/v1/predictions?model={model}", "application/x-npy", file.getvalue())


def as_tensors(model: str, images: list[Any]) -> Body:
    """Write an `infer` request of the Open Inference Protocol, binary in and out."""
    array = _array(images)
    tensor = {"name": "image", "shape": array.shape, "datatype": "FP32"}
    size = {"binary_data_size": array.nbytes}
    head = json.dumps(
        {"inputs": [tensor | {"parameters": size}], "parameters": {"binary_data_output": True}}
    ).encode()
    return Body(
        f"/v2/models/{model.replace('/', '.')}/infer",
        "application/octet-stream",
        head + array.tobytes(),
        {"Inference-Header-Content-Length": str(len(head))},
    )


def _array(images: list[Any]) -> NDArray[np.float32]:
    return np.array(images, np.float32)


FORMS: dict[str, Callable[[str, list[Any]], Body]] = {
    JSON: as_json,
    NPY: as_npy,
    TENSORS: as_tensors,
}


def request(form: str, port: int, model: str, secret: str, rows: int = 1) -> bytes:
    """Return the bytes of a whole HTTP request with some images."""
    body = FORMS[form](model, [random_image()] * rows)
    headers = body.headers | {"Authorization": f"Bearer {secret}"}
    return load.post(body.path, port, body.data, headers, content_type=body.content_type)
