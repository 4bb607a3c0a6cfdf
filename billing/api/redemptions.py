"""POST /v1/redemptions."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import bodies, idempotency
from accounts.authentication import organization_of
from billing import promotions
from billing.models import Redemption
from billing.money import decimal_text

_HEADER = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="Makes a repeat safe."
)


class RedemptionRequestSerializer(serializers.Serializer[object]):
    """A redeem code."""

    code = serializers.CharField()


class RedemptionSerializer(serializers.Serializer[object]):
    """Promotional credit that a code gave."""

    id = serializers.CharField()
    object = serializers.CharField()
    created_at = serializers.DateTimeField()
    amount = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)


class Redemptions(APIView):
    """Redeem codes."""

    scope = "billing"

    @extend_schema(
        operation_id="redemptions_create",
        request=RedemptionRequestSerializer,
        responses={201: RedemptionSerializer},
        parameters=[_HEADER],
    )
    @idempotency.once
    def post(self, request: Request) -> Response:
        """Redeem a code: its credit is there at once."""
        body = bodies.read(request, ("code",))
        code = bodies.text(body, "code", limit=200, required=True)
        return Response(as_json(promotions.redeem(organization_of(request), code)), status=201)


def as_json(made: Redemption) -> dict[str, Any]:
    """Return what the API says of a redemption."""
    return {
        "id": str(made.pk),
        "object": "redemption",
        "created_at": made.created_at,
        "amount": decimal_text(made.grant.amount_nanos),
        "expires_at": made.grant.expires_at,
    }
