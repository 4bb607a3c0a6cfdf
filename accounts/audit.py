"""The audit log."""

from __future__ import annotations

from typing import Any

from django.db import models

from accounts.models import AuditEntry, Organization, User


def record(
    actor: User | None,
    action: str,
    target: models.Model,
    *,
    organization: Organization | None = None,
    reason: str = "",
    details: dict[str, Any] | None = None,
    via: str = "",
) -> AuditEntry:
    """Write down who did what, and why; `actor` is None for a program or the site itself.

    Args:
        via: The key of the program.
    """
    return AuditEntry.objects.create(
        actor=actor,
        actor_label=actor.email if actor else via or "system",
        organization=organization,
        action=action,
        object_label=f"{target._meta.model_name} {target}"[:200],
        reason=reason[:500],
        details=details or {},
    )
