"""Calls to a model as a person would type them, with the model's real id and a real input."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import dataclass
from typing import Any

from PIL import Image

from catalog import text_snippets
from catalog.models import ModelVersion
from catalog.models.models import TEXT_TASKS

KEY = "$MERCATO_KEY"
_LATER = ("Prefer", "respond-async")
_READ = """    print(response.headers["Mercato-Cost"])
    print(json.load(response)["output"])"""
# Where the result is going to be.
_READ_LATER = """    prediction = json.load(response)
    print(prediction["status"], prediction["urls"]["get"])"""
_LIST = re.compile(r"\[[^\[\]{}]*\]")


@dataclass(frozen=True, slots=True)
class Snippets:
    """The same call in several languages, and what it answers."""

    curl: str
    python: str
    tf_serving: str
    # Empty for a model with several inputs.
    npy: str
    tritonclient: str
    response: str


def example_input(version: ModelVersion) -> dict[str, Any]:
    """Return an input that works: the first example, or zeros."""
    return portable(version, version.examples[0]["input"] if version.examples else {})


def portable(version: ModelVersion, given: dict[str, Any]) -> dict[str, Any]:
    """Return an input with images as short PNG data URLs, and zeros for what is missing."""
    return {
        spec["name"]: _short(spec, given.get(spec["name"])) for spec in version.signature["inputs"]
    }


def of(version: ModelVersion, public_url: str) -> Snippets:
    """Return the calls that reach a version on this site."""
    path = version.model.path
    if version.model.task in TEXT_TASKS:
        answer = json.dumps(text_snippets.answer(version), indent=2, ensure_ascii=False)
        return Snippets(
            curl=text_snippets.curl(version, public_url),
            python=text_snippets.python(version, public_url),
            tf_serving="",
            npy="",
            tritonclient="",
            response=_one_line_lists(answer),
        )
    given = example_input(version)
    body = {"model": path, "input": given}
    return Snippets(
        curl=curl(public_url, body),
        python=python(public_url, body),
        tf_serving=_tf_serving(public_url, path, given),
        npy=_npy(public_url, version),
        tritonclient=_tritonclient(public_url, version),
        response=_one_line_lists(json.dumps(_answer(version), indent=2, ensure_ascii=False)),
    )


def curl(public_url: str, body: dict[str, Any], *, is_later: bool = False) -> str:
    """Return the call for a shell.

    Args:
        is_later: It is answered before the model has run.
    """
    later = f'  -H "{_LATER[0]}: {_LATER[1]}" \\\n' if is_later else ""
    return (
        f"curl {public_url}/v1/predictions \\\n"
        f'  -H "Authorization: Bearer {KEY}" -H "Content-Type: application/json" \\\n'
        f"{later}  -d '{json.dumps(body)}'"
    )


def python(public_url: str, body: dict[str, Any], *, is_later: bool = False) -> str:
    """Return the call for the Python standard library.

    Args:
        is_later: It is answered before the model has run.
    """
    later = f',\n             "{_LATER[0]}": "{_LATER[1]}"' if is_later else ""
    return (
        "import json, os, urllib.request\n\n"
        f"body = {json.dumps(body, indent=4)}\n"
        "request = urllib.request.Request(\n"
        f'    "{public_url}/v1/predictions",\n'
        "    data=json.dumps(body).encode(),\n"
        '    headers={"Authorization": "Bearer " + os.environ["MERCATO_KEY"],\n'
        f'             "Content-Type": "application/json"{later}}},\n'
        ")\n"
        "with urllib.request.urlopen(request) as response:\n"
    ) + (_READ_LATER if is_later else _READ)


def _tf_serving(public_url: str, path: str, given: dict[str, Any]) -> str:
    instance = next(iter(given.values())) if len(given) == 1 else given
    return (
        f"curl {public_url}/v1/models/{path}:predict \\\n"
        f'  -H "Authorization: Bearer {KEY}" -H "Content-Type: application/json" \\\n'
        f"  -d '{json.dumps({'instances': [instance]})}'"
    )


def _npy(public_url: str, version: ModelVersion) -> str:
    specs = version.signature["inputs"]
    if len(specs) > 1:
        return ""
    zeros = f"numpy.zeros({_tuple(specs[0]['shape'])}, '{specs[0]['datatype']}')"
    return (
        f"python -c \"import numpy; numpy.save('input.npy', {zeros})\"\n"
        f'curl "{public_url}/v1/predictions?model={version.model.path}" \\\n'
        f'  -H "Authorization: Bearer {KEY}" -H "Content-Type: application/x-npy" \\\n'
        "  --data-binary @input.npy"
    )


def _tritonclient(public_url: str, version: ModelVersion) -> str:
    scheme, _, host = public_url.partition("://")
    address = f'"{host}", ssl=True' if scheme == "https" else f'"{host}"'
    tensors = "\n".join(
        f'array = np.zeros({_tuple([1, *spec["shape"]])}, "{spec["datatype"]}")\n'
        f'tensor = triton.InferInput("{spec["name"]}", list(array.shape), '
        f'"{_protocol(spec)}")\n'
        "tensors.append(tensor.set_data_from_numpy(array))"
        for spec in version.signature["inputs"]
    )
    output = version.signature["outputs"][0]["name"]
    return (
        "import os\n\n"
        "import numpy as np\n"
        "import tritonclient.http as triton\n\n"
        f"client = triton.InferenceServerClient({address})\n"
        'key = "Bearer " + os.environ["MERCATO_KEY"]\n'
        "client.register_plugin(lambda request: request.headers.update(Authorization=key))\n\n"
        f"tensors = []\n{tensors}\n"
        f'result = client.infer("{version.model.path.replace("/", ".")}", tensors)\n'
        f'print(result.as_numpy("{output}"))'
    )


def _tuple(shape: list[int]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _protocol(spec: dict[str, Any]) -> str:
    """Return what the Open Inference Protocol calls a datatype: FP32 for float32."""
    datatype: str = spec["datatype"]
    return datatype.replace("float", "FP").upper()


def _short(spec: dict[str, Any], value: Any) -> Any:
    if spec.get("kind") == "image" and not isinstance(value, str):
        return data_url(value or _zeros(spec["shape"]))
    return _zeros(spec["shape"]) if value is None else value


def _zeros(shape: list[int]) -> Any:
    value: Any = 0.0
    for size in reversed(shape):
        value = [value] * size
    return value


def data_url(pixels: list[list[float]]) -> str:
    """Return grey values 0..1 as a PNG data URL."""
    image = Image.new("L", (len(pixels[0]), len(pixels)))
    image.putdata(levels(pixels))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def levels(pixels: list[list[float]]) -> list[int]:
    """Return grey values 0..1 as bytes 0..255, row by row."""
    return [min(255, max(0, round(float(value) * 255))) for row in pixels for value in row]


def _one_line_lists(text: str) -> str:
    return _LIST.sub(lambda found: f"[{' '.join(found[0][1:-1].split())}]", text)


def _answer(version: ModelVersion) -> dict[str, Any]:
    return {
        "id": "0199a7c2-6f5e-7c1b-9a51-3d2f8e41c07a",
        "object": "prediction",
        "model": version.path,
        "status": "succeeded",
        "output": _sample_output(version),
        "metrics": {
            "rows": 1,
            "batch_rows": 1,
            "queue_ms": 0.4,
            "run_ms": 1.1,
        },
        "cost": {
            "amount": "0.00002",
            "currency": "usd",
            "units": {"row": 1},
            "price_version": 3,
            "hold": "0199a7c2-6f5e-7d20-b0c4-51a9e3b7f2d8",
        },
    }


def _sample_output(version: ModelVersion) -> dict[str, Any]:
    output: dict[str, Any] = {}
    for spec in version.signature["outputs"]:
        labels = spec.get("labels")
        if labels:
            likely = version.examples[0].get("label") if version.examples else labels[0]
            output[spec["name"]] = [0.981 if label == likely else 0.002 for label in labels]
            output["label"] = likely
        else:
            output[spec["name"]] = _zeros(spec["shape"])
    return output
