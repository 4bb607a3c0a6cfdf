"""When limits could not be counted."""

from __future__ import annotations

from django.db import models


class LimiterOutage(models.Model):
    """A time in which one process let requests through uncounted, because Redis was away."""

    process = models.CharField(max_length=80)
    error = models.CharField(max_length=200)
    started_at = models.DateTimeField(db_index=True)
    seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    # Requests that were let through.
    uncounted = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["-started_at"]

    def __str__(self) -> str:
        return f"{self.process} {self.started_at:%Y-%m-%d %H:%M:%S}"
