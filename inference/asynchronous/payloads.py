"""What goes in and comes out: in the row if small, else beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from inference.models import Prediction, PredictionBlob

# SQLite writes a whole row each time it changes, and a row changes four times.
INLINE_BYTES = 16_384
_BESIDE = {"beside": True}
Kind = PredictionBlob.Kind


def put_input(prediction: Prediction, value: Any) -> None:
    """Make a new row with its input."""
    data = orjson.dumps(value)
    is_small = len(data) <= INLINE_BYTES
    prediction.input = value if is_small else _BESIDE
    prediction.save(force_insert=True)
    if not is_small:
        PredictionBlob.objects.create(prediction=prediction, kind=Kind.INPUT, data=data)


def without_large(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what the row keeps of an answer."""
    return {**answer, "output": _BESIDE} if _large(answer) else answer


def put_output(prediction_id: UUID, answer: dict[str, Any]) -> None:
    """Store the output of an answer, if it is too large for the row."""
    data = _large(answer)
    if data:
        PredictionBlob.objects.create(prediction_id=prediction_id, kind=Kind.OUTPUT, data=data)


def drop_output(prediction_id: UUID) -> None:
    """Forget an output again."""
    PredictionBlob.objects.filter(prediction=prediction_id, kind=Kind.OUTPUT).delete()


def _large(answer: dict[str, Any]) -> bytes:
    data = orjson.dumps(answer.get("output"))
    return data if len(data) > INLINE_BYTES else b""


def inputs(predictions: Sequence[Prediction]) -> list[Any]:
    """Return the inputs of many rows, in their order; at most one query."""
    beside = [one.pk for one in predictions if one.input == _BESIDE]
    found: dict[UUID, Any] = {}
    if beside:
        blobs = PredictionBlob.objects.filter(prediction__in=beside, kind=Kind.INPUT)
        found = {blob.prediction_id: orjson.loads(bytes(blob.data)) for blob in blobs}
    return [found.get(one.pk, one.input) for one in predictions]


def answer_of(prediction: Prediction) -> dict[str, Any]:
    """Return what is stored of the end, with the output wherever it is; empty before the end."""
    answer: dict[str, Any] = prediction.answer or {}
    if answer.get("output") != _BESIDE:
        return answer
    blob = PredictionBlob.objects.get(prediction=prediction, kind=Kind.OUTPUT)
    return {**answer, "output": orjson.loads(bytes(blob.data))}
