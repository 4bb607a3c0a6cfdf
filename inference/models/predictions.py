"""Stored predictions."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from accounts.models import ApiKey, Organization
from billing.ids import uuid7
from billing.models import Hold
from catalog.models import ModelVersion


class PredictionQuerySet(models.QuerySet["Prediction"]):
    """Sets of predictions."""

    def visible_to(self, organization: Organization) -> PredictionQuerySet:
        """Return the organization's own predictions."""
        return self.filter(organization=organization)


class Prediction(models.Model):
    """One run whose input and output are kept: from the playground or with Idempotency-Key."""

    class Status(models.TextChoices):
        PROCESSING = "processing"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="predictions")
    model_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    # The hold's id is chosen before the hold exists: a crash between the two leaves no doubt.
    hold_id = models.UUIDField(unique=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PROCESSING)
    input = models.JSONField()
    # What the caller was told: the whole answer, or the error's code and message.
    answer = models.JSONField(null=True, blank=True)
    idempotency_key = models.CharField(max_length=200, blank=True)
    # SHA-256 of method, path and body: the same key with another request is an error.
    fingerprint = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField()

    objects = PredictionQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                name="one_prediction_per_key",
            )
        ]
        indexes = [
            # The job that forgets inputs and outputs.
            models.Index(fields=["expires_at"], name="prediction_expiry"),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def hold(self) -> Hold | None:
        """The hold, unless admission refused it or died before making it."""
        return Hold.objects.filter(pk=self.hold_id).first()
