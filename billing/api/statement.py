"""GET /v1/statement: the account of a period."""

from __future__ import annotations

from datetime import UTC, date, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_date
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import organization_of
from accounts.errors import InvalidRequestError, UnknownFieldError
from billing import statements
from billing.money import decimal_text

MAX_DAYS = 366
_PARAMETERS = {"start", "end"}


class StatementLineSerializer(serializers.Serializer[object]):
    """One movement; the charges of a day are one."""

    at = serializers.DateTimeField()
    kind = serializers.CharField()
    reason = serializers.CharField()
    calls = serializers.IntegerField()
    amount = serializers.CharField()
    balance = serializers.CharField()


class StatementSerializer(serializers.Serializer[object]):
    """An account over a period; amounts are decimal strings."""

    object = serializers.CharField()
    start = serializers.DateField()
    end = serializers.DateField()
    currency = serializers.CharField()
    opening = serializers.CharField()
    credited = serializers.CharField()
    charged = serializers.CharField()
    closing = serializers.CharField()
    lines = StatementLineSerializer(many=True)


class Statement(APIView):
    """What there was, what came and went, what is left."""

    scope = "read"

    @extend_schema(
        responses=StatementSerializer,
        parameters=[
            OpenApiParameter("start", str, description="First day, UTC; this month's if left out"),
            OpenApiParameter("end", str, description="Last day, UTC; today if left out"),
        ],
    )
    def get(self, request: Request) -> Response:
        """Return the account from one day to another, both included."""
        for name in request.query_params:
            if name not in _PARAMETERS:
                raise UnknownFieldError(f"Unknown parameter {name[:64]!r}.", param=name[:64])
        today = timezone.now().astimezone(UTC).date()
        start = _day(request, "start", today.replace(day=1))
        end = _day(request, "end", max(today, start))
        if not timedelta(0) <= end - start < timedelta(days=MAX_DAYS):
            raise InvalidRequestError("A period is 1 to 366 days.", param="end")
        return Response(_json(statements.of_period(organization_of(request), start, end)))


def _day(request: Request, name: str, usual: date) -> date:
    text = request.query_params.get(name, "")
    if not text:
        return usual
    try:
        found = parse_date(text)
    except ValueError:
        found = None
    if found is None or not date(2000, 1, 1) <= found <= date(9000, 1, 1):
        raise InvalidRequestError(f"`{name}` must be a day such as 2026-01-31.", param=name)
    return found


def _json(found: statements.Statement) -> dict[str, Any]:
    return {
        "object": "statement",
        "start": found.first,
        "end": found.last,
        "currency": settings.CURRENCY,
        "opening": decimal_text(found.opening_nanos),
        "credited": decimal_text(found.credited_nanos),
        "charged": decimal_text(found.charged_nanos),
        "closing": decimal_text(found.closing_nanos),
        "lines": [
            {
                "at": line.at,
                "kind": line.kind,
                "reason": line.reason,
                "calls": line.calls,
                "amount": decimal_text(line.amount_nanos),
                "balance": decimal_text(line.balance_nanos),
            }
            for line in found.lines
        ],
    }
