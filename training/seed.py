"""The models every site starts with: which are missing, and the jobs that make them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.conf import settings

from accounts.keys import Caller
from accounts.models import Organization
from catalog.models import MLModel
from training import estimates, jobs, publishing
from training.models import Job
from training.recipes import RECIPES, embedder_run
from training.recipes.catalogue import DIGITS, MNIST


def missing() -> list[tuple[str, str]]:
    """Return (recipe, model name) of those that never had a version.

    What an operator has withdrawn is not missing.
    """
    there = set(
        MLModel.objects.filter(
            owner__slug=publishing.PUBLISHER, name__in=RECIPES, versions__isnull=False
        ).values_list("name", flat=True)
    )
    return [(name, name) for name in _made_here() if name not in there]


def _made_here() -> list[str]:
    """Return the recipes for which this machine has what they need."""
    return [
        name for name, recipe in RECIPES.items() if recipe.is_trained or embedder_run.installed()
    ]


def enqueue(organization: Organization) -> int:
    """Start a job for each missing model that has none under way; returns how many are missing."""
    wanted = missing()
    open_jobs = set(
        Job.objects.visible_to(organization)
        .exclude(state__in=Job.TERMINAL)
        .values_list("publish_as", flat=True)
    )
    caller = Caller(organization_id=organization.pk, organization_slug=organization.slug)
    for recipe, name in wanted:
        if name not in open_jobs:
            order = jobs.order(recipe, _data(recipe), publish_as=name)
            # Not `start`: the shipped file stands in where a framework is missing. However slow
            # the machine is, nobody else can make them.
            jobs.create(caller, replace(order, max_seconds=settings.JOB_MAX_SECONDS))
    return len(wanted)


def _data(recipe: str) -> str:
    """Prefer MNIST where it is on disk."""
    names = estimates.available_data(RECIPES[recipe])
    return MNIST if MNIST in names and DIGITS in names else names[0]


def progress() -> dict[str, Any]:
    """Return {"done", "total", "failed", "running", "fraction"} for a progress bar."""
    names = [name for _, name in missing()]
    newest: dict[str, Job] = {}
    found = Job.objects.filter(organization__slug=publishing.PUBLISHER, publish_as__in=names)
    for job in found.defer("curve").order_by("pk"):
        newest[job.publish_as] = job
    running = next((job for job in newest.values() if job.state in Job.RUNNING), None)
    return {
        "done": len(_made_here()) - len(names),
        "total": len(_made_here()),
        "failed": [name for name, job in newest.items() if _has_failed(job)],
        "running": running.publish_as if running else "",
        "fraction": float(running.progress.get("fraction", 0.0)) if running else 0.0,
    }


def _has_failed(job: Job) -> bool:
    return job.state in (Job.State.FAILED, Job.State.CANCELED) or bool(job.error_code)
