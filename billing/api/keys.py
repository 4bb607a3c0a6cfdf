"""GET /v1/keys: the keys of the organization, what they may do and spend; never a secret."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import limits, paging
from accounts.authentication import organization_of
from accounts.keys import SCOPES
from accounts.models import ApiKey
from billing.models import SpendLimit, Unit
from billing.money import decimal_text


class CapSerializer(serializers.Serializer[object]):
    """The most a key may spend or call in a window."""

    window = serializers.ChoiceField(SpendLimit.Window.choices)
    unit = serializers.ChoiceField(Unit.choices)
    limit = serializers.CharField()


class ApiKeySerializer(serializers.Serializer[object]):
    """A key, without its secret."""

    id = serializers.IntegerField()
    object = serializers.CharField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="How the secret begins.")
    last4 = serializers.CharField(help_text="How the secret ends.")
    scopes = serializers.ListField(child=serializers.ChoiceField(SCOPES))
    status = serializers.ChoiceField(["active", "expired", "revoked"])
    caps = CapSerializer(many=True)
    limits = serializers.DictField(
        child=serializers.IntegerField(), help_text="requests, rows, concurrency; its own only."
    )
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)


class ListOfApiKeys(serializers.Serializer[object]):
    """A page of keys."""

    object = serializers.CharField()
    data = ApiKeySerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class Keys(APIView):
    """The organization's keys."""

    scope = "read"

    @extend_schema(
        operation_id="keys_list",
        responses=ListOfApiKeys,
        parameters=[OpenApiParameter("limit", int), OpenApiParameter("cursor", str)],
    )
    def get(self, request: Request) -> Response:
        """List keys, newest first, also those that are not accepted any more."""
        caps = SpendLimit.objects.filter(amount__isnull=False).order_by("pk")
        rows = ApiKey.objects.visible_to(organization_of(request))
        return Response(
            paging.page(request, rows.prefetch_related(Prefetch("limits", caps)), as_json)
        )


def as_json(key: ApiKey) -> dict[str, Any]:
    """Return what the API says of a key."""
    return {
        "id": key.pk,
        "object": "api_key",
        "name": key.name,
        "prefix": key.prefix,
        "last4": key.last4,
        "scopes": key.scopes,
        "status": _status(key),
        "caps": [_cap(rule) for rule in key.limits.all()],
        "limits": {
            unit.value: quota
            for unit in limits.Unit
            if (quota := getattr(key, unit.column)) is not None
        },
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    }


def _status(key: ApiKey) -> str:
    if key.is_usable:
        return "active"
    return "expired" if key.revoked_at is None else "revoked"


def _cap(rule: SpendLimit) -> dict[str, str]:
    assert rule.amount is not None
    limit = decimal_text(rule.amount) if rule.unit == Unit.MONEY else str(rule.amount)
    return {"window": rule.window, "unit": rule.unit, "limit": limit}
