"""What was said to Stripe, and what Stripe said."""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class StripeEvent(models.Model):
    """A webhook as it came in: stored once, handled until it succeeds."""

    class State(models.TextChoices):
        RECEIVED = "received"
        DONE = "done"
        DEAD = "dead"

    id = models.CharField(primary_key=True, max_length=120)
    type = models.CharField(max_length=120)
    account = models.CharField(max_length=80, blank=True)
    livemode = models.BooleanField(default=False)
    api_version = models.CharField(max_length=40, blank=True)
    # What it is about: which object to fetch.
    object_type = models.CharField(max_length=60, blank=True)
    object_id = models.CharField(max_length=120, blank=True)
    payload = models.JSONField()
    created_at = models.DateTimeField()
    received_at = models.DateTimeField(auto_now_add=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.RECEIVED)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=500, blank=True)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    handled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-received_at"]
        indexes = [
            models.Index(
                fields=["next_attempt_at", "received_at"],
                condition=Q(state="received"),
                name="stripe_event_due",
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.pk}"


class StripeOp(models.Model):
    """A POST to Stripe: frozen before it is sent, sent under one key until its end is known."""

    class State(models.TextChoices):
        PENDING = "pending"
        SENT = "sent"
        UNKNOWN = "unknown"
        OK = "ok"
        REJECTED = "rejected"

    kind = models.CharField(max_length=24)
    business_key = models.CharField(max_length=120)
    attempt = models.PositiveSmallIntegerField(default=1)
    idem_key = models.CharField(max_length=200, unique=True)
    request_hash = models.CharField(max_length=64)
    params = models.JSONField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    stripe_id = models.CharField(max_length=120, blank=True)
    response = models.JSONField(null=True, blank=True)
    last_error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    first_sent_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "business_key", "attempt"], name="one_op_per_attempt"
            )
        ]
        indexes = [
            models.Index(
                fields=["created_at"],
                condition=Q(state__in=["pending", "sent", "unknown"]),
                name="stripe_op_open",
            )
        ]

    def __str__(self) -> str:
        return self.idem_key
