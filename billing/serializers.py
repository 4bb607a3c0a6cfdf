"""The shapes of billing's answers, for the API description."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.durations import MillisecondsField


class LimitSerializer(serializers.Serializer[object]):
    """A spending limit and what is left of its running window."""

    window = serializers.CharField()
    unit = serializers.CharField()
    amount = serializers.CharField()
    available = serializers.CharField()


class GrantSerializer(serializers.Serializer[object]):
    """Promotional credit that is left, and until when."""

    amount = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)


class BalanceSerializer(serializers.Serializer[object]):
    """The organization's money; amounts are decimal strings."""

    object = serializers.CharField()
    currency = serializers.CharField()
    available = serializers.CharField()
    held = serializers.CharField()
    spent = serializers.CharField()
    paid = serializers.CharField()
    promotional = serializers.CharField()
    line = serializers.CharField()
    owed = serializers.CharField()
    grants = GrantSerializer(many=True)
    limits = LimitSerializer(many=True)


class UsageSerializer(serializers.Serializer[object]):
    """One call."""

    id = serializers.CharField()
    object = serializers.CharField()
    created_at = serializers.DateTimeField()
    source = serializers.CharField()  # type: ignore[assignment]  # the field, not the property
    model = serializers.CharField(allow_null=True)
    key = serializers.CharField(allow_null=True)
    request_id = serializers.CharField()
    state = serializers.CharField()
    failure = serializers.CharField(allow_null=True)
    rows = serializers.IntegerField()
    compute_ms = serializers.IntegerField()
    queue_ms = MillisecondsField(allow_null=True)
    run_ms = MillisecondsField(allow_null=True)
    cost = serializers.CharField()
    currency = serializers.CharField()
    receipt = serializers.CharField()


class ListOfUsage(serializers.Serializer[object]):
    """A page of calls."""

    object = serializers.CharField()
    data = UsageSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class PriceComponentSerializer(serializers.Serializer[object]):
    """The price of one dimension, or of one tier of it."""

    dimension = serializers.CharField()
    amount = serializers.CharField()
    per = serializers.IntegerField()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Add the field whose name the language itself uses."""
        above = serializers.IntegerField(help_text="The tier's units of a run are above this.")
        return {**super().get_fields(), "from": above}


class PriceSerializer(serializers.Serializer[object]):
    """A price version."""

    version = serializers.IntegerField()
    currency = serializers.CharField()
    minimum = serializers.CharField()
    batch_discount = serializers.CharField(help_text="Percent that a row of a file costs less.")
    effective_from = serializers.DateTimeField()
    components = PriceComponentSerializer(many=True)
