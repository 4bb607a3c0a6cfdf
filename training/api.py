"""/v1/trainings and /v1/training-recipes."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import orjson
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import paging, rate_headers
from accounts.authentication import caller_of, organization_of
from accounts.errors import InvalidRequestError, NotFoundError
from billing import caps, ceilings
from catalog.publishing import Text
from inference import limits, stream_door
from inference.prediction_api import AnyAccept
from training import events, jobs, publishing
from training.models import Job
from training.models.jobs import JobQuerySet
from training.recipes import RECIPES
from training.serializers import (
    ListOfRecipes,
    ListOfTrainings,
    PublishRequestSerializer,
    TrainingRequestSerializer,
    TrainingSerializer,
    boolean,
    job_json,
    mapping,
    price,
    recipe_json,
    require_known,
    text,
)

_KEY_LIMIT = 200
_IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="Makes a repeat safe."
)
_CEILING = OpenApiParameter(
    ceilings.HEADER,
    str,
    OpenApiParameter.HEADER,
    description="The most it may cost: it is stopped there, and refused if a minute costs more.",
)


class TrainingList(APIView):
    """The organization's trainings."""

    @property
    def scope(self) -> str:
        """Reading needs less than starting."""
        return "train" if self.request.method == "POST" else "read"

    @extend_schema(
        operation_id="trainings_list",
        responses=ListOfTrainings,
        parameters=[OpenApiParameter("limit", int), OpenApiParameter("cursor", str)],
    )
    def get(self, request: Request) -> Response:
        """List trainings, newest first."""

        def without_curve(job: Job) -> dict[str, Any]:
            return job_json(job, with_curve=False)

        return Response(paging.page(request, _mine(request).listed(), without_curve))

    @extend_schema(
        operation_id="trainings_create",
        request=TrainingRequestSerializer,
        responses={201: TrainingSerializer},
        parameters=[_IDEMPOTENCY, _CEILING],
    )
    def post(self, request: Request) -> Response:
        """Start a training; its money is set aside at once."""
        body = _body(request)
        require_known(body, ("recipe", "data", "hyperparameters", "publish_as", "quote"))
        order = jobs.order(
            text(body, "recipe", limit=40, required=True),
            text(body, "data", limit=40),
            mapping(body, "hyperparameters"),
            publish_as=text(body, "publish_as", limit=64),
            idempotency_key=_idempotency_key(request),
            fingerprint=_fingerprint(request),
        )
        wanted = replace(
            order,
            quote=text(body, "quote", limit=64),
            ceiling_nanos=ceilings.read(request.headers.get(ceilings.HEADER, "")),
        )
        caller = caller_of(request)
        counted = limits.count(caller.limits)
        job, is_new = jobs.start(caller, wanted)
        headers = {"Location": f"/v1/trainings/{job.pk}"}
        left = caps.of_hold(job.hold) if job.hold is not None else ()
        headers |= dict(rate_headers.join(", ", left, counted.texts))
        if not is_new:
            headers["Idempotent-Replayed"] = "true"
        return Response(job_json(job), status=201, headers=headers)


class TrainingDetail(APIView):
    """One training."""

    scope = "read"

    @extend_schema(operation_id="trainings_retrieve", responses=TrainingSerializer)
    def get(self, request: Request, job_id: UUID) -> Response:
        """Return one training with its whole curve."""
        return Response(job_json(_job(request, job_id)))


class TrainingCancel(APIView):
    """Stopping a training."""

    scope = "train"

    @extend_schema(operation_id="trainings_cancel", request=None, responses=TrainingSerializer)
    def post(self, request: Request, job_id: UUID) -> Response:
        """Stop a training; twice is fine."""
        require_known(_body(request), ())
        return Response(job_json(jobs.cancel(_job(request, job_id))))


class TrainingPublish(APIView):
    """Publishing what a training made."""

    scope = "train"

    @extend_schema(
        operation_id="trainings_publish",
        request=PublishRequestSerializer,
        responses=TrainingSerializer,
    )
    def post(self, request: Request, job_id: UUID) -> Response:
        """Publish the result as the next version of a model of the organization's own."""
        body = _body(request)
        require_known(body, ("name", "title", "summary", "price", "public"))
        name = text(body, "name", limit=64, required=True)
        jobs.require_name(name, param="name")
        title = text(body, "title", limit=120)
        summary = text(body, "summary", limit=300)
        job = _job(request, job_id)
        publishing.publish(
            job,
            name,
            title=Text(title) if title else None,
            summary=Text(summary) if summary else None,
            price_nanos=price(body, "price"),
            is_public=boolean(body, "public"),
        )
        return Response(job_json(job))


class TrainingEvents(APIView):
    """A training as server-sent events."""

    scope = "read"
    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="trainings_events",
        responses={(200, "text/event-stream"): OpenApiTypes.STR},
        parameters=[OpenApiParameter("Last-Event-ID", str, OpenApiParameter.HEADER)],
    )
    def get(self, request: Request, job_id: UUID) -> HttpResponseBase:
        """Stream what happens until the training has ended."""
        job = _job(request, job_id)
        last = request.headers.get("Last-Event-ID", "")
        return stream_door.respond(request._request, events.stream(job, last))


class RecipeList(APIView):
    """What can be trained here."""

    scope = "read"

    @extend_schema(operation_id="training_recipes_list", responses=ListOfRecipes)
    def get(self, request: Request) -> Response:
        """List the recipes with their data, bounds, defaults and what they would cost."""
        data = [recipe_json(recipe) for recipe in RECIPES.values() if recipe.is_trained]
        return Response({"object": "list", "data": data, "has_more": False, "next_cursor": None})


def _mine(request: Request) -> JobQuerySet:
    return Job.objects.visible_to(organization_of(request))


def _job(request: Request, job_id: UUID) -> Job:
    job = _mine(request).with_price().filter(pk=job_id).first()
    if job is None:
        raise NotFoundError("There is no such training.")
    return job


def _body(request: Request) -> dict[str, Any]:
    # The site's parser lets nothing but an object through.
    return cast(dict[str, Any], request.data)


def _idempotency_key(request: Request) -> str:
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > _KEY_LIMIT or not (key.isascii() and key.isprintable()):
        raise InvalidRequestError(
            f"An Idempotency-Key has at most {_KEY_LIMIT} printable characters.",
            param="Idempotency-Key",
        )
    return key


def _fingerprint(request: Request) -> str:
    """Return what tells two requests with one key apart; the order of fields does not matter."""
    body = orjson.dumps(request.data, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(f"{request.method} {request.path}\n".encode() + body).hexdigest()
