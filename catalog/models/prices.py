"""Prices: added, never changed."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from catalog.models.models import MLModel


class PriceVersionQuerySet(models.QuerySet["PriceVersion"]):
    """Sets of price versions."""

    def current(self) -> PriceVersionQuerySet:
        """Return what has taken effect, newest first."""
        return self.filter(effective_from__lte=timezone.now()).order_by("-effective_from", "-id")


class PriceVersion(models.Model):
    """What a model, or a unit of training compute, costs from an instant on."""

    model = models.ForeignKey(MLModel, models.PROTECT, null=True, blank=True, related_name="prices")
    # A price that belongs to no model, such as `training.cpu`.
    sku = models.CharField(max_length=40, blank=True)
    currency = models.CharField(max_length=3, default="usd")
    min_charge_nanos = models.BigIntegerField(default=0)
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
            models.UniqueConstraint(
                fields=["model", "sku", "currency", "effective_from"], name="one_price_per_instant"
            ),
        ]

    def __str__(self) -> str:
        return f"price {self.pk} of {self.sku or self.model_id}"


class PriceComponent(models.Model):
    """The price of one dimension: `amount_nanos` for every `per_quantity` units."""

    class Dimension(models.TextChoices):
        CALL = "call"
        ROW = "row"
        COMPUTE_MS = "compute_ms"

    price_version = models.ForeignKey(PriceVersion, models.PROTECT, related_name="components")
    dimension = models.CharField(max_length=16, choices=Dimension.choices)
    amount_nanos = models.BigIntegerField()
    per_quantity = models.BigIntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["price_version", "dimension"], name="one_component_per_dimension"
            ),
            models.CheckConstraint(
                condition=Q(amount_nanos__gte=0) & Q(per_quantity__gt=0),
                name="component_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount_nanos}/{self.per_quantity} {self.dimension}"
