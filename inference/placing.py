"""Which versions a predict worker may run, and which it loads before anybody asks for them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Q, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from billing.models import UsageRollup
from catalog.models import MLModel, ModelVersion
from inference import registry, routing
from inference.connections import PREDICT_DB, redis_client
from inference.labels import satisfy
from inference.models import Placement

logger = logging.getLogger(__name__)
# A version is new for so long; then it is loaded when somebody asks for it.
_NEW = timedelta(minutes=2)
_USED = timedelta(days=7)
# What is loaded at the start leaves room for what will be asked for.
_FILLED = 0.8


def needed(version_id: int) -> dict[str, str]:
    """Return the labels that a worker needs to run a version."""
    placed = Placement.objects.filter(pk=version_id).values_list("labels", flat=True).first()
    return placed or {}


def require_worker(version_id: int) -> None:
    """Refuse a version that no worker may run which lives now, by the labels as they are now.

    Raises:
        NoWorkerError
    """
    try:
        wants = needed(version_id)
    except (DatabaseError, InterfaceError) as error:
        # Whoever asks goes on waiting.
        logger.warning("version %s: %s", version_id, error)
        connection.close()
        return
    routing.require_worker(version_id, wants)


def elsewhere(labels: Mapping[str, str]) -> frozenset[int]:
    """Return the versions that a worker with these labels must not run."""
    asking = Placement.objects.exclude(labels={}).values_list("version_id", "labels")
    return frozenset(version_id for version_id, wants in asking if not satisfy(labels, wants))


def pinned(labels: dict[str, str]) -> set[int]:
    """Return the pinned versions that a worker with these labels may load."""
    found = Placement.objects.filter(
        is_pinned=True, version__status=ModelVersion.Status.PUBLISHED
    ).values_list("version_id", "labels")
    return {version_id for version_id, wants in found if satisfy(labels, wants)}


def wanted(worker: str, pool: str, labels: dict[str, str]) -> set[int]:
    """Return what a worker should load now: what is pinned, and its part of what is new.

    Raises:
        RedisError: The other workers are not known.
    """
    new = (
        MLModel.objects.filter(current_version__published_at__gt=timezone.now() - _NEW)
        .values_list("current_version", flat=True)
        .order_by("-current_version")[: settings.PRELOAD_MODELS]
    )
    chosen = pinned(labels)
    if not new:
        return chosen
    members = [
        each
        for each in registry.read(redis_client(PREDICT_DB), pool)
        if each.duty == registry.ACTIVE
    ]
    wants = dict(Placement.objects.filter(pk__in=new).values_list("version_id", "labels"))
    for version_id in new:
        able = [each for each in members if each.has(wants.get(version_id, {}))]
        is_somewhere = any(version_id in each.loaded for each in able)
        first = registry.ranked(version_id, able)[:1]
        if not is_somewhere and first and first[0].name == worker:
            chosen.add(version_id)
    return chosen


def first_loads(labels: dict[str, str]) -> list[int]:
    """Return what a worker loads when it starts: pinned, then most used, then newest.

    As many as the settings allow and the memory has room for.
    """
    used = (
        UsageRollup.objects.filter(hour__gt=timezone.now() - _USED)
        .values_list("model_version_id")
        .annotate(calls=Sum("calls"))
        .order_by("-calls")
    )
    rank = {version_id: place for place, (version_id, _) in enumerate(used)}
    kept = pinned(labels)
    offered = MLModel.objects.filter(current_version__isnull=False).values("current_version")
    on_offer = ModelVersion.objects.filter(Q(pk__in=kept) | Q(pk__in=offered))
    # What it took the last time it was loaded; else at least its file.
    sizes = dict(on_offer.values_list("pk", Coalesce("start__size_bytes", "size_bytes")))
    others = elsewhere(labels)
    order = sorted(
        (each for each in sizes if each not in others),
        key=lambda each: (each not in kept, rank.get(each, len(rank)), -each),
    )
    return _that_fit(order, sizes, len(kept))


def _that_fit(order: list[int], sizes: dict[int, int], kept: int) -> list[int]:
    room, chosen = _FILLED * settings.MODEL_CACHE_BYTES, list[int]()
    for version_id in order[: max(settings.PRELOAD_MODELS, kept)]:
        room -= sizes[version_id]
        if room < 0:
            break
        chosen.append(version_id)
    return chosen
