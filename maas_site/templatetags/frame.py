"""What the frame around every page shows."""

from __future__ import annotations

from typing import Any

from django import template

from accounts import organizations
from accounts.models import User
from billing import budgets
from billing.models import Budget

register = template.Library()


@register.simple_tag(takes_context=True)
def wallet(context: dict[str, Any]) -> Budget | None:
    """Return the wallet of the organization the reader acts for; None for a visitor."""
    user = context.get("user")
    if not isinstance(user, User):
        return None
    organization = organizations.of_user(user).first()
    return budgets.wallet(organization) if organization else None
