"""Prices of models: what they are, were and will be, and how a publisher asks for another."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import bodies, paging
from accounts.authentication import caller_of, organization_of
from accounts.errors import InvalidRequestError, PermissionDeniedError
from accounts.idempotency import once
from accounts.models import ApiKey, User
from billing import price_changes, price_previews
from billing.money import decimal_text, parse
from billing.price_changes import Target
from billing.rating import plan_from
from billing.serializers import PriceComponentSerializer, PriceSerializer
from catalog.errors import ModelNotFoundError
from catalog.models import MLModel, PriceChange, PriceVersion
from catalog.prices import Tier

_FIELDS = (
    *("components", "minimum", "batch_discount", "effective_from", "reason"),
    "preview_only",
)
_DISCOUNT = re.compile(r"\d{1,3}(\.\d{1,2})?")
_MAX_COMPONENTS = 24
_UNITS_MAX = 10**12


class PriceRequestSerializer(serializers.Serializer[object]):
    """A price that its publisher wants."""

    components = PriceComponentSerializer(many=True)
    minimum = serializers.CharField(required=False, help_text="The least a run costs.")
    batch_discount = serializers.CharField(
        required=False, help_text="Percent that a row of a batch file costs less, such as 50."
    )
    effective_from = serializers.DateTimeField(required=False)
    reason = serializers.CharField(required=False)
    preview_only = serializers.BooleanField(required=False, help_text="Ask for nothing.")


class PreviewSerializer(serializers.Serializer[object]):
    """What the last 30 days cost, and would have cost."""

    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    complete = serializers.BooleanField()
    calls = serializers.IntegerField()
    tenants = serializers.IntegerField()
    old = serializers.CharField()
    new = serializers.CharField()


class PriceChangeSerializer(serializers.Serializer[object]):
    """A price that was asked for."""

    id = serializers.IntegerField(allow_null=True)
    object = serializers.CharField()
    model = serializers.CharField()
    status = serializers.ChoiceField(choices=PriceChange.State.choices, allow_null=True)
    components = PriceComponentSerializer(many=True)
    minimum = serializers.CharField()
    batch_discount = serializers.CharField()
    reason = serializers.CharField()
    preview = PreviewSerializer(allow_null=True)
    price = PriceSerializer(allow_null=True, help_text="What it became.")
    created_at = serializers.DateTimeField(allow_null=True)


class ListOfPrices(serializers.Serializer[object]):
    """A page of price versions."""

    object = serializers.CharField()
    data = PriceSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class ListOfPriceChanges(serializers.Serializer[object]):
    """A page of price changes."""

    object = serializers.CharField()
    data = PriceChangeSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


_PAGE = [OpenApiParameter("limit", int), OpenApiParameter("cursor", str)]


class Prices(APIView):
    """The prices of one model."""

    @property
    def scope(self) -> str:
        """Reading needs less than asking for another price."""
        return "train" if self.request.method == "POST" else "read"

    @extend_schema(operation_id="prices_list", responses=ListOfPrices, parameters=_PAGE)
    def get(self, request: Request, owner: str, name: str) -> Response:
        """List every price the model has had and will have, the latest added first."""
        found = PriceVersion.objects.filter(model=_model(request, owner, name))
        versions = found.prefetch_related("components")

        def as_json(version: PriceVersion) -> dict[str, Any]:
            return price_json(version) or {}

        return Response(paging.page(request, versions, as_json))

    @extend_schema(
        operation_id="prices_create",
        request=PriceRequestSerializer,
        responses={201: PriceChangeSerializer, 200: PriceChangeSerializer},
        parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER)],
    )
    @once
    def post(self, request: Request, owner: str, name: str) -> Response:
        """Ask for a price of one's own model; or, with `preview_only`, what it would change."""
        body = bodies.read(request, _FIELDS)
        target = Target(_mine(request, owner, name))
        components = _components(body)
        minimum = _amount(body.get("minimum", "0"), "minimum")
        discount = _discount(body)
        effective_from = _instant(body)
        reason = bodies.text(body, "reason", limit=500)
        if bodies.boolean(body, "preview_only"):
            tiers = price_changes.checked(target, components, minimum, discount)
            plan = plan_from(tiers, minimum, batch_discount_bps=discount)
            change = PriceChange(
                model=target.model,
                components=tiers,
                min_charge_nanos=minimum,
                batch_discount_bps=discount,
                reason=reason,
                preview=price_previews.begin(target.model, "", plan),
            )
            return Response({**change_json(change), "status": None})
        change = price_changes.propose(
            target,
            components,
            min_charge_nanos=minimum,
            batch_discount_bps=discount,
            effective_from=effective_from,
            reason=reason,
            actor=_actor(request),
        )
        return Response(change_json(change), status=201)


class PriceChanges(APIView):
    """The prices that were asked for, of one model."""

    scope = "read"

    @extend_schema(
        operation_id="price_changes_list", responses=ListOfPriceChanges, parameters=_PAGE
    )
    def get(self, request: Request, owner: str, name: str) -> Response:
        """List what the model's publisher asked for, newest first."""
        found = PriceChange.objects.filter(model=_mine(request, owner, name))
        changes = found.select_related("model__owner", "price_version").prefetch_related(
            "price_version__components"
        )
        return Response(paging.page(request, changes, change_json))


