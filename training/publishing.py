"""A finished job → a version that can be called."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db.models import DateTimeField, ExpressionWrapper
from django.db.models.functions import Now

from accounts.errors import MercatoError
from accounts.models import Organization, User
from billing.outcomes import DEFAULT_POLICY
from catalog import publishing
from catalog.models import ModelVersion
from catalog.publishing import Build, Text
from training import cards, folders
from training.errors import NotPublishableError
from training.models import Job
from training.recipes import RECIPES, Recipe
from training.recipes.catalogue import TEXT

# The organization whose models every site starts with.
PUBLISHER = "mercato"
# Longer than a worker needs between success and publishing.
_FORGOTTEN_SECONDS = 30

logger = logging.getLogger(__name__)


def may_ship(job: Job) -> bool:
    """Whether the file that comes with the code may stand in for a missing framework."""
    return job.organization.slug == PUBLISHER and job.publish_as == job.recipe


def publish(
    job: Job,
    name: str,
    *,
    title: Text | None = None,
    summary: Text | None = None,
    price_nanos: int | None = None,
    is_public: bool = False,
    actor: User | None = None,
) -> ModelVersion:
    """Publish a finished job as the next version of `organization/name`; once per job.

    Whoever asks again with the same name, or asks while its worker publishes it as its owner
    wished, gets the version that there is.

    Raises:
        NotPublishableError: It has not succeeded, is published under another name, or its
            files are gone.
        ModelMismatchError: The name belongs to another kind of model.
    """
    if job.version is None and job.state == Job.State.SUCCEEDED:
        try:
            build = _build(job, name, title, summary, price_nanos)
            return _insert(job, name, build, is_public=is_public, actor=actor)
        except FileNotFoundError:
            # They may go in this moment.
            raise NotPublishableError("The files of this training are no longer kept.") from None
        except _PublishedMeanwhileError:
            job.refresh_from_db(fields=["version"])
    if job.version is None:
        raise NotPublishableError(
            f"This training is {job.state}; only one that succeeded can be published."
        )
    if job.version.model.name != name:
        raise NotPublishableError(f"This training is published as {job.version.path}.")
    return job.version


class _PublishedMeanwhileError(Exception):
    """Somebody else was faster."""


def _insert(
    job: Job, name: str, build: Build, *, is_public: bool, actor: User | None
) -> ModelVersion:
    def remember(version: ModelVersion) -> None:
        if not Job.objects.filter(pk=job.pk, version=None).update(version=version):
            raise _PublishedMeanwhileError

    job.version = publishing.publish_version(
        job.organization, name, build, is_public=is_public, actor=actor, then=remember
    )
    return job.version


def _build(
    job: Job, name: str, title: Text | None, summary: Text | None, price_nanos: int | None
) -> Build:
    folder = folders.result(job)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    recipe = RECIPES[job.recipe]
    nanos = recipe.price_nanos if price_nanos is None else price_nanos
    return Build(
        title=title or Text(recipe.title_en, recipe.title_zh),
        summary=summary or cards.summary(recipe, result),
        card=cards.card(recipe, result),
        task=recipe.task,
        framework=recipe.framework,
        runtime=result["measurements"]["runtime"],
        signature=result["signature"],
        files={kind: folder / path for kind, path in result["files"].items()},
        price=recipe.prices if price_nanos is None and recipe.prices else {"row": (nanos, 1)},
        parameters=result["parameters"],
        metrics=result["metrics"],
        training=result["training"],
        measurements=result["measurements"],
        examples=result["examples"],
        outcome_policy=_policy(recipe),
    )


def _policy(recipe: Recipe) -> Mapping[str, int]:
    """Who hangs up while a text is written pays for what was written until then."""
    return {**DEFAULT_POLICY, "canceled": 100} if recipe.task == TEXT else DEFAULT_POLICY


def publish_wanted(job: Job) -> None:
    """Publish a job that was started with `publish_as`; a refusal is written to the row."""
    try:
        publish(job, job.publish_as, is_public=may_ship(job))
    except MercatoError as error:
        logger.warning("Training %s is not published: %s", job.pk, error.message)
        Job.objects.filter(pk=job.pk).update(
            error_code=error.code, error_message=error.message[:500]
        )


def publish_forgotten() -> None:
    """Publish jobs whose worker died between success and publishing."""
    since = ExpressionWrapper(
        Now() - timedelta(seconds=_FORGOTTEN_SECONDS), output_field=DateTimeField()
    )
    forgotten = Job.objects.filter(
        state=Job.State.SUCCEEDED, version=None, error_code="", finished_at__lt=since
    ).exclude(publish_as="")
    for job in forgotten.select_related("organization").defer("curve"):
        publish_wanted(job)


def publisher() -> Organization | None:
    """Return the organization whose models every site starts with."""
    return Organization.objects.filter(slug=PUBLISHER).first()
