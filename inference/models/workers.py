"""Worker processes, and which models they hold."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone

from catalog.models import ModelVersion

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

    class Duty(models.TextChoices):
        """What an operator wants of a predict worker."""

        # Takes whatever comes.
        ACTIVE = "active"
        # Serves what it has loaded, and takes nothing that it would have to load.
        CORDONED = "cordoned"
        # Finishes what it was given, and takes nothing more.
        DRAINED = "drained"

    name = models.CharField(max_length=80, unique=True)
    # The name without the process: what stays the same when it is started again.
    node = models.CharField(max_length=80, default="", db_index=True)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    pool = models.CharField(max_length=40)
    pid = models.PositiveIntegerField()
    duty = models.CharField(max_length=8, choices=Duty.choices, default=Duty.ACTIVE)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True, blank=True)
    # What the process can do: {"cpu": "2", "memory_mb": "7800", "gpu": "0", "zone": "a"}
    labels = models.JSONField(default=dict)
    # [{"version": "owner/name:1", "id": 7, "runtime": "onnx", "bytes": 400000}]
    loaded = models.JSONField(default=list)
    # Bytes that loaded models may take, and what the whole process takes.
    capacity_bytes = models.PositiveBigIntegerField(default=0)
    resident_bytes = models.PositiveBigIntegerField(default=0)
    # [{"index": 0, "name": "…", "used_bytes": 1, "total_bytes": 2}]
    gpus = models.JSONField(default=list)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ["kind", "name"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_alive(self) -> bool:
        """Whether the heartbeat is recent."""
        return self.stopped_at is None and self.seen_at > timezone.now() - ALIVE


class Placement(models.Model):
    """Where a version may be loaded, and whether it stays loaded."""

    version = models.OneToOneField(
        ModelVersion, models.CASCADE, primary_key=True, related_name="placement"
    )
    # Loaded when a worker starts, and never unloaded to make room.
    is_pinned = models.BooleanField(default=False)
    # Only workers with all of these labels load it: {"gpu": "1"}
    labels = models.JSONField(default=dict)

    def __str__(self) -> str:
        return str(self.version)


class VersionStart(models.Model):
    """How long it takes to load a version, and what it takes then; measured at each load."""

    version = models.OneToOneField(
        ModelVersion, models.CASCADE, primary_key=True, related_name="start"
    )
    # From the file to the end of the warm-up; later loads count for more than earlier ones.
    start_ms = models.PositiveIntegerField()
    size_bytes = models.PositiveBigIntegerField()
    starts = models.PositiveIntegerField(default=1)
    started_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.version)


class Unload(models.Model):
    """An operator's order to one worker to forget one version."""

    worker = models.ForeignKey(Worker, models.CASCADE, related_name="unloads")
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+")
    ordered_at = models.DateTimeField(default=timezone.now)
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.version} on {self.worker}"
