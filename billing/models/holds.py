"""Money set aside for one run."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import F, Q

from accounts.models import ApiKey, Organization
from billing.ids import uuid7
from billing.models.budgets import BudgetSet
from billing.models.ledger import Settlement
from billing.models.publishers import ShareVersion
from catalog.models import ModelVersion, PriceVersion


class HoldQuerySet(models.QuerySet["Hold"]):
    """Sets of holds."""

    def visible_to(self, organization: Organization) -> HoldQuerySet:
        """Return the organization's own holds."""
        return self.filter(organization=organization)

    def unsettled(self) -> HoldQuerySet:
        """Return finished holds whose budgets and journal are not written yet."""
        return self.exclude(state=Hold.State.AUTHORISED).filter(settlement=None)

    def with_usage(self) -> HoldQuerySet:
        """Join what a call's line shows; one query however many lines."""
        return self.select_related("usage", "api_key", "model_version__model__owner")

    def with_price(self) -> HoldQuerySet:
        """Read the price that was frozen on each hold along with it."""
        return self.select_related("price_version").prefetch_related("price_version__components")

    def accepted(self, start: datetime, end: datetime) -> HoldQuerySet:
        """Return holds accepted from `start` until before `end`."""
        return self.filter(accepted_at__gte=start, accepted_at__lt=end)

    def of_model(self, owner: str, name: str) -> HoldQuerySet:
        """Return runs of any version of `owner/name`."""
        return self.filter(model_version__model__owner__slug=owner, model_version__model__name=name)


class Hold(models.Model):
    """Money set aside for one run: authorised, then captured, voided or expired, once."""

    class State(models.TextChoices):
        AUTHORISED = "authorised"
        CAPTURED = "captured"
        VOIDED = "voided"
        EXPIRED = "expired"

    class Source(models.TextChoices):
        API = "api"
        WEB = "web"
        TRAINING = "training"
        BATCH = "batch"

    id = models.UUIDField(primary_key=True, default=uuid7)
    # `hold_newest` begins with it.
    organization = models.ForeignKey(
        Organization, models.PROTECT, related_name="holds", db_index=False
    )
    api_key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    model_version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    price_version = models.ForeignKey(
        PriceVersion, models.PROTECT, related_name="+", db_index=False
    )
    share_version = models.ForeignKey(
        ShareVersion, models.PROTECT, related_name="+", db_index=False
    )
    budget_set = models.ForeignKey(BudgetSet, models.PROTECT, related_name="+", db_index=False)
    currency = models.CharField(max_length=3, default="usd")
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.API)
    request_id = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.AUTHORISED)
    reserved_nanos = models.BigIntegerField()
    captured_nanos = models.BigIntegerField(null=True, blank=True)
    # Why nothing was captured: an error code of docs/errors.md.
    failure = models.CharField(max_length=48, blank=True)
    accepted_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    settlement = models.ForeignKey(
        Settlement, models.PROTECT, null=True, blank=True, related_name="holds", db_index=False
    )

    objects = HoldQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(reserved_nanos__gte=0), name="reserved_positive"),
            # The hard cap: no run costs more than was set aside for it.
            models.CheckConstraint(
                condition=Q(captured_nanos=None)
                | Q(captured_nanos__gte=0, captured_nanos__lte=F("reserved_nanos")),
                name="captured_within_reserved",
            ),
            models.CheckConstraint(
                condition=Q(state="captured", captured_nanos__isnull=False)
                | (~Q(state="captured") & Q(captured_nanos__isnull=True)),
                name="captured_has_amount",
            ),
        ]
        indexes = [
            # The usage page, newest first.
            models.Index(fields=["organization", "-id"], name="hold_newest"),
            # The settler's queue.
            models.Index(
                fields=["organization", "id"],
                condition=~Q(state="authorised") & Q(settlement=None),
                name="hold_unsettled",
            ),
            # The sweeper.
            models.Index(fields=["expires_at"], condition=Q(state="authorised"), name="hold_open"),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def publisher_bps(self) -> int:
        """The publisher's part of a charge, in 1/100 of a percent; a training has no publisher."""
        return self.share_version.publisher_bps if self.model_version_id else 0
