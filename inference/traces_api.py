"""GET /v1/traces/{id}: where the time of one call went."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import organization_of
from accounts.errors import NotFoundError
from billing import receipts
from inference.metrics import traces


class StageSerializer(serializers.Serializer[object]):
    """One stage, and how long it took."""

    name = serializers.CharField()
    ms = serializers.FloatField()


class TraceSerializer(serializers.Serializer[object]):
    """A call's stages in the order in which they passed."""

    id = serializers.CharField()
    object = serializers.CharField()
    request_id = serializers.CharField()
    total_ms = serializers.FloatField()
    batch_requests = serializers.IntegerField()
    failure = serializers.CharField(allow_null=True)
    stages = StageSerializer(many=True)


class TraceDetail(APIView):
    """Where the time of one call went."""

    scope = "read"

    @extend_schema(operation_id="traces_retrieve", responses=TraceSerializer)
    def get(self, request: Request, reference: str) -> Response:
        """Return the stages of a call: by the hold's id, or by its X-Request-Id."""
        hold = receipts.find(organization_of(request), reference)
        found = traces.of([hold.pk]).get(hold.pk)
        if found is None:
            raise NotFoundError("The times of this call are not kept, or not any longer.")
        body: dict[str, Any] = {
            "id": str(hold.pk),
            "object": "trace",
            "request_id": hold.request_id,
            "total_ms": found.total_us / 1000,
            "batch_requests": found.requests,
            "failure": hold.failure or None,
            "stages": [{"name": each.name, "ms": each.microseconds / 1000} for each in found.steps],
        }
        return Response(body)
