"""/v1/batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from uuid import UUID

from django.core.files.uploadedfile import UploadedFile
from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.parsers import BaseParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import bodies, idempotency, paging, rate_headers
from accounts.authentication import caller_of, organization_of
from accounts.errors import InvalidRequestError, NotFoundError, UnknownFieldError
from billing.money import parse
from inference import limits, stream_door
from inference.batch_files import downloads, orders, watching
from inference.batch_files.orders import Order
from inference.batch_files.serializers import (
    BatchRequestSerializer,
    BatchSerializer,
    BatchStartSerializer,
    ListOfBatches,
    batch_json,
)
from inference.models import BatchFile
from inference.prediction_api import AnyAccept

_FIELDS = ("file", "model", "format", "start", "skip_invalid", "when_refused", "max_cost")
_BOOLEANS = {"": False, "false": False, "0": False, "true": True, "1": True}
_PAGE = [OpenApiParameter("limit", int), OpenApiParameter("cursor", str)]
_KEY = OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER)


class BatchList(APIView):
    """The organization's batch files."""

    @property
    def scope(self) -> str:
        """Reading needs less than running."""
        return "predict" if self.request.method == "POST" else "read"

    def get_parsers(self) -> list[BaseParser]:
        """Read files here, and nothing else."""
        return [MultiPartParser()]

    @extend_schema(operation_id="batches_list", responses=ListOfBatches, parameters=_PAGE)
    def get(self, request: Request) -> Response:
        """List batch files, newest first."""

        def short(batch: BatchFile) -> dict[str, Any]:
            return batch_json(batch, with_errors=False)

        mine = BatchFile.objects.visible_to(organization_of(request)).listed()
        return Response(paging.page(request, mine, short))

    @extend_schema(
        operation_id="batches_create",
        request={"multipart/form-data": BatchRequestSerializer},
        responses={201: BatchSerializer},
        parameters=[_KEY],
    )
    def post(self, request: Request) -> Response:
        """Upload a file; it is checked, and runs when it is started."""
        wanted, file = _order(request)
        caller = caller_of(request)
        # A file is one request; its rows run when there is room, and are not counted by the minute.
        counted = limits.count(caller.limits)
        batch, is_new = orders.create(caller, wanted, file.chunks())
        headers = {"Location": f"/v1/batches/{batch.pk}"}
        headers |= dict(rate_headers.join(", ", counted.texts))
        if not is_new:
            headers["Idempotent-Replayed"] = "true"
        return Response(batch_json(_batch(request, batch.pk)), status=201, headers=headers)


def _order(request: Request) -> tuple[Order, UploadedFile[Any]]:
    fields = cast(Mapping[str, Any], request.data)
    for name in fields:
        if name not in _FIELDS:
            raise UnknownFieldError(f"Unknown field {name[:64]!r}.", param=name[:64])
    file = fields.get("file")
    if not isinstance(file, UploadedFile):
        raise InvalidRequestError("Send the file as the field `file` of a form.", param="file")
    body = {name: fields[name] for name in fields if name != "file"}
    name = (file.name or "file")[-200:]
    if not bodies.is_storable(name):
        raise InvalidRequestError("The name of the file cannot be stored.", param="file")
    return (
        Order(
            ref=bodies.text(body, "model", limit=150, required=True),
            name=name,
            format=bodies.choice(body, "format", ["", *BatchFile.Format.values]),
            starts_itself=_boolean(body, "start"),
            skips_invalid=_boolean(body, "skip_invalid"),
            when_refused=bodies.choice(
                body, "when_refused", BatchFile.WhenRefused.values, default="pause"
            ),
            max_cost_nanos=_amount(body, "max_cost"),
            idempotency_key=idempotency.key_of(request),
        ),
        file,
    )


def _boolean(body: dict[str, Any], name: str) -> bool:
    text = bodies.text(body, name, limit=5).lower()
    if text not in _BOOLEANS:
        raise InvalidRequestError(f"`{name}` must be true or false.", param=name)
    return _BOOLEANS[text]


