"""What operators do with predict workers, and with where versions are loaded.

Each is a row first; then the worker is rung, and looks within half a second. If the ring is lost,
it looks by itself some seconds later.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import redis
from django.db import transaction

from accounts import audit
from accounts.errors import ConflictError
from accounts.models import User
from catalog.models import ModelVersion
from inference import registry
from inference.connections import PREDICT_DB, redis_client
from inference.models import Placement, Unload, Worker

Duty = Worker.Duty
_RING_SECONDS = 60


def cordon(worker: Worker, *, actor: User | None, reason: str) -> bool:
    """Have a worker serve what it has loaded and take nothing else; False if it does so.

    Raises:
        ConflictError: It is not a predict worker that lives.
    """
    return _give(worker, Duty.CORDONED, "worker.cordoned", actor, reason)


def drain(worker: Worker, *, actor: User | None, reason: str) -> bool:
    """Have a worker finish what it was given and take nothing else; False if it does so.

    Raises:
        ConflictError: It is not a predict worker that lives.
    """
    return _give(worker, Duty.DRAINED, "worker.drained", actor, reason)


def uncordon(worker: Worker, *, actor: User | None, reason: str) -> bool:
    """Have a worker take whatever comes; False if it does so.

    Raises:
        ConflictError: It is not a predict worker that lives.
    """
    return _give(worker, Duty.ACTIVE, "worker.uncordoned", actor, reason)


def _give(worker: Worker, duty: Duty, action: str, actor: User | None, reason: str) -> bool:
    _require_living(worker)
    with transaction.atomic():
        changed = Worker.objects.filter(pk=worker.pk).exclude(duty=duty).update(duty=duty)
        if not changed:
            return False
        worker.duty = duty
        audit.record(actor, action, worker, reason=reason)
    _ring(worker)
    return True


def pin(
    version: ModelVersion,
    *,
    actor: User | None,
    reason: str,
    labels: Mapping[str, str] | None = None,
) -> bool:
    """Keep a version loaded on every worker that may load it; False if that is so.

    Args:
        labels: What a worker needs to run it, pinned or not: see `labels.satisfy`.
    """
    wanted = dict(labels or {})
    with transaction.atomic():
        placement, _ = Placement.objects.select_for_update().get_or_create(version=version)
        if placement.is_pinned and placement.labels == wanted:
            return False
        Placement.objects.filter(pk=version.pk).update(is_pinned=True, labels=wanted)
        details = {"labels": wanted}
        audit.record(actor, "version.pinned", version, reason=reason, details=details)
    _ring_all()
    return True


def unpin(version: ModelVersion, *, actor: User | None, reason: str) -> bool:
    """Let a version be unloaded to make room; False if that is so.

    The labels that were asked for when it was pinned are still asked for.
    """
    with transaction.atomic():
        pinned = Placement.objects.filter(pk=version.pk, is_pinned=True)
        if not pinned.update(is_pinned=False):
            return False
        audit.record(actor, "version.unpinned", version, reason=reason)
    _ring_all()
    return True


def unload(worker: Worker, version: ModelVersion, *, actor: User | None, reason: str) -> None:
    """Have a worker forget a version; it loads it again when somebody asks for it.

    Raises:
        ConflictError: The version is pinned, or the worker does not live.
    """
    _require_living(worker)
    if Placement.objects.filter(pk=version.pk, is_pinned=True).exists():
        raise ConflictError("This version is pinned. Unpin it first.")
    with transaction.atomic():
        Unload.objects.create(worker=worker, version=version)
        details = {"version": version.path}
        audit.record(actor, "worker.unloaded", worker, reason=reason, details=details)
    _ring(worker)


def _require_living(worker: Worker) -> None:
    if worker.kind != Worker.Kind.PREDICT or not worker.is_alive:
        raise ConflictError("This is not a predict worker that is alive.")


def _ring_all() -> None:
    for worker in Worker.objects.alive().filter(kind=Worker.Kind.PREDICT):
        _ring(worker)


def _ring(worker: Worker) -> None:
    # The row is written: without Redis the worker sees it a little later.
    with contextlib.suppress(redis.RedisError):
        redis_client(PREDICT_DB).set(registry.duty_key(worker.name), 1, ex=_RING_SECONDS)
