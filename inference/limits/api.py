"""GET, PUT and DELETE /v1/limits: how fast a key may call, and how much of that is used now."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import bodies
from accounts import limits as rules
from accounts.authentication import caller_of, key_label, organization_of
from accounts.errors import InvalidRequestError, NotFoundError
from accounts.limits import LARGEST, WINDOW_SECONDS, Unit
from accounts.models import ApiKey, Organization
from inference.limits import live
from inference.limits.live import LiveLimit

_UNITS = [unit.value for unit in Unit]


class RateLimitKeySerializer(serializers.Serializer[object]):
    """The key a limit belongs to."""

    id = serializers.IntegerField()
    name = serializers.CharField()


class RateLimitSerializer(serializers.Serializer[object]):
    """A limit and its use."""

    object = serializers.CharField()
    name = serializers.CharField()
    key = RateLimitKeySerializer(allow_null=True)
    unit = serializers.ChoiceField(_UNITS)
    limit = serializers.IntegerField()
    window_seconds = serializers.IntegerField(allow_null=True)
    used = serializers.IntegerField(allow_null=True)
    left = serializers.IntegerField(allow_null=True)
    opens_in = serializers.IntegerField(allow_null=True)


class ListOfRateLimits(serializers.Serializer[object]):
    """All limits that bind a key."""

    object = serializers.CharField()
    data = RateLimitSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class RateLimitRequestSerializer(serializers.Serializer[object]):
    """A limit of a key to set."""

    key = serializers.IntegerField()
    unit = serializers.ChoiceField(_UNITS)
    limit = serializers.IntegerField(min_value=1, max_value=LARGEST)


class Limits(APIView):
    """Limits of the organization and of its keys."""

    @property
    def scope(self) -> str:
        """Reading needs less than changing."""
        return "read" if self.request.method == "GET" else "billing"

    @extend_schema(
        operation_id="limits_list",
        responses=ListOfRateLimits,
        parameters=[OpenApiParameter("key", int, description="Another key than the calling one.")],
    )
    def get(self, request: Request) -> Response:
        """List the limits that bind a key: its own and the organization's."""
        _require_known(request, {"key"})
        organization = organization_of(request)
        asked = request.query_params.get("key") or str(caller_of(request).api_key_id)
        data = [as_json(each) for each in live.of(organization, _key(organization, asked))]
        return Response({"object": "list", "data": data, "has_more": False, "next_cursor": None})

    @extend_schema(
        operation_id="limits_set", request=RateLimitRequestSerializer, responses=RateLimitSerializer
    )
    def put(self, request: Request) -> Response:
        """Set a limit of a key; it binds in every process within five seconds."""
        body = bodies.read(request, ("key", "unit", "limit"))
        unit = Unit(bodies.choice(body, "unit", _UNITS))
        quota = bodies.integer(body, "limit", low=1, high=LARGEST)
        number = bodies.integer(body, "key", low=1, high=10**18)
        if quota is None or number is None:
            missing = "limit" if quota is None else "key"
            raise InvalidRequestError(f"`{missing}` is required.", param=missing)
        key = _key(organization_of(request), str(number))
        rules.set_of_key(key, {unit: quota}, via=key_label(request))
        [mine] = [
            each
            for each in live.of(key.organization, key)
            if each.key is not None and each.unit is unit
        ]
        return Response(as_json(mine))

    @extend_schema(
        operation_id="limits_remove",
        responses={204: None},
        parameters=[
            OpenApiParameter("key", int, required=True),
            OpenApiParameter("unit", str, required=True),
        ],
    )
    def delete(self, request: Request) -> Response:
        """Remove a limit of a key; one that is not there is no error."""
        _require_known(request, {"key", "unit"})
        asked = request.query_params.dict()
        unit = Unit(bodies.choice(asked, "unit", _UNITS))
        key = _key(organization_of(request), str(asked.get("key", "")))
        rules.set_of_key(key, {unit: None}, via=key_label(request))
        return Response(status=204)


def as_json(one: LiveLimit) -> dict[str, Any]:
    """Return what the API says of one limit."""
    return {
        "object": "limit",
        "name": one.limit.name,
        "key": None if one.key is None else {"id": one.key.pk, "name": one.key.name},
        "unit": one.limit.unit,
        "limit": one.limit.quota,
        "window_seconds": None if one.unit is Unit.CONCURRENCY else WINDOW_SECONDS,
        "used": one.used,
        "left": one.left,
        "opens_in": one.opens_seconds,
    }


def _require_known(request: Request, known: set[str]) -> None:
    for name in request.query_params:
        if name not in known:
            raise InvalidRequestError(f"Unknown parameter {name[:64]!r}.", param=name[:64])


def _key(organization: Organization, text: str) -> ApiKey:
    """Return a key of the organization; another's, or a revoked one, does not exist."""
    found = None
    if text.isascii() and text.isdecimal() and len(text) <= 18:
        mine = ApiKey.objects.visible_to(organization).usable().select_related("organization")
        found = mine.filter(pk=int(text)).first()
    if found is None:
        raise NotFoundError("There is no such key.", param="key")
    return found
