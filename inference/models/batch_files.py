"""Batch files: many rows of one model, uploaded together, run when there is room."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce

from accounts.models import ApiKey, Organization
from billing.ids import uuid7
from billing.models import ShareVersion
from catalog.models import ModelVersion, PriceVersion


class BatchFileQuerySet(models.QuerySet["BatchFile"]):
    """Sets of batch files."""

    def visible_to(self, organization: Organization) -> BatchFileQuerySet:
        """Return the organization's own batch files."""
        return self.filter(organization=organization)

    def listed(self) -> BatchFileQuerySet:
        """Read what a list shows; one query however many files."""
        return (
            self.select_related("model_version__model__owner", "price_version")
            .defer("row_errors", "columns")
            .annotate(**BatchFile.SUMS)
        )


class BatchFile(models.Model):
    """One uploaded file of rows. The row is the truth; a message only rings."""

    class Status(models.TextChoices):
        CHECKING = "checking"
        READY = "ready"
        PROCESSING = "processing"
        PAUSED = "paused"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELED = "canceled"

    class Format(models.TextChoices):
        JSONL = "jsonl"
        CSV = "csv"

    class WhenRefused(models.TextChoices):
        PAUSE = "pause"
        FAIL = "fail"

    TERMINAL = (Status.SUCCEEDED, Status.FAILED, Status.CANCELED)
    RUNNING = (Status.PROCESSING, Status.PAUSED)
    # What its chunks add up to. Chunks are the truth, so no counter can be wrong.
    SUMS = {
        "done_rows": Coalesce(Sum("chunks__rows", filter=Q(chunks__state="done")), 0),
        "succeeded_rows": Coalesce(Sum("chunks__succeeded"), 0),
        "cost_nanos": Coalesce(Sum("chunks__cost_nanos"), 0),
        "running_chunks": Count("chunks", filter=Q(chunks__state="running")),
    }

    id = models.UUIDField(primary_key=True, default=uuid7)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="batch_files")
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    model_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    name = models.CharField(max_length=200)
    format = models.CharField(max_length=5, choices=Format.choices)
    size_bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.CHECKING)
    # What its owner chose.
    starts_itself = models.BooleanField(default=False)
    skips_invalid = models.BooleanField(default=False)
    when_refused = models.CharField(
        max_length=5, choices=WhenRefused.choices, default=WhenRefused.PAUSE
    )
    max_cost_nanos = models.BigIntegerField(null=True, blank=True)
    # The check: how far it is, and what it found. A dead worker's check goes on from there.
    columns = models.JSONField(default=list)
    checked_bytes = models.PositiveBigIntegerField(default=0)
    checked_lines = models.PositiveIntegerField(default=0)
    rows = models.PositiveIntegerField(default=0)
    invalid_rows = models.PositiveIntegerField(default=0)
    # The first ones: [{"line", "row", "code", "message", "param"}]
    row_errors = models.JSONField(default=list)
    attempt = models.PositiveIntegerField(default=0)
    lease_owner = models.CharField(max_length=80, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    # Frozen when it is checked, and again when it starts.
    price_version = models.ForeignKey(PriceVersion, models.PROTECT, related_name="+")
    share_version = models.ForeignKey(ShareVersion, models.PROTECT, related_name="+")
    estimate_nanos = models.BigIntegerField(default=0)
    # Why it failed, or waits.
    error_code = models.CharField(max_length=48, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    # When one that is paused tries again.
    retry_at = models.DateTimeField(null=True, blank=True)
    # When a chunk of it was last taken: the one that has waited longest is next.
    claimed_at = models.DateTimeField(null=True, blank=True)
    idempotency_key = models.CharField(max_length=200, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField()

    objects = BatchFileQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                name="one_batch_file_per_key",
            )
        ]
        indexes = [
            # Claim and sweep: few are ever open.
            models.Index(
                fields=["status", "claimed_at"],
                condition=Q(status__in=["checking", "processing", "paused"]),
                name="batch_file_open",
            ),
            models.Index(fields=["expires_at"], name="batch_file_expiry"),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def is_open(self) -> bool:
        """Whether anything may still happen to it."""
        return self.status not in self.TERMINAL


class BatchChunk(models.Model):
    """Some rows of a file, run and charged together: all of them, or none."""

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"

    batch = models.ForeignKey(BatchFile, models.CASCADE, related_name="chunks", db_index=False)
    number = models.PositiveIntegerField()
    # Where its rows lie in the file.
    offset = models.PositiveBigIntegerField()
    size_bytes = models.PositiveIntegerField()
    first_row = models.PositiveIntegerField()
    first_line = models.PositiveIntegerField()
    rows = models.PositiveIntegerField()
    state = models.CharField(max_length=7, choices=State.choices, default=State.WAITING)
    # The fencing token: every write of a worker names the attempt it belongs to.
    attempt = models.PositiveIntegerField(default=0)
    # Attempts that ended because their worker died.
    losses = models.PositiveSmallIntegerField(default=0)
    lease_owner = models.CharField(max_length=80, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    # The hold of row i has this id plus i: a crash leaves no doubt which are to be ended.
    first_hold = models.UUIDField(null=True, blank=True)
    # What came out.
    succeeded = models.PositiveIntegerField(default=0)
    cost_nanos = models.BigIntegerField(default=0)
    result_bytes = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["batch", "number"]
        constraints = [
            models.UniqueConstraint(fields=["batch", "number"], name="one_chunk_per_number")
        ]
        indexes = [
            models.Index(
                fields=["batch", "number"],
                condition=~Q(state="done"),
                name="batch_chunk_open",
            )
        ]

    def __str__(self) -> str:
        return f"{self.batch_id}/{self.number}"
