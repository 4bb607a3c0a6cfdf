"""The console's training pages."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import lists
from accounts.errors import MercatoError
from accounts.keys import Caller
from accounts.sessions import (
    ConsoleRequest,
    maker_required,
    organization_required,
    organization_required_async,
)
from catalog.models import ModelVersion
from catalog.publishing import Text
from inference import stream_door
from inference.errors import NotCancelableError
from training import costs, estimates, events, folders, jobs, publishing
from training.errors import FAILURES
from training.forms import DATA_NAMES, PublishForm, TrainingForm
from training.models import Job
from training.recipes import RECIPES, Recipe


@require_GET
@organization_required
def trainings(request: ConsoleRequest) -> HttpResponse:
    """Show the organization's trainings, newest first."""
    mine = Job.objects.visible_to(request.organization).listed()
    found = lists.newest(mine, request.GET.get("before"))
    page = {
        "section": "trainings",
        "jobs": found.rows,
        "older": found.older,
        "is_first": found.is_first,
    }
    return render(request, "training/trainings.html", page)


@require_GET
@maker_required
def training_new(request: ConsoleRequest) -> HttpResponse:
    """Show the form of a new training, with what it will take and cost."""
    recipe = _recipe(request.GET.get("recipe", ""))
    return render(request, "training/new.html", _form_page(TrainingForm(recipe)))


@require_GET
@maker_required
def training_estimate(request: ConsoleRequest) -> HttpResponse:
    """Answer with time and price of the choices in the address, for the page to show."""
    form = TrainingForm(_recipe(request.GET.get("recipe", "")), request.GET)
    page = {"estimate": form.estimate(), "form": form}
    return render(request, "training/_estimate.html", page)


@require_POST
@maker_required
def training_start(request: ConsoleRequest) -> HttpResponse:
    """Set the money aside and start."""
    form = TrainingForm(_recipe(request.POST.get("recipe", "")), request.POST)
    wanted = form.order()
    if wanted is not None:
        try:
            job, _is_new = jobs.start(_caller(request), wanted)
        except MercatoError as error:
            form.refuse(error)
        else:
            return redirect("training", job.pk)
    return render(request, "training/new.html", _form_page(form), status=422)


@never_cache
@require_GET
@organization_required
def training(request: ConsoleRequest, job_id: UUID) -> HttpResponse:
    """Show one training: live while it runs, then its result."""
    job = _job(request, job_id)
    page = _job_page(job)
    page["form"] = PublishForm(RECIPES.get(job.recipe))
    return render(request, "training/training.html", page)


@never_cache
@require_GET
@organization_required
def training_live(request: ConsoleRequest, job_id: UUID) -> HttpResponse:
    """Answer with the part of the page that changes while it runs."""
    return render(request, "training/_live.html", _job_page(_job(request, job_id)))


@require_POST
@maker_required
def training_cancel(request: ConsoleRequest, job_id: UUID) -> HttpResponse:
    """Stop a training; one that has ended stays as it is."""
    try:
        jobs.cancel(_job(request, job_id))
    except NotCancelableError:
        return redirect("training", job_id)
    return redirect("training", job_id)


@require_POST
@maker_required
def training_publish(request: ConsoleRequest, job_id: UUID) -> HttpResponse:
    """Make the result a version of a model of one's own, callable a moment later."""
    job = _job(request, job_id)
    form = PublishForm(RECIPES.get(job.recipe), request.POST)
    if form.is_valid():
        try:
            version = _publish(job, form.cleaned_data, request)
        except MercatoError as error:
            form.refuse(error)
        else:
            return redirect("model", request.organization.slug, version.model.name)
    return render(request, "training/training.html", _job_page(job) | {"form": form}, status=422)


@require_GET
@organization_required_async
async def training_events(request: ConsoleRequest, job_id: UUID) -> HttpResponseBase:
    """Stream what happens to a training until it has ended."""
    job = await Job.objects.visible_to(request.organization).filter(pk=job_id).afirst()
    if job is None:
        raise Http404
    last = request.headers.get("Last-Event-ID", "")
    return stream_door.respond(request, events.stream(job, last))


def _publish(job: Job, data: dict[str, Any], request: ConsoleRequest) -> ModelVersion:
    return publishing.publish(
        job,
        data["name"],
        title=Text(data["title_en"], data["title_zh"]),
        summary=Text(data["summary_en"], data["summary_zh"]),
        price_nanos=data["price"],
        is_public=data["is_public"] == "yes",
        actor=request.user,
    )


def _caller(request: ConsoleRequest) -> Caller:
    return Caller(request.organization.pk, request.organization.slug, user_id=request.user.pk)


def _job(request: ConsoleRequest, job_id: UUID) -> Job:
    mine = Job.objects.visible_to(request.organization).with_price()
    return get_object_or_404(mine, pk=job_id)


def _recipe(name: str) -> Recipe:
    """Return the recipe of the address; the first that works here if it names none."""
    usable = [recipe for recipe in RECIPES.values() if estimates.is_available(recipe)]
    named = RECIPES.get(name)
    return named if named is not None and named.is_trained else usable[0]


def _form_page(form: TrainingForm) -> dict[str, Any]:
    estimate = form.estimate()
    return {
        "section": "trainings",
        "form": form,
        "recipe": form.recipe_of,
        "estimate": estimate,
        "recipes": [
            {"recipe": recipe, "is_available": estimates.is_available(recipe)}
            for recipe in RECIPES.values()
            if recipe.is_trained
        ],
    }


def _job_page(job: Job) -> dict[str, Any]:
    progress = job.progress
    return {
        "section": "trainings",
        "job": job,
        "data_name": DATA_NAMES.get(job.data, job.data),
        "recipe": RECIPES.get(job.recipe),
        "is_open": job.state not in Job.TERMINAL,
        "cost_nanos": costs.so_far(job),
        "percent": int(float(progress.get("fraction", 0)) * 100),
        "seconds_left": progress.get("seconds_left"),
        "left_ms": int(float(progress.get("seconds_left") or 0) * 1000),
        "points": [_point(point) for point in job.curve],
        "failure": gettext(FAILURES[job.error_code]) if job.error_code in FAILURES else "",
        "matrix": _matrix(job.metrics.get("confusion")),
        "is_kept": folders.is_kept(job),
    }


def _point(point: dict[str, Any]) -> dict[str, Any]:
    """Keep what the chart and its table show."""
    names = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")
    return {name: point.get(name) for name in names}


def _matrix(confusion: list[list[int]] | None) -> list[list[dict[str, int]]] | None:
    """Return each cell with its share of the row in tenths, for its shade."""
    if not confusion:
        return None
    return [
        [{"count": count, "shade": -(-count * 10 // max(sum(row), 1))} for count in row]
        for row in confusion
    ]
