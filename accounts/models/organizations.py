"""Tenants and who belongs to them."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models

from accounts.models.limits import Limited

SLUG = RegexValidator(r"^[a-z0-9](?:[a-z0-9-]{0,37}[a-z0-9])?$")


class Organization(Limited):
    """A tenant: it owns models and keys, and it pays."""

    slug = models.CharField(max_length=39, unique=True, validators=[SLUG])
    name = models.CharField(max_length=120)
    is_personal = models.BooleanField(default=False)
    is_frozen = models.BooleanField(
        default=False, help_text="A frozen organization cannot start anything that costs money."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class Membership(models.Model):
    """A person's role in an organization."""

    class Role(models.TextChoices):
        OWNER = "owner"
        DEVELOPER = "developer"
        VIEWER = "viewer"

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.OWNER)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="one_role_per_member")
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.organization_id}: {self.role}"
