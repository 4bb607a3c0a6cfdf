"""The description of the hot paths, which DRF does not serve."""

from __future__ import annotations

from typing import Any

from inference import openapi_openai
from inference.faces.binary import READERS

_ERROR = {"$ref": "#/components/schemas/Error"}
_STATUSES = {
    "400": "The input does not fit the signature.",
    "401": "No key, or one that is not accepted.",
    "402": "No credit, or a spending limit is reached.",
    "404": "No such model.",
    "413": "Too large.",
    "503": "No worker; try again after Retry-After.",
    "504": "No answer in time.",
}
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 200},
    "description": "The same key and body give the first answer again, without a second charge.",
}
_CEILING = {
    "name": "Mercato-Max-Cost",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The most the call may cost, such as 0.01; else it is refused.",
}
_QUOTE = {
    "name": "Mercato-Quote",
    "in": "header",
    "schema": {"type": "string", "format": "uuid"},
    "description": "The id of a quote, whose price applies. Good for one call.",
}


_PREFER = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string"},
    "description": "respond-async: 202 at once; wait=N: 202 if it has not ended in N seconds.",
}
_CANCEL_AFTER = {
    "name": "Cancel-After",
    "in": "header",
    "schema": {"type": "string", "example": "5m"},
    "description": "With Prefer: not begun in this time, it fails and costs nothing.",
}


_INPUT = (
    "A value per input of the signature. Of a model that writes text, with Prefer: prompt, and "
    "max_tokens, temperature, top_p, seed and stop as of /v1/completions."
)
_BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
# What a body may be besides JSON.
_INPUTS = dict.fromkeys(READERS, _BINARY)


def _path_parameters(*names: str) -> list[dict[str, Any]]:
    kinds = {"number": "integer"}
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": kinds.get(name, "string")},
        }
        for name in names
    ]


def paths() -> dict[str, Any]:
    """Return the hot paths, and health."""
    model = _path_parameters("owner", "name")
    version = _path_parameters("owner", "name", "number")
    return {
        "/v1/predictions": {"post": _predictions()},
        "/v1/predictions/{prediction_id}": {"put": _put_prediction()},
        "/v1/models/{owner}/{name}:predict": {"post": _predict("models_predict", model)},
        "/v1/models/{owner}/{name}/versions/{number}:predict": {
            "post": _predict("versions_predict", version)
        },
        "/v2/models/{owner}.{name}/infer": {"post": _infer("v2_infer", model)},
        "/v2/models/{owner}.{name}/versions/{number}/infer": {
            "post": _infer("v2_version_infer", version)
        },
        "/v2/health/live": {"get": _health("live", "The process answers.")},
        "/v2/health/ready": {"get": _health("ready", "A prediction could be run now.")},
        **{
            path: {"post": _operation(operation_id, summary, schema, [])}
            for path, (operation_id, summary, schema) in openapi_openai.operations().items()
        },
    }


def _predictions() -> dict[str, Any]:
    model = {
        "name": "model",
        "in": "query",
        "schema": {"type": "string"},
        "description": "owner/name, if the body is the input itself and not JSON.",
    }
    summary = "Run a model: now, or later with Prefer."
    parameters = [model, _PREFER, _CANCEL_AFTER]
    operation = _operation("predictions_create", summary, "Prediction", parameters, bodies=_INPUTS)
    return _later(operation)


def _put_prediction() -> dict[str, Any]:
    chosen = _path_parameters("prediction_id")
    chosen[0]["schema"] = {"type": "string", "format": "uuid"}
    chosen[0]["description"] = "Yours, of version 4 or 7; once used, it is always this prediction."
    summary = "Run a model later, under an id of your own."
    described = _operation(
        "predictions_put", summary, "Prediction", [*chosen, _PREFER, _CANCEL_AFTER]
    )
    described["parameters"].remove(_IDEMPOTENCY)
    stored = {"application/json": {"schema": {"$ref": "#/components/schemas/PredictionLine"}}}
    described["responses"]["200"] = {"description": "It is known already.", "content": stored}
    described["responses"]["422"] = {
        "description": "The id was used with another request.",
        "content": {"application/json": {"schema": _ERROR}},
    }
    return _later(described)


