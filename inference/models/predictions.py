"""Stored predictions."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.models import ApiKey, Organization
from billing.ids import uuid7
from billing.models import Hold
from catalog.models import ModelVersion
from inference.models.webhooks import WebhookEndpoint


class PredictionQuerySet(models.QuerySet["Prediction"]):
    """Sets of predictions."""

    def visible_to(self, organization: Organization) -> PredictionQuerySet:
        """Return the organization's own predictions."""
        return self.filter(organization=organization)

    def of_model(self, ref: str) -> PredictionQuerySet:
        """Return runs of `owner/name`, or of `owner/name:version`."""
        path, _, number = ref.partition(":")
        owner, _, name = path.partition("/")
        found = self.filter(
            model_version__model__owner__slug=owner, model_version__model__name=name
        )
        if not number:
            return found
        if not number.isdecimal() or len(number) > 9:
            return found.none()
        return found.filter(model_version__number=int(number))

    def with_version(self) -> PredictionQuerySet:
        """Join what the model's path is made of."""
        return self.select_related("model_version__model__owner")


class Prediction(models.Model):
    """One run whose input and output are kept.

    From the playground, with an Idempotency-Key, or asynchronous. Of an asynchronous one this row
    is the truth: it waits while it has a `turn`; then `attempt` fences whoever may change it.
    """

    class Status(models.TextChoices):
        QUEUED = "queued"
        # A worker has it and loads the model.
        STARTING = "starting"
        PROCESSING = "processing"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELED = "canceled"

    TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})
    RUNNING = frozenset({Status.STARTING, Status.PROCESSING})

    # The caller may have chosen it: it says nothing about when.
    id = models.UUIDField(primary_key=True, default=uuid7)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="predictions")
    model_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    # The hold's id is chosen before the hold exists: a crash between the two leaves no doubt. It is
    # always ours and made in order: rows are sorted by it.
    hold_id = models.UUIDField(unique=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PROCESSING)
    input = models.JSONField()
    # What the caller was told: the whole answer, or the error's code; what it cost.
    answer = models.JSONField(null=True, blank=True)
    idempotency_key = models.CharField(max_length=200, blank=True)
    # SHA-256 of method, path and body: the same key with another request is an error.
    fingerprint = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField()

    is_async = models.BooleanField(default=False)
    request_id = models.CharField(max_length=64, blank=True)
    # How many rows the input has, and how long the body was.
    rows = models.PositiveIntegerField(default=0)
    input_bytes = models.PositiveIntegerField(default=0)
    # Of texts that are read; and of a text that is written, as far as it is: null if none is.
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(null=True, blank=True)
    # The place in the queue, lowest first; null when it does not wait.
    turn = models.BigIntegerField(null=True, blank=True)
    # Not begun by then: it fails, and costs nothing.
    start_by = models.DateTimeField(null=True, blank=True)
    # How many workers have had it: the fencing token.
    attempt = models.PositiveSmallIntegerField(default=0)
    lease_owner = models.CharField(max_length=80, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    # The endpoint that is told of the end; null: those that ask for such events.
    webhook = models.ForeignKey(
        WebhookEndpoint, models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    # When the webhooks of its end were made.
    announced_at = models.DateTimeField(null=True, blank=True)

    objects = PredictionQuerySet.as_manager()

    class Meta:
        ordering = ["-hold_id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                name="one_prediction_per_key",
            ),
            models.CheckConstraint(
                condition=Q(status="queued", turn__isnull=False)
                | (~Q(status="queued") & Q(turn__isnull=True)),
                name="queued_has_turn",
            ),
            models.CheckConstraint(
                condition=(Q(status__in=["queued", "starting", "processing"], finished_at=None))
                | Q(
                    status__in=["succeeded", "failed", "canceled"],
                    finished_at__isnull=False,
                ),
                name="prediction_ended_once",
            ),
        ]
        indexes = [
            # The job that forgets inputs and outputs.
            models.Index(fields=["expires_at"], name="prediction_expiry"),
            # Lists, newest first.
            models.Index(fields=["organization", "-hold_id"], name="prediction_newest"),
            # Who is next; who of the same version comes with it; who of an organization is last.
            models.Index(
                fields=["turn", "hold_id"], condition=Q(turn__isnull=False), name="prediction_turn"
            ),
            models.Index(
                fields=["model_version", "turn", "hold_id"],
                condition=Q(turn__isnull=False),
                name="prediction_version_turn",
            ),
            models.Index(
                fields=["organization", "turn"],
                condition=Q(turn__isnull=False),
                name="prediction_tenant_turn",
            ),
            # The sweep: what is late, whose worker was lost.
            models.Index(
                fields=["start_by"], condition=Q(turn__isnull=False), name="prediction_late"
            ),
            models.Index(
                fields=["lease_until"],
                condition=Q(lease_until__isnull=False),
                name="prediction_lease",
            ),
            # Synchronous runs whose gateway may have died.
            models.Index(
                fields=["created_at"],
                condition=Q(is_async=False, finished_at=None),
                name="prediction_open",
            ),
            # The webhooks that are to be made.
            models.Index(
                fields=["id"],
                condition=Q(is_async=True, announced_at=None, finished_at__isnull=False),
                name="prediction_unannounced",
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def is_ended(self) -> bool:
        """Whether it has ended for good."""
        return self.status in self.TERMINAL

    def tokens(self) -> dict[str, int]:
        """Return what it has read and written, as quantities that have a price."""
        found = {"input_token": self.input_tokens} if self.input_tokens else {}
        if self.output_tokens is not None:
            found["output_token"] = self.output_tokens
        return found

    @property
    def hold(self) -> Hold | None:
        """The hold, unless admission refused it or died before making it."""
        return Hold.objects.filter(pk=self.hold_id).first()


class PredictionBlob(models.Model):
    """An input or output too large for the prediction's row, which is written several times.

    In the database and not in a file: it comes and goes in the transaction of its row, and every
    host that has the row has it too.
    """

    class Kind(models.TextChoices):
        INPUT = "input"
        OUTPUT = "output"

    prediction = models.ForeignKey(Prediction, models.CASCADE, related_name="blobs")
    kind = models.CharField(max_length=6, choices=Kind.choices)
    # JSON, as it was sent or is given back.
    data = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["prediction", "kind"], name="one_blob_per_kind")
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.prediction_id}"
