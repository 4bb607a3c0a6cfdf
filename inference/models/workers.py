"""Worker processes."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone

ALIVE = timedelta(seconds=15)


class WorkerQuerySet(models.QuerySet["Worker"]):
    """Sets of workers."""

    def alive(self) -> WorkerQuerySet:
        """Return workers whose heartbeat is recent."""
        return self.filter(seen_at__gt=timezone.now() - ALIVE, stopped_at=None)


class Worker(models.Model):
    """A worker process: who it is, when it was last seen, what it has loaded."""

    class Kind(models.TextChoices):
        PREDICT = "predict"
        JOB = "job"
        LIGHT = "light"

    name = models.CharField(max_length=80, unique=True)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    pool = models.CharField(max_length=40)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True, blank=True)
    # [{"version": "owner/name:1", "runtime": "onnx", "bytes": 400000}]
    loaded = models.JSONField(default=list)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ["kind", "name"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_alive(self) -> bool:
        """Whether the heartbeat is recent."""
        return self.stopped_at is None and self.seen_at > timezone.now() - ALIVE
