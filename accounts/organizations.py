"""Organizations: making them, and which one a person acts for."""

from __future__ import annotations

import re
import secrets

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from accounts import audit
from accounts.models import Membership, Organization, User


def create(
    slug: str, name: str, *, owner: User | None = None, personal: bool = False
) -> Organization:
    """Make an organization, with its owner."""
    with transaction.atomic():
        organization = Organization.objects.create(slug=slug, name=name, is_personal=personal)
        if owner is not None:
            Membership.objects.create(organization=organization, user=owner)
    return organization


def create_personal(user: User) -> Organization:
    """Make the organization every new user starts with, under a free name."""
    base = re.sub(r"[^a-z0-9]+", "-", user.email.partition("@")[0].lower()).strip("-")[:30]
    slug = base or "user"
    while True:
        try:
            return create(slug, user.get_short_name(), owner=user, personal=True)
        except IntegrityError:
            slug = f"{base or 'user'}-{secrets.token_hex(3)}"


def of_user(user: User) -> QuerySet[Organization]:
    """Return the organizations a person belongs to, personal first."""
    return Organization.objects.filter(memberships__user=user).order_by("-is_personal", "slug")


def set_frozen(
    organization: Organization, frozen: bool, *, actor: User | None, reason: str
) -> bool:
    """Stop an organization from spending, or let it again; False if it was so already."""
    with transaction.atomic():
        changed = Organization.objects.filter(pk=organization.pk, is_frozen=not frozen).update(
            is_frozen=frozen
        )
        if changed:
            audit.record(
                actor,
                "organization.frozen" if frozen else "organization.unfrozen",
                organization,
                organization=organization,
                reason=reason,
            )
    return bool(changed)
