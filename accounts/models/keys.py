"""API keys."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models.limits import Limited
from accounts.models.organizations import Organization


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """Sets of keys."""

    def visible_to(self, organization: Organization) -> ApiKeyQuerySet:
        """Return the organization's own keys."""
        return self.filter(organization=organization)

    def usable(self) -> ApiKeyQuerySet:
        """Return keys that are neither revoked nor past their expiry."""
        now = timezone.now()
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None)


class ApiKey(Limited):
    """A secret that lets a program act for an organization; only its hash is stored."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=16)
    last4 = models.CharField(max_length=4)
    # A fast hash is enough: the secret has 256 random bits.
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…{self.last4})"

    @property
    def is_usable(self) -> bool:
        """Whether the key is accepted now."""
        expired = self.expires_at is not None and self.expires_at <= timezone.now()
        return self.revoked_at is None and not expired
