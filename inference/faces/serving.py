"""POST /v1/models/{owner}/{name}:predict: the REST form of TensorFlow Serving."""

from __future__ import annotations

import re
from typing import Any

from accounts import errors
from accounts.keys import Caller
from inference.answers import Answer, dumps
from inference.faces import requests
from inference.faces.http import HttpAnswer, HttpRequest
from inference.predictions import Call, Given, Replay
from inference.runtime import serving

_PATH = re.compile(r"/v1/models/([^/:]{1,64}/[^/:]{1,64})(?:/versions/(\d{1,9}))?:predict")
_FIELDS = frozenset({"instances", "inputs", "signature_name"})
# The forms of `Call.form`: by rows, or by columns.
_ROWS, _COLUMNS = "rows", "columns"


class Serving:
    """`{"instances": […]}` → `{"predictions": […]}`; `{"inputs": …}` → `{"outputs": …}`."""

    def matches(self, method: str, path: str) -> bool:
        """Whether this face serves the request."""
        return method == "POST" and path.startswith("/v1/models/") and ":predict" in path

    def read(self, request: HttpRequest, caller: Caller) -> Call:
        """Check what is asked."""
        match = _PATH.fullmatch(request.path)
        if match is None:
            raise errors.NotFoundError("There is no such path.")
        found = requests.fields(request)
        requests.refuse_unknown(found, _FIELDS)
        if found.get("signature_name", "serving_default") != "serving_default":
            raise errors.InvalidRequestError(
                "The only signature is `serving_default`.", param="signature_name"
            )
        name, number = match.groups()
        ref = f"{name}:{number}" if number else name
        given, form = _given(found)
        return requests.call(request, caller, ref, given, form=form)

    def write(self, call: Call, answer: Answer | Replay) -> HttpAnswer:
        """Put an answer into TensorFlow Serving's form: that of the request."""
        is_columnar = call.form == _COLUMNS
        if isinstance(answer, Replay):
            rows = _bare(answer.body["output"])
            return HttpAnswer(dumps({"outputs": _columns(rows)} if is_columnar else _rows(rows)))
        if is_columnar:
            outputs = serving.encode_outputs(answer.arrays, answer.signature)
            return HttpAnswer(dumps({"outputs": outputs}))
        return HttpAnswer(dumps(_rows(serving.encode_predictions(answer.arrays, answer.signature))))


def _given(found: dict[str, Any]) -> tuple[Given, str]:
    if "instances" in found and "inputs" in found:
        raise errors.InvalidRequestError("Send `instances` or `inputs`, not both.", param="inputs")
    if "inputs" in found:
        return Given(serving.decode_inputs, found["inputs"]), _COLUMNS
    if "instances" in found:
        return Given(serving.decode_instances, found["instances"]), _ROWS
    raise errors.InvalidRequestError("`instances` is missing.", param="instances")


def _rows(predictions: list[Any]) -> dict[str, list[Any]]:
    return {"predictions": predictions}


def _bare(output: list[dict[str, Any]]) -> list[Any]:
    """Turn stored rows into bare values if there is one output."""
    rows = [{name: value for name, value in row.items() if name != "label"} for row in output]
    return [next(iter(row.values())) if len(row) == 1 else row for row in rows]


def _columns(rows: list[Any]) -> Any:
    """Turn such rows into columns."""
    if not isinstance(rows[0], dict):
        return rows
    return {name: [row[name] for row in rows] for name in rows[0]}