def _model(request: Request, owner: str, name: str) -> MLModel:
    visible = MLModel.objects.visible_to(organization_of(request)).select_related("owner")
    model = visible.filter(owner__slug=owner, name=name).first()
    if model is None:
        raise ModelNotFoundError(f"There is no model {owner}/{name}.")
    return model


def _mine(request: Request, owner: str, name: str) -> MLModel:
    model = _model(request, owner, name)
    if model.owner_id != caller_of(request).organization_id:
        raise PermissionDeniedError("Only its publisher asks for a price of a model.")
    return model


def _actor(request: Request) -> User | None:
    """Return who made the key: a key proposes in that person's name."""
    key_id = caller_of(request).api_key_id or 0
    return ApiKey.objects.select_related("created_by").get(pk=key_id).created_by


def _components(body: dict[str, Any]) -> dict[str, list[Tier]]:
    rows = body.get("components")
    if not isinstance(rows, list) or not 1 <= len(rows) <= _MAX_COMPONENTS:
        raise InvalidRequestError(
            f"`components` must be a list of 1 to {_MAX_COMPONENTS} objects.", param="components"
        )
    found: dict[str, list[Tier]] = {}
    for row in rows:
        if not isinstance(row, dict) or row.keys() - {"dimension", "from", "amount", "per"}:
            raise InvalidRequestError(
                "A component has `dimension`, `amount`, and if need be `per` and `from`.",
                param="components",
            )
        name = bodies.text(row, "dimension", limit=16, required=True)
        start = bodies.integer(row, "from", low=0, high=_UNITS_MAX) or 0
        per = bodies.integer(row, "per", low=1, high=_UNITS_MAX)
        amount = _amount(row.get("amount"), "components")
        found.setdefault(name, []).append((start, amount, 1 if per is None else per))
    return {name: sorted(tiers) for name, tiers in found.items()}


def _amount(value: Any, param: str) -> int:
    try:
        nanos = parse(value) if isinstance(value, str) else -1
    except ValueError:
        nanos = -1
    if nanos < 0:
        raise InvalidRequestError("An amount is a decimal text such as 0.00002.", param=param)
    return nanos


def _discount(body: dict[str, Any]) -> int:
    text = bodies.text(body, "batch_discount", limit=6) or "0"
    if not (text.isascii() and _DISCOUNT.fullmatch(text)):
        raise InvalidRequestError(
            "`batch_discount` is a percentage such as 50 or 12.5, as a text.",
            param="batch_discount",
        )
    whole, _, fraction = text.partition(".")
    return int(whole) * 100 + int(fraction.ljust(2, "0"))


def percent_text(bps: int) -> str:
    """Write hundredths of a percent as a percentage: 1250 is 12.5."""
    whole, rest = divmod(bps, 100)
    return f"{whole}.{rest:02d}".rstrip("0").rstrip(".")


def _instant(body: dict[str, Any]) -> datetime | None:
    text = bodies.text(body, "effective_from", limit=40)
    if not text:
        return None
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidRequestError(
            "`effective_from` must be an instant such as 2026-12-01T00:00:00Z.",
            param="effective_from",
        )
    return found


def price_json(price: PriceVersion | None) -> dict[str, Any] | None:
    """Return what the API says of a price version."""
    if price is None:
        return None
    return {
        "version": price.pk,
        "currency": price.currency,
        "minimum": decimal_text(price.min_charge_nanos),
        "batch_discount": percent_text(price.batch_discount_bps),
        "effective_from": price.effective_from,
        "components": [
            _component(item.dimension, (item.from_quantity, item.amount_nanos, item.per_quantity))
            for item in price.components.all()
        ],
    }


def change_json(change: PriceChange) -> dict[str, Any]:
    """Return what the API says of a price that was asked for."""
    preview = price_previews.read(change.preview)
    total = preview.total if preview else None
    return {
        "id": change.pk,
        "object": "price_change",
        "model": change.model.path if change.model else change.sku,
        "status": change.state,
        "components": [
            _component(name, tier)
            for name, tiers in sorted(change.components.items())
            for tier in tiers
        ],
        "minimum": decimal_text(change.min_charge_nanos),
        "batch_discount": percent_text(change.batch_discount_bps),
        "reason": change.reason,
        "preview": {
            "since": preview.since,
            "until": preview.until,
            "complete": preview.is_complete,
            "calls": total.calls,
            "tenants": len(preview.lines),
            "old": decimal_text(total.old_nanos),
            "new": decimal_text(total.new_nanos),
        }
        if preview and total
        else None,
        "price": price_json(change.price_version),
        "created_at": change.proposed_at,
    }


def _component(dimension: str, tier: Tier) -> dict[str, Any]:
    start, amount, per = tier
    return {"dimension": dimension, "from": start, "amount": decimal_text(amount), "per": per}
