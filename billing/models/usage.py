"""What was used."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from accounts.models import Organization
from catalog.models import ModelVersion


class UsageEventQuerySet(models.QuerySet["UsageEvent"]):
    """Sets of usage events."""

    def visible_to(self, organization: Organization) -> UsageEventQuerySet:
        """Return the organization's own usage."""
        return self.filter(organization=organization)


class UsageEvent(models.Model):
    """What one captured run used and cost. Its id is the hold's: it can exist only once."""

    hold = models.OneToOneField(
        "billing.Hold", models.PROTECT, primary_key=True, related_name="usage"
    )
    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="usage", db_index=False
    )
    model_version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    outcome = models.CharField(max_length=24)
    rows = models.PositiveIntegerField(default=0)
    compute_ms = models.PositiveBigIntegerField(default=0)
    # Empty where nothing of the kind is counted.
    input_tokens = models.PositiveBigIntegerField(null=True, blank=True)
    output_tokens = models.PositiveBigIntegerField(null=True, blank=True)
    bytes = models.PositiveBigIntegerField(null=True, blank=True)
    queue_us = models.PositiveBigIntegerField(default=0)
    run_us = models.PositiveBigIntegerField(default=0)
    batch_rows = models.PositiveIntegerField(default=0)
    cost_nanos = models.BigIntegerField()
    publisher_nanos = models.BigIntegerField()
    platform_nanos = models.BigIntegerField()
    # What the run would have cost without the reservation or with a ceiling of its caller.
    uncapped_nanos = models.BigIntegerField()
    worker = models.CharField(max_length=80, blank=True)
    occurred_at = models.DateTimeField()
    completed_at = models.DateTimeField()

    objects = UsageEventQuerySet.as_manager()

    class Meta:
        ordering = ["-occurred_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(cost_nanos=F("publisher_nanos") + F("platform_nanos")),
                name="shares_sum_to_cost",
            ),
            models.CheckConstraint(condition=Q(cost_nanos__gte=0), name="cost_positive"),
        ]
        indexes = [
            # The usage page and GET /v1/usage, newest first.
            models.Index(fields=["organization", "-occurred_at"], name="usage_newest"),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def quantities(self) -> dict[str, int]:
        """What was used, by the dimensions that prices name."""
        counted = {
            "call": 1,
            "row": self.rows,
            "compute_ms": self.compute_ms,
            "input_token": self.input_tokens,
            "output_token": self.output_tokens,
            "byte": self.bytes,
        }
        return {name: units for name, units in counted.items() if units is not None}


class UsageOrphan(models.Model):
    """A report that came too late to be billed: its hold had already ended. Billed 0."""

    hold_id = models.UUIDField(db_index=True)
    reason = models.CharField(max_length=48)
    report = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.hold_id}: {self.reason}"


class UsageRollup(models.Model):
    """Usage of one organization, key and version in one hour; written by the settler."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="rollups")
    # 0 means none (browser, training): keeps the unique key simple on both databases.
    api_key_id = models.BigIntegerField(default=0)
    model_version_id = models.BigIntegerField(default=0)
    hour = models.DateTimeField()
    calls = models.BigIntegerField(default=0)
    rows = models.BigIntegerField(default=0)
    compute_ms = models.BigIntegerField(default=0)
    cost_nanos = models.BigIntegerField(default=0)
    publisher_nanos = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "api_key_id", "model_version_id", "hour"],
                name="one_rollup_per_hour",
            )
        ]
        indexes = [
            # What a publisher's models earned, whoever called them.
            models.Index(fields=["model_version_id", "hour"], name="rollup_of_version")
        ]

    def __str__(self) -> str:
        return f"{self.organization_id} {self.hour}"
