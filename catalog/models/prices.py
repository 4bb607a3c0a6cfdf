"""Prices: added, never changed."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from catalog.models.models import MLModel


class PriceVersionQuerySet(models.QuerySet["PriceVersion"]):
    """Sets of price versions."""

    def current(self) -> PriceVersionQuerySet:
        """Return what has taken effect, newest first."""
        return self.at(timezone.now())

    def at(self, instant: datetime) -> PriceVersionQuerySet:
        """Return what had taken effect at an instant, newest first."""
        return self.filter(effective_from__lte=instant).order_by("-effective_from", "-id")


class PriceVersion(models.Model):
    """What a model, or a unit of training compute, costs from an instant on."""

    model = models.ForeignKey(MLModel, models.PROTECT, null=True, blank=True, related_name="prices")
    # A price that belongs to no model, such as `training.cpu`.
    sku = models.CharField(max_length=40, blank=True)
    currency = models.CharField(max_length=3, default="usd")
    min_charge_nanos = models.BigIntegerField(default=0)
    # How much less a row of a batch file costs than a call, in hundredths of a percent.
    batch_discount_bps = models.PositiveSmallIntegerField(default=0)
    effective_from = models.DateTimeField(default=timezone.now)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PriceVersionQuerySet.as_manager()

    class Meta:
        ordering = ["-effective_from", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(model__isnull=False, sku="") | (Q(model__isnull=True) & ~Q(sku="")),
                name="price_of_one_thing",
            ),
            models.CheckConstraint(
                condition=Q(min_charge_nanos__gte=0), name="min_charge_positive"
            ),
            models.CheckConstraint(
                condition=Q(batch_discount_bps__lte=10_000), name="batch_discount_at_most_all"
            ),
            # Two, because NULLs differ.
            models.UniqueConstraint(
                fields=["model", "currency", "effective_from"],
                condition=Q(sku=""),
                name="one_price_per_instant",
            ),
            models.UniqueConstraint(
                fields=["sku", "currency", "effective_from"],
                condition=Q(model=None),
                name="one_sku_price_per_instant",
            ),
        ]

    def __str__(self) -> str:
        return f"price {self.pk} of {self.sku or self.model_id}"


class PriceComponent(models.Model):
    """The price of one dimension: `amount_nanos` for every `per_quantity` units.

    A dimension may have tiers: each applies to the units of one run from `from_quantity` on,
    up to where the next begins.
    """

    class Dimension(models.TextChoices):
        CALL = "call"
        ROW = "row"
        INPUT_TOKEN = "input_token"  # noqa: S105  (a unit of text)
        OUTPUT_TOKEN = "output_token"  # noqa: S105  (a unit of text)
        COMPUTE_MS = "compute_ms"
        BYTE = "byte"

    price_version = models.ForeignKey(PriceVersion, models.PROTECT, related_name="components")
    dimension = models.CharField(max_length=16, choices=Dimension.choices)
    from_quantity = models.BigIntegerField(default=0)
    amount_nanos = models.BigIntegerField()
    per_quantity = models.BigIntegerField(default=1)

    class Meta:
        ordering = ["dimension", "from_quantity"]
        constraints = [
            models.UniqueConstraint(
                fields=["price_version", "dimension", "from_quantity"],
                name="one_component_per_tier",
            ),
            models.CheckConstraint(
                condition=Q(amount_nanos__gte=0, per_quantity__gt=0, from_quantity__gte=0),
                name="component_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_nanos}/{self.per_quantity} {self.dimension}"


class PriceChange(models.Model):
    """A price that somebody wants: looked at, approved by another, then added."""

    class State(models.TextChoices):
        PROPOSED = "proposed"
        APPROVED = "approved"
        REJECTED = "rejected"
        WITHDRAWN = "withdrawn"

    model = models.ForeignKey(
        MLModel, models.PROTECT, null=True, blank=True, related_name="price_changes"
    )
    sku = models.CharField(max_length=40, blank=True)
    min_charge_nanos = models.BigIntegerField(default=0)
    batch_discount_bps = models.PositiveSmallIntegerField(default=0)
    # As catalog.prices.add takes them.
    components = models.JSONField()
    # Empty: when it is approved.
    effective_from = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=9, choices=State.choices, default=State.PROPOSED)
    reason = models.CharField(max_length=500, blank=True)
    # What last month would have cost, as it was shown to who proposed it.
    preview = models.JSONField(default=dict)
    proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    proposed_at = models.DateTimeField(auto_now_add=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_reason = models.CharField(max_length=500, blank=True)
    price_version = models.OneToOneField(
        PriceVersion, models.PROTECT, null=True, blank=True, related_name="change"
    )
    # When the model's tenants were told.
    noticed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(model__isnull=False, sku="") | (Q(model__isnull=True) & ~Q(sku="")),
                name="price_change_of_one_thing",
            )
        ]

    def __str__(self) -> str:
        return f"price change {self.pk} of {self.sku or self.model_id}"
