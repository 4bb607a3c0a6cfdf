"""Where events are sent, and what became of each."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import Organization
from billing.ids import uuid7


class WebhookEndpointQuerySet(models.QuerySet["WebhookEndpoint"]):
    """Sets of endpoints."""

    def visible_to(self, organization: Organization) -> WebhookEndpointQuerySet:
        """Return the organization's own endpoints."""
        return self.filter(organization=organization)


class WebhookEndpoint(models.Model):
    """An address of a tenant that is told about events."""

    class Disabled(models.TextChoices):
        OWNER = "owner"
        GONE = "gone"
        FAILING = "failing"

    id = models.UUIDField(primary_key=True, default=uuid7)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=500)
    description = models.CharField(max_length=120, blank=True)
    # Types of events; empty: all.
    events = models.JSONField(default=list)
    is_active = models.BooleanField(default=True)
    # Why it is not active.
    disabled_reason = models.CharField(max_length=8, choices=Disabled.choices, blank=True)
    # Sealed by accounts.vault. While one replaces another both sign.
    secret = models.CharField(max_length=300)
    old_secret = models.CharField(max_length=300, blank=True)
    old_secret_until = models.DateTimeField(null=True, blank=True)
    # The first failure since the last success.
    failing_since = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = WebhookEndpointQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One event on its way to one endpoint."""

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7)
    endpoint = models.ForeignKey(WebhookEndpoint, models.CASCADE, related_name="deliveries")
    # The same on every attempt and at every endpoint: the receiver's key against doubles.
    event_id = models.CharField(max_length=80)
    type = models.CharField(max_length=60)
    # The body as it is sent: signed bytes must not change between attempts.
    payload = models.TextField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(auto_now_add=True)
    # Of the last attempt; empty if it was taken, or there was none.
    failure = models.CharField(max_length=40, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["endpoint", "event_id"], name="one_delivery_per_event")
        ]
        indexes = [
            models.Index(
                fields=["next_attempt_at"],
                condition=Q(state="pending"),
                name="delivery_waiting",
            ),
            models.Index(fields=["created_at"], name="delivery_age"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"

    @property
    def last(self) -> WebhookAttempt | None:
        """The last attempt, from what was prefetched if that is so."""
        found = list(self.log.all())
        return found[-1] if found else None


class WebhookAttempt(models.Model):
    """One request to a receiver, and what came of it."""

    delivery = models.ForeignKey(WebhookDelivery, models.CASCADE, related_name="log")
    attempted_at = models.DateTimeField(default=timezone.now)
    # None: there was no answer.
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    # Empty: the receiver has taken it.
    failure = models.CharField(max_length=40, blank=True)
    milliseconds = models.PositiveIntegerField()
    # The first bytes of the answer, or what went wrong.
    excerpt = models.CharField(max_length=1000, blank=True)
    # Which secrets have signed it: see `signing.secret_id`.
    secret_ids = models.JSONField(default=list)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.delivery_id} {self.failure or self.status}"
