"""The shapes of inference's answers, for the API description."""

from __future__ import annotations

from rest_framework import serializers

from billing.serializers import PriceSerializer


class BilingualSerializer(serializers.Serializer[object]):
    """A text in two languages."""

    en = serializers.CharField()
    zh = serializers.CharField()


class VersionSerializer(serializers.Serializer[object]):
    """The version that is served."""

    id = serializers.CharField()
    number = serializers.IntegerField()
    runtime = serializers.CharField()
    parameters = serializers.IntegerField()
    metrics = serializers.JSONField()
    signature = serializers.JSONField()
    outcome_policy = serializers.JSONField(help_text="Outcome: percent of the price.")
    outcome_policy_text = serializers.JSONField(help_text="Outcome: what it means.")
    latency_us = serializers.IntegerField(allow_null=True)
    published_at = serializers.DateTimeField(allow_null=True)


class ModelSerializer(serializers.Serializer[object]):
    """A model that can be called."""

    id = serializers.CharField(help_text="owner/name")
    object = serializers.CharField()
    owned_by = serializers.CharField()
    created = serializers.IntegerField()
    title = BilingualSerializer()
    summary = BilingualSerializer()
    task = serializers.CharField()
    framework = serializers.CharField()
    version = VersionSerializer()
    price = PriceSerializer(allow_null=True)
    next_price = PriceSerializer(allow_null=True, help_text="What is announced.")


class ListOfModels(serializers.Serializer[object]):
    """A page of models."""

    object = serializers.CharField()
    data = ModelSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)
