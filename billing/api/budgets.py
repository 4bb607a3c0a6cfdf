"""GET, PUT and DELETE /v1/budgets: caps, the state of their windows, and what was passed."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import bodies, paging
from accounts.authentication import key_label, organization_of
from accounts.errors import InvalidRequestError, NotFoundError
from accounts.models import ApiKey, Organization
from billing import alerts, budgets, windows
from billing.models import BalanceWatch, BudgetAlert, SpendLimit, Unit
from billing.money import decimal_text, parse
from billing.windows import Cap, Running

MAX_NANOS = 1_000_000 * 10**9
MAX_CALLS = 10**12
_FIELDS = ("key", "window", "unit", "limit")


class KeyRefSerializer(serializers.Serializer[object]):
    """A key, by id and name."""

    id = serializers.IntegerField()
    name = serializers.CharField()


class BudgetSerializer(serializers.Serializer[object]):
    """A cap and its running window; decimal strings for money, whole numbers for calls."""

    object = serializers.CharField()
    name = serializers.CharField()
    key = KeyRefSerializer(allow_null=True)
    window = serializers.ChoiceField(SpendLimit.Window.choices)
    unit = serializers.ChoiceField(Unit.choices)
    limit = serializers.CharField()
    used = serializers.CharField()
    held = serializers.CharField()
    left = serializers.CharField()
    forecast = serializers.CharField(allow_null=True)
    opens_at = serializers.DateTimeField(allow_null=True)
    reached = serializers.ListField(child=serializers.IntegerField())


class ListOfBudgets(serializers.Serializer[object]):
    """A page of caps."""

    object = serializers.CharField()
    data = BudgetSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class BudgetRequestSerializer(serializers.Serializer[object]):
    """A cap to set."""

    window = serializers.ChoiceField(SpendLimit.Window.choices)
    unit = serializers.ChoiceField(Unit.choices, required=False)
    key = serializers.IntegerField(required=False, allow_null=True)
    limit = serializers.CharField(help_text="Such as 5.00, or a whole number of calls.")


class AlertSerializer(serializers.Serializer[object]):
    """A threshold that was passed."""

    id = serializers.CharField()
    object = serializers.CharField()
    created_at = serializers.DateTimeField()
    budget = serializers.CharField()
    key = KeyRefSerializer(allow_null=True)
    window = serializers.CharField()
    window_start = serializers.DateField()
    unit = serializers.CharField()
    percent = serializers.IntegerField()
    used = serializers.CharField()
    limit = serializers.CharField()
    was_refused = serializers.BooleanField()


class ListOfAlerts(serializers.Serializer[object]):
    """A page of alerts."""

    object = serializers.CharField()
    data = AlertSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class BalanceAlertSerializer(serializers.Serializer[object]):
    """Below which balance owners are told."""

    object = serializers.CharField(read_only=True)
    threshold = serializers.CharField(allow_null=True)


class Budgets(APIView):
    """Caps of the organization and of its keys."""

    @property
    def scope(self) -> str:
        """Reading needs less than changing."""
        return "read" if self.request.method == "GET" else "billing"

    @extend_schema(
        operation_id="budgets_list",
        responses=ListOfBudgets,
        parameters=[
            OpenApiParameter("key", int, description="Only the caps of this key."),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
    )
    def get(self, request: Request) -> Response:
        """List caps with the state of their running windows."""
        organization = organization_of(request)
        rules = windows.rules(organization).select_related("api_key")
        if text := request.query_params.get("key", ""):
            rules = rules.filter(api_key=_key(organization, text))
        running = Running(organization)

        def state(rule: SpendLimit) -> dict[str, Any]:
            return as_json(running.cap(rule))

        return Response(paging.page(request, rules, state, order="pk", known=("key",)))

    @extend_schema(
        operation_id="budgets_set", request=BudgetRequestSerializer, responses=BudgetSerializer
    )
    def put(self, request: Request) -> Response:
        """Set a cap; the window that is running follows at once."""
        body = bodies.read(request, _FIELDS)
        organization = organization_of(request)
        key = _key_or_none(organization, body.get("key"))
        window = bodies.choice(body, "window", SpendLimit.Window.values)
        unit = bodies.choice(body, "unit", Unit.values, default=Unit.MONEY)
        amount = _amount(body, unit)
        rule = budgets.set_limit(
            organization, window, amount, unit=unit, api_key=key, via=key_label(request)
        )
        return Response(as_json(Running(organization).cap(rule)))

    @extend_schema(
        operation_id="budgets_remove",
        responses={204: None},
        parameters=[
            OpenApiParameter("window", str, required=True),
            OpenApiParameter("unit", str, description="money, if not given."),
            OpenApiParameter("key", int, description="Of this key; else of the organization."),
        ],
    )
    def delete(self, request: Request) -> Response:
        """Remove a cap; one that is not there is no error."""
        asked = request.query_params.dict()
        for name in asked:
            if name not in {"window", "unit", "key"}:
                raise InvalidRequestError(f"Unknown parameter {name[:64]!r}.", param=name[:64])
        organization = organization_of(request)
        key = _key(organization, asked["key"]) if asked.get("key") else None
        window = bodies.choice(asked, "window", SpendLimit.Window.values)
        unit = bodies.choice(asked, "unit", Unit.values, default=Unit.MONEY)
        budgets.set_limit(
            organization, window, None, unit=unit, api_key=key, via=key_label(request)
        )
        return Response(status=204)


class BudgetAlerts(APIView):
    """Thresholds that were passed."""

    scope = "read"

    @extend_schema(
        operation_id="budget_alerts_list",
        responses=ListOfAlerts,
        parameters=[OpenApiParameter("limit", int), OpenApiParameter("cursor", str)],
    )
    def get(self, request: Request) -> Response:
        """List alerts, newest first."""
        mine = alerts.of(organization_of(request))
        return Response(paging.page(request, mine, alert_json))


class LowBalance(APIView):
    """When owners are told that the balance is low."""

    @property
    def scope(self) -> str:
        """Reading needs less than changing."""
        return "read" if self.request.method == "GET" else "billing"

    @extend_schema(operation_id="balance_alert_retrieve", responses=BalanceAlertSerializer)
    def get(self, request: Request) -> Response:
        """Return the balance below which owners are told; null: never."""
        watch = BalanceWatch.objects.filter(organization=organization_of(request)).first()
        return Response(_watch_json(watch.threshold_nanos if watch else None))

    @extend_schema(
        operation_id="balance_alert_set",
        request=BalanceAlertSerializer,
        responses=BalanceAlertSerializer,
    )
    def put(self, request: Request) -> Response:
        """Set it; null turns it off."""
        body = bodies.read(request, ("threshold",))
        if "threshold" not in body:
            raise InvalidRequestError("`threshold` is required.", param="threshold")
        nanos = None if body["threshold"] is None else _nanos(body["threshold"], "threshold")
        alerts.watch_balance(organization_of(request), nanos, via=key_label(request))
        return Response(_watch_json(nanos or None))


def as_json(cap: Cap) -> dict[str, Any]:
    """Return what the API says of one cap."""
    return {
        "object": "budget",
        "name": cap.name,
        "key": _key_json(cap.key),
        "window": cap.window,
        "unit": cap.unit,
        "limit": amount(cap.unit, cap.limit),
        "used": amount(cap.unit, cap.used),
        "held": amount(cap.unit, cap.held),
        "left": amount(cap.unit, cap.left),
        "forecast": None if cap.forecast is None else amount(cap.unit, cap.forecast),
        "opens_at": cap.opens_at,
        "reached": list(cap.reached),
    }


def alert_json(alert: BudgetAlert) -> dict[str, Any]:
    """Return what the API and the webhooks say of one alert."""
    budget = alert.budget
    return {
        "id": str(alert.pk),
        "object": "budget_alert",
        "created_at": alert.created_at,
        "budget": budgets.name_of(budget.api_key_id, budget.window, budget.unit),
        "key": _key_json(budget.api_key),
        "window": budget.window,
        "window_start": budget.window_start,
        "unit": budget.unit,
        "percent": alert.percent,
        "used": amount(budget.unit, alert.used),
        "limit": amount(budget.unit, budget.limit),
        "was_refused": alert.was_refused,
    }


def amount(unit: str, value: int) -> str | int:
    """Write an amount of a cap: a decimal string of money, or a number of calls."""
    return value if unit == Unit.CALLS else decimal_text(value)


def _key_json(key: ApiKey | None) -> dict[str, Any] | None:
    return None if key is None else {"id": key.pk, "name": key.name}


def _watch_json(nanos: int | None) -> dict[str, Any]:
    text = None if nanos is None else decimal_text(nanos)
    return {"object": "balance_alert", "threshold": text}


def _amount(body: dict[str, Any], unit: str) -> int:
    if unit == Unit.MONEY:
        return _nanos(body.get("limit"), "limit")
    calls = bodies.integer(body, "limit", low=0, high=MAX_CALLS)
    if calls is None:
        raise InvalidRequestError("`limit` is required.", param="limit")
    return calls


def _nanos(value: object, name: str) -> int:
    rule = InvalidRequestError(
        f"`{name}` must be a decimal text such as 12.50, 0 to 1000000.", param=name
    )
    if not isinstance(value, str):
        raise rule
    try:
        nanos = parse(value)
    except ValueError:
        raise rule from None
    if not 0 <= nanos <= MAX_NANOS:
        raise rule
    return nanos


def _key_or_none(organization: Organization, value: object) -> ApiKey | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequestError("`key` must be the number of a key.", param="key")
    return _key(organization, str(value))


def _key(organization: Organization, text: str) -> ApiKey:
    """Return a key of the organization; another's, or a revoked one, does not exist."""
    found = None
    if text.isascii() and text.isdecimal() and len(text) <= 18:
        found = ApiKey.objects.visible_to(organization).usable().filter(pk=int(text)).first()
    if found is None:
        raise NotFoundError("There is no such key.", param="key")
    return found
