"""What operators and owners did."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from accounts.models.organizations import Organization


class AuditEntry(models.Model):
    """One deed: who, what, to which object, why. Never changed or deleted."""

    at = models.DateTimeField(auto_now_add=True)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    actor_label = models.CharField(max_length=254)
    organization = models.ForeignKey(
        Organization, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    action = models.CharField(max_length=64)
    object_label = models.CharField(max_length=200)
    reason = models.CharField(max_length=500, blank=True)
    details = models.JSONField(default=dict)

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name_plural = "audit entries"
        indexes = [
            # The console's log, newest first.
            models.Index(fields=["-at"], name="audit_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.actor_label}: {self.action} {self.object_label}"
