"""GET /v1/models: what can be called."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import paging
from accounts.authentication import organization_of
from billing import outcomes
from billing.api.prices import price_json
from catalog import prices, search
from catalog.errors import ModelNotFoundError
from catalog.models import MLModel, ModelVersion
from catalog.models.models import MLModelQuerySet
from inference import starting
from inference.serializers import ListOfModels, OneModelSerializer


class ModelList(APIView):
    """The models this key may call."""

    scope = "read"

    @extend_schema(
        operation_id="models_list",
        responses=ListOfModels,
        parameters=[
            OpenApiParameter("q", str, description="Words, in English or Chinese."),
            OpenApiParameter("task", str),
            OpenApiParameter("framework", str),
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
        ],
    )
    def get(self, request: Request) -> Response:
        """List models."""
        models = _callable(request)
        for name in ("task", "framework"):
            if value := request.query_params.get(name, ""):
                models = models.filter(**{name: value.replace("\0", "")})
        models = search.search(models, request.query_params.get("q", "")[:200])
        return Response(
            paging.page(request, models, as_json, order="pk", known=("q", "task", "framework"))
        )


class ModelDetail(APIView):
    """One model."""

    scope = "read"

    @extend_schema(operation_id="models_retrieve", responses=OneModelSerializer)
    def get(self, request: Request, owner: str, name: str) -> Response:
        """Return one model."""
        model = _model(request, owner, name)
        assert model.current_version is not None
        return Response(as_json(model) | {"serving": starting.state(model.current_version.pk)})


def _model(request: Request, owner: str, name: str) -> MLModel:
    model = _callable(request).filter(owner__slug=owner, name=name).first()
    if model is None:
        raise ModelNotFoundError(f"There is no model {owner}/{name}.", param="model")
    return model


def callable_version(
    request: Request, owner: str, name: str, number: int | None = None
) -> ModelVersion:
    """Return the version that a key may call; without a number the current one.

    Raises:
        ModelNotFoundError: There is none.
    """
    model = _model(request, owner, name)
    if number is None:
        assert model.current_version is not None
        return model.current_version
    version = (
        model.versions.filter(number=number, status=ModelVersion.Status.PUBLISHED)
        .select_related("model__owner")
        .first()
    )
    if version is None:
        raise ModelNotFoundError(f"There is no version {number} of {model.path}.", param="model")
    return version


def published_numbers(model: MLModel) -> list[int]:
    """Return the numbers of the versions that can be called, the first first."""
    published = model.versions.filter(status=ModelVersion.Status.PUBLISHED)
    return list(published.order_by("number").values_list("number", flat=True))


def _callable(request: Request) -> MLModelQuerySet:
    return (
        MLModel.objects.visible_to(organization_of(request))
        .filter(current_version__isnull=False)
        .select_related("owner", "current_version__model__owner")
        .prefetch_related("prices__components")
    )


def as_json(model: MLModel) -> dict[str, Any]:
    """Return what the API says of a model."""
    version = model.current_version
    assert version is not None
    return {
        "id": model.path,
        "object": "model",
        "owned_by": model.owner.slug,
        "created": int(model.created_at.timestamp()),
        "title": {"en": model.title_en, "zh": model.title_zh},
        "summary": {"en": model.summary_en, "zh": model.summary_zh},
        "task": model.task,
        "framework": model.framework,
        "version": _version_json(version),
        "price": price_json(prices.newest(model)),
        "next_price": price_json(prices.following(model)),
    }


def _version_json(version: ModelVersion) -> dict[str, Any]:
    return {
        "id": version.path,
        "number": version.number,
        "runtime": version.runtime,
        "parameters": version.parameters,
        "metrics": version.metrics,
        "signature": version.signature,
        "outcome_policy": outcomes.complete(version.outcome_policy),
        "outcome_policy_text": outcomes.texts(),
        "latency_us": version.latency_us,
        "runtimes": [measured._asdict() for measured in version.runtimes],
        "published_at": version.published_at,
    }
