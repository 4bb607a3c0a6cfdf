"""The shapes of other protocols' answers, for the API description."""

from __future__ import annotations

from rest_framework import serializers


class InferenceServerSerializer(serializers.Serializer[object]):
    """The server, in the Open Inference Protocol."""

    name = serializers.CharField()
    version = serializers.CharField()
    extensions = serializers.ListField(child=serializers.CharField())


class InferenceTensorSerializer(serializers.Serializer[object]):
    """An input or output."""

    name = serializers.CharField()
    datatype = serializers.CharField(help_text="FP32, FP64, INT32, INT64 or UINT8.")
    shape = serializers.ListField(
        child=serializers.IntegerField(), help_text="The first, -1, is the number of rows."
    )


class InferenceModelSerializer(serializers.Serializer[object]):
    """A model, in the Open Inference Protocol."""

    name = serializers.CharField(help_text="owner.name")
    versions = serializers.ListField(child=serializers.CharField())
    platform = serializers.CharField()
    inputs = InferenceTensorSerializer(many=True)
    outputs = InferenceTensorSerializer(many=True)


class ModelReadySerializer(serializers.Serializer[object]):
    """Whether a model can be called."""

    name = serializers.CharField()
    ready = serializers.BooleanField()


class ServingStatusSerializer(serializers.Serializer[object]):
    """The status of a version, as TensorFlow Serving gives it."""

    model_version_status = serializers.ListField(child=serializers.JSONField())


class ServingMetadataSerializer(serializers.Serializer[object]):
    """A signature, as TensorFlow Serving gives it."""

    model_spec = serializers.JSONField()
    metadata = serializers.JSONField()
