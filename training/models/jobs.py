"""Training jobs."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.models import ApiKey, Organization
from billing.ids import uuid7
from billing.models import Hold
from catalog.models import ModelVersion


class JobQuerySet(models.QuerySet["Job"]):
    """Sets of jobs."""

    def visible_to(self, organization: Organization) -> JobQuerySet:
        """Return the organization's own jobs."""
        return self.filter(organization=organization)

    def listed(self) -> JobQuerySet:
        """Read what a list shows, without the curves; one query however many jobs."""
        return self.select_related("hold", "version__model__owner").defer("curve")

    def with_price(self) -> JobQuerySet:
        """Read the frozen price and the published version along with each job."""
        return self.select_related(
            "organization", "hold__price_version", "version__model__owner"
        ).prefetch_related("hold__price_version__components")


class Job(models.Model):
    """One training. The row is the truth; a Celery message only rings."""

    class State(models.TextChoices):
        QUEUED = "queued"
        STARTING = "starting"
        PROCESSING = "processing"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELED = "canceled"

    TERMINAL = (State.SUCCEEDED, State.FAILED, State.CANCELED)
    RUNNING = (State.STARTING, State.PROCESSING)

    id = models.UUIDField(primary_key=True, default=uuid7)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="jobs")
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    pool = models.CharField(max_length=40, default="cpu")
    recipe = models.CharField(max_length=40)
    data = models.CharField(max_length=40)
    # {"optimizer", "learning_rate", "batch_size", "epochs", "seed"}
    hyperparameters = models.JSONField()
    # When set, success publishes a version of `organization/publish_as` without being asked.
    publish_as = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    # The fencing token: every write of a runner names the attempt it belongs to.
    attempt = models.PositiveIntegerField(default=0)
    # Attempts that ended because their worker died; a drain is not counted.
    losses = models.PositiveSmallIntegerField(default=0)
    lease_owner = models.CharField(max_length=80, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    # Thinned progress: {"epoch", "epochs", "fraction", "seconds_left"}
    progress = models.JSONField(default=dict)
    # One item per epoch: {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    curve = models.JSONField(default=list)
    metrics = models.JSONField(default=dict)
    error_code = models.CharField(max_length=48, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    hold = models.OneToOneField(
        Hold, models.PROTECT, null=True, blank=True, related_name="training"
    )
    # Compute of all attempts that is billed, milliseconds.
    compute_ms = models.PositiveBigIntegerField(default=0)
    max_seconds = models.PositiveIntegerField()
    version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, blank=True, related_name="+"
    )
    idempotency_key = models.CharField(max_length=200, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                name="one_job_per_key",
            )
        ]
        indexes = [
            # Claim and sweep: few rows are ever open.
            models.Index(
                fields=["pool", "id"],
                condition=Q(state__in=["queued", "starting", "processing"]),
                name="job_open",
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)