def _amount(body: dict[str, Any], name: str) -> int | None:
    text = bodies.text(body, name, limit=20)
    if not text:
        return None
    try:
        nanos = parse(text)
    except ValueError:
        nanos = -1
    if nanos < 0:
        raise InvalidRequestError("An amount is a decimal text such as 0.5.", param=name)
    return nanos


class BatchDetail(APIView):
    """One batch file."""

    @property
    def scope(self) -> str:
        """Reading needs less than deleting."""
        return "predict" if self.request.method == "DELETE" else "read"

    @extend_schema(operation_id="batches_retrieve", responses=BatchSerializer)
    def get(self, request: Request, batch_id: UUID) -> Response:
        """Return one batch file: how far it is, what it cost, what is wrong."""
        return Response(batch_json(_batch(request, batch_id)))

    @extend_schema(operation_id="batches_destroy", responses={204: None})
    def delete(self, request: Request, batch_id: UUID) -> Response:
        """Remove a file that has ended, and its results."""
        orders.delete(_batch(request, batch_id))
        return Response(status=204)


class BatchStart(APIView):
    """Starting a batch file."""

    scope = "predict"

    @extend_schema(
        operation_id="batches_start", request=BatchStartSerializer, responses=BatchSerializer
    )
    def post(self, request: Request, batch_id: UUID) -> Response:
        """Start a checked file, or let one that is paused try again; twice is fine."""
        body = bodies.read(request, ("max_cost",))
        orders.start(_batch(request, batch_id), max_cost_nanos=_amount(body, "max_cost"))
        return Response(batch_json(_batch(request, batch_id)))


class BatchCancel(APIView):
    """Ending a batch file."""

    scope = "predict"

    @extend_schema(operation_id="batches_cancel", request=None, responses=BatchSerializer)
    def post(self, request: Request, batch_id: UUID) -> Response:
        """End a file; what is done stays and is paid. Twice is fine."""
        bodies.read(request, ())
        orders.cancel(_batch(request, batch_id))
        return Response(batch_json(_batch(request, batch_id)))


class BatchResults(APIView):
    """The results of a batch file."""

    scope = "read"
    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="batches_results",
        responses={
            (200, "application/x-ndjson"): OpenApiTypes.STR,
            (200, "text/csv"): OpenApiTypes.STR,
        },
        parameters=[OpenApiParameter("as", str, enum=["jsonl", "csv"])],
    )
    def get(self, request: Request, batch_id: UUID) -> StreamingHttpResponse:
        """Stream what is done, in the order of the file; more while it runs."""
        batch = _batch(request, batch_id)
        wanted = request.query_params.get("as", batch.format)
        if wanted not in downloads.CONTENT_TYPES:
            raise InvalidRequestError("`as` must be jsonl or csv.", param="as")
        return results_response(batch, wanted)


def results_response(batch: BatchFile, wanted: str) -> StreamingHttpResponse:
    """Return the answer that streams the results."""
    name = f"batch-{batch.pk}.{wanted}"
    return StreamingHttpResponse(
        downloads.parts(batch, wanted),
        content_type=downloads.CONTENT_TYPES[wanted],
        headers={
            "Content-Disposition": f'attachment; filename="{name}"',
            "Cache-Control": "no-store",
        },
    )


class BatchEvents(APIView):
    """A batch file as server-sent events."""

    scope = "read"
    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="batches_events", responses={(200, "text/event-stream"): OpenApiTypes.STR}
    )
    def get(self, request: Request, batch_id: UUID) -> HttpResponseBase:
        """Stream its state whenever it changes, until it has ended."""
        batch = _batch(request, batch_id)
        return stream_door.respond(request._request, watching.stream(batch.pk))


def _batch(request: Request, batch_id: UUID) -> BatchFile:
    mine = BatchFile.objects.visible_to(organization_of(request)).listed()
    batch = mine.defer(None).filter(pk=batch_id).first()
    if batch is None:
        raise NotFoundError("There is no such batch file.")
    return batch
