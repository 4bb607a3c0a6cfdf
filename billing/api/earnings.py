"""GET /v1/earnings and /v1/payouts: what a publisher has earned, and was paid."""

from __future__ import annotations

from datetime import UTC, date, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import paging
from accounts.authentication import organization_of
from accounts.errors import InvalidRequestError, UnknownFieldError
from billing import minor, publisher_reports
from billing.models import Payout
from billing.money import decimal_text
from billing.publisher_reports import Line

# The month that runs and the eleven before it.
MONTHS = 12
_PARAMETERS = ("since", "until", "model")


class EarningsLineSerializer(serializers.Serializer[object]):
    """What one model earned in one month."""

    month = serializers.CharField(help_text="Such as 2026-11, UTC.")
    model = serializers.CharField()
    calls = serializers.IntegerField()
    earned = serializers.CharField()
    given_back = serializers.CharField()


class ReleaseSerializer(serializers.Serializer[object]):
    """What becomes payable on one day."""

    date = serializers.DateField()
    amount = serializers.CharField()


class EarningsSerializer(serializers.Serializer[object]):
    """Where a publisher's money is; amounts are decimal strings."""

    object = serializers.CharField()
    currency = serializers.CharField()
    accrued = serializers.CharField()
    payable = serializers.CharField()
    on_the_way = serializers.CharField()
    paid = serializers.CharField()
    releases = ReleaseSerializer(many=True)
    months = EarningsLineSerializer(many=True)


class PayoutSerializer(serializers.Serializer[object]):
    """Money that goes to a publisher."""

    id = serializers.CharField()
    object = serializers.CharField()
    created_at = serializers.DateTimeField()
    state = serializers.ChoiceField(choices=Payout.State.choices)
    amount = serializers.CharField()
    reversed = serializers.CharField()
    currency = serializers.CharField()
    failure = serializers.CharField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class ListOfPayouts(serializers.Serializer[object]):
    """A page of payouts."""

    object = serializers.CharField()
    data = PayoutSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class Earnings(APIView):
    """What the organization's models have earned."""

    scope = "read"

    @extend_schema(
        responses=EarningsSerializer,
        parameters=[
            OpenApiParameter("since", str, description="First day, such as 2026-01-01"),
            OpenApiParameter("until", str, description="Last day"),
            OpenApiParameter("model", str, description="owner/name"),
        ],
    )
    def get(self, request: Request) -> Response:
        """Return what is accrued, payable and paid, and what each model earned by the month."""
        for name in request.query_params:
            if name not in _PARAMETERS:
                raise UnknownFieldError(f"Unknown parameter {name[:64]!r}.", param=name[:64])
        organization = organization_of(request)
        sums = publisher_reports.totals(organization)
        first, last = _period(request)
        owner, _, name = request.query_params.get("model", "").replace("\0", "").partition("/")
        is_mine = not owner or owner == organization.slug
        lines = publisher_reports.by_month(organization, first, last, name) if is_mine else []
        return Response(
            {
                "object": "earnings",
                "currency": settings.CURRENCY,
                "accrued": decimal_text(sums.accrued),
                "payable": decimal_text(sums.payable),
                "on_the_way": decimal_text(sums.on_the_way),
                "paid": decimal_text(sums.paid),
                "releases": [
                    {"date": each.day, "amount": decimal_text(each.nanos)}
                    for each in publisher_reports.releases(organization)
                ],
                "months": [_month(line) for line in lines],
            }
        )


class Payouts(APIView):
    """What the organization was paid as a publisher."""

    scope = "read"

    @extend_schema(
        responses=ListOfPayouts,
        parameters=[OpenApiParameter("limit", int), OpenApiParameter("cursor", str)],
    )
    def get(self, request: Request) -> Response:
        """List payouts, newest first."""
        mine = Payout.objects.filter(organization=organization_of(request))
        return Response(paging.page(request, mine, as_json))


def as_json(payout: Payout) -> dict[str, Any]:
    """Return what the API says of one payout."""
    back = minor.to_nanos(payout.reversed_minor, payout.currency)
    return {
        "id": str(payout.pk),
        "object": "payout",
        "created_at": payout.created_at,
        "state": payout.state,
        "amount": decimal_text(payout.amount_nanos),
        "reversed": decimal_text(back),
        "currency": payout.currency,
        "failure": payout.failure or None,
        "finished_at": payout.finished_at,
    }


def _month(line: Line) -> dict[str, Any]:
    return {
        "month": f"{line.day:%Y-%m}",
        "model": line.model,
        "calls": line.calls,
        "earned": decimal_text(line.earned_nanos),
        "given_back": decimal_text(line.given_back_nanos),
    }


def _period(request: Request) -> tuple[date, date]:
    """Return the first and the last day that are asked for: twelve months if nothing is said."""
    last = _date(request, "until") or timezone.now().astimezone(UTC).date()
    first = _date(request, "since")
    if first is None:
        first = last.replace(day=1)
        for _ in range(MONTHS - 1):
            first = (first - timedelta(days=1)).replace(day=1)
    return first, last


def _date(request: Request, name: str) -> date | None:
    text = request.query_params.get(name, "")
    if not text:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequestError(
            f"`{name}` must be a day such as 2026-01-31.", param=name
        ) from error
    if not 2000 <= found.year <= 2999:
        raise InvalidRequestError(f"`{name}` is too far away.", param=name)
    return found
