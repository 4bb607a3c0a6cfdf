"""Binding quotes."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from accounts.models import Organization
from billing.models.holds import Hold
from billing.models.publishers import ShareVersion
from catalog.models import ModelVersion, PriceVersion


class Quote(models.Model):
    """A promise: one run of this, made before it expires, is rated by this price version."""

    id = models.UUIDField(primary_key=True)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="quotes")
    # Empty for a training.
    model_version = models.ForeignKey(
        ModelVersion, models.PROTECT, null=True, blank=True, related_name="+"
    )
    price_version = models.ForeignKey(PriceVersion, models.PROTECT, related_name="+")
    share_version = models.ForeignKey(ShareVersion, models.PROTECT, related_name="+")
    # Dimension → units, the most the run may use; for a training also what is to be trained.
    quantities = models.JSONField()
    subject = models.JSONField(default=dict)
    currency = models.CharField(max_length=3, default="usd")
    amount_nanos = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    # The one run that used it.
    hold = models.OneToOneField(Hold, models.PROTECT, null=True, blank=True, related_name="quote")

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(amount_nanos__gte=0), name="quote_positive")
        ]

    def __str__(self) -> str:
        return f"quote {self.pk}"
