"""Stored predictions in the API: read, list, cancel, watch. They are made by inference.asgi."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import paging
from accounts.authentication import organization_of
from accounts.errors import InvalidRequestError, NotFoundError, UnknownFieldError
from inference import stream_door, streams
from inference.asynchronous import endings, snapshots
from inference.asynchronous.events import SOURCE
from inference.errors import NotCancelableError
from inference.models import Prediction
from inference.models.predictions import PredictionQuerySet
from inference.serializers import ListOfPredictions, StoredPredictionSerializer


class PredictionList(APIView):
    """The organization's stored predictions."""

    scope = "read"

    @extend_schema(
        operation_id="predictions_list",
        responses=ListOfPredictions,
        parameters=[
            OpenApiParameter("status", str, enum=Prediction.Status.values),
            OpenApiParameter("model", str, description="owner/name, or owner/name:version"),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
    )
    def get(self, request: Request) -> Response:
        """List predictions, newest first, without what went in and came out."""
        rows = mine(request).defer("input")
        status = request.query_params.get("status", "")
        if status:
            if status not in Prediction.Status.values:
                raise InvalidRequestError(
                    f"`status` is one of {', '.join(Prediction.Status.values)}.", param="status"
                )
            rows = rows.filter(status=status)
        if model := request.query_params.get("model", ""):
            rows = rows.of_model(model.replace("\0", ""))
        return Response(
            paging.page(
                request, rows, snapshots.as_line, order="-hold_id", known=("status", "model")
            )
        )


class PredictionDetail(APIView):
    """One stored prediction."""

    scope = "read"

    @extend_schema(operation_id="predictions_retrieve", responses=StoredPredictionSerializer)
    def get(self, request: Request, prediction_id: UUID) -> Response:
        """Return one prediction with its input and output."""
        return Response(snapshots.as_json(_one(request, prediction_id)))


class PredictionCancel(APIView):
    """Stopping a prediction."""

    scope = "predict"

    @extend_schema(
        operation_id="predictions_cancel", request=None, responses=StoredPredictionSerializer
    )
    def post(self, request: Request, prediction_id: UUID) -> Response:
        """Cancel a prediction; twice is fine, and one that has ended stays as it is."""
        for name in cast(dict[str, Any], request.data):
            raise UnknownFieldError(f"Unknown field {name[:64]!r}.", param=name[:64])
        prediction = _one(request, prediction_id)
        if not prediction.is_async and not prediction.is_ended:
            raise NotCancelableError("It is synchronous: its caller waits for it.")
        endings.cancel(prediction)
        return Response(snapshots.as_json(_one(request, prediction_id)))


class AnyAccept(DefaultContentNegotiation):
    """Errors of a stream are JSON, whatever the client accepts."""

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the first renderer."""
        return renderers[0], renderers[0].media_type


class PredictionEvents(APIView):
    """A prediction as server-sent events."""

    scope = "read"
    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="predictions_events",
        responses={(200, "text/event-stream"): OpenApiTypes.STR},
        parameters=[OpenApiParameter("Last-Event-ID", str, OpenApiParameter.HEADER)],
    )
    def get(self, request: Request, prediction_id: UUID) -> HttpResponseBase:
        """Stream what happens until the prediction has ended."""
        prediction = _one(request, prediction_id)
        last = request.headers.get("Last-Event-ID", "")
        return stream_door.respond(request._request, streams.stream(SOURCE, prediction.pk, last))


def mine(request: Request) -> PredictionQuerySet:
    """Return the predictions that the caller may see."""
    return Prediction.objects.visible_to(organization_of(request)).with_version()


def _one(request: Request, prediction_id: UUID) -> Prediction:
    prediction = mine(request).filter(pk=prediction_id).first()
    if prediction is None:
        raise NotFoundError("There is no such prediction.")
    return prediction
