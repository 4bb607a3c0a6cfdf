"""GET /v1/usage."""

from __future__ import annotations

from typing import Any

from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import durations, paging
from accounts.authentication import organization_of
from accounts.errors import InvalidRequestError
from billing.models import Hold
from billing.models.holds import HoldQuerySet
from billing.money import decimal_text
from billing.serializers import ListOfUsage


class Usage(APIView):
    """What was called and what it cost."""

    scope = "read"

    @extend_schema(
        responses=ListOfUsage,
        parameters=[
            OpenApiParameter("model", str, description="owner/name"),
            OpenApiParameter("since", str, description="RFC 3339"),
            OpenApiParameter("until", str, description="RFC 3339"),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
    )
    def get(self, request: Request) -> Response:
        """List calls, newest first."""
        calls = _filtered(
            request,
            Hold.objects.visible_to(organization_of(request)).select_related(
                "usage", "api_key", "model_version__model__owner"
            ),
        )
        return Response(paging.page(request, calls, as_json, known=("model", "since", "until")))


def _filtered(request: Request, calls: HoldQuerySet) -> HoldQuerySet:
    ref = request.query_params.get("model", "").replace("\0", "")
    if ref:
        owner, _, name = ref.partition("/")
        calls = calls.filter(
            model_version__model__owner__slug=owner, model_version__model__name=name
        )
    for name, lookup in (("since", "accepted_at__gte"), ("until", "accepted_at__lt")):
        if text := request.query_params.get(name, ""):
            calls = calls.filter(**{lookup: _instant(name, text)})
    return calls


def _instant(name: str, text: str) -> Any:
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidRequestError(
            f"`{name}` must be an instant such as 2026-01-31T00:00:00Z.", param=name
        )
    return found


def as_json(hold: Hold) -> dict[str, Any]:
    """Return what the API says of one call."""
    usage = getattr(hold, "usage", None)
    return {
        "id": str(hold.pk),
        "object": "usage",
        "created_at": hold.accepted_at,
        "source": hold.source,
        "model": hold.model_version.path if hold.model_version else None,
        "key": hold.api_key.name if hold.api_key else None,
        "request_id": hold.request_id,
        "state": hold.state,
        "failure": hold.failure or None,
        "rows": usage.rows if usage else 0,
        "compute_ms": usage.compute_ms if usage else 0,
        "queue_ms": durations.milliseconds(usage.queue_us) if usage else None,
        "run_ms": durations.milliseconds(usage.run_us) if usage else None,
        "cost": decimal_text(usage.cost_nanos if usage else 0),
        "currency": hold.currency,
        "receipt": f"/v1/receipts/{hold.pk}",
    }
