"""/v1/webhooks: endpoints, their secrets and their deliveries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import bodies, idempotency, paging
from accounts.authentication import key_label, organization_of
from accounts.errors import InvalidRequestError, NotFoundError
from inference.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from inference.webhooks import deliveries, endpoints, events

_FIELDS = ("url", "events", "description")
_MAX_OVERLAP_HOURS = 168
_IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="Makes a repeat safe."
)
_PAGE = [OpenApiParameter("limit", int), OpenApiParameter("cursor", str)]


class WebhookRequestSerializer(serializers.Serializer[object]):
    """An endpoint to make."""

    url = serializers.CharField()
    events = serializers.ListField(child=serializers.CharField(), required=False)
    description = serializers.CharField(required=False)


class WebhookChangeSerializer(WebhookRequestSerializer):
    """What to change of an endpoint."""

    url = serializers.CharField(required=False)
    active = serializers.BooleanField(required=False)


class WebhookSerializer(serializers.Serializer[object]):
    """An endpoint."""

    id = serializers.CharField()
    object = serializers.CharField()
    url = serializers.CharField()
    description = serializers.CharField()
    events = serializers.ListField(child=serializers.CharField())
    active = serializers.BooleanField()
    disabled_reason = serializers.CharField(allow_null=True)
    failing_since = serializers.DateTimeField(allow_null=True)
    secret_ids = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()


class WebhookWithSecretSerializer(WebhookSerializer):
    """An endpoint and its secret, which is shown in this answer only."""

    secret = serializers.CharField()


class AttemptSerializer(serializers.Serializer[object]):
    """One request to the receiver, and what came of it."""

    at = serializers.DateTimeField()
    status = serializers.IntegerField(allow_null=True)
    failure = serializers.CharField(allow_null=True)
    ms = serializers.IntegerField()
    excerpt = serializers.CharField()
    secret_ids = serializers.ListField(child=serializers.CharField())


class DeliverySerializer(serializers.Serializer[object]):
    """One event on its way to one endpoint."""

    id = serializers.CharField()
    object = serializers.CharField()
    event_id = serializers.CharField()
    type = serializers.CharField()
    state = serializers.CharField()
    attempts = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    attempted_at = serializers.DateTimeField(allow_null=True)
    next_attempt_at = serializers.DateTimeField(allow_null=True)
    response = serializers.JSONField(allow_null=True)
    failure = serializers.CharField(allow_null=True)
    log = AttemptSerializer(many=True)
    payload = serializers.JSONField()


class ListOfWebhooks(serializers.Serializer[object]):
    """A page of endpoints."""

    object = serializers.CharField()
    data = WebhookSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class ListOfDeliveries(serializers.Serializer[object]):
    """A page of deliveries."""

    object = serializers.CharField()
    data = DeliverySerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class _View(APIView):
    @property
    def scope(self) -> str:
        """Reading needs less than changing."""
        return "read" if self.request.method == "GET" else "webhooks"


class WebhookList(_View):
    """The organization's endpoints."""

    @extend_schema(operation_id="webhooks_list", responses=ListOfWebhooks, parameters=_PAGE)
    def get(self, request: Request) -> Response:
        """List endpoints, newest first."""
        mine = WebhookEndpoint.objects.visible_to(organization_of(request))
        return Response(paging.page(request, mine, as_json))

    @extend_schema(
        operation_id="webhooks_create",
        request=WebhookRequestSerializer,
        responses={201: WebhookWithSecretSerializer},
        parameters=[_IDEMPOTENCY],
    )
    @idempotency.once
    def post(self, request: Request) -> Response:
        """Make an endpoint; its secret is in this answer only."""
        body = bodies.read(request, _FIELDS)
        endpoint, secret = endpoints.create(
            organization_of(request),
            bodies.text(body, "url", limit=2000, required=True),
            event_types=_events(body) or (),
            description=bodies.text(body, "description", limit=120),
            via=key_label(request),
        )
        return Response({**as_json(endpoint), "secret": secret}, status=201)


class WebhookDetail(_View):
    """One endpoint."""

    @extend_schema(operation_id="webhooks_retrieve", responses=WebhookSerializer)
    def get(self, request: Request, endpoint_id: UUID) -> Response:
        """Return one endpoint."""
        return Response(as_json(_endpoint(request, endpoint_id)))

    @extend_schema(
        operation_id="webhooks_update", request=WebhookChangeSerializer, responses=WebhookSerializer
    )
    def patch(self, request: Request, endpoint_id: UUID) -> Response:
        """Change an endpoint; fields that are not given stay."""
        body = bodies.read(request, (*_FIELDS, "active"))
        changed = endpoints.update(
            _endpoint(request, endpoint_id),
            url=bodies.text(body, "url", limit=2000, required=True) if "url" in body else None,
            event_types=_events(body),
            description=(
                bodies.text(body, "description", limit=120) if "description" in body else None
            ),
            is_active=bodies.boolean(body, "active") if "active" in body else None,
            via=key_label(request),
        )
        return Response(as_json(changed))

    @extend_schema(operation_id="webhooks_delete", responses={204: None})
    def delete(self, request: Request, endpoint_id: UUID) -> Response:
        """Delete an endpoint and what was sent to it."""
        endpoints.delete(_endpoint(request, endpoint_id), via=key_label(request))
        return Response(status=204)


