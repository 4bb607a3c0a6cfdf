"""The shapes of inference's answers, for the API description."""

from __future__ import annotations

from rest_framework import serializers

from billing.serializers import PriceSerializer
from inference.models import Prediction


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
    runtimes = serializers.JSONField(help_text="What was measured on each; one of them serves.")
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


class ServingSerializer(serializers.Serializer[object]):
    """Whether a model can be run at once."""

    state = serializers.ChoiceField(["ready", "starting", "cold"])
    ready_in_seconds = serializers.FloatField(help_text="An estimate, from earlier starts.")


class OneModelSerializer(ModelSerializer):
    """A model that can be called, and whether a worker has it loaded."""

    serving = ServingSerializer()


class ListOfModels(serializers.Serializer[object]):
    """A page of models."""

    object = serializers.CharField()
    data = ModelSerializer(many=True)  # type: ignore[assignment]  # the field, not the property
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)


class PredictionCostSerializer(serializers.Serializer[object]):
    """What a prediction cost."""

    amount = serializers.CharField()
    currency = serializers.CharField()
    units = serializers.JSONField()
    price_version = serializers.IntegerField()
    hold = serializers.CharField()
    receipt = serializers.CharField()


class PredictionErrorSerializer(serializers.Serializer[object]):
    """Why there is no output."""

    code = serializers.CharField()
    message = serializers.CharField()


class PredictionUrlsSerializer(serializers.Serializer[object]):
    """Where to read, cancel and watch it."""

    get = serializers.CharField()
    cancel = serializers.CharField()
    events = serializers.CharField()


class PredictionLineSerializer(serializers.Serializer[object]):
    """A stored prediction, without what went in and came out."""

    id = serializers.UUIDField()
    object = serializers.CharField()
    model = serializers.CharField()
    status = serializers.ChoiceField(Prediction.Status.choices)
    error = PredictionErrorSerializer(allow_null=True)
    metrics = serializers.JSONField(allow_null=True)
    cost = PredictionCostSerializer(allow_null=True)
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    start_by = serializers.DateTimeField(allow_null=True, help_text="Not begun by then: it fails.")
    expires_at = serializers.DateTimeField(help_text="When it is forgotten.")
    urls = PredictionUrlsSerializer()


class StoredPredictionSerializer(PredictionLineSerializer):
    """A stored prediction."""

    input = serializers.JSONField(allow_null=True)
    output = serializers.JSONField(allow_null=True)


class ListOfPredictions(serializers.Serializer[object]):
    """A page of predictions."""

    object = serializers.CharField()
    data = PredictionLineSerializer(many=True)  # type: ignore[assignment]  # as above
    has_more = serializers.BooleanField()
    next_cursor = serializers.CharField(allow_null=True)