def _predict(operation_id: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    summary = "Run a model as TensorFlow Serving does."
    return _operation(operation_id, summary, "Predict", parameters)


def _infer(operation_id: str, parameters: list[dict[str, Any]]) -> dict[str, Any]:
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "schema": {"type": "integer"},
        "description": "How long the JSON is, if binary data follows it.",
    }
    binary = {"application/octet-stream": _BINARY}
    summary = "Run a model by the Open Inference Protocol."
    described = _operation(operation_id, summary, "Infer", [*parameters, length], bodies=binary)
    described["responses"]["200"]["content"] |= binary
    return described


def _health(word: str, description: str) -> dict[str, Any]:
    answer = {"schema": {"type": "object", "properties": {word: {"type": "boolean"}}}}
    return {
        "operationId": f"v2_{word}",
        "summary": description,
        "tags": ["v2"],
        "security": [],
        "responses": {"200": {"description": description, "content": {"application/json": answer}}},
    }


def _later(operation: dict[str, Any]) -> dict[str, Any]:
    """Add what is answered when it runs later."""
    stored = {"application/json": {"schema": {"$ref": "#/components/schemas/PredictionLine"}}}
    operation["responses"]["202"] = {"description": "Stored; it runs later.", "content": stored}
    return operation


def _operation(
    operation_id: str,
    summary: str,
    schema: str,
    parameters: list[dict[str, Any]],
    *,
    bodies: dict[str, Any] | None = None,
) -> dict[str, Any]:
    request = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}Request"}}}
    answer = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    cost = {"schema": {"type": "string"}, "description": "What the call cost, such as 0.00002."}
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": ["predictions"],
        "parameters": [*parameters, _IDEMPOTENCY, _CEILING, _QUOTE],
        "requestBody": {"required": True, "content": request | (bodies or {})},
        "security": [{"ApiKey": []}],
        "responses": {
            "200": {"description": "Done.", "content": answer, "headers": {"Mercato-Cost": cost}},
            **{
                code: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
                for code, text in _STATUSES.items()
            },
        },
    }


def schemas() -> dict[str, Any]:
    """Return the shapes that the hot paths use."""
    text = {"type": "string"}
    return {
        "Error": _object(error=_object(code=text, message=text, param=text, request_id=text)),
        "PredictionRequest": _optional(
            _object(
                model=text | {"example": "mercato/mnist-cnn"},
                input={"type": "object", "description": _INPUT},
            ),
            webhook=text | {"description": "With Prefer: the webhook that is told of the end."},
        ),
        "Prediction": _object(
            id=text,
            object=text,
            model=text,
            status=text,
            output={},
            metrics={"type": "object"},
            cost=_object(
                amount=text,
                currency=text,
                units={"type": "object"},
                price_version={"type": "integer"},
                hold=text,
            ),
        ),
        **openapi_openai.schemas(),
        "PredictRequest": _either(
            "Rows, or columns.", instances={"type": "array", "items": {}}, inputs={}
        ),
        "Predict": _either(
            "As the request.", predictions={"type": "array", "items": {}}, outputs={}
        ),
        "InferRequest": _object(inputs=_tensors()),
        "Infer": _object(model_name=text, model_version=text, outputs=_tensors()),
    }


def _tensors() -> dict[str, Any]:
    whole = {"type": "array", "items": {"type": "integer"}}
    tensor = _object(name={"type": "string"}, datatype={"type": "string"}, shape=whole)
    tensor["properties"]["data"] = {"type": "array", "items": {}}
    return {"type": "array", "items": tensor}


def _either(description: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "description": description, "properties": properties}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def _optional(schema: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return schema | {"properties": schema["properties"] | properties}
