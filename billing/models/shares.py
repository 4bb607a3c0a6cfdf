"""How the price of a run is divided between publisher and platform."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone


class ShareVersion(models.Model):
    """The publisher's part of each charge, in basis points, from an instant on."""

    publisher_bps = models.PositiveIntegerField()
    effective_from = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-effective_from", "-id"]
        constraints = [
            models.CheckConstraint(condition=Q(publisher_bps__lte=10_000), name="share_at_most_all")
        ]

    def __str__(self) -> str:
        return f"{self.publisher_bps} bps"
