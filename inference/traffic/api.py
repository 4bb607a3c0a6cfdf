"""/v1/models/{owner}/{name}/traffic: aliases, canaries and shadows, for the model's publisher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import bodies
from accounts.authentication import key_label, organization_of
from accounts.errors import InvalidRequestError, NotFoundError
from catalog.errors import ModelNotFoundError
from catalog.models import MLModel, ModelVersion
from inference.models import Canary, Shadow
from inference.traffic import aliases, canaries, shadows
from inference.traffic.canaries import BOUNDS, Rule


class CanarySerializer(serializers.Serializer[object]):
    """A version that is tried."""

    id = serializers.IntegerField()
    object = serializers.CharField()
    model = serializers.CharField()
    version = serializers.IntegerField()
    state = serializers.ChoiceField(Canary.State.choices)
    percent = serializers.IntegerField()
    max_error_percent = serializers.IntegerField()
    max_slowdown_percent = serializers.IntegerField()
    min_calls = serializers.IntegerField()
    cause = serializers.CharField(allow_null=True)
    measured = serializers.DictField(allow_null=True)
    started_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class ShadowSerializer(serializers.Serializer[object]):
    """A version that runs copies of calls."""

    id = serializers.IntegerField()
    object = serializers.CharField()
    model = serializers.CharField()
    version = serializers.IntegerField()
    state = serializers.ChoiceField(Shadow.State.choices)
    percent = serializers.IntegerField()
    calls = serializers.IntegerField()
    failures = serializers.IntegerField()
    agreed_percent = serializers.FloatField(allow_null=True)
    mean_us = serializers.IntegerField(allow_null=True)
    stable_mean_us = serializers.IntegerField(allow_null=True)
    mean_rows = serializers.IntegerField(allow_null=True)
    stable_mean_rows = serializers.IntegerField(allow_null=True)
    started_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class TrafficSerializer(serializers.Serializer[object]):
    """Which version serves what."""

    object = serializers.CharField()
    model = serializers.CharField()
    current = serializers.IntegerField(allow_null=True)
    pinned = serializers.BooleanField()
    aliases = serializers.DictField(child=serializers.IntegerField())
    canary = CanarySerializer(allow_null=True)
    shadow = ShadowSerializer(allow_null=True)


class CanaryRequestSerializer(serializers.Serializer[object]):
    """A canary to start, or what to change of the one that runs."""

    version = serializers.IntegerField()
    percent = serializers.IntegerField(required=False, help_text="5 if not given.")
    max_error_percent = serializers.IntegerField(required=False, help_text="5 if not given.")
    max_slowdown_percent = serializers.IntegerField(required=False, help_text="100 if not given.")
    min_calls = serializers.IntegerField(required=False, help_text="50 if not given.")


class ShadowRequestSerializer(serializers.Serializer[object]):
    """A shadow to start, or what to change of the one that runs."""

    version = serializers.IntegerField()
    percent = serializers.IntegerField(required=False, help_text="5 if not given.")


class AliasRequestSerializer(serializers.Serializer[object]):
    """A version by its number."""

    version = serializers.IntegerField()


class Traffic(APIView):
    """Which version serves what."""

    scope = "read"

    @extend_schema(operation_id="traffic_retrieve", responses=TrafficSerializer)
    def get(self, request: Request, owner: str, name: str) -> Response:
        """Return the aliases of a model of your own, and what is tried on its calls."""
        return Response(as_json(_own(request, owner, name)))


class CanaryView(APIView):
    """The version that is tried."""

    scope = "train"

    @extend_schema(
        operation_id="canary_set", request=CanaryRequestSerializer, responses=TrafficSerializer
    )
    def put(self, request: Request, owner: str, name: str) -> Response:
        """Try a version on a part of the calls, or change how the one that runs is tried."""
        body = bodies.read(request, ("version", *BOUNDS))
        model = _own(request, owner, name)
        version = _version(model, body)
        canary = model.canaries.filter(state=Canary.State.RUNNING, version=version).first()
        given = {
            each: bodies.integer(body, each, low=low, high=high)
            for each, (low, high) in BOUNDS.items()
        }
        known = Rule(**{each: getattr(canary, each) for each in BOUNDS}) if canary else Rule()
        rule = replace(known, **{each: value for each, value in given.items() if value is not None})
        if canary is None:
            canaries.start(version, rule, actor=None, via=key_label(request))
        else:
            canaries.change(canary, rule, actor=None, via=key_label(request))
        return Response(as_json(_own(request, owner, name)))

    @extend_schema(operation_id="canary_stop", responses={204: None})
    def delete(self, request: Request, owner: str, name: str) -> Response:
        """Give all calls to the current version again; without a canary it is no error."""
        model = _own(request, owner, name)
        canary = model.canaries.filter(state=Canary.State.RUNNING).first()
        if canary is not None:
            canaries.stop(canary, actor=None, via=key_label(request))
        return Response(status=204)


class CanaryPromote(APIView):
    """Making the version that is tried the current one."""

    scope = "train"

    @extend_schema(operation_id="canary_promote", request=None, responses=TrafficSerializer)
    def post(self, request: Request, owner: str, name: str) -> Response:
        """Make the canary the current version."""
        bodies.read(request, ())
        model = _own(request, owner, name)
        canary = model.canaries.filter(state=Canary.State.RUNNING).first()
        if canary is None or not canaries.promote(canary, actor=None, via=key_label(request)):
            raise NotFoundError("No version is tried on this model.")
        return Response(as_json(_own(request, owner, name)))


class ShadowView(APIView):
    """The version that runs copies of calls."""

    scope = "train"

    @extend_schema(
        operation_id="shadow_set", request=ShadowRequestSerializer, responses=TrafficSerializer
    )
    def put(self, request: Request, owner: str, name: str) -> Response:
        """Have a version run copies of a part of the calls, or change of how many."""
        body = bodies.read(request, ("version", "percent"))
        version = _version(_own(request, owner, name), body)
        percent = bodies.integer(body, "percent", low=shadows.LOW, high=shadows.HIGH)
        shadows.put(version, percent, actor=None, via=key_label(request))
        return Response(as_json(_own(request, owner, name)))

    @extend_schema(operation_id="shadow_stop", responses={204: None})
    def delete(self, request: Request, owner: str, name: str) -> Response:
        """Copy no more calls; without a shadow it is no error."""
        model = _own(request, owner, name)
        shadow = model.shadows.filter(state=Shadow.State.RUNNING).first()
        if shadow is not None:
            shadows.stop(shadow, actor=None, via=key_label(request))
        return Response(status=204)


class Alias(APIView):
    """One alias."""

    scope = "train"

    @extend_schema(
        operation_id="alias_set", request=AliasRequestSerializer, responses=TrafficSerializer
    )
    def put(self, request: Request, owner: str, name: str, alias: str) -> Response:
        """Let an alias mean a version; `stable` chooses the current version."""
        body = bodies.read(request, ("version",))
        model = _own(request, owner, name)
        version = _version(model, body)
        aliases.set_alias(model, alias, version, actor=None, via=key_label(request))
        return Response(as_json(_own(request, owner, name)))

    @extend_schema(operation_id="alias_remove", responses={204: None})
    def delete(self, request: Request, owner: str, name: str, alias: str) -> Response:
        """Remove an alias; `stable` follows the newest version again."""
        aliases.remove(_own(request, owner, name), alias, actor=None, via=key_label(request))
        return Response(status=204)


def as_json(model: MLModel) -> dict[str, Any]:
    """Return what the API says of a model's traffic."""
    canary, shadow = canaries.running(model), shadows.running(model)
    return {
        "object": "traffic",
        "model": model.path,
        "current": model.current_version.number if model.current_version else None,
        "pinned": model.pinned_version_id is not None,
        "aliases": {each.name: each.version.number for each in model.aliases.all()},
        "canary": canaries.as_json(canary) if canary else None,
        "shadow": shadows.as_json(shadow) if shadow else None,
    }


def _own(request: Request, owner: str, name: str) -> MLModel:
    """Return a model of the organization; another's does not exist here."""
    found = (
        MLModel.objects.select_related("owner", "current_version")
        .prefetch_related("aliases__version")
        .filter(owner=organization_of(request), owner__slug=owner, name=name)
        .first()
    )
    if found is None:
        raise ModelNotFoundError(f"You have no model {owner}/{name}.")
    return found


def _version(model: MLModel, body: dict[str, Any]) -> ModelVersion:
    number = bodies.integer(body, "version", low=1, high=10**9)
    if number is None:
        raise InvalidRequestError("`version` is required.", param="version")
    found = model.versions.select_related("model__owner", "model__current_version")
    version = found.filter(number=number).first()
    if version is None:
        raise NotFoundError("There is no such version.", param="version")
    return version
