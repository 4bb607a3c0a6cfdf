"""POST and GET /v1/topups."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import bodies, idempotency, paging
from accounts.authentication import organization_of
from accounts.errors import InvalidRequestError, NotFoundError
from billing import topups
from billing.models import TopUp
from billing.money import decimal_text, parse

_HEADER = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="Makes a repeat safe."
)


class TopUpRequestSerializer(serializers.Serializer[object]):
    """How much credit to buy."""

    amount = serializers.CharField(help_text="Such as 25.00, without tax.")
    save_card = serializers.BooleanField(required=False)


class TopUpSerializer(serializers.Serializer[object]):
    """Credit that is bought, or was; amounts are decimal strings."""

    id = serializers.CharField()
    object = serializers.CharField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    kind = serializers.ChoiceField(TopUp.Kind.choices)
    state = serializers.ChoiceField(TopUp.State.choices)
    failure = serializers.CharField(allow_null=True)
    currency = serializers.CharField()
    amount = serializers.CharField()
    refunded = serializers.CharField()
    clawed_back = serializers.CharField()
    url = serializers.CharField(allow_null=True, help_text="Where a person pays.")


class ListOfTopUps(serializers.Serializer[object]):
    """A page of top-ups."""

    object = serializers.CharField()
    data = TopUpSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class TopUpList(APIView):
    """The organization's top-ups."""

    @property
    def scope(self) -> str:
        """Reading needs less than buying."""
        return "billing" if self.request.method == "POST" else "read"

    @extend_schema(
        operation_id="topups_list",
        responses=ListOfTopUps,
        parameters=[OpenApiParameter("limit", int), OpenApiParameter("cursor", str)],
    )
    def get(self, request: Request) -> Response:
        """List top-ups, newest first."""
        mine = TopUp.objects.filter(organization=organization_of(request))
        return Response(paging.page(request, mine, as_json, order="-created_at"))

    @extend_schema(
        operation_id="topups_create",
        request=TopUpRequestSerializer,
        responses={201: TopUpSerializer},
        parameters=[_HEADER],
    )
    def post(self, request: Request) -> Response:
        """Open a payment page; nothing is charged before a person has paid there."""
        body = bodies.read(request, ("amount", "save_card"))
        started = topups.start(
            organization_of(request),
            _amount(body),
            save_card=bodies.boolean(body, "save_card"),
            idempotency_key=idempotency.key_of(request),
        )
        headers = {"Location": f"/v1/topups/{started.top_up.pk}"}
        return Response(as_json(started.top_up, url=started.url), status=201, headers=headers)


class TopUpDetail(APIView):
    """One top-up."""

    scope = "read"

    @extend_schema(operation_id="topups_retrieve", responses=TopUpSerializer)
    def get(self, request: Request, top_up_id: UUID) -> Response:
        """Return one top-up, with its payment page while it can be paid."""
        mine = TopUp.objects.filter(organization=organization_of(request))
        found = mine.filter(pk=top_up_id).first()
        if found is None:
            raise NotFoundError("There is no such top-up.")
        return Response(as_json(found, url=topups.page_of(found)))


def _amount(body: dict[str, Any]) -> int:
    try:
        return parse(bodies.text(body, "amount", limit=20, required=True))
    except ValueError as error:
        raise InvalidRequestError("`amount` must be such as 25.00.", param="amount") from error


def as_json(top_up: TopUp, *, url: str = "") -> dict[str, Any]:
    """Return what the API says of a top-up."""
    return {
        "id": str(top_up.pk),
        "object": "top_up",
        "created_at": top_up.created_at,
        "finished_at": top_up.finished_at,
        "kind": top_up.kind,
        "state": top_up.state,
        "failure": top_up.failure or None,
        "currency": top_up.currency,
        "amount": decimal_text(top_up.credit_nanos),
        "refunded": decimal_text(top_up.refunded_nanos),
        "clawed_back": decimal_text(top_up.clawed_back_nanos),
        "url": url or None,
    }
