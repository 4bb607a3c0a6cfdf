"""The description of the hot paths, which DRF does not serve."""

from __future__ import annotations

from typing import Any

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


def paths() -> dict[str, Any]:
    """Return the hot paths."""
    owner = {"name": "owner", "in": "path", "required": True, "schema": {"type": "string"}}
    name = owner | {"name": "name"}
    return {
        "/v1/predictions": {
            "post": _operation(
                "predictions_create", "Run a model and wait for the answer.", "Prediction", []
            )
        },
        "/v1/models/{owner}/{name}:predict": {
            "post": _operation(
                "models_predict",
                "Run a model as TensorFlow Serving does.",
                "Predict",
                [owner, name],
            )
        },
    }


def _operation(
    operation_id: str, summary: str, schema: str, parameters: list[dict[str, Any]]
) -> dict[str, Any]:
    request = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}Request"}}}
    answer = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    cost = {"schema": {"type": "string"}, "description": "What the call cost, such as 0.00002."}
    return {
        "operationId": operation_id,
        "summary": summary,
        "tags": ["predictions"],
        "parameters": [*parameters, _IDEMPOTENCY, _CEILING, _QUOTE],
        "requestBody": {"required": True, "content": request},
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
        "PredictionRequest": _object(
            model=text | {"example": "mercato/mnist-cnn"},
            input={"type": "object", "description": "A value per input of the signature."},
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
        "PredictRequest": _object(instances={"type": "array", "items": {}}),
        "Predict": _object(predictions={"type": "array", "items": {}}),
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties)}
