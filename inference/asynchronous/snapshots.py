"""What is told of a stored prediction, whoever asks: API, events, webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from inference.asynchronous import payloads
from inference.asynchronous.failures import FAILURES
from inference.models import Prediction

Status = Prediction.Status


def as_json(prediction: Prediction, *, with_input: bool = True) -> dict[str, Any]:
    """Return a prediction with its output and, unless the caller has just sent it, its input."""
    answer = payloads.answer_of(prediction)
    found = {**_common(prediction, answer), "output": answer.get("output")}
    if with_input:
        found["input"] = payloads.inputs([prediction])[0] or None
    return found


def as_line(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction without what went in and came out: for lists and events."""
    return _common(prediction, prediction.answer or {})


def _common(prediction: Prediction, answer: Mapping[str, Any]) -> dict[str, Any]:
    path = f"/v1/predictions/{prediction.pk}"
    return {
        "id": str(prediction.pk),
        "object": "prediction",
        "model": prediction.model_version.path,
        "status": prediction.status,
        "error": error_of(prediction),
        "metrics": answer.get("metrics"),
        "cost": answer.get("cost"),
        "created_at": _instant(prediction.created_at),
        "started_at": _instant(prediction.started_at),
        "completed_at": _instant(prediction.finished_at),
        "start_by": _instant(prediction.start_by),
        "expires_at": _instant(prediction.expires_at),
        "urls": {"get": path, "cancel": f"{path}/cancel", "events": f"{path}/events"},
    }


def error_of(prediction: Prediction) -> dict[str, str] | None:
    """Return why there is no output; None if there is one, or may be."""
    if prediction.status not in (Status.FAILED, Status.CANCELED):
        return None
    code = str((prediction.answer or {}).get("code", ""))
    return {"code": code, "message": FAILURES.get(code, "")}


def _instant(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
