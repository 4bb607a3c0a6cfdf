"""/v1/quotes. Here and not in billing: a quote counts inputs and estimates trainings."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import bodies
from accounts.authentication import caller_of, organization_of
from accounts.errors import InvalidRequestError, NotFoundError
from accounts.idempotency import once
from billing import quotes as books
from inference.asgi import MAX_BODY_BYTES
from inference.runtime.tensors import MAX_ROWS
from training import jobs, quotes
from training.serializers import mapping, require_known

_MAX_REF = 120


class QuoteRequestSerializer(serializers.Serializer[object]):
    """What to quote: a call of a model, or a training."""

    model = serializers.CharField(required=False, help_text="owner/name or owner/name:number")
    input = serializers.JSONField(required=False, help_text="As it will be sent; or `rows`.")
    rows = serializers.IntegerField(required=False)
    bytes = serializers.IntegerField(
        required=False, help_text="The longest body; needed where bytes have a price."
    )
    training = serializers.JSONField(
        required=False, help_text="`recipe`, `data` and `hyperparameters`, as for /v1/trainings."
    )


class QuoteSerializer(serializers.Serializer[object]):
    """A price that binds until it expires, for one run."""

    id = serializers.UUIDField()
    object = serializers.CharField()
    status = serializers.ChoiceField(choices=("open", "used", "expired"))
    model = serializers.CharField(allow_null=True)
    training = serializers.JSONField()
    amount = serializers.CharField(help_text="The most that the run can cost.")
    currency = serializers.CharField()
    units = serializers.DictField(child=serializers.IntegerField())
    price_version = serializers.IntegerField()
    outcome_policy = serializers.DictField(child=serializers.IntegerField())
    outcome_policy_text = serializers.JSONField()
    hold = serializers.CharField(allow_null=True, help_text="Of the run that used it.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class QuoteList(APIView):
    """Making quotes."""

    scope = "read"

    @extend_schema(
        operation_id="quotes_create",
        request=QuoteRequestSerializer,
        responses={201: QuoteSerializer},
        parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER)],
    )
    @once
    def post(self, request: Request) -> Response:
        """Promise the price of one call or one training."""
        body = bodies.read(request, ("model", "input", "rows", "bytes", "training"))
        if ("model" in body) == ("training" in body):
            raise InvalidRequestError("Send `model` or `training`: one of the two.", param="model")
        if "training" in body:
            quote = quotes.of_training(caller_of(request), _order(body))
        else:
            quote = _of_prediction(request, body)
        headers = {"Location": f"/v1/quotes/{quote.pk}"}
        return Response(quotes.as_json(quote), status=201, headers=headers)


class QuoteDetail(APIView):
    """One quote."""

    scope = "read"

    @extend_schema(operation_id="quotes_retrieve", responses=QuoteSerializer)
    def get(self, request: Request, quote_id: UUID) -> Response:
        """Return a quote: open, used or expired."""
        quote = books.find(organization_of(request), quote_id)
        if quote is None:
            raise NotFoundError("There is no such quote.")
        return Response(quotes.as_json(quote))


def _of_prediction(request: Request, body: dict[str, Any]) -> Any:
    ref = bodies.text(body, "model", limit=_MAX_REF, required=True)
    rows = bodies.integer(body, "rows", low=1, high=MAX_ROWS)
    if (rows is None) == ("input" not in body):
        raise InvalidRequestError("Send `input` or `rows`: one of the two.", param="rows")
    size = bodies.integer(body, "bytes", low=1, high=MAX_BODY_BYTES)
    if size is None:
        # The call's body has the same input; without it, the most that is accepted.
        sent = int(request.META.get("CONTENT_LENGTH") or MAX_BODY_BYTES)
        size = MAX_BODY_BYTES if rows is not None else min(sent, MAX_BODY_BYTES)
    return quotes.of_prediction(
        caller_of(request), ref, rows=rows, value=body.get("input"), size=size
    )


def _order(body: dict[str, Any]) -> jobs.Order:
    wanted = mapping(body, "training")
    for name in ("input", "rows", "bytes"):
        if name in body:
            raise InvalidRequestError(f"`{name}` is for a model, not for a training.", param=name)
    require_known(wanted, ("recipe", "data", "hyperparameters"))
    return jobs.order(
        bodies.text(wanted, "recipe", limit=40, required=True),
        bodies.text(wanted, "data", limit=40),
        mapping(wanted, "hyperparameters"),
    )
