"""Names for versions, and versions that are tried on calls, or on copies of them."""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from catalog.models import MLModel, ModelVersion

ALIAS_PATTERN = r"[a-z](?:[a-z0-9-]{0,29}[a-z0-9])?"
ALIAS = RegexValidator(rf"^{ALIAS_PATTERN}$")


class VersionAlias(models.Model):
    """A publisher's name for a version: `owner/name:alias`."""

    model = models.ForeignKey(MLModel, models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=31, validators=[ALIAS])
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["model", "name"], name="one_alias_per_name")]

    def __str__(self) -> str:
        return f"{self.model.path}:{self.name}"


class Canary(models.Model):
    """A version that gets a part of the calls to its model's name, until that ends."""

    class State(models.TextChoices):
        RUNNING = "running"
        PROMOTED = "promoted"
        STOPPED = "stopped"
        ROLLED_BACK = "rolled_back"

    model = models.ForeignKey(MLModel, models.CASCADE, related_name="canaries")
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    percent = models.PositiveSmallIntegerField()
    # When it is rolled back: more failures than this, or a p95 of its runs so much longer.
    max_error_percent = models.PositiveSmallIntegerField()
    max_slowdown_percent = models.PositiveSmallIntegerField()
    # Not before so many calls have ended.
    min_calls = models.PositiveIntegerField()
    state = models.CharField(max_length=11, choices=State.choices, default=State.RUNNING)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    # errors or latency, if it was rolled back.
    cause = models.CharField(max_length=16, blank=True)
    # What was counted when it ended: see inference/traffic/watching.py.
    measured = models.JSONField(default=dict)

    class Meta:
        ordering = ["-started_at", "-pk"]
        verbose_name_plural = "canaries"
        constraints = [
            models.UniqueConstraint(
                fields=["model"], condition=Q(state="running"), name="one_canary_per_model"
            ),
            models.CheckConstraint(
                condition=Q(percent__gte=1, percent__lte=100), name="canary_percent"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version.path} {self.percent} %"


class Shadow(models.Model):
    """A version that runs copies of calls to its model's current version; nobody sees its answers.

    What it counts is added by workers: see inference/traffic/comparing.py.
    """

    class State(models.TextChoices):
        RUNNING = "running"
        STOPPED = "stopped"

    model = models.ForeignKey(MLModel, models.CASCADE, related_name="shadows")
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    # Of the calls to the current version, how many are copied.
    percent = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=7, choices=State.choices, default=State.RUNNING)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    # Copies that were run; those that failed; those whose outputs agreed.
    calls = models.PositiveBigIntegerField(default=0)
    failures = models.PositiveBigIntegerField(default=0)
    agreed = models.PositiveBigIntegerField(default=0)
    # Of the copies that did not fail: how long the batch of each took, in microseconds, and how
    # many rows it had; and the batch of the call that was copied.
    run_us_total = models.PositiveBigIntegerField(default=0)
    stable_run_us_total = models.PositiveBigIntegerField(default=0)
    batch_rows_total = models.PositiveBigIntegerField(default=0)
    stable_batch_rows_total = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["-started_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["model"], condition=Q(state="running"), name="one_shadow_per_model"
            ),
            models.CheckConstraint(
                condition=Q(percent__gte=1, percent__lte=100), name="shadow_percent"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.version.path} {self.percent} %"

    @property
    def agreed_percent(self) -> float | None:
        """Of a hundred copies, how many agreed; two places, rounded down; None: there is none."""
        return self.agreed * 10_000 // self.calls / 100 if self.calls else None

    @property
    def mean_us(self) -> int | None:
        """Mean time of the batches that its copies ran in; None: none has succeeded."""
        return self._mean(self.run_us_total)

    @property
    def stable_mean_us(self) -> int | None:
        """The same of the calls that were copied."""
        return self._mean(self.stable_run_us_total)

    @property
    def mean_rows(self) -> int | None:
        """Mean rows of the batches that its copies ran in."""
        return self._mean(self.batch_rows_total)

    @property
    def stable_mean_rows(self) -> int | None:
        """The same of the calls that were copied."""
        return self._mean(self.stable_batch_rows_total)

    def _mean(self, total: int) -> int | None:
        succeeded = self.calls - self.failures
        return total // succeeded if succeeded else None
