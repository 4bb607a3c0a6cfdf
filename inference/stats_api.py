"""GET /v1/models/{owner}/{name}/stats: how fast and how reliable a model was."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import organization_of
from accounts.errors import InvalidRequestError, OverloadedError, UnknownFieldError
from catalog.errors import ModelNotFoundError
from catalog.models import MLModel
from inference import performance
from inference.metrics import live

_CALLERS = ("all", "own")


class FiguresSerializer(serializers.Serializer[object]):
    """What happened in some time; times in milliseconds, null before the first success."""

    calls = serializers.IntegerField()
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    refused = serializers.IntegerField()
    success_rate = serializers.FloatField(allow_null=True)
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)


class PointSerializer(FiguresSerializer):
    """The figures of one minute or hour, and when it began."""

    at = serializers.DateTimeField()


class StatsSerializer(serializers.Serializer[object]):
    """A model's figures over the last hour by minutes, or the last day by hours."""

    object = serializers.CharField()
    model = serializers.CharField()
    callers = serializers.ChoiceField(choices=_CALLERS)
    span = serializers.ChoiceField(choices=live.SPANS)
    total = FiguresSerializer()
    points = PointSerializer(many=True)


class ModelStats(APIView):
    """How fast and how reliable one model was."""

    scope = "read"

    @extend_schema(
        operation_id="models_stats",
        responses=StatsSerializer,
        parameters=[
            OpenApiParameter("span", str, enum=live.SPANS),
            OpenApiParameter("callers", str, enum=_CALLERS),
        ],
    )
    def get(self, request: Request, owner: str, name: str) -> Response:
        """Return percentiles and success, of everybody's calls or of one's own."""
        for given in request.query_params:
            if given not in {"span", "callers"}:
                raise UnknownFieldError(f"Unknown parameter {given[:64]!r}.", param=given[:64])
        span = _choice(request, "span", live.SPANS)
        callers = _choice(request, "callers", _CALLERS)
        organization = organization_of(request)
        model = MLModel.objects.visible_to(organization).filter(owner__slug=owner, name=name)
        found = model.select_related("owner").first()
        if found is None:
            raise ModelNotFoundError(f"There is no model {owner}/{name}.")
        own = live.organization_series(organization.pk, found.path)
        series = live.read(live.model_series(found.path) if callers == "all" else own, span)
        if not series.is_known:
            raise OverloadedError("The figures cannot be read at the moment.")
        told = {"object": "model.stats", "model": found.path, "callers": callers}
        return Response(told | performance.as_json(series))


def _choice(request: Request, name: str, choices: tuple[str, ...]) -> str:
    value: str = request.query_params.get(name, choices[0])
    if value not in choices:
        raise InvalidRequestError(f"`{name}` is one of {', '.join(choices)}.", param=name)
    return value
