"""Who: users, organizations, roles, keys, and what operators did."""

from __future__ import annotations

from accounts.models.audit import AuditEntry
from accounts.models.idempotency import IdempotentAnswer
from accounts.models.keys import ApiKey
from accounts.models.mail import OutgoingMail
from accounts.models.organizations import Membership, Organization
from accounts.models.users import User

__all__ = [
    "ApiKey",
    "AuditEntry",
    "IdempotentAnswer",
    "Membership",
    "Organization",
    "OutgoingMail",
    "User",
]
