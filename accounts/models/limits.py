"""How fast an organization, or one of its keys, may call."""

from __future__ import annotations

from django.db import models


class Limited(models.Model):
    """What has limits; null: none of its own."""

    requests_per_minute = models.PositiveIntegerField(null=True, blank=True)
    rows_per_minute = models.PositiveIntegerField(null=True, blank=True)
    concurrent_requests = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        abstract = True