class WebhookPing(_View):
    """A test event."""

    @extend_schema(
        operation_id="webhooks_ping",
        request=None,
        responses={202: DeliverySerializer},
        parameters=[_IDEMPOTENCY],
    )
    @idempotency.once
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Send a test event."""
        bodies.read(request, ())
        made = endpoints.ping(_endpoint(request, endpoint_id))
        return Response(delivery_json(made), status=202)


class WebhookRotate(_View):
    """A new secret."""

    @extend_schema(
        operation_id="webhooks_rotate",
        request=None,
        responses=WebhookWithSecretSerializer,
        parameters=[_IDEMPOTENCY],
    )
    @idempotency.once
    def post(self, request: Request, endpoint_id: UUID) -> Response:
        """Make a new secret; the old one signs as well for `overlap_hours`, 24 if not given."""
        body = bodies.read(request, ("overlap_hours",))
        hours = bodies.integer(body, "overlap_hours", low=0, high=_MAX_OVERLAP_HOURS)
        endpoint = _endpoint(request, endpoint_id)
        overlap = endpoints.OVERLAP if hours is None else timedelta(hours=hours)
        secret = endpoints.rotate(endpoint, overlap=overlap, via=key_label(request))
        endpoint.refresh_from_db()
        return Response({**as_json(endpoint), "secret": secret})


class DeliveryList(_View):
    """What was sent to an endpoint."""

    @extend_schema(
        operation_id="webhook_deliveries_list",
        responses=ListOfDeliveries,
        parameters=[OpenApiParameter("state", str), *_PAGE],
    )
    def get(self, request: Request, endpoint_id: UUID) -> Response:
        """List deliveries, newest first; they are kept for 30 days."""
        found = _endpoint(request, endpoint_id).deliveries.prefetch_related("log")
        if state := request.query_params.get("state", ""):
            bodies.choice({"state": state}, "state", WebhookDelivery.State.values)
            found = found.filter(state=state)
        return Response(paging.page(request, found, delivery_json, known=("state",)))


class Redeliver(_View):
    """Sending an event again."""

    @extend_schema(
        operation_id="webhook_deliveries_redeliver",
        request=None,
        responses={202: DeliverySerializer},
        parameters=[_IDEMPOTENCY],
    )
    @idempotency.once
    def post(self, request: Request, endpoint_id: UUID, delivery_id: UUID) -> Response:
        """Send an event again, with the same id and body."""
        bodies.read(request, ())
        found = _endpoint(request, endpoint_id).deliveries.filter(pk=delivery_id).first()
        if found is None:
            raise NotFoundError("There is no such delivery.")
        return Response(delivery_json(deliveries.redeliver(found)), status=202)


def as_json(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """Return what the API says of an endpoint."""
    return {
        "id": str(endpoint.pk),
        "object": "webhook",
        "url": endpoint.url,
        "description": endpoint.description,
        "events": endpoint.events or [each.name for each in events.types()],
        "active": endpoint.is_active,
        "disabled_reason": endpoint.disabled_reason or None,
        "failing_since": endpoint.failing_since,
        "secret_ids": endpoints.secret_ids(endpoint),
        "created_at": endpoint.created_at,
    }


def delivery_json(delivery: WebhookDelivery) -> dict[str, Any]:
    """Return what the API says of a delivery."""
    is_pending = delivery.state == WebhookDelivery.State.PENDING
    last = delivery.last
    return {
        "id": str(delivery.pk),
        "object": "webhook_delivery",
        "event_id": delivery.event_id,
        "type": delivery.type,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": delivery.created_at,
        "attempted_at": last.attempted_at if last else None,
        "next_attempt_at": delivery.next_attempt_at if is_pending else None,
        "response": (
            {"status": last.status, "excerpt": last.excerpt, "ms": last.milliseconds}
            if last
            else None
        ),
        "failure": delivery.failure or None,
        "log": [attempt_json(each) for each in delivery.log.all()],
        "payload": orjson.loads(delivery.payload),
    }


def attempt_json(attempt: WebhookAttempt) -> dict[str, Any]:
    """Return what the API says of one attempt."""
    return {
        "at": attempt.attempted_at,
        "status": attempt.status,
        "failure": attempt.failure or None,
        "ms": attempt.milliseconds,
        "excerpt": attempt.excerpt,
        "secret_ids": attempt.secret_ids,
    }


def _events(body: dict[str, Any]) -> list[str] | None:
    """Read the list of event types; absent is None."""
    if "events" not in body:
        return None
    value = body["events"]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidRequestError("`events` must be a list of types of events.", param="events")
    return value


def _endpoint(request: Request, endpoint_id: UUID) -> WebhookEndpoint:
    mine = WebhookEndpoint.objects.visible_to(organization_of(request))
    found = mine.select_related("organization").filter(pk=endpoint_id).first()
    if found is None:
        raise NotFoundError("There is no such webhook.")
    return found
