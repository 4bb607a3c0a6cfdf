"""The console's pages of stored predictions: the list, one of them, its events."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import lists
from accounts.sessions import (
    ConsoleRequest,
    maker_required,
    organization_required,
    organization_required_async,
)
from billing.models import Hold
from inference import stream_door, streams
from inference.asynchronous import endings, events, payloads, snapshots
from inference.models import Prediction

# More of an input or output is not shown, but can be read through the API.
_SHOWN_CHARACTERS = 20_000
STATUSES = {
    Prediction.Status.QUEUED: _("Waiting"),
    Prediction.Status.STARTING: _("Starting"),
    Prediction.Status.PROCESSING: _("Running"),
    Prediction.Status.SUCCEEDED: _("Succeeded"),
    Prediction.Status.FAILED: _("Failed"),
    Prediction.Status.CANCELED: _("Canceled"),
}
REASONS = {
    "model_error": _("The model failed on this input."),
    "platform_error": _("The model cannot be loaded at the moment."),
    "worker_lost": _("The workers died too often while they ran this."),
    "deadline_exceeded": _("No worker began it in time."),
    "hold_expired": _("The money set aside had been given back before it ended."),
    "canceled": _("It was canceled."),
}


@never_cache
@require_GET
@organization_required
def predictions(request: ConsoleRequest) -> HttpResponse:
    """Show the organization's stored predictions, newest first."""
    return render(request, "inference/predictions.html", _list_page(request))


@never_cache
@require_GET
@organization_required
def predictions_live(request: ConsoleRequest) -> HttpResponse:
    """Answer with the part of the list that changes."""
    return render(request, "inference/_predictions.html", _list_page(request))


@never_cache
@require_GET
@organization_required
def prediction(request: ConsoleRequest, prediction_id: UUID) -> HttpResponse:
    """Show one prediction: live until it has ended."""
    return render(request, "inference/prediction.html", _page(request, prediction_id))


@never_cache
@require_GET
@organization_required
def prediction_live(request: ConsoleRequest, prediction_id: UUID) -> HttpResponse:
    """Answer with the part of the page that changes until it has ended."""
    return render(request, "inference/_prediction.html", _page(request, prediction_id))


@require_POST
@maker_required
def prediction_cancel(request: ConsoleRequest, prediction_id: UUID) -> HttpResponse:
    """Cancel a prediction; one that has ended stays as it is."""
    endings.cancel(_one(request, prediction_id))
    return redirect("prediction", prediction_id)


@require_GET
@organization_required_async
async def prediction_events(request: ConsoleRequest, prediction_id: UUID) -> HttpResponseBase:
    """Stream what happens to a prediction until it has ended."""
    mine = Prediction.objects.visible_to(request.organization)
    if not await mine.filter(pk=prediction_id).aexists():
        raise Http404
    last = request.headers.get("Last-Event-ID", "")
    return stream_door.respond(request, streams.stream(events.SOURCE, prediction_id, last))


@require_GET
@organization_required_async
async def predictions_events(request: ConsoleRequest) -> HttpResponseBase:
    """Stream an event whenever one of the organization's predictions changes."""
    key = events.list_key(request.organization.pk)
    return stream_door.respond(request, streams.rings(key))


def _list_page(request: ConsoleRequest) -> dict[str, Any]:
    status, model = _text(request, "status"), _text(request, "model")
    rows = Prediction.objects.visible_to(request.organization).with_version().defer("input")
    is_empty = not rows.exists()
    if status in Prediction.Status.values:
        rows = rows.filter(status=status)
    if model:
        rows = rows.of_model(model)
    found = lists.newest(rows, request.GET.get("before"), field="hold_id")
    query = {name: value for name, value in (("status", status), ("model", model)) if value}
    return {
        "section": "predictions",
        "rows": [_line(row) for row in found.rows],
        "statuses": [(value, STATUSES[Prediction.Status(value)]) for value in STATUSES],
        "status": status,
        "model": model,
        "is_empty": is_empty,
        "is_first": found.is_first,
        "query": urlencode(query),
        "older": urlencode({**query, "before": found.older}) if found.older else "",
    }


def _line(row: Prediction) -> dict[str, Any]:
    cost = (row.answer or {}).get("cost")
    return {
        "prediction": row,
        "label": STATUSES[Prediction.Status(row.status)],
        "nanos": int(Decimal(cost["amount"]).scaleb(9)) if cost else None,
        "took_ms": _milliseconds(row),
    }


def _milliseconds(row: Prediction) -> int | None:
    if row.finished_at is None:
        return None
    return int((row.finished_at - row.created_at).total_seconds() * 1000)


def _page(request: ConsoleRequest, prediction_id: UUID) -> dict[str, Any]:
    row = _one(request, prediction_id)
    answer = payloads.answer_of(row)
    error = snapshots.error_of(row)
    return {
        "section": "predictions",
        "prediction": row,
        "label": STATUSES[Prediction.Status(row.status)],
        "is_open": not row.is_ended,
        "may_cancel": row.is_async and not row.is_ended and request.may_change,
        "error": error,
        "reason": REASONS.get(error["code"], "") if error else "",
        "hold": Hold.objects.filter(pk=row.hold_id).first(),
        "metrics": _metrics(answer.get("metrics")),
        "input": _shown(payloads.inputs([row])[0]),
        "output": _shown(answer.get("output")),
        "took_ms": _milliseconds(row),
    }


def _metrics(metrics: dict[str, Any] | None) -> dict[str, int] | None:
    """Return the times in microseconds."""
    if metrics is None:
        return None
    return {
        "queue_us": round(metrics["queue_ms"] * 1000),
        "run_us": round(metrics["run_ms"] * 1000),
        "batch_rows": metrics["batch_rows"],
    }


def _shown(value: Any) -> str:
    """Write what went in or came out, as much as a page can show."""
    if not value:
        return ""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    if len(text) > _SHOWN_CHARACTERS // 4:
        # Numbers on lines of their own would fill the page.
        text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " …"


def _one(request: ConsoleRequest, prediction_id: UUID) -> Prediction:
    mine = Prediction.objects.visible_to(request.organization).with_version()
    return get_object_or_404(mine, pk=prediction_id)


def _text(request: HttpRequest, name: str) -> str:
    return request.GET.get(name, "").replace("\0", "").strip()[:120]
